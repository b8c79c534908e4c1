package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// briefly has a lane wait for an attempt for no more than a moment.
const briefly = "retry = { max_attempts = 1, inline_budget = \"10ms\" }"

// repaired makes log entries that were no events when the daemon read them and
// are now, and returns the keys of their dead letters.
func (p *project) repaired(n int) []string {
	p.t.Helper()
	for i := range n {
		p.sql(fmt.Sprintf(`INSERT INTO tb_entity_change_log (id, object_type, modification_type, object_id, object_data)
			VALUES ('00000000-0000-4000-8000-00000000000%d', 'Order', 'UPSERT', '%d', '{"id":%d}')`, i, i, i))
	}
	daemon := p.start()
	keys := p.dead(n)
	daemon.signal(os.Interrupt)
	daemon.wait()
	p.sql(`UPDATE tb_entity_change_log SET modification_type = 'UPDATE'`)
	return keys
}

// dead waits until there are n dead letters, and returns their keys.
func (p *project) dead(n int) []string {
	p.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		var list struct{ Items []struct{ Key string } }
		check(p.t, json.Unmarshal([]byte(p.must("dlq", "list", "--format", "json")), &list))
		if len(list.Items) == n {
			keys := make([]string, n)
			for i, item := range list.Items {
				keys[i] = item.Key
			}
			return keys
		}
		select {
		case <-deadline.C:
			p.t.Fatalf("dead letters %+v, want %d", list.Items, n)
		default:
		}
	}
}

// running waits until a delivery goes on in the background.
func (p *project) running(key string) {
	p.t.Helper()
	p.awaitShown(key, "being run by:")
}

// awaitShown waits until dlq show prints a text about a delivery.
func (p *project) awaitShown(key, text string) {
	p.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !strings.Contains(p.run("dlq", "show", key).stdout, text) {
		select {
		case <-deadline.C:
			p.t.Fatalf("%s was never shown with %q", key, text)
		default:
		}
	}
}

// An attempt that outlasts the budget of its lane goes on in the background: the
// command waits for it there, and says how it ended.
func TestRetryOfRepairedEntryWaitsForItsAttempts(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status int
		state  string // of the delivery
		text   string // after the entry
	}{
		"delivered": {200, "done", "is an event now and was handled\n"},
		"refused": {422, "dead (permanent)",
			"is an event now and was handled, except: webhook action 0 of every-order for Order 0 ($KEY/every-order/0) is dead ("},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t)
			p.configure(strings.Replace(observerTables, "retry = { max_attempts = 1 }", briefly, 1))
			key := p.repaired(1)[0]
			p.receiver.holdCalls()
			p.receiver.answer(tt.status)
			command := p.launch("dlq", "retry", key)
			p.running(key + "/every-order/0")
			p.receiver.release()
			if code := command.wait().ExitCode(); code != 0 {
				t.Errorf("ended with code %d:\n%s", code, strings.Join(command.seen, "\n"))
			}
			if want := strings.ReplaceAll(tt.text, "$KEY", key); !strings.Contains(command.stdout.String(), want) {
				t.Errorf("printed\n%s, want\n%s", command.stdout.String(), want)
			}
			if out := p.must("dlq", "show", key+"/every-order/0"); !regexp.MustCompile(`(?m)^state: +` + regexp.QuoteMeta(tt.state) + `$`).MatchString(out) {
				t.Errorf("how it ended was not stored:\n%s", out)
			}
			if n := len(p.receiver.received()); n != 1 {
				t.Errorf("%d calls were made, want 1", n)
			}
		})
	}
}

// What runs is waited for, what a slow receiver leaves to the daemon is not, and
// JSON says what became of each.
func TestRetryAllOfRepairedEntriesWaitsForTheirAttempts(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.configure(strings.Replace(observerTables, "retry = { max_attempts = 1 }", briefly, 1))
	keys := p.repaired(2)
	p.receiver.holdCalls()
	command := p.launch("dlq", "retry-all", "--format", "json")
	p.running(keys[0] + "/every-order/0")
	p.awaitShown(keys[1]+"/every-order/0", "queued")
	p.receiver.release()
	if code := command.wait().ExitCode(); code != 0 {
		t.Errorf("ended with code %d:\n%s", code, strings.Join(command.seen, "\n"))
	}
	type part struct{ Key, State string }
	var got struct {
		Items []struct{ Deliveries []part }
	}
	check(t, json.Unmarshal(command.stdout.Bytes(), &got))
	if len(got.Items) != 2 {
		t.Fatalf("printed %d entries, want 2: %s", len(got.Items), command.stdout.String())
	}
	for i, state := range []string{"done", "queued"} {
		if want := []part{{keys[i] + "/every-order/0", state}}; !slices.Equal(got.Items[i].Deliveries, want) {
			t.Errorf("deliveries of entry %d: %+v, want %+v", i, got.Items[i].Deliveries, want)
		}
		p.awaitShown(keys[i]+"/every-order/0", state)
	}
	if n := len(p.receiver.received()); n != 1 {
		t.Errorf("%d calls were made, want 1", n)
	}
}
