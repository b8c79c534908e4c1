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
	"github.com/fraiseql/observer/store/storetest"
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
	storetest.RunDamaged(t, func(t *testing.T) (observer.StateStore, func(set, key string)) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "state.db")
		return opened(t, sqlite.Config{Path: path}), func(set, key string) {
			execute(t, path, "UPDATE tb_delivery SET "+set+" WHERE key = ?", key)
		}
	})
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

// Lanes that cannot be looked after are no reason to keep what is old.
func TestPruneGoesOnBesideAFailure(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	clock := time.Now()
	s := opened(t, sqlite.Config{Path: path, Now: func() time.Time { return clock }})
	redriven, parked := deadLetter("1"), deadLetter("2")
	for _, d := range []*observer.Delivery{redriven, parked} {
		d.Event.EntityType, d.Event.EntityID, d.Order = "Order", "7", observer.OrderStrict
	}
	parked.State = observer.Queued
	insert(t, s, deadLetter("old"), redriven)
	if _, err := s.ClaimDelivery(t.Context(), redriven.Key, "killed", time.Minute); err != nil {
		t.Fatal(err)
	}
	insert(t, s, parked)
	clock = clock.Add(time.Hour)
	execute(t, path, "CREATE TRIGGER refuse BEFORE UPDATE ON tb_delivery BEGIN SELECT RAISE(ABORT, 'not now'); END")
	removed, err := s.PruneDeliveries(t.Context(), observer.Retention{DeadBefore: clock}, 10)
	if removed != 1 || err == nil || !strings.Contains(err.Error(), "not now") {
		t.Errorf("got %d removed and error %v, want 1 and why no lane could go on", removed, err)
	}
	execute(t, path, "DROP TRIGGER refuse")
	if _, err := s.PruneDeliveries(t.Context(), observer.Retention{}, 10); err != nil {
		t.Error(err)
	}
	if d, err := s.Delivery(t.Context(), parked.Key); err != nil || d.State != observer.Queued {
		t.Errorf("got %v and error %v, want it queued", d, err)
	}
}
