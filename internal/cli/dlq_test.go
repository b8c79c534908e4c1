package cli_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

const someID = "00000000-0000-4000-8000-000000000001"

// Two people who retry the same dead letter at once fire it once.
func TestConcurrentRetriesFireOnce(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	key := p.keep(someID, unchanged)
	p.receiver.holdCalls()
	first := p.launch("dlq", "retry", key)
	check(t, p.receiver.await(1, anyCall))

	second := p.run("dlq", "retry", key)
	if second.code != 1 || !strings.Contains(second.stderr, "being run by another process") {
		t.Errorf("the second retry ended with code %d: %s", second.code, second.stderr)
	}
	if r := p.run("dlq", "remove", key); r.code != 1 || !strings.Contains(r.stderr, "being run by another process") {
		t.Errorf("removing it meanwhile ended with code %d: %s", r.code, r.stderr)
	}
	if out := p.must("dlq", "show", key); !strings.Contains(out, "being run by:") {
		t.Errorf("show does not say that it is being run:\n%s", out)
	}
	if out := p.must("dlq", "retry-all"); out != "no dead letters to retry\n" {
		t.Errorf("retry-all printed\n%s", out)
	}
	p.receiver.release()
	if code := first.wait().ExitCode(); code != 0 {
		t.Errorf("the first retry ended with code %d", code)
	}
	calls := p.receiver.received()
	if len(calls) != 1 || calls[0].key != key {
		t.Errorf("received %+v, want one call with the key %s", calls, key)
	}
}

// What somebody else has taken when its turn comes is passed over.
func TestRetryAllSkipsWhatIsGone(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.keep("00000000-0000-4000-8000-000000000001", unchanged)
	gone := p.keep("00000000-0000-4000-8000-000000000002", unchanged)
	p.receiver.holdCalls()
	all := p.launch("dlq", "retry-all")
	check(t, p.receiver.await(1, anyCall))
	p.must("dlq", "remove", gone)
	p.receiver.release()
	if code := all.wait().ExitCode(); code != 0 {
		t.Errorf("ended with code %d", code)
	}
	if out := all.stdout.String(); !strings.Contains(out, "2/2 skipped "+gone) || !strings.Contains(out, "1 delivered, 0 failed and kept, 1 skipped") {
		t.Errorf("printed\n%s", out)
	}
}

// A delivery that the daemon is going to try is not a person's to retry.
func TestScheduledDeliveryIsNoDeadLetter(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	key := p.keep(someID, func(d *observer.Delivery) {
		d.State, d.RunAt = observer.Scheduled, time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)
	})
	for _, command := range []string{"retry", "remove"} {
		r := p.run("dlq", command, key)
		if r.code != 1 || !strings.Contains(r.stderr, "is not a dead letter: it is scheduled") {
			t.Errorf("dlq %s ended with code %d: %s", command, r.code, r.stderr)
		}
	}
	if out := p.must("dlq", "show", key); !strings.Contains(out, "scheduled for 2999-01-01T00:00:00Z") {
		t.Errorf("show printed\n%s", out)
	}
	if out := p.must("status"); !strings.Contains(out, "1, the next due 2999-01-01T00:00:00Z") {
		t.Errorf("status printed\n%s", out)
	}
	if n := len(p.receiver.received()); n != 0 {
		t.Errorf("%d calls were made", n)
	}
}

// A dead letter whose observer is gone from the configuration stays.
func TestRetryOfWhatIsNotConfiguredKeepsIt(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	key := p.keep(someID, unchanged)
	p.configure("")
	r := p.run("dlq", "retry", key)
	if r.code != 1 || !strings.Contains(r.stderr, "put it back or remove this delivery") {
		t.Errorf("ended with code %d: %s", r.code, r.stderr)
	}
	if out := p.must("dlq", "show", key); !strings.Contains(out, "dead (unconfigured)") {
		t.Errorf("show printed\n%s", out)
	}
}

