package cli_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
)

// hosts stores 30 deliveries for an endpoint that works, and pauses 25 others,
// for the last of which one waits.
func (p *project) hosts() {
	p.t.Helper()
	for i := range 31 {
		p.keep(fmt.Sprintf("00000000-0000-4000-8000-0000000000%02d", i), func(d *observer.Delivery) {
			d.State, d.Endpoint = observer.Scheduled, "webhook https://busy.example"
			if i == 30 {
				d.Endpoint = "webhook https://host24.example"
			}
		})
	}
	store := p.store()
	for i := range 25 {
		check(p.t, store.SaveEndpoint(p.t.Context(), observer.Endpoint{
			Name: fmt.Sprintf("webhook https://host%02d.example", i), Pause: observer.PausedByPerson,
		}))
	}
}

// A URL with a template in its host has as many endpoints as there are hosts:
// what is printed does not grow with them.
func TestEndpointsListIsBounded(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.hosts()
	out := p.must("endpoints", "list")
	rows := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(rows) != 22 || !strings.HasPrefix(rows[1], "webhook https://host24.example ") || !strings.HasPrefix(rows[2], "webhook https://host00.example ") ||
		rows[21] != "and 6 more, for which 30 deliveries wait: --top 0" {
		t.Errorf("printed\n%s", out)
	}
	out = p.must("endpoints", "list", "--top", "0")
	if strings.Count(out, "webhook https://") != 26 || strings.Contains(out, "more") || !strings.Contains(out, "busy.example") {
		t.Errorf("with --top 0 it printed\n%s", out)
	}
	if r := p.run("endpoints", "list", "--top", "-1"); r.code != 2 || !strings.Contains(r.stderr, "--top must be at least 0") {
		t.Errorf("--top -1 ended with code %d: %s", r.code, r.stderr)
	}
	var got struct {
		Items  []struct{ Name string }
		Others int `json:"other_endpoints"`
		Waits  int `json:"waiting_for_others"`
	}
	check(t, json.Unmarshal([]byte(p.must("endpoints", "list", "--top", "3", "--format", "json")), &got))
	if len(got.Items) != 3 || got.Others != 23 || got.Waits != 30 {
		t.Errorf("JSON has %+v", got)
	}
}

func TestEndpointsInStatusAreBounded(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.hosts()
	out := p.must("status")
	if strings.Count(out, "webhook https://host") != 20 || strings.Contains(out, "busy") ||
		!strings.HasSuffix(out, "\n  and 5 more: `fraiseql-observer endpoints list --top 0`\n") {
		t.Errorf("printed\n%s", out)
	}
	var got struct {
		Deliveries struct {
			Endpoints []struct{ Name string }
			Others    int `json:"other_endpoints"`
		}
	}
	check(t, json.Unmarshal([]byte(p.must("status", "--format", "json")), &got))
	if len(got.Deliveries.Endpoints) != 20 || got.Deliveries.Others != 5 {
		t.Errorf("JSON has %+v", got)
	}
}
