package capture_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres"
)

// What is recorded arrives as the events that receivers get.
func TestEventsThatArrive(t *testing.T) {
	t.Parallel()
	conn, url := captured(t, plain+"; CREATE TABLE u (k text, id uuid, PRIMARY KEY (k, id)); CREATE TABLE n (a int)", withBefore("t"))
	u, n := of("u"), of("n")
	u.Entity, n.Entity, n.Key = "U", "N", []string{"a"}
	add(t, url, u)
	add(t, url, n)
	const id = "0190d1f0-0000-7000-8000-00000000000b"
	testenv.Exec(t, conn, "SET fraiseql.tenant_id = 'acme'; INSERT INTO t VALUES (1, 'a'); UPDATE t SET v = 'b'; UPDATE t SET v = v; UPDATE t SET id = 2; DELETE FROM t; TRUNCATE t; "+
		"INSERT INTO u VALUES ('x', '"+id+"'); UPDATE u SET k = k; INSERT INTO n VALUES (NULL)")
	source := postgres.New(postgres.Config{Name: "test", URL: observer.NewSecret(url)})
	stream, err := source.Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`INSERT E "1" {"v": "a", "id": 1} null`,
		`UPDATE E "1" {"v": "b", "id": 1} {"v":{"old":"a","new":"b"}}`,
		`UPDATE E "1" {"v": "b", "id": 1} {}`,
		`DELETE E "1" {"v": "b", "id": 1} null`,
		`INSERT E "2" {"v": "b", "id": 2} null`,
		`DELETE E "2" {"v": "b", "id": 2} null`,
		`CUSTOM E "" {"table": "public.t", "operation": "TRUNCATE"} null`,
		`INSERT U "[\"x\",\"` + id + `\"]" {"k": "x", "id": "` + id + `"} null`,
		`UPDATE U "[\"x\",\"` + id + `\"]" {"k": "x", "id": "` + id + `"} null`,
		`malformed N object_id is NULL on INSERT`,
	}
	var got []string
	for range want {
		m, err := stream.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, show(t, m))
	}
	if err := stream.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}

func show(t *testing.T, m observer.Message) string {
	t.Helper()
	if m.Malformed != nil {
		return strings.Join([]string{"malformed", m.Malformed.EntityType, m.Malformed.Reason}, " ")
	}
	e := m.Event
	changes, err := e.Changes()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(changes)
	if err != nil {
		t.Fatal(err)
	}
	if e.TenantID != "acme" || e.CDCSource != "fallback_trigger" {
		t.Errorf("tenant %q, source %q", e.TenantID, e.CDCSource)
	}
	return fmt.Sprintf("%s %s %q %s %s", e.Operation, e.EntityType, e.EntityID, e.Data, text)
}
