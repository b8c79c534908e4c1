package postgres_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/postgres"
)

// soon is how long something that happens at once may take on a busy machine.
const soon = 20 * time.Second

// follower is a stream that is read in the background.
type follower struct {
	stream   observer.Stream
	messages chan observer.Message
	failed   chan error
	stop     func()
}

// follow opens a stream of the source and reads it until the test ends.
func follow(t testing.TB, src *postgres.Source, after observer.Position) *follower {
	t.Helper()
	s, err := src.Open(t.Context(), after)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &follower{stream: s, messages: make(chan observer.Message, 1<<16), failed: make(chan error, 1)}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(r.messages)
		for {
			m, err := s.Next(ctx)
			if err != nil {
				r.failed <- err
				return
			}
			r.messages <- m
		}
	})
	r.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		_ = s.Close(context.WithoutCancel(ctx))
	})
	t.Cleanup(r.stop)
	return r
}

// next is the entity of the next message, which has to come soon.
func (r *follower) next(t testing.TB) string {
	t.Helper()
	return r.message(t).Event.EntityID
}

func (r *follower) message(t testing.TB) observer.Message {
	t.Helper()
	timer := time.NewTimer(soon)
	defer timer.Stop()
	select {
	case m, ok := <-r.messages:
		if !ok {
			t.Fatalf("the stream ended: %v", <-r.failed)
		}
		return m
	case <-timer.C:
		t.Fatalf("no message within %s", soon)
	}
	return observer.Message{}
}

// fails waits for the stream to end with an error.
func (r *follower) fails(t testing.TB) error {
	t.Helper()
	timer := time.NewTimer(soon)
	defer timer.Stop()
	select {
	case err := <-r.failed:
		return err
	case <-timer.C:
		t.Fatalf("the stream did not end within %s", soon)
	}
	return nil
}

// config is the configuration of a source that finds nothing by polling before
// the test ends.
func (d *database) config() postgres.Config {
	return postgres.Config{Name: "shop", URL: observer.NewSecret(d.url), PollInterval: time.Hour}
}

// contextOf is a context for what happens when the test has ended.
func contextOf(t testing.TB) context.Context {
	t.Helper()
	return context.WithoutCancel(t.Context())
}

// eventually asks until the answer is yes.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(soon)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline.C:
			t.Fatalf("not within %s: %s", soon, what)
		case <-tick.C:
		}
	}
}

// wait lets time pass, where the passing of time is what is tested.
func wait(t testing.TB, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// output is a log that several goroutines may write and read.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *output) logger() *slog.Logger { return slog.New(slog.NewTextHandler(o, nil)) }
