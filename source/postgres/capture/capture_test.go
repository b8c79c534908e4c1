package capture_test

import (
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/capture"
)

func TestCapture(t *testing.T) {
	t.Parallel()
	const plain = "CREATE TABLE t (id int PRIMARY KEY, v text)"
	tests := map[string]struct {
		schema  string
		capture capture.Capture
		sql     string
		want    []string
	}{
		"insert update delete": {
			plain, capture.Capture{Table: "t"},
			"INSERT INTO t VALUES (1, 'a'), (2, NULL); UPDATE t SET v = 'b' WHERE id = 1; DELETE FROM t WHERE id = 2",
			[]string{`INSERT E 1 {"v": "a", "id": 1} -`, `INSERT E 2 {"v": null, "id": 2} -`, `UPDATE E 1 {"v": "b", "id": 1} -`, `DELETE E 2 - {"v": null, "id": 2}`},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, _ := captured(t, tt.schema, tt.capture)
			testenv.Exec(t, conn, tt.sql)
			wantLog(t, conn, tt.want...)
		})
	}
}
