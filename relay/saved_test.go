package relay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/relay"
	"github.com/fraiseql/observer/source/memory"
	memorystore "github.com/fraiseql/observer/store/memory"
)

// fickleStore refuses every third save, and takes a while for the others.
type fickleStore struct {
	*memorystore.Store
	saves int
}

func (s *fickleStore) SaveCheckpoint(ctx context.Context, name string, cp observer.Checkpoint) error {
	if s.saves++; s.saves%3 == 0 {
		return errors.New("no space left on device")
	}
	<-time.After(7 * time.Millisecond)
	return s.Store.SaveCheckpoint(ctx, name, cp)
}

// What is said to be saved is not read again after a restart, whatever the order
// in which it finished and however often saving failed.
func TestSavedIsWhatTheCheckpointSays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), &fickleStore{Store: memorystore.New(memorystore.Config{})}
		h := &recorder{before: func(_ context.Context, e *observer.Event) error {
			n, _ := strconv.Atoi(e.ID[1:])
			<-time.After(time.Duration(n*n%37) * time.Millisecond)
			return nil
		}}
		cfg := config(log, h, store)
		told := map[string]int{}
		cfg.Saved = func(_ context.Context, handled []relay.Receipt) {
			cp := checkpoint(t, store, "log")
			_, text, _ := strings.Cut(string(cp.Position), ":")
			floor, _ := strconv.Atoi(text) // the nth entry has the position n
			for _, r := range handled {
				told[r.ID]++
				if n, _ := strconv.Atoi(r.ID[1:]); n >= floor && !slices.Contains(cp.Done, r.ID) {
					t.Errorf("%s is said to be saved, and the checkpoint is %+v", r.ID, cp)
				}
			}
		}
		events, ids := numbers(0, 200)
		stop := start(t, cfg)
		for part := range slices.Chunk(events, 9) {
			log.Append(part...)
			<-time.After(11 * time.Millisecond)
		}
		<-time.After(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if told[id] != 1 {
				t.Errorf("%s was told of %d times, want once", id, told[id])
			}
		}
	})
}

// A handler that waits gives up when the process stops, and that is no failure.
func TestGivingUpAtTheEndIsNoFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store, said := memory.New("log"), memorystore.New(memorystore.Config{}), &bytes.Buffer{}
		cfg := config(log, &recorder{before: func(ctx context.Context, _ *observer.Event) error {
			<-observer.Drain(ctx)
			return fmt.Errorf("verify: %w", context.Canceled)
		}}, store)
		cfg.Logger = slog.New(slog.NewTextHandler(said, nil))
		log.Append(event("a", "1"))
		stop := start(t, cfg)
		synctest.Wait()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if said.Len() > 0 {
			t.Errorf("logged %s", said)
		}
		if cp := checkpoint(t, store, "log"); cp.Position != "" || len(cp.Done) != 0 {
			t.Errorf("got checkpoint %+v, want that the event comes again", cp)
		}
	})
}
