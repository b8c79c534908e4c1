//go:build unix

package e2e

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fraiseql/observer"
)

// TestGoneEndpointIsPaused: a receiver that says that it no longer exists gets
// nothing more, and somebody is told. When a person resumes it, what waited is
// sent.
func TestGoneEndpointIsPaused(t *testing.T) {
	t.Parallel()
	onEach(t, goneEndpointIsPaused)
}

// mover is a receiver one of whose paths is gone until it is back.
type mover struct {
	*receiver

	back atomic.Bool
}

func newMover(t *testing.T) *mover {
	t.Helper()
	m := &mover{}
	m.receiver = newReceiver(t, func(r receipt) int {
		if strings.HasSuffix(r.path, "/moved") && !m.back.Load() {
			return http.StatusGone
		}
		return http.StatusOK
	})
	return m
}

// to counts the requests to a path.
func (m *mover) to(path string) int {
	return m.count(func(r receipt) bool { return strings.HasSuffix(r.path, path) })
}

func goneEndpointIsPaused(t *testing.T, on flavour) {
	t.Helper()
	const later = 5
	m := newMover(t)
	s := on.newSite(t, "[alert]\ntype = \"webhook\"\nurl = \""+m.url()+"/alert\"\n"+hook("moved", m.url())+hook("stays", m.url()))
	shop := newShop(s)
	s.start()
	shop.put(1)
	endpoint := m.tells(s)
	for item := range int64(later) {
		shop.put(item + 2)
	}
	eventually(t, "the others go on and these wait", func() bool { return m.to("/stays") == later+1 && s.waiting() == later })
	s.stop()
	s.start() // a pause outlives the process
	shop.put(later + 2)
	eventually(t, "one more waits", func() bool { return m.to("/stays") == later+2 && s.waiting() == later+1 })
	if n := m.to("/moved"); n != 1 {
		t.Errorf("%d requests to the receiver that is gone, want 1", n)
	}
	m.back.Store(true)
	s.succeeds("endpoints", "resume", endpoint)
	slowly(t, "what waited arrives", func() bool { return m.to("/moved") == later+2 && s.waiting() == 0 })
	s.succeeds("dlq", "retry-all", "--queue")
	slowly(t, "the dead letter arrives", func() bool { return s.states()[observer.Dead] == 0 && s.waiting() == 0 })
	s.stop()
	if moved, alerts := m.to("/moved"), m.to("/alert"); moved != later+3 || alerts != 1 {
		t.Errorf("%d requests to the receiver that was gone and %d alerts, want %d and 1", moved, alerts, later+3)
	}
}

// tells waits until somebody is told of the pause, and gives the endpoint's name.
func (m *mover) tells(s *site) (endpoint string) {
	s.t.Helper()
	eventually(s.t, "somebody is told", func() bool { return m.to("/alert") == 1 })
	endpoint = "webhook " + m.url() + "/moved"
	for _, r := range m.receipts() {
		if strings.HasSuffix(r.path, "/alert") && !strings.Contains(r.body, endpoint) {
			s.t.Errorf("the alert does not name %s: %s", endpoint, r.body)
		}
	}
	if out, _, code := s.command("endpoints", "list"); code != 0 || !strings.Contains(out, endpoint) || !strings.Contains(out, "paused (gone)") {
		s.t.Errorf("endpoints list ended with %d: %s", code, out)
	}
	return endpoint
}
