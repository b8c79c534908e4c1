package topology_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

// What a reload puts into effect is what config.Config.Diff does not name, and
// the other way round.
func TestReloadDoesWhatDiffSays(t *testing.T) {
	t.Parallel()
	const queued, mail = "mode = \"queued\"\n", "[[observers.actions]]\ntype = \"email\"\nto = \"a@example.com\"\nsubject = \"x\"\nbody_template = \"x\"\n"
	head := func(port string) string {
		return "[smtp]\nhost = \"127.0.0.1\"\nport = " + port + "\ntls = \"none\"\nfrom = \"a@example.com\"\n"
	}
	for name, tt := range map[string]struct {
		before, after string // sections
		restart       []string
		// want is what a failed attempt at the webhook and one at the mail server
		// lead to.
		hook observer.State
		mail string
	}{
		"the mail server":      {head("1"), head("2"), nil, observer.Scheduled, "email 127.0.0.1:2"},
		"the default attempts": {head("1"), head("1") + "[job_queue]\nmax_retries = 0\n", nil, observer.Dead, "email 127.0.0.1:1"},
		"the workers":          {head("1"), head("1") + "[job_queue]\nworker_concurrency = 3\n", []string{"job_queue"}, observer.Scheduled, "email 127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusServiceUnavailable })
			observers := observerTo("o", r.URL+"/o", "") + queued + mail
			before, after := s.parse(t, tt.before+observers), s.parse(t, tt.after+observers)
			built := build(t, before)
			if err := built.Reload(after); err != nil {
				t.Fatal(err)
			}
			if got := before.Diff(after); !slices.Equal(got, tt.restart) {
				t.Errorf("%v need a restart, want %v", got, tt.restart)
			}
			hook, letter := observer.NewDelivery(order("e", "new"), "o", 0, "webhook"), observer.NewDelivery(order("e", "new"), "o", 1, "email")
			for _, d := range []*observer.Delivery{hook, letter} {
				d.ClaimedFrom, d.CreatedAt = observer.Queued, time.Now()
				if err := built.RunStored(t.Context(), d); err != nil {
					t.Fatal(err)
				}
			}
			if hook.State != tt.hook || letter.Endpoint != tt.mail {
				t.Errorf("the webhook is %s and the mail goes to %s, want %s and %s", hook.State, letter.Endpoint, tt.hook, tt.mail)
			}
		})
	}
}
