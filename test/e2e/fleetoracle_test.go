//go:build unix

package e2e

import (
	"fmt"
	"strings"
	"time"
)

// check finds losses, changes out of order and repeats that nothing explains.
func (f *fleet) check() {
	f.t.Helper()
	f.checkWith(0)
}

// checkWith is check where so many events were published again because a stream
// lost them: they come late, and those that a worker had fetched come twice.
func (f *fleet) checkWith(again int) {
	f.t.Helper()
	for _, o := range f.oracles() {
		o.checkWith(f.t, again)
	}
	f.checkRepeats(again)
}

// lateFault is how old an acceptance may be when its process dies or stops, and
// still be repeated: partitions save a checkpoint ten times a second, and that
// takes a while on a busy machine.
const lateFault = 3 * time.Second

// checkRepeats: what was accepted, or not answered, comes again only because the
// process that sent it was killed, or was stopped and lost its leases.
func (f *fleet) checkRepeats(most int) {
	f.t.Helper()
	last := map[string]receipt{}
	report := reporter{t: f.t}
	repeats, kinds := 0, map[string]int{}
	for _, r := range f.recv.receipts() {
		before, again := last[r.key]
		last[r.key] = r
		if !again || refused(before) {
			continue
		}
		repeats++
		why := f.explain(before, r)
		if why == "" && kinds["published again"] < most {
			why = "published again"
		}
		if kinds[why]++; why == "" {
			report.add("%s: sent by process %d at %s and again by process %d at %s, and nothing explains that",
				r.key, before.run, clock(before.at), r.run, clock(r.at))
		}
	}
	report.end()
	// A lease is asked for before each request: only what was just being sent slips
	// through.
	stops := 0
	for _, one := range f.faults {
		if !one.killed {
			stops++
		}
	}
	if kinds["woken"] > stops {
		f.t.Errorf("processes that were stopped %d times sent %d requests when they went on that others had sent", stops, kinds["woken"])
	}
	f.t.Logf("%d requests, %d repeats %v, %d faults", len(f.recv.receipts()), repeats, kinds, len(f.faults))
	if f.t.Failed() {
		for _, one := range f.faults {
			f.t.Logf("fault: %s", one)
		}
	}
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

func (f fault) String() string {
	verb := "stopped"
	if f.killed {
		verb = "killed"
	}
	return fmt.Sprintf("process %d %s from %s until %s", f.run, verb, clock(f.from), clock(f.until))
}

// explain says why a request was repeated; "" when there is no reason.
func (f *fleet) explain(before, again receipt) string {
	for _, one := range f.faults {
		if one.run == before.run && one.covers(before, again) {
			if one.killed {
				return "killed"
			}
			return "stopped"
		}
	}
	for _, one := range f.faults {
		if one.run == again.run && !one.killed && one.woke(before, again) {
			return "woken"
		}
	}
	for _, one := range f.away {
		if one.covers(before, again) && before.at.Before(one.until.Add(lateFault)) {
			return "state away" // no checkpoint was saved then
		}
	}
	return f.lostLease(before)
}

// covers reports whether the fault may be why a request was repeated.
func (f fault) covers(before, again receipt) bool {
	return before.at.After(f.from.Add(-lateFault)) && again.at.After(f.from)
}

// woke reports whether a process was about to send a request when it was stopped,
// and sent it when it went on, although somebody else had meanwhile.
func (f fault) woke(before, again receipt) bool {
	return before.at.After(f.from) && before.at.Before(f.until) && again.at.Sub(f.until).Abs() < time.Second
}

// lostLease: on a machine that is too busy a process may come too late to renew
// its leases. It says so.
func (f *fleet) lostLease(before receipt) string {
	for _, m := range f.members() {
		if before.run/runsApart != m.runs/runsApart {
			continue
		}
		for line := range strings.Lines(m.log()) {
			if !strings.Contains(line, `msg="lease lost"`) {
				continue
			}
			text, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
			at, err := time.Parse(time.RFC3339, text)
			if err != nil {
				f.t.Fatalf("the time of %q: %v", line, err)
			}
			if before.at.After(at.Add(-lateFault)) && before.at.Before(at.Add(lateFault)) {
				return "lease lost"
			}
		}
	}
	return ""
}
