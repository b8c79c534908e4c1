package postgres

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
)

// recorder is a database that says what it was asked.
type recorder struct {
	mu      sync.Mutex
	batches [][]string
	// refuse fails batches with one of these in them.
	refuse map[string]error
	// hold is received from before each commit.
	hold chan struct{}
}

func (r *recorder) commit(ctx context.Context, ops []*op, patient bool) ([]*op, error) {
	select {
	case <-r.hold:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if patient && len(ops) > 1 {
		return nil, errors.New("several wait patiently")
	}
	var names []string
	var err error
	for _, o := range ops {
		names = append(names, o.owner)
		err = errors.Join(err, r.refuse[o.owner])
	}
	r.batches = append(r.batches, names)
	return nil, err
}

func (r *recorder) sizes() (sizes []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.batches {
		sizes = append(sizes, len(b))
	}
	slices.Sort(sizes) // two are on their way at once
	return sizes
}

func newRecorder(t *testing.T, refuse map[string]error) (*recorder, *writer) {
	t.Helper()
	r := &recorder{refuse: refuse, hold: make(chan struct{})}
	return r, newWriter(t.Context(), r.commit, ErrConnect)
}

func TestConcurrentChangesShareTransactions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, w := newRecorder(t, nil)
		defer w.shut()
		var wg sync.WaitGroup
		start := func(name string) {
			wg.Go(func() {
				if err := w.do(t.Context(), &op{owner: name}); err != nil {
					t.Errorf("change %s: %v", name, err)
				}
			})
			synctest.Wait()
		}
		for i := range 20 {
			start(strconv.Itoa(i))
		}
		close(r.hold)
		wg.Wait()
		if diff := cmp.Diff([]int{1, 19}, r.sizes()); diff != "" {
			t.Errorf("changes in each transaction (-want +got):\n%s", diff)
		}
	})
}

// A transaction that fails must not fail for those who did nothing wrong, and one
// that may have been made must not be made again.
func TestOneFailureInAGroupIsItsOwn(t *testing.T) {
	t.Parallel()
	bad := errors.New("bad")
	for name, test := range map[string]struct {
		refuse error
		want   []error // of the changes 0 to 4
		sizes  []int
	}{
		"refused":           {bad, []error{nil, nil, nil, bad, nil}, []int{1, 1, 1, 1, 1, 4}},
		"connection broken": {ErrConnect, []error{nil, ErrConnect, ErrConnect, ErrConnect, ErrConnect}, []int{1, 4}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, w := newRecorder(t, map[string]error{"3": test.refuse})
			defer w.shut()
			got := make([]error, 5)
			var wg sync.WaitGroup
			for i := range got {
				wg.Go(func() { got[i] = w.do(t.Context(), &op{owner: strconv.Itoa(i)}) })
				synctest.Wait()
			}
			close(r.hold)
			wg.Wait()
			for i, want := range test.want {
				if !errors.Is(got[i], want) {
					t.Errorf("%s: change %d: got error %v, want %v", name, i, got[i], want)
				}
			}
			if diff := cmp.Diff(test.sizes, r.sizes()); diff != "" {
				t.Errorf("%s: changes in each transaction (-want +got):\n%s", name, diff)
			}
		})
	}
}

// Two changes of one row cannot share a statement: the second comes after.
func TestChangesOfOneRowComeOneAfterTheOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, w := newRecorder(t, nil)
		defer w.shut()
		var wg sync.WaitGroup
		for i, key := range []string{"x", "a", "b", "a"} {
			wg.Go(func() {
				if err := w.do(t.Context(), &op{owner: strconv.Itoa(i), update: &row{key: key}}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		close(r.hold)
		wg.Wait()
		if diff := cmp.Diff([]int{1, 1, 2}, r.sizes()); diff != "" {
			t.Errorf("changes in each transaction (-want +got):\n%s", diff)
		}
	})
}

func TestCallersThatGoAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, w := newRecorder(t, nil)
		defer w.shut()
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, 4)
		for _, of := range []context.Context{ctx, ctx, ctx, t.Context()} { // one under way, three that wait
			go func() { results <- w.do(of, &op{owner: "x"}) }()
			synctest.Wait()
		}
		cancel()
		for range 3 {
			if err := <-results; !errors.Is(err, context.Canceled) {
				t.Errorf("got error %v, want context.Canceled", err)
			}
		}
		r.hold <- struct{}{}
		if err := <-results; err != nil {
			t.Errorf("who stayed: %v", err)
		}
		if diff := cmp.Diff([]int{1}, r.sizes()); diff != "" {
			t.Errorf("changes in each transaction (-want +got):\n%s", diff)
		}
		if err := w.do(ctx, &op{}); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that ended before: got error %v, want context.Canceled", err)
		}
	})
}

