package sqlite_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/store/sqlite"
)

func deadLetter(key string) *observer.Delivery {
	return &observer.Delivery{
		Key: key + "/notify/0", Observer: "notify", State: observer.Dead, Error: "status 400",
		Event:    &observer.Event{ID: key, Operation: observer.Insert, Data: json.RawMessage(`{"id":1}`)},
		Attempts: []observer.Attempt{{Number: 1, Error: "status 400"}},
		Request:  json.RawMessage(`{"url":"http://localhost/"}`),
	}
}

func insert(t *testing.T, s *sqlite.Store, ds ...*observer.Delivery) {
	t.Helper()
	if _, err := s.InsertDeliveries(t.Context(), ds...); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedRowsDoNotHideTheOthers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		statement string
		want      []string // in Error or the salvaged text
	}{
		"attempts":  {`UPDATE tb_delivery SET attempts = '[{"num' WHERE key = ?`, []string{"status 400; the stored attempts are damaged", `[{"num`}},
		"prints":    {`UPDATE tb_delivery SET prints = '["a' WHERE key = ?`, []string{"fingerprints of its observer are damaged", `["a`}},
		"request":   {`UPDATE tb_delivery SET request = 'half a reque' WHERE key = ?`, []string{"request is not JSON", "half a reque"}},
		"event":     {`UPDATE tb_delivery SET event = '{"id":"b' WHERE key = ?`, []string{"event is damaged", `{\"id\":\"b`, `{\"id\":1}`}},
		"malformed": {`UPDATE tb_delivery SET malformed = 'x', event = NULL WHERE key = ?`, []string{"event is damaged", `"malformed":"x"`, `{\"id\":1}`}},
	} {
		path := filepath.Join(t.TempDir(), "state.db")
		s := opened(t, sqlite.Config{Path: path})
		insert(t, s, deadLetter("a"), deadLetter("b"), deadLetter("c"))
		execute(t, path, test.statement, "b/notify/0")
		ds, err := s.Deliveries(t.Context(), observer.DeliveryFilter{})
		if err != nil || len(ds) != 3 {
			t.Fatalf("%s: got %d deliveries and error %v, want 3", name, len(ds), err)
		}
		wantSalvaged(t, name, ds[1], test.want)
		// Redriving and burying it again loses nothing of what is left.
		d, err := s.ClaimDelivery(t.Context(), "b/notify/0", "a", time.Minute)
		if err != nil {
			t.Fatalf("%s: claim: %v", name, err)
		}
		d.State = observer.Dead
		if err := s.UpdateDelivery(t.Context(), d, "a"); err != nil {
			t.Fatalf("%s: update: %v", name, err)
		}
		if d, err = s.Delivery(t.Context(), d.Key); err != nil {
			t.Fatalf("%s: read: %v", name, err)
		}
		wantSalvaged(t, name+" after an update", d, test.want)
	}
}

func wantSalvaged(t *testing.T, name string, d *observer.Delivery, want []string) {
	t.Helper()
	text := d.Error + string(d.Request)
	if d.Malformed != nil {
		text += string(d.Malformed.Raw)
		if d.Malformed.ID != "b" || !json.Valid(d.Malformed.Raw) {
			t.Errorf("%s: got malformed entry %q with %s, want b and JSON", name, d.Malformed.ID, d.Malformed.Raw)
		}
	}
	if d.Event == nil && d.Malformed == nil {
		t.Errorf("%s: got neither an event nor a malformed entry", name)
	}
	for _, part := range want {
		if !strings.Contains(text, part) {
			t.Errorf("%s: got %q, want %q in it", name, text, part)
		}
	}
}

func TestLockedByAnotherProgram(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s := opened(t, sqlite.Config{Path: path, BusyTimeout: time.Millisecond})
	save(t, s, "shop", "1")
	conn, err := rawDB(t, path).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec := func(statement string) {
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	exec("BEGIN IMMEDIATE")
	err = s.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{Position: "2"})
	if err == nil || errors.Is(err, observer.ErrBusy) || !strings.Contains(err.Error(), path+" is locked by another program") {
		t.Errorf("got error %v, want one that says who is locked and is not about a delivery", err)
	}
	// Reading does not wait for the other's writing.
	if cp, err := s.LoadCheckpoint(t.Context(), "shop"); err != nil || cp.Position != "1" {
		t.Errorf("got %v and error %v, want position 1", cp, err)
	}
	exec("ROLLBACK")
	save(t, s, "shop", "3")
}

func TestWaitingForALockEndsWithTheContext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s := opened(t, sqlite.Config{Path: path, BusyTimeout: time.Hour})
	conn, err := rawDB(t, path).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = s.SaveCheckpoint(ctx, "shop", observer.Checkpoint{Position: "1"})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want context.DeadlineExceeded", err)
	}
	if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	// What was given up is not done afterwards.
	save(t, s, "other", "1")
	if cp, err := s.LoadCheckpoint(t.Context(), "shop"); !errors.Is(err, observer.ErrNotFound) {
		t.Errorf("got %v and error %v, want ErrNotFound", cp, err)
	}
}