// What was kept because its condition failed, and turns out not to match, is
// dropped: it does not say delivered when nothing was sent.
func TestRetryOfWhatDoesNotMatchSaysDropped(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.configure(strings.Replace(observerTables, "retry =", "condition = \"data.id == 2\"\nretry =", 1))
	unevaluated := func(d *observer.Delivery) { d.Reason = observer.ReasonCondition }
	keys := make([]string, 3)
	for i := range keys {
		keys[i] = p.keep(fmt.Sprintf("00000000-0000-4000-8000-00000000000%d", i), unevaluated)
	}
	want := "dropped webhook action 0 of every-order for Order 1 (" + keys[0] + "): the condition is false for this event, so nothing was sent\n"
	if out := p.must("dlq", "retry", keys[0]); out != want {
		t.Errorf("retry printed %q, want %q", out, want)
	}
	if out := p.must("dlq", "show", keys[0]); !strings.Contains(out, "state:     done\n") || strings.Contains(out, "attempts") {
		t.Errorf("show printed\n%s", out)
	}
	if out := p.must("dlq", "retry", keys[1], "--format", "json"); !strings.Contains(out, `"result": "dropped"`) {
		t.Errorf("retry printed %s", out)
	}
	want = "1/1 dropped " + keys[2] + "\n1 dead letter: 0 delivered, 0 failed and kept, 0 skipped, 1 dropped because the condition is false\n"
	if out := p.must("dlq", "retry-all"); out != want {
		t.Errorf("retry-all printed %q, want %q", out, want)
	}
	if n := len(p.receiver.received()); n != 0 {
		t.Errorf("%d calls were made", n)
	}
}

// A log entry that is not an event is shown raw, and runs after its repair.
func TestMalformedEntryIsShownAndRedriven(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.sql(`INSERT INTO tb_entity_change_log (id, object_type, modification_type, object_id, object_data)
		VALUES ('` + someID + `', 'Order', 'UPSERT', '7', '{"id":7}')`)
	p.start()
	key := p.dead(1)[0]
	if out := p.must("dlq", "list"); !strings.Contains(out, "malformed") {
		t.Errorf("listed\n%s, want one malformed entry", out)
	}
	advice := "repair the row of the change log of shop whose pk_entity_change_log is 1, then run `fraiseql-observer dlq retry " + key + "`"
	if out := p.must("dlq", "show", key); !containsAll(out, []string{"UPSERT", "log entry of shop that is not an event", advice}) {
		t.Errorf("show printed\n%s", out)
	}
	if r := p.run("dlq", "retry", key); r.code != 1 || !strings.Contains(r.stderr, "UPSERT") {
		t.Errorf("retry before the repair ended with code %d: %s", r.code, r.stderr)
	}
	p.sql(`UPDATE tb_entity_change_log SET modification_type = 'UPDATE'`)
	if out := p.must("dlq", "retry", key); !strings.Contains(out, "is an event now") {
		t.Errorf("retry printed\n%s", out)
	}
	check(t, p.receiver.await(1, func(c call) bool { return strings.Contains(c.body, `"entity_id":"7"`) }))
}

// Invariant 9: no command prints a secret of the configuration, also not one that
// a receiver repeats in its answer.
func TestNoCommandPrintsSecrets(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	const secret = "hunter2-hunter2-hunter2"
	p.env = []string{"HOOK_TOKEN=" + secret}
	p.receiver.answer(500)
	p.configure(`
[[observers]]
name = "every-order"
entity = "Order"
retry = { max_attempts = 1 }
[[observers.actions]]
type = "webhook"
url = "$RECEIVER/hook"
headers = { Authorization = "Bearer ${HOOK_TOKEN}" }
signing_secret = "whsec_aHVudGVyMi1odW50ZXIyLWh1bnRlcjIt"
`)
	key := p.keep(someID, unchanged)
	var all strings.Builder
	for _, args := range [][]string{
		{"validate-config"},
		{"dlq", "retry", key},
		{"dlq", "retry", key, "--format", "json"},
		{"dlq", "show", key},
		{"dlq", "show", key, "--format", "json"},
		{"dlq", "list", "--format", "json"},
		{"dlq", "stats", "--by-error"},
		{"dlq", "retry-all"},
		{"dlq", "export"},
		{"dlq", "edit", key, "--request", "missing"},
		{"endpoints", "list", "--format", "json"},
		{"status", "--detailed", "--format", "json"},
	} {
		r := p.run(args...)
		all.WriteString(r.stdout + r.stderr)
	}
	if len(p.receiver.received()) != 3 {
		t.Fatalf("%d calls were made, want 3: nothing was put to the test:\n%s", len(p.receiver.received()), all.String())
	}
	if !strings.Contains(all.String(), "you sent") {
		t.Errorf("the answer of the receiver was not shown:\n%s", all.String())
	}
	for _, s := range []string{secret, "aHVudGVyMi1odW50ZXIyLWh1bnRlcjIt"} {
		if strings.Contains(all.String(), s) {
			t.Errorf("%q was printed:\n%s", s, all.String())
		}
	}
}
