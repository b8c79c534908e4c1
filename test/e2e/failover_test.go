//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// tagged is an observer of all items whose requests say which daemon sent them.
func tagged(url string) string { return webhook("all", url, "", "") }

// pair starts two daemons on a site: the first reads, the other stands by.
func (s *site) pair() (reading, standing *peer) {
	s.t.Helper()
	reading = s.join()
	reading.logs("lease taken", "lease=database/"+sourceName)
	standing = s.join()
	standing.logs("standing by")
	return reading, standing
}

// TestSecondDaemonStandsBy runs two daemons on one state, under load. One reads,
// and the other one takes over when the first is asked to stop: within a second,
// nothing lost and nothing twice.
func TestSecondDaemonStandsBy(t *testing.T) {
	t.Parallel()
	onEach(t, secondDaemonStandsBy)
}

func secondDaemonStandsBy(t *testing.T, on flavour) {
	t.Helper()
	recv := newReceiver(t, ok)
	s := on.newSite(t, "")
	s.ttl = "10s" // so that no lease runs out on a busy machine
	s.configure(tagged(recv.url()))
	shop := newShop(s)
	if out, _, code := s.command("status"); code != 0 || !strings.Contains(out, "not running") {
		t.Errorf("status before the start, code %d:\n%s", code, out)
	}
	reading, standing := s.pair()
	stop := shop.load(random(t), 40, 200)
	for range 2 {
		recv.from(t, reading, time.Now())
		s.tellsOf(reading, standing)
		began := time.Now()
		reading.leave()
		took := recv.from(t, standing, began).Sub(began)
		reading.left()
		t.Logf("handed over within %s", took)
		if took > time.Second && !raceEnabled {
			t.Errorf("the hand-over took %s", took)
		}
		reading, standing = standing, s.join()
	}
	standing.leave() // it has nothing to hand over
	standing.left()
	recv.from(t, reading, time.Now())
	stop()
	s.arrived(shop, recv)
	reading.leave()
	reading.left()
	if list := (oracle{receipts: recv.receipts()}).repetitions(); len(list) > 0 {
		t.Errorf("%d deliveries were repeated, the first is %+v", len(list), list[0])
	}
	if n := recv.count(func(r receipt) bool { return r.run == standing.run }); n > 0 || standing.logged("lease taken") > 0 {
		t.Errorf("the daemon that stood by sent %d requests", n)
	}
	if out, _, _ := s.command("status"); !strings.Contains(out, "not running") || !strings.Contains(out, "nobody") {
		t.Errorf("status after the end:\n%s", out)
	}
}

// tellsOf expects that the status names both, and who of them reads.
func (s *site) tellsOf(reading, standing *peer) {
	s.t.Helper()
	out, _, code := s.command("status")
	var daemons, reader string
	for line := range strings.Lines(out) {
		switch {
		case strings.HasPrefix(line, "daemon:"):
			daemons = strings.NewReplacer(",", "/", "\n", "/").Replace(line) // a process ends with a slash, as in the holder of a lease
		case strings.HasPrefix(strings.TrimSpace(line), "read by:"):
			reader = line
		}
	}
	name := func(p *peer) string { return fmt.Sprintf("/%d/", p.cmd.Process.Pid) }
	if code != 0 || !strings.Contains(daemons, name(reading)) || !strings.Contains(daemons, name(standing)) ||
		!strings.Contains(reader, name(reading)) || strings.Contains(reader, name(standing)) {
		s.t.Errorf("process %s reads and %s stands by, status says:\n%s", name(reading), name(standing), out)
	}
}

// TestInvariant7KilledReaderIsReplaced kills the daemon that reads. The other one
// goes on when its lease is over, and repeats what the last checkpoint does not
// cover and nothing else.
func TestInvariant7KilledReaderIsReplaced(t *testing.T) {
	t.Parallel()
	onEach(t, killedReaderIsReplaced)
}

