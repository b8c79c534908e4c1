package postgres_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
)

// between stands before a server, and has what comes from either side go through
// one of the functions. false keeps it back.
func between(t *testing.T, target string, toServer, toClient func([]byte) bool) (address string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	pass := func(to io.WriteCloser, from io.ReadCloser, may func([]byte) bool) {
		defer func() { _, _ = to.Close(), from.Close() }()
		buffer := make([]byte, 1<<16)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			if !may(buffer[:n]) {
				continue
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			go pass(server, client, toServer)
			go pass(client, server, toClient)
		}
	}()
	return l.Addr().String()
}

func anything([]byte) bool { return true }

// A server that waits for a lock takes no more of what is sent behind that. It is
// not taken for dead.
func TestServerThatWaitsForALockIsNotDead(t *testing.T) {
	t.Parallel()
	direct := testenv.Database(t)
	s := opened(t, config(direct))
	blocker := testenv.Connect(t, direct)
	testenv.Exec(t, blocker, "SELECT pg_advisory_lock($1)", s.AllLanesLock())
	stored := make(chan error, 1)
	d := &observer.Delivery{
		Key: "e/notify/0", Observer: "notify", Queue: "notify", State: observer.Queued, Order: observer.OrderStrict,
		Event: &observer.Event{
			ID: "e", EntityType: "Order", EntityID: "1", Operation: observer.Insert,
			Data: json.RawMessage(`{"text":"` + strings.Repeat("x", 600_000) + `"}`),
		},
	}
	go func() {
		_, err := s.InsertDeliveries(t.Context(), d)
		stored <- err
	}()
	select {
	case err := <-stored:
		t.Fatalf("it ended while the server waits for a lock, with: %v", err)
	case <-time.After(10 * time.Second): // longer than dead connections last, and less than statement_timeout
	}
	testenv.Exec(t, blocker, "SELECT pg_advisory_unlock($1)", s.AllLanesLock())
	if err := <-stored; err != nil {
		t.Errorf("after the lock was released: %v", err)
	}
}

// A server that takes two seconds for each answer lives, and calls have 30.
func TestServerThatIsSlowIsNotDead(t *testing.T) {
	t.Parallel()
	var slow atomic.Bool
	s := opened(t, config(changed(t, testenv.Database(t), func(u *url.URL) {
		u.Host = between(t, u.Host, anything, func([]byte) bool {
			if slow.Load() {
				<-time.After(2 * time.Second)
			}
			return true
		})
	})))
	save(t, s, "log", "1")
	slow.Store(true)
	defer slow.Store(false)
	for range 3 {
		<-time.After(1500 * time.Millisecond) // after which a connection is asked whether it lives
		if _, err := s.LoadCheckpoint(t.Context(), "log"); err != nil {
			t.Errorf("load: %v", err)
		}
	}
}

// The first of two hosts lets us in and then gives no answer. The driver goes on to
// the second while it still cancels what it asked of the first.
func TestFirstHostFallsSilentInItsGreeting(t *testing.T) {
	t.Parallel()
	several := changed(t, testenv.Database(t), func(u *url.URL) {
		u.Host = between(t, u.Host, func(sent []byte) bool {
			return !bytes.Contains(sent, []byte("pg_is_in_recovery")) && !bytes.Contains(sent, []byte("transaction_read_only"))
		}, anything) + "," + u.Host
		q := u.Query()
		q.Set("connect_timeout", "1")
		u.RawQuery = q.Encode()
	})
	for range 3 {
		s, err := postgres.Open(t.Context(), config(several))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
