package changelog_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

const insert = "INSERT INTO core.tb_entity_change_log (object_type, modification_type) VALUES ('Order', 'CUSTOM')"

func TestWakeUp(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		mode  changelog.Notify
		sleep bool
		want  bool
	}{
		"asleep":         {"", true, true},
		"awake":          {"", false, false},
		"asleep, always": {changelog.NotifyAlways, true, true},
		"asleep, never":  {changelog.NotifyNever, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.Database(t)
			if err := changelog.Migrate(t.Context(), url, changelog.Options{Notify: tt.mode}); err != nil {
				t.Fatal(err)
			}
			listener, writer := testenv.Connect(t, url), testenv.Connect(t, url)
			testenv.Exec(t, listener, "LISTEN "+changelog.Channel+"; LISTEN mark")
			if tt.sleep {
				testenv.Exec(t, listener, "SELECT pg_advisory_lock($1)", changelog.WakeKey(changelog.Name{}))
			}
			testenv.Exec(t, writer, insert)
			if got := hears(t, listener, writer); got != tt.want {
				t.Errorf("notified: %t", got)
			}
		})
	}
}

// A writer in flight keeps the reader from going to sleep.
func TestAWriterKeepsTheReaderAwake(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	if err := changelog.Migrate(t.Context(), url, changelog.Options{}); err != nil {
		t.Fatal(err)
	}
	reader, writer := testenv.Connect(t, url), testenv.Connect(t, url)
	sleep := func() bool {
		return testenv.Value[bool](t, reader, "SELECT pg_try_advisory_lock($1)", changelog.WakeKey(changelog.Name{}))
	}
	testenv.Exec(t, writer, "BEGIN")
	testenv.Exec(t, writer, insert)
	if sleep() {
		t.Error("the reader fell asleep beside a writer")
	}
	testenv.Exec(t, writer, "COMMIT")
	if !sleep() {
		t.Error("the reader cannot sleep")
	}
}

func TestPreparedTransactions(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{Settings: map[string]string{"max_prepared_transactions": "5"}})
	for mode, fails := range map[changelog.Notify]bool{changelog.NotifyAuto: false, changelog.NotifyNever: false, changelog.NotifyAlways: true} {
		url := server.Database(t)
		if err := changelog.Migrate(t.Context(), url, changelog.Options{Notify: mode}); err != nil {
			t.Fatal(err)
		}
		reader, writer := testenv.Connect(t, url), testenv.Connect(t, url)
		prepare := func() error {
			testenv.Exec(t, writer, "BEGIN")
			testenv.Exec(t, writer, insert)
			_, err := writer.Exec(t.Context(), "PREPARE TRANSACTION 'p'")
			if err == nil {
				testenv.Exec(t, writer, "COMMIT PREPARED 'p'")
			}
			return err
		}
		if err := prepare(); err != nil {
			t.Errorf("%s, reader awake: %v", mode, err)
		}
		testenv.Exec(t, reader, "SELECT pg_advisory_lock($1)", changelog.WakeKey(changelog.Name{}))
		if err := prepare(); (err != nil) != fails {
			t.Errorf("%s, reader asleep: %v", mode, err)
		}
	}
}

func TestTheModeStays(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	conn := testenv.Connect(t, url)
	for _, step := range []struct{ set, want changelog.Notify }{
		{"", changelog.NotifyAuto}, {changelog.NotifyNever, changelog.NotifyNever}, {"", changelog.NotifyNever}, {changelog.NotifyAuto, changelog.NotifyAuto},
	} {
		if err := changelog.Migrate(t.Context(), url, changelog.Options{Notify: step.set}); err != nil {
			t.Fatal(err)
		}
		testenv.Exec(t, conn, "DROP TRIGGER fraiseql_wake_up ON core.tb_entity_change_log")
		if err := changelog.Migrate(t.Context(), url, changelog.Options{}); err != nil {
			t.Fatal(err)
		}
		l, err := changelog.Inspect(t.Context(), conn, changelog.Name{})
		stored := testenv.Value[string](t, conn, "SELECT value FROM fraiseql_observer.tb_setting WHERE name = 'notify'")
		if err != nil || l.Notify != step.want || stored != string(step.want) {
			t.Errorf("after %q: %s in force, %s stored, %v", step.set, l.Notify, stored, err)
		}
	}
}

// hears reports whether a notification arrives before a mark that is sent after it.
func hears(t *testing.T, listener, sender *pgx.Conn) bool {
	t.Helper()
	testenv.Exec(t, sender, "NOTIFY mark")
	heard := false
	for {
		n, err := listener.WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n.Channel == "mark" {
			return heard
		}
		heard = heard || n.Channel == changelog.Channel && n.Payload == ""
	}
}