func killedReaderIsReplaced(t *testing.T, on flavour) {
	t.Helper()
	const ttl, kills = 2 * time.Second, 2
	recv := newReceiver(t, func(r receipt) int {
		<-time.After(time.Duration(r.change.version%7) * 10 * time.Millisecond) // so that a kill finds some in flight
		return http.StatusOK
	})
	s := on.newSite(t, "")
	s.ttl = ttl.String()
	s.configure(tagged(recv.url()))
	k := &killings{site: s, shop: newShop(s), recv: recv, first: map[string]time.Time{}}
	reading, standing := s.pair()
	stop := k.shop.load(random(t), 40, 200)
	for range kills {
		recv.from(t, reading, time.Now())
		from := time.Now()
		reading.crash()
		at := time.Now()
		// Nobody else delivers anything before the lease is over.
		k.note(killing{from, at.Add(ttl / 2)}, k.covered(k.shop))
		if standing.logged("lease taken") > 0 {
			t.Error("the other one took over before the lease was over")
		}
		took := recv.from(t, standing, at).Sub(at)
		t.Logf("taken over within %s", took)
		if took > ttl+2*time.Second {
			t.Errorf("it took %s to take over", took)
		}
		reading, standing = standing, s.join()
	}
	stop()
	eventually(t, "everything arrives", k.arrived)
	standing.leave()
	standing.left()
	reading.leave()
	reading.left()
	k.checkRepetitions(k.check(), lateSave)
}

// TestInvariant5PausedReaderDeliversNothingMore stops a daemon that reads for
// longer than its lease, with requests under way and more waiting behind them.
// Another one does all of that. The first one, when it wakes up, sends nothing and
// moves no checkpoint, says why, and can take over again.
func TestInvariant5PausedReaderDeliversNothingMore(t *testing.T) {
	t.Parallel()
	onEach(t, pausedReaderDeliversNothingMore)
}

func pausedReaderDeliversNothingMore(t *testing.T, on flavour) {
	t.Helper()
	const inFlight, behind = 5, 3
	release := make(chan struct{})
	var recv *receiver
	recv = newReceiver(t, func(r receipt) int {
		if r.run == 1 {
			recv.hold(release)
		}
		return http.StatusOK
	})
	s := on.newSite(t, tagged(recv.url()))
	shop := newShop(s)
	first, other := s.pair()
	put := func() {
		for item := range int64(inFlight) {
			shop.put(item + 1)
		}
	}
	put()
	eventually(t, "requests are under way", func() bool { return len(recv.receipts()) >= inFlight })
	for range behind {
		put()
	}
	began := time.Now()
	first.pause()
	close(release)
	shop.put(inFlight + 1)
	s.arrived(shop, recv) // those under way included: they were answered
	eventually(t, "the other one has handled everything", func() bool {
		return recv.count(func(r receipt) bool { return r.run == other.run }) == len(shop.all()) && s.behind(s.checkpoint().Position) == 0
	})
	saved, paused := s.checkpoint().SavedAt, time.Since(began)
	// What it had sent has reached the receiver by now.
	sent := recv.count(func(r receipt) bool { return r.run == first.run })
	first.wake()
	first.logs("lease lost", "not renewed for", "the process was paused", fmt.Sprintf("/%d/", other.cmd.Process.Pid), "holds it since")
	first.logs("standing by")
	t.Logf("paused for %s", paused)
	shop.put(inFlight + 2)
	shop.put(1)
	s.arrived(shop, recv)
	eventually(t, "the checkpoint is that of the other one", func() bool {
		cp := s.checkpoint()
		return cp.SavedAt.After(saved) && s.behind(cp.Position) == 0
	})
	s.pausedSent(recv, first, sent)

	other.leave()
	other.left()
	eventually(t, "the first one reads again", func() bool { return first.logged("lease taken", "lease=database/shop") == 2 })
	shop.put(2)
	s.arrived(shop, recv)
	recv.from(t, first, began.Add(paused))
	first.leave()
	first.left()
	s.pausedSent(recv, first, sent+1)
}

// pausedSent expects that a daemon sent so many requests, and that those that it
// had under way when it was stopped are all that came twice.
func (s *site) pausedSent(recv *receiver, first *peer, want int) {
	s.t.Helper()
	twice := 0
	for _, r := range recv.receipts() {
		if r.attempt > 1 {
			twice++
			if r.run == first.run {
				s.t.Errorf("the paused daemon repeated %+v", r)
			}
		}
	}
	if n := recv.count(func(r receipt) bool { return r.run == first.run }); n != want || twice > want {
		s.t.Errorf("the paused daemon sent %d requests, want %d; %d came twice", n, want, twice)
	}
}
