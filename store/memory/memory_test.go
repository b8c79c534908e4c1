package memory_test

import (
	"testing"
	"testing/synctest"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/store/memory"
	"github.com/fraiseql/observer/store/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T, opts storetest.Options) observer.StateStore {
		t.Helper()
		if opts.Dir != "" {
			t.Skip("keeps nothing outside of one store")
		}
		return memory.New(memory.Config{MaxDead: opts.MaxDead, Now: opts.Now})
	})
}

func TestDefaultClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory.New(memory.Config{})
		d := observer.NewDelivery(&observer.Event{ID: "e"}, "o", 0, "log")
		d.State, d.RunAt = observer.Scheduled, time.Now().Add(time.Minute)
		if _, err := s.InsertDeliveries(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		next, err := s.NextDue(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Until(next))
		due, err := s.ClaimDue(t.Context(), observer.Claim{Owner: "a", Lease: time.Minute, Limit: 1})
		if err != nil || len(due) != 1 {
			t.Errorf("claim at the due time: got %d deliveries and error %v, want 1", len(due), err)
		}
	})
}

func TestCheckpoints(t *testing.T) {
	t.Parallel()
	s := memory.New(memory.Config{})
	for _, name := range []string{"a", "b"} {
		if err := s.SaveCheckpoint(t.Context(), name, observer.Checkpoint{Position: observer.Position(name)}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.Checkpoints(t.Context())
	if err != nil || len(all) != 2 || all["b"].Position != "b" {
		t.Errorf("got %v and error %v, want the checkpoints of a and b", all, err)
	}
}

func TestStranded(t *testing.T) {
	t.Parallel()
	s := memory.New(memory.Config{})
	storetest.Stranded(t, s, s.Lose)
}
