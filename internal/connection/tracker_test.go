package connection_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/fraiseql/observer/internal/connection"
)

func TestCutEndsWhatIsOpen(t *testing.T) {
	t.Parallel()
	var others []net.Conn
	tracker := connection.NewTracker(func(context.Context, string, string) (net.Conn, error) {
		mine, other := net.Pipe()
		others = append(others, other)
		return mine, nil
	})
	var conns []net.Conn
	for range 3 {
		conn, err := tracker.DialContext(t.Context(), "tcp", "server:1")
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	if err := conns[0].Close(); err != nil {
		t.Fatal(err)
	}
	tracker.Cut()
	for i, conn := range conns {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("connection %d is open", i)
		}
		if _, err := others[i].Read(make([]byte, 1)); err == nil {
			t.Errorf("the other end of %d is open", i)
		}
	}
}

func TestTrackerTellsWhyItCannotConnect(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	tracker := connection.NewTracker(func(context.Context, string, string) (net.Conn, error) { return nil, away })
	if conn, err := tracker.DialContext(t.Context(), "tcp", "server:1"); !errors.Is(err, away) || conn != nil {
		t.Errorf("%v, %v", conn, err)
	}
}
