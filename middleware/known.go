package middleware

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// Known lets deliveries be that are in the store already. A process that is
// killed between storing a delivery and saving the checkpoint hands its event
// over again after the restart: run once more, the delivery could run beside
// the stored one, or leave a dead letter of something that arrived.
type Known struct {
	// Stored is what earlier processes left. Nil knows nothing.
	Stored *Stored
	// Find gives the stored delivery, or [observer.ErrNotFound]. It is only
	// asked for what Stored may contain.
	Find func(ctx context.Context, key string) (*observer.Delivery, error)
	// Logger is required.
	Logger *slog.Logger
}

// Middleware stands around everything: such a delivery had its log line and its
// count when it was stored.
func (k Known) Middleware() observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		if k.Stored == nil {
			return next
		}
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			if stored, err := k.has(ctx, d); stored || err != nil {
				return observer.Result{}, err
			}
			return next.Execute(ctx, d)
		})
	}
}

// Invariant 7: has asks the store and takes over where the stored delivery
// stands. A store that is away is waited for, as it is where something must be
// kept: run beside the stored one, it could be sent twice, with a body that an
// edited template has changed. That costs nothing where the key is not one of
// those stored before, which is nearly always.
func (k Known) has(ctx context.Context, d *observer.Delivery) (bool, error) {
	if !k.Stored.mayContain(d.Key) {
		return false, nil
	}
	for failures := 1; ; failures++ {
		stored, err := k.Find(ctx, d.Key)
		switch {
		case err == nil:
			d.State, d.Reason, d.Error, d.RunAt = stored.State, stored.Reason, stored.Error, stored.RunAt
			return true, nil
		case errors.Is(err, observer.ErrNotFound):
			return false, nil
		}
		wait := backoff.Policy{Max: keepPause}.Delay(failures)
		k.Logger.Error("cannot look for an earlier outcome of a delivery; intake of its entity waits",
			"delivery", d.Key, "error", err, "wait", wait)
		if !backoff.Wait(ctx, observer.Drain(ctx), wait) {
			return false, err
		}
	}
}

// Stored remembers which deliveries a store held at one moment, in eight bytes
// each. Asking the store for every delivery of a backlog instead took 30% of
// its processor time. It is safe for concurrent use.
type Stored struct {
	store  observer.DeliveryStore
	seed   maphash.Seed
	hashes atomic.Pointer[[]uint64] // sorted
	lanes  *Lanes

	reading chan struct{} // has room while nobody reads the store
	mu      sync.Mutex
	// started and ended count the readings.
	started, ended int
}

// Lanes are those in which something was stored, and what is added to them.
func (s *Stored) Lanes() *Lanes { return s.lanes }

// ReadStored takes the keys of what store holds now. It is called before the
// first event is handled; what this process stores later it does not hand over
// again.
func ReadStored(ctx context.Context, store observer.DeliveryStore) (*Stored, error) {
	s := &Stored{store: store, seed: maphash.MakeSeed(), lanes: newLanes(store.Blocked), reading: make(chan struct{}, 1)}
	if err := s.Refresh(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Refresh takes the keys of what the store holds now: other processes have
// stored more since. It is called after taking over the reading of a log from
// one of them and before its first event is handled. Callers that come while the
// store is read share the reading after that.
func (s *Stored) Refresh(ctx context.Context) error {
	s.mu.Lock()
	enough := s.started + 1 // that begins after this call
	s.mu.Unlock()
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	if s.ended >= enough {
		s.mu.Unlock()
		return nil
	}
	s.started++
	s.mu.Unlock()
	if err := s.read(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = s.started
	return nil
}

func (s *Stored) read(ctx context.Context) error {
	var hashes []uint64
	err := s.store.DeliveryKeys(ctx, func(key, lane string) {
		hashes = append(hashes, maphash.String(s.seed, key))
		s.lanes.Add(lane)
	})
	if err != nil {
		return fmt.Errorf("look for unfinished deliveries: %w", err)
	}
	slices.Sort(hashes)
	s.hashes.Store(&hashes)
	return nil
}

// mayContain is true for every stored key, and hardly ever for another.
func (s *Stored) mayContain(key string) bool {
	_, found := slices.BinarySearch(*s.hashes.Load(), maphash.String(s.seed, key))
	return found
}
