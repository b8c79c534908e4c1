package cli_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

// keepOneInEach stores a delivery in every state, and returns their keys.
func (p *project) keepOneInEach() map[observer.State]string {
	p.t.Helper()
	store, keys := p.store(), map[observer.State]string{}
	for i, state := range observer.States() {
		key := p.keep(fmt.Sprintf("00000000-0000-4000-8000-00000000000%d", i), func(d *observer.Delivery) {
			switch {
			case state.Due():
				d.State, d.Reason, d.RunAt = state, "", time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)
			case state == observer.Parked:
				d.State, d.Reason = observer.Queued, ""
			}
			if state == observer.Scheduled || state == observer.Parked {
				d.Order = observer.OrderStrict // the one waits for the other
			}
		})
		keys[state] = key
		if state != observer.Running && state != observer.Done && state != observer.Dropped {
			continue
		}
		d, err := store.ClaimDelivery(p.t.Context(), key, "somebody", time.Hour)
		check(p.t, err)
		if d.State = state; state != observer.Running {
			check(p.t, store.UpdateDelivery(p.t.Context(), d, "somebody"))
		}
	}
	return keys
}

func TestListByState(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	keys := p.keepOneInEach()
	for _, state := range observer.States() {
		var list struct {
			Items []struct {
				Key   string
				State observer.State
				RunAt *time.Time `json:"run_at"`
			}
		}
		check(t, json.Unmarshal([]byte(p.must("dlq", "list", "--format", "json", "--state", string(state))), &list))
		if len(list.Items) != 1 || list.Items[0].Key != keys[state] || list.Items[0].State != state {
			t.Errorf("%s: listed %+v, want %s", state, list.Items, keys[state])
			continue
		}
		if state.Due() != (list.Items[0].RunAt != nil) {
			t.Errorf("%s: run at %v", state, list.Items[0].RunAt)
		}
	}
	if out := p.must("dlq", "list"); !strings.Contains(out, "REASON") || strings.Count(out, "\n") != 2 || !strings.Contains(out, keys[observer.Dead]) {
		t.Errorf("without --state it printed\n%s", out)
	}
	out := p.must("dlq", "list", "--state", "all")
	for state, key := range keys {
		if !strings.Contains(out, key) {
			t.Errorf("%s is not among all:\n%s", state, out)
		}
	}
	for _, line := range []string{`^STORED +STATE +DUE +OBSERVER `, `Z +scheduled +2999-01-01T00:00:00Z +every-order `, `Z +dead \(permanent\) +- +every-order `} {
		if !regexp.MustCompile("(?m)" + line).MatchString(out) {
			t.Errorf("no line matches %s:\n%s", line, out)
		}
	}
}

func TestListOfAStateThatIsNone(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	if out := p.must("dlq", "list", "--state", "parked"); out != "no deliveries that are parked: no state yet\n" {
		t.Errorf("without a state it printed %q", out)
	}
	p.store()
	for state, want := range map[string]string{
		"parked": "no deliveries that are parked\n", "all": "no deliveries\n", "dead": "no dead letters\n",
	} {
		if out := p.must("dlq", "list", "--state", state); out != want {
			t.Errorf("%s: printed %q, want %q", state, out, want)
		}
	}
	r := p.run("dlq", "list", "--state", "deaad")
	if r.code != 2 || !strings.Contains(r.stderr, "want one of all, queued, scheduled, unknown, parked, running, done, dropped, dead") {
		t.Errorf("an unknown state ended with code %d: %s", r.code, r.stderr)
	}
	offered := strings.Fields(p.must("__complete", "dlq", "list", "--state", ""))
	if !slices.Contains(offered, "scheduled") || !slices.Contains(offered, "all") {
		t.Errorf("a shell is offered %q", offered)
	}
}
