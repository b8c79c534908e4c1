package topology_test

import (
	"net/http"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/topology"
)

// Whatever answers, and in whichever process, an event that is handed over again
// runs nothing again, and that of another tenant does.
func TestEventsAreHandledOnce(t *testing.T) {
	t.Parallel()
	const on = "[performance]\nenable_dedup = true\n"
	for name, tt := range map[string]struct {
		sections func(t *testing.T) string
		calls    int
	}{
		"turned off":  {func(*testing.T) string { return "" }, 4},
		"state store": {func(*testing.T) string { return on }, 2},
		"redis":       {func(t *testing.T) string { t.Helper(); return on + "[redis]\nurl = '" + testenv.Redis(t) + "'\n" }, 2},
		"redis away":  {func(*testing.T) string { return on + "[redis]\nurl = 'redis://127.0.0.1:1/0'\n" }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusOK })
			cfg := s.parse(t, tt.sections(t)+observerTo("o", r.URL+"/o", ""))
			first, second := build(t, cfg), build(t, cfg)
			handle := func(built *topology.Topology, tenant string) {
				t.Helper()
				e := order("e", "new")
				e.TenantID = tenant
				if err := built.Executor.Handle(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			handle(first, "a")
			handle(first, "a")
			handle(second, "a")
			handle(second, "b")
			if got := r.calls("/o"); got != tt.calls {
				t.Errorf("%d calls, want %d", got, tt.calls)
			}
			skipped := first.Counters.Read().DedupSkipped + second.Counters.Read().DedupSkipped
			if skipped != int64(4-tt.calls) {
				t.Errorf("%d skipped", skipped)
			}
		})
	}
}

// A dead letter counts as handled: its event, handed over again, neither runs nor
// is kept twice.
func TestADeadLetterIsHandled(t *testing.T) {
	t.Parallel()
	s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusUnprocessableEntity })
	built := build(t, s.parse(t, "[performance]\nenable_dedup = true\n"+observerTo("o", r.URL+"/o", "")))
	for range 2 {
		if err := built.Executor.Handle(t.Context(), order("e", "new")); err != nil {
			t.Fatal(err)
		}
	}
	d, err := built.Store.Delivery(t.Context(), observer.DeliveryKey("e", "o", 0))
	if err != nil || r.calls("/o") != len(d.Attempts) {
		t.Errorf("%d calls and %+v, %v", r.calls("/o"), d, err)
	}
}
