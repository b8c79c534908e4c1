package postgres_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres"
)

func TestHangingTransactionIsNamed(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{Settings: map[string]string{"max_prepared_transactions": "2"}})
	for name, tt := range map[string]struct {
		end  string
		want func(pid uint32) string
	}{
		"session":  {"SELECT 1", func(pid uint32) string { return "pid=" + strconv.Itoa(int(pid)) + ` state="idle in transaction"` }},
		"prepared": {"PREPARE TRANSACTION 'the hanging one'", func(uint32) string { return `prepared_as="the hanging one"` }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := migrated(t, server.Database(t))
			cfg := d.config()
			cfg.PollInterval = 20 * time.Millisecond
			var log output
			cfg.Logger = log.logger()
			src := postgres.New(cfg)
			src.SetHung(400 * time.Millisecond)
			r := follow(t, src, "")
			conn := testenv.Connect(t, d.url)
			begin := time.Now()
			testenv.Exec(t, conn, "BEGIN")
			insert(t, conn, "hangs")
			testenv.Exec(t, conn, tt.end)
			insert(t, d, "visible")
			r.next(t)
			eventually(t, "a second warning", func() bool { return strings.Count(log.String(), "does not end") >= 2 })
			if n := strings.Count(log.String(), "does not end"); n > int(time.Since(begin)/(400*time.Millisecond)) {
				t.Errorf("%d warnings within %s", n, time.Since(begin))
			}
			if text := log.String(); !strings.Contains(text, tt.want(conn.PgConn().PID())) || !strings.Contains(text, "age=") {
				t.Errorf("log %s", text)
			}
			end := "COMMIT"
			if name == "prepared" {
				end = "COMMIT PREPARED 'the hanging one'"
			}
			testenv.Exec(t, conn, end)
			if got := r.next(t); got != "hangs" {
				t.Errorf("got %s", got)
			}
			warned := strings.Count(log.String(), "does not end")
			wait(t, 900*time.Millisecond)
			if n := strings.Count(log.String(), "does not end"); n > warned+1 {
				t.Errorf("%d warnings after its end", n-warned)
			}
		})
	}
}

// Transactions that are short are nothing to warn of, however many there are.
func TestShortTransactionsAreNotNamed(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	cfg := d.config()
	var log output
	cfg.Logger = log.logger()
	src := postgres.New(cfg)
	src.SetHung(700 * time.Millisecond)
	r := follow(t, src, "")
	for range 40 {
		tx, err := d.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		insert(t, tx, "late")
		insert(t, d, "early")
		r.next(t)
		wait(t, 20*time.Millisecond)
		commit(t, tx)
		r.next(t)
	}
	if text := log.String(); text != "" {
		t.Errorf("log %s", text)
	}
}
