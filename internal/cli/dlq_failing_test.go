package cli_test

import (
	"database/sql"
	"encoding/json"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
)

// damage makes the rows of deliveries in the state unreadable that a condition
// selects.
func (p *project) damage(condition string) {
	p.t.Helper()
	db, err := sql.Open("sqlite", "file:"+p.path("fraiseql-observer.state.db")+"?_pragma=busy_timeout(10000)")
	check(p.t, err)
	_, err = db.ExecContext(p.t.Context(), "UPDATE tb_delivery SET block_when_dead = 7 WHERE "+condition)
	check(p.t, err)
	check(p.t, db.Close())
}

// unfollowable is a repaired log entry whose deliveries cannot be listed.
func unfollowable(t *testing.T) (p *project, key string) {
	t.Helper()
	p = newProject(t)
	key = p.repaired(1)[0]
	other := p.keep(key, func(d *observer.Delivery) {
		d.Observer, d.Key, d.State = "other", observer.DeliveryKey(key, "other", 0), observer.Scheduled
	})
	p.damage("key = '" + other + "'")
	return p, key
}

const notFollowed = "fraiseql-observer: what became of the deliveries of "

// Whoever is not told that a dead letter has arrived sends it again.
func TestRetrySaysHowItEndedWhateverFailsAfterwards(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"one":          {[]string{"dlq", "retry", "$KEY"}, "is an event now and was handled\n"},
		"one in JSON":  {[]string{"dlq", "retry", "$KEY", "--format", "json"}, `"result": "delivered"`},
		"many":         {[]string{"dlq", "retry-all"}, "1 dead letter: 1 delivered, 0 failed"},
		"many in JSON": {[]string{"dlq", "retry-all", "--format", "json"}, `"delivered": 1,`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, key := unfollowable(t)
			for i := range tt.args {
				tt.args[i] = strings.Replace(tt.args[i], "$KEY", key, 1)
			}
			r := p.run(tt.args...)
			if r.code == 0 || !strings.HasPrefix(r.stderr, notFollowed+key) {
				t.Errorf("ended with code %d: %s", r.code, r.stderr)
			}
			if !strings.Contains(r.stdout, tt.want) {
				t.Errorf("printed %q, want %q", r.stdout, tt.want)
			}
			if n := len(p.receiver.received()); n != 1 {
				t.Errorf("%d calls were made, want 1", n)
			}
		})
	}
}

// A retry of many that fails at one says what became of those before it.
func TestRetryAllThatFailsInTheMiddleSaysHowFarItCame(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	var keys []string
	for _, id := range []string{"00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002", "00000000-0000-4000-8000-000000000003"} {
		keys = append(keys, p.keep(id, unchanged))
	}
	p.receiver.holdCalls()
	command := p.launch("dlq", "retry-all", "--format", "json")
	check(t, p.receiver.await(1, anyCall))
	p.damage("key = '" + keys[1] + "'")
	p.receiver.release()
	if code := command.wait().ExitCode(); code == 0 || len(command.seen) != 1 {
		t.Errorf("ended with code %d:\n%s", code, strings.Join(command.seen, "\n"))
	}
	var got struct {
		Total, Delivered, Unknown, Remaining int
		Items                                []struct{ Key, Result, Error string }
	}
	check(t, json.Unmarshal(command.stdout.Bytes(), &got))
	if got.Total != 3 || got.Delivered != 1 || got.Unknown != 1 || got.Remaining != 1 {
		t.Errorf("printed %+v", got)
	}
	if len(got.Items) != 2 || got.Items[0].Key != keys[0] || got.Items[1].Key != keys[1] ||
		got.Items[1].Result != "unknown" || got.Items[1].Error == "" {
		t.Errorf("items %+v", got.Items)
	}
}
