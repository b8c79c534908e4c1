package cli_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

// strict makes a dead letter one that what is behind it waits for.
func strict(d *observer.Delivery) { d.Order, d.BlockWhenDead = observer.OrderStrict, true }

// In a strict order nothing overtakes: what has an earlier one before it is left
// alone, with the reason, and all of them go in order.
func TestRetryKeepsTheStrictOrder(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	keys := make([]string, 2)
	for i := range keys {
		keys[i] = p.keep(fmt.Sprintf("00000000-0000-4000-8000-00000000000%d", 9-i), strict)
	}
	p.receiver.answer(422)
	why := keys[0] + " is dead: another delivery of the same entity and observer comes first"
	r := p.run("dlq", "retry", keys[1])
	if want := "fraiseql-observer: " + keys[1] + " was not tried and stays a dead letter: " + why + "\n"; r.code != 1 || r.stderr != want {
		t.Errorf("code %d, printed %q, want %q", r.code, r.stderr, want)
	}
	if r := p.run("dlq", "retry", keys[1], "--format", "json"); r.code != 1 || !strings.Contains(r.stdout, `"result": "blocked"`) {
		t.Errorf("code %d, printed %s", r.code, r.stdout)
	}
	r = p.run("dlq", "retry-all")
	if !containsAll(r.stdout, []string{
		"2/2 blocked " + keys[1] + ": " + why,
		"0 delivered, 1 failed and kept, 0 skipped, 1 left behind an earlier one of their entity",
	}) || r.code != 1 {
		t.Errorf("retry-all ended with code %d and printed\n%s", r.code, r.stdout)
	}
	p.receiver.answer(200)
	p.must("dlq", "retry-all")
	var got []string
	for _, c := range p.receiver.received() {
		got = append(got, c.key)
	}
	if want := []string{keys[0], keys[0], keys[1]}; !slices.Equal(got, want) {
		t.Errorf("received %q, want %q", got, want)
	}
}

// Left to the daemon's workers they wait for each other.
func TestQueueKeepsTheStrictOrder(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	inOrder := func(d *observer.Delivery) { d.Order = observer.OrderStrict }
	p.keep("00000000-0000-4000-8000-000000000002", inOrder)
	second := p.keep("00000000-0000-4000-8000-000000000001", inOrder)
	if out := p.must("dlq", "retry-all", "--queue"); out != "2 dead letters: 2 queued, 1 of them parked behind an earlier one of their entity, 0 skipped\n" {
		t.Errorf("printed %q", out)
	}
	if out := p.must("dlq", "show", second); !strings.Contains(out, "parked behind an earlier one of its entity") ||
		!strings.Contains(out, "strict, in the lane every-order/5/Order/1") {
		t.Errorf("show printed\n%s", out)
	}
	if r := p.run("dlq", "retry", second); r.code != 1 || !strings.Contains(r.stderr, "is not a dead letter: it is parked behind an earlier one of its entity") {
		t.Errorf("retry ended with code %d: %s", r.code, r.stderr)
	}
	if out := p.must("status"); !containsAll(out, []string{"unfinished:  2", "queued:    1", "parked:    1"}) {
		t.Errorf("status printed\n%s", out)
	}
}

// Everything that is known about a delivery is shown.
func TestShowHasEveryAttempt(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	at := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	key := p.keep(someID, func(d *observer.Delivery) {
		strict(d)
		d.Queue, d.Endpoint, d.Redrives, d.EditedAt = "reports", "webhook http://shop.example/hook", 2, at
		d.Attempts = []observer.Attempt{
			{Number: 1, At: at, Duration: 1500 * time.Microsecond, Status: 503, Detail: "later\x1b[31m", Error: "status 503"},
			{Number: 2, At: at, Error: "no answer within 10s", Unknown: true},
			{Number: 3, At: at, Error: "panic: nil map", Stack: "goroutine 7:\nmain.f()\n\t/src/f.go:3 \x1b[31m\n"},
		}
	})
	out := p.must("dlq", "show", key)
	for _, want := range []string{
		"dead (permanent); what comes later for its entity waits until it is out of the way",
		"endpoint:     webhook http://shop.example/hook",
		"queue:        reports, priority 2",
		"order:        strict, in the lane every-order/5/Order/1",
		"fingerprint:  " + observer.Fingerprint("refused"),
		"edited:       2026-01-31T08:00:00Z",
		"redriven:     2 times",
		"  1       2026-01-31T08:00:00Z  1.5ms  503     status 503\n",
		`answer: later\x1b[31m`,
		"unknown, it may have arrived: no answer within 10s",
		"\nattempt 3 panicked\n  goroutine 7:\n  main.f()\n    /src/f.go:3 \\x1b[31m\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("show does not print %q:\n%s", want, out)
		}
	}
	var v struct {
		Order    string
		Lane     string
		Endpoint string
		Blocks   bool `json:"blocks_when_dead"`
		Redrives int
		EditedAt time.Time `json:"edited_at"`
		Attempts []struct {
			Unknown bool
			Stack   string
		}
	}
	check(t, json.Unmarshal([]byte(p.must("dlq", "show", key, "--format", "json")), &v))
	if v.Order != "strict" || v.Lane == "" || v.Endpoint == "" || !v.Blocks || v.Redrives != 2 || !v.EditedAt.Equal(at) ||
		len(v.Attempts) != 3 || !v.Attempts[1].Unknown || v.Attempts[2].Stack == "" {
		t.Errorf("JSON has %+v", v)
	}
}
