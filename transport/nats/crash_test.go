//go:build unix

package nats

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
)

// publishAll hands events over until they are published, as a relay does: after
// an error the same come again.
func publishAll(ctx context.Context, p *Publisher, list []*observer.Event, size int) error {
	for len(list) > 0 {
		n := min(len(list), size)
		err := p.HandleBatch(ctx, list[:n])
		switch {
		case err == nil:
			list = list[n:]
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			wait(ctx, 20*time.Millisecond)
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// patient is a stream and a publisher whose answers are not waited for for long,
// at a server that may go away.
func patientPublisher(t *testing.T, url string, cfg StreamConfig) (*Stream, *Publisher) {
	t.Helper()
	s := ensured(t, connect(t, url), cfg)
	return s, newPublisher(t, s, func(c *PublisherConfig) { c.AnswerTime = 2 * time.Second })
}

// Invariant 7: a server that is killed at any moment loses nothing that it has
// acknowledged, and has nothing twice.
func TestServerIsKilledWhilePublishing(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]testenv.NATSOptions{"by default": {}, "sync always": {SyncAlways: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.PrivateNATS(t, opts)
			s, p := patientPublisher(t, server.URL(), StreamConfig{})
			all := events(1, 6000)
			published := make(chan error, 1)
			go func() { published <- publishAll(t.Context(), p, all, 500) }()
			for range 4 {
				wait(t.Context(), time.Duration(rand.IntN(150))*time.Millisecond)
				server.Restart(t)
			}
			if err := <-published; err != nil {
				t.Fatal(err)
			}
			checkStored(t, s, "shop", all)
		})
	}
}

// A server that stands still gives no answer in time, and stores what it was
// sent when it goes on.
func TestAnswerComesTooLate(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateNATS(t, testenv.NATSOptions{})
	s := ensured(t, connect(t, server.URL()), StreamConfig{DedupWindow: 100 * time.Millisecond})
	p := newPublisher(t, s, func(c *PublisherConfig) { c.AnswerTime = time.Second })
	publish(t, p, events(1, 10))
	server.Pause(t)
	err := p.HandleBatch(t.Context(), events(11, 20))
	if err == nil || !observer.Retryable(err) || !strings.Contains(err.Error(), "no answer") {
		t.Fatalf("%v, want that there is no answer", err)
	}
	server.Continue(t)
	wait(t.Context(), 300*time.Millisecond) // until the server has forgotten the ids
	next := newPublisher(t, s)
	publish(t, next, events(11, 30))
	checkStored(t, s, "shop", events(1, 30))
}

// The network breaks between the request and the answer, or in the middle of a
// batch: what half of it did is found out.
func TestConnectionBreaksInTheMiddle(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateNATS(t, testenv.NATSOptions{})
	direct := ensured(t, connect(t, server.URL()), StreamConfig{})
	for name, marker := range map[string]string{
		"within a batch": `"n":117}`, "at its end": batchCommitHeader, "at its beginning": batchSequenceHeader,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := strings.ReplaceAll(name, " ", "-")
			proxy := testenv.NewProxy(t, "127.0.0.1:"+strconv.Itoa(server.Port()))
			s := newStream(t, connect(t, "nats://"+proxy.Address), StreamConfig{})
			p := newPublisher(t, s, func(c *PublisherConfig) { c.Database = database })
			publish(t, p, named(database, 1, 100))
			proxy.HangUp(marker)
			begin := time.Now()
			if err := p.HandleBatch(t.Context(), named(database, 101, 200)); err == nil || !observer.Retryable(err) {
				t.Fatalf("%v, want an error that may pass", err)
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("it took %s to see that the connection is lost", took)
			}
			proxy.Pass()
			if err := publishAll(t.Context(), p, named(database, 101, 300), 150); err != nil {
				t.Fatal(err)
			}
			checkStored(t, direct, database, named(database, 1, 300))
		})
	}
}

// named are events of a database whose ids no other has.
func named(database string, first, last int) []*observer.Event {
	list := events(first, last)
	for _, e := range list {
		e.ID = database + e.ID
	}
	return list
}

// An older copy of the store is put back: the publisher goes on after it, and
// what is handed to it again is there once.
func TestStoreIsPutBack(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateNATS(t, testenv.NATSOptions{SyncAlways: true})
	s, p := patientPublisher(t, server.URL(), StreamConfig{})
	publish(t, p, events(1, 100))
	copied := server.CopyStore(t)
	publish(t, p, events(101, 200))
	server.RestoreStore(t, copied)
	if err := publishAll(t.Context(), p, events(201, 300), 50); err != nil { // the bridge knows nothing of it
		t.Fatal(err)
	}
	if err := publishAll(t.Context(), p, events(51, 200), 150); err != nil { // a reconciler does
		t.Fatal(err)
	}
	checkStored(t, s, "shop", append(append(events(1, 100), events(201, 300)...), events(101, 200)...))
}

// Invariant 5: two bridges that both think they read the database publish each
// event once, in order, while the leader of the stream changes.
func TestInvariant5TwoBridgesAndALeaderThatChanges(t *testing.T) {
	t.Parallel()
	nodes := testenv.NATSCluster(t, 3, testenv.NATSOptions{})
	cfg := StreamConfig{Replicas: 3, DedupWindow: 100 * time.Millisecond}
	s, first := patientPublisher(t, nodes.URL(), cfg)
	_, second := patientPublisher(t, nodes.URL(), cfg)
	all := events(1, 4000)
	var bridges sync.WaitGroup
	for i, p := range []*Publisher{first, second} {
		bridges.Go(func() {
			if err := publishAll(t.Context(), p, all, 100+150*i); err != nil {
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	go func() { bridges.Wait(); close(done) }()
	changes := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
			if changes < 12 && stepDown(t, s) {
				changes++
			}
			wait(t.Context(), 200*time.Millisecond)
		}
	}
	t.Logf("%d changes of the leader", changes)
	checkStored(t, s, "shop", all)

	nodes[1].Kill(t)
	if err := publishAll(t.Context(), first, events(3901, 4200), 100); err != nil {
		t.Fatal(err)
	}
	checkStored(t, s, "shop", events(1, 4200))
}

func stepDown(t *testing.T, s *Stream) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	reply, err := s.conn.nc.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+s.Name(), nil)
	return err == nil && strings.Contains(string(reply.Data), `"success":true`)
}

func TestConnectionThatCannotBeMade(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // which never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Connect(ctx, Config{URL: observer.NewSecret("nats://" + listener.Addr().String())}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want that the time is over", err)
	}
}
