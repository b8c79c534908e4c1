package topology

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/middleware"
)

// Each attempt is one for the breaker, retries in the lane included.
func TestBreakerStandsInsideRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := retrying()
		a.Retry.MaxAttempts, a.Retry.InitialDelay, a.Retry.MaxDelay = 50, time.Millisecond, time.Millisecond
		m := startDaemon(t, config.Config{Breaker: testBreaker()}, a, nil)
		defer m.stop()
		m.hook.set(errors.New("503"))
		d := m.handle(t, 1)[0]
		if b := m.top.Breakers(); b[0].State != middleware.BreakerOpen || len(d.Attempts) != 10 || m.hook.calls() != 10 {
			t.Errorf("after %d attempts: %+v", len(d.Attempts), b)
		}
		if d.State != observer.Scheduled || d.RunAt.Sub(time.Now().Truncate(time.Second)) < 29*time.Second {
			t.Errorf("%s until %s: %s", d.State, d.RunAt, d.Error)
		}
	})
}

// What the breaker refuses says nothing about the health of the endpoint: that is
// known from attempts only.
func TestReportStandsInsideTheBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rules := config.Config{Breaker: testBreaker()}
		rules.Breaker.MinCalls = 4
		m := startDaemon(t, rules, retrying(), nil)
		defer m.stop()
		m.hook.set(errors.New("503"))
		m.handle(t, 4)
		action := m.top.actions.Load().stored["o"][0]
		for i := range 20 {
			d := observer.NewDelivery(&observer.Event{ID: fmt.Sprint("refused ", i)}, "o", 0, "test")
			if err := action.execute(t.Context(), d); err != nil || d.State != observer.Queued {
				t.Fatalf("%s (%v)", d.State, err)
			}
		}
		if m.hook.calls() != 4 || !m.top.layers.endpoints.Ready("e") {
			t.Error("twenty refusals of the breaker count as failures of the endpoint")
		}
	})
}

// Waiting for a turn is not the receiver's time: neither the timeout of an attempt
// nor the health of the endpoint sees it.
func TestTimeoutStandsInsideTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := retrying()
		a.Timeout = 100 * time.Millisecond
		m := startDaemon(t, config.Config{Limits: config.Limits{Rate: 5, Burst: 1}}, a, nil)
		defer m.stop()
		m.hook.takes = 80 * time.Millisecond
		for _, d := range m.handle(t, 2) {
			if d.State != observer.Done || len(d.Attempts) != 1 || d.Attempts[0].Error != "" {
				t.Errorf("%s after %+v", d.State, d.Attempts)
			}
		}
		if len(m.hook.came) != 2 || m.hook.came[1] != 200*time.Millisecond {
			t.Errorf("came at %s", m.hook.came)
		}
	})
}