// One who goes away does not take the others in the same transaction along.
func TestGroupGoesOnForWhoStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, w := newRecorder(t, nil)
		defer w.shut()
		results := make(chan error, 3)
		ctx, cancel := context.WithCancel(t.Context())
		for _, of := range []context.Context{t.Context(), ctx, t.Context()} {
			go func() { results <- w.do(of, &op{}) }()
			synctest.Wait()
		}
		r.hold <- struct{}{} // the others share the next one
		synctest.Wait()
		cancel()
		close(r.hold)
		for range 3 {
			if err := <-results; err != nil {
				t.Errorf("got error %v, want none", err)
			}
		}
		if diff := cmp.Diff([]int{1, 2}, r.sizes()); diff != "" {
			t.Errorf("changes in each transaction (-want +got):\n%s", diff)
		}
	})
}

// Who meets a lock of somebody else waits for it alone, and nobody for him.
func TestOnlyOneWaitsForALock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		freed := make(chan struct{})
		w := newWriter(t.Context(), func(_ context.Context, ops []*op, patient bool) ([]*op, error) {
			if ops[0].owner == "locked" && !patient {
				return nil, &pgconn.PgError{Code: "55P03"}
			}
			if ops[0].owner == "locked" {
				<-freed
			}
			return nil, nil
		}, ErrConnect)
		defer w.shut()
		locked := make(chan error, 1)
		go func() { locked <- w.do(t.Context(), &op{owner: "locked"}) }()
		synctest.Wait()
		if err := w.do(t.Context(), &op{owner: "free"}); err != nil {
			t.Errorf("beside it: %v", err)
		}
		close(freed)
		if err := <-locked; err != nil {
			t.Errorf("who waited: %v", err)
		}
	})
}

// What turns out to be made elsewhere waits for that alone, and nobody for it.
func TestTheRestIsMadeAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		freed, begin := make(chan struct{}), make(chan struct{})
		w := newWriter(t.Context(), func(_ context.Context, ops []*op, patient bool) (rest []*op, err error) {
			<-begin
			for _, o := range ops {
				if o.owner == "moved" && !patient {
					rest = append(rest, o)
				}
			}
			if patient {
				<-freed
			}
			return rest, nil
		}, ErrConnect)
		defer w.shut()
		moved, other := make(chan error, 2), make(chan error, 2)
		for range 2 { // one is on its way, the others share a transaction
			go func() { moved <- w.do(t.Context(), &op{owner: "moved"}) }()
			synctest.Wait()
			go func() { other <- w.do(t.Context(), &op{owner: "other"}) }()
			synctest.Wait()
		}
		close(begin)
		synctest.Wait()
		if len(other) != 2 || len(moved) != 0 {
			t.Errorf("while the lane is locked: %d others and %d moved ones were answered, want 2 and 0", len(other), len(moved))
		}
		close(freed)
		for range 2 {
			if err := errors.Join(<-moved, <-other); err != nil {
				t.Error(err)
			}
		}
	})
}

// One who had to give way to another transaction tries again.
func TestDeadlocksAreResolved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		w := newWriter(t.Context(), func(context.Context, []*op, bool) ([]*op, error) {
			if tries++; tries < deadlocks {
				return nil, &pgconn.PgError{Code: "40P01"}
			}
			return nil, nil
		}, ErrConnect)
		defer w.shut()
		if err := w.do(t.Context(), &op{}); err != nil {
			t.Errorf("got error %v after %d tries", err, tries)
		}
	})
}

// When nothing answers, callers are told in time.
func TestWriterIsBoundedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, w := newRecorder(t, nil)
		defer w.shut()
		started := time.Now()
		var wg sync.WaitGroup
		for range 5 { // one on its way, four that wait
			wg.Go(func() {
				if err := w.do(t.Context(), &op{}); !errors.Is(err, ErrConnect) {
					t.Errorf("got error %v, want ErrConnect", err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(started); took > Timeout {
			t.Errorf("it took %s, want %s at most", took, Timeout)
		}
	})
}

func TestClosedWriter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, w := newRecorder(t, nil)
		w.shut()
		if err := w.do(t.Context(), &op{}); !errors.Is(err, errClosed) {
			t.Errorf("got error %v, want errClosed", err)
		}
	})
}

func TestWaves(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rows string // key lane event; none is "-"
		want [][]string
	}{
		"no lanes":          {"a--b--c--", [][]string{{"a", "b", "c"}}},
		"one event":         {"axEbxE", [][]string{{"a", "b"}}},
		"two events":        {"axEbxFcxFdyE", [][]string{{"a", "d"}, {"b", "c"}}},
		"events interleave": {"axEbxFcxEdxF", [][]string{{"a"}, {"b"}, {"c"}, {"d"}}},
		"a key again":       {"axEaxFbxE", [][]string{{"a", "b"}}},
		"nothing":           {"", nil},
	} {
		var rows []*newRow
		for i := 0; i+2 < len(test.rows); i += 3 {
			r := &row{key: test.rows[i : i+1], lane: test.rows[i+1 : i+2], eventID: test.rows[i+2 : i+3]}
			if r.lane == "-" {
				r.lane = ""
			}
			rows = append(rows, &newRow{row: r})
		}
		var got [][]string
		for _, wave := range waves(rows) {
			got = append(got, columnOf(wave, func(r *newRow) string { return r.key }))
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
