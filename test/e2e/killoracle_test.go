//go:build unix

package e2e

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fraiseql/observer"
)

// tally is what became of one delivery: what is stored of it, nil when nothing
// is, and what its receiver got.
type tally struct {
	key      string
	stored   *observer.Delivery
	receipts []receipt
}

// findings count what the kills caused, so that a test can show that there was
// something to find.
type findings struct {
	deliveries, lost, repeated, buried int
}

// check compares what was committed, what the receiver got and what is stored,
// for every observer.
func (v *victim) check() {
	v.t.Helper()
	stored := map[string]*observer.Delivery{}
	for _, d := range v.stored("") {
		stored[d.Key] = d
	}
	byKey, report := v.keyed(), reporter{t: v.t}
	var found findings
	for _, name := range v.observers {
		for _, event := range v.events() {
			key := observer.DeliveryKey(event, name, 0)
			one := tally{key, stored[key], byKey[key]}
			delete(byKey, key)
			found.deliveries++
			one.checkRequests(&report, &found)
			one.checkAttempts(&report, &found, v.kills)
			if strings.HasPrefix(name, "once") {
				one.checkOnce(&report, &found)
			} else {
				one.checkArrived(&report)
			}
		}
	}
	for key := range byKey {
		report.add("%s was received, and never committed", key)
	}
	report.end()
	v.t.Logf("%s: %d kills, %d deliveries, %d repeated, %d attempts lost, %d buried because they may have arrived",
		v.modes, v.kills, found.deliveries, found.repeated, found.lost, found.buried)
	v.meaningful(found)
}

// meaningful fails a test that had nothing to find.
func (v *victim) meaningful(found findings) {
	v.t.Helper()
	if v.kills == 0 {
		return
	}
	if found.lost == 0 || v.modes != "once" && found.repeated == 0 || v.modes == "once" && found.buried == 0 {
		v.t.Errorf("%s: %+v: want attempts lost and deliveries repeated or buried, or the test shows nothing", v.modes, found)
	}
}

// refused is a failure that the sender may repeat when it saw the answer.
func refused(r receipt) bool {
	return r.status == http.StatusServiceUnavailable || r.status == http.StatusUnprocessableEntity
}

// checkRequests: one key is one body. A request that was not refused is repeated
// only by another process than the one that sent it, so at most once per kill.
func (y tally) checkRequests(report *reporter, found *findings) {
	report.t.Helper()
	for i, r := range y.receipts {
		if r.body != y.receipts[0].body {
			report.add("key %s has two bodies:\n%s\n%s", y.key, y.receipts[0].body, r.body)
		}
		if i == 0 || refused(y.receipts[i-1]) {
			continue
		}
		found.repeated++
		if r.run == y.receipts[i-1].run {
			report.add("%s was sent twice by process %d although it was not refused", y.key, r.run)
		}
	}
}

// checkArrived: nothing is lost, and the accepted request is the last one.
func (y tally) checkArrived(report *reporter) {
	report.t.Helper()
	if n := len(y.receipts); n == 0 || !accepted(y.receipts[n-1]) {
		report.add("%s was not accepted: %+v", y.key, y.receipts)
	}
	if y.stored != nil && y.stored.State != observer.Done {
		report.add("%s is %s: %s", y.key, y.stored.State, y.stored.Error)
	}
}

// checkOnce: what was not refused, or not known to be, is not sent again. It is
// done, or dead because it may have arrived.
func (y tally) checkOnce(report *reporter, found *findings) {
	report.t.Helper()
	for _, r := range y.receipts[:max(len(y.receipts)-1, 0)] {
		if !refused(r) {
			report.add("%s was sent again after it was accepted or not answered: %+v", y.key, y.receipts)
		}
	}
	switch d := y.stored; {
	case d == nil:
		report.add("%s is not stored: nobody can tell whether it was sent", y.key)
	case d.State == observer.Done:
		if n := len(y.receipts); n == 0 || !accepted(y.receipts[n-1]) || lost(d) > 0 {
			report.add("%s is called done; received %+v, attempts %+v", y.key, y.receipts, d.Attempts)
		}
	// It may be lost more than once: also burying it can be interrupted.
	case d.State != observer.Dead || d.Reason != observer.ReasonOutcomeUnknown || lost(d) == 0 || !d.Attempts[len(d.Attempts)-1].Unknown:
		report.add("%s is %s, %s, with the attempts %+v", y.key, d.State, d.Reason, d.Attempts)
	default:
		found.buried++
	}
}

// isLost: nobody knows how the attempt ended.
func isLost(a observer.Attempt) bool { return a.Unknown && a.Status == 0 }

func lost(d *observer.Delivery) (n int) {
	for _, a := range d.Attempts {
		if isLost(a) {
			n++
		}
	}
	return n
}

// made reports whether a request belongs to an attempt: both tell the time of
// one machine.
func made(a observer.Attempt, r receipt) bool {
	return r.status == a.Status && !r.at.Before(a.At.Add(-clockStep)) && !r.at.After(a.At.Add(a.Duration+clockStep))
}

// clockStep is what stored times are rounded to.
const clockStep = time.Millisecond

// checkAttempts: every attempt whose outcome is recorded is exactly one request,
// and every other request is one of the attempts that were lost, of which there
// are no more than kills. What a first pass sent before its delivery was stored
// is not recorded when it is killed: its whole event comes again.
func (y tally) checkAttempts(report *reporter, found *findings, kills int) {
	report.t.Helper()
	if y.stored == nil {
		return // done in line, and nothing of it is stored
	}
	left := slices.Clone(y.receipts)
	for i, a := range y.stored.Attempts {
		if a.Number != i+1 {
			report.add("%s: attempt %d has the number %d", y.key, i+1, a.Number)
		}
		if isLost(a) {
			continue
		}
		at := slices.IndexFunc(left, func(r receipt) bool { return made(a, r) })
		if at < 0 {
			report.add("%s: no request belongs to the recorded attempt %+v: %+v", y.key, a, y.receipts)
			continue
		}
		left = slices.Delete(left, at, at+1)
	}
	forgotten := 0
	for _, r := range left {
		if r.at.Before(y.stored.CreatedAt) {
			forgotten++
		}
	}
	n := lost(y.stored)
	found.lost += n
	if len(left) > n+forgotten || forgotten > kills || n > kills {
		report.add("%s: %d requests belong to no recorded attempt, %d of them from before it was stored; %d attempts were lost in %d kills: received %+v, attempts %+v",
			y.key, len(left), forgotten, n, kills, y.receipts, y.stored.Attempts)
	}
}
