package lease_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/lease"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handOver is how long it may take until somebody else has what was given back.
const handOver = time.Second

func TestMembersShareNames(t *testing.T) {
	t.Parallel()
	for members := 1; members <= 5; members++ {
		for _, names := range []int{1, 2, 3, 5, 8, 16, 31, 32} {
			t.Run(fmt.Sprintf("%d members, %d names", members, names), func(t *testing.T) {
				t.Parallel()
				inSite(t, names, func(s *site) {
					for range members {
						s.join()
						s.await(2*handOver, s.all()...)
					}
					gone := s.members[0]
					gone.leave()
					rest := s.members[1:]
					if len(rest) == 0 {
						return
					}
					if took := s.await(handOver, rest...); took >= handOver {
						s.Errorf("hand-over took %s", took)
					}
					rest[0].crash()
					if rest = rest[1:]; len(rest) > 0 {
						s.await(ttl+2*poll, rest...)
					}
				})
			})
		}
	}
}

func TestAllStartAtOnce(t *testing.T) {
	t.Parallel()
	inSite(t, 16, func(s *site) {
		for range 5 {
			s.join()
		}
		s.await(2*handOver, s.all()...)
	})
}

func TestStandby(t *testing.T) {
	t.Parallel()
	inSite(t, 1, func(s *site) {
		a := s.join()
		s.await(handOver, a)
		b := s.join()
		s.pass(time.Minute)
		s.await(0, a, b)
		if n := a.began() + b.began(); n != 1 {
			s.Errorf("%d runs, want 1", n)
		}
		h := a.holds()["shop-0"]
		wantStandings(s, a, b, h)
		a.leave()
		if took := s.await(handOver, b); took >= handOver {
			s.Errorf("hand-over took %s", took)
		}
		if err := h.Await(s.Context()); !errors.Is(err, observer.ErrFenced) || h.Valid() {
			s.Errorf("what was given back: valid %v, error %v", h.Valid(), err)
		}
	})
}

// wantStandings compares what a, which holds h, and b show about it.
func wantStandings(s *site, a, b *member, h *lease.Held) {
	s.Helper()
	if h.Name() != "database/shop-0" || h.Term() <= 0 || h.Err() != nil {
		s.Errorf("held %s, term %d, error %v", h.Name(), h.Term(), h.Err())
	}
	want := lease.Standing{
		Holder: a.group.Holder(), Member: true, Members: []string{a.group.Holder(), b.group.Holder()}, Share: 1,
		Names: []lease.NameStanding{{
			Name: "shop-0", Holder: a.group.Holder(), Term: h.Term(), Mine: true, Valid: true,
		}},
	}
	compare := func(m *member) {
		s.Helper()
		got := m.group.Standing()
		if time.Since(got.At) > poll || got.Names[0].Since.IsZero() {
			s.Errorf("read at %s, held since %s", got.At, got.Names[0].Since)
		}
		got.At, got.Names[0].Since = time.Time{}, time.Time{}
		if diff := cmp.Diff(want, got); diff != "" {
			s.Errorf("standing of %d (-want +got):\n%s", m.id, diff)
		}
		if got.StandsBy() != (m == b) {
			s.Errorf("%d stands by: %v", m.id, got.StandsBy())
		}
	}
	compare(a)
	want.Holder, want.Names[0].Mine, want.Names[0].Valid = b.group.Holder(), false, false
	compare(b)
}

// What is under way when a name is to be given back is finished under its lease,
// however long it takes.
func TestRunIsFinishedUnderItsLease(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *site, m *member){
		"when the process ends": func(_ *site, m *member) { m.stop() },
		"when another joins":    func(*site, *member) {},
		"when it is not shared": func(s *site, _ *member) { s.share(0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inSite(t, 2, func(s *site) {
				a := s.join()
				a.will(func(m *member) { m.lasts = 3 * ttl })
				s.await(handOver, a)
				held := a.holds()
				b := s.join()
				end(s, a)
				s.pass(3*ttl - time.Second)
				for name, h := range held {
					if !h.Valid() || h.Err() != nil {
						s.Errorf("%s was not renewed until its run ended: %v", name, h.Err())
					}
				}
				if len(b.holds()) > 0 {
					s.Error("it was taken while its run was under way")
				}
				s.pass(time.Second + handOver)
				if n := len(b.holds()); n != len(s.shared()) && n != 1 {
					s.Errorf("the other one has %d", n)
				}
			})
		})
	}
}

func TestStoreAwayForAWhile(t *testing.T) {
	t.Parallel()
	for _, away := range []time.Duration{ttl / 2, ttl - time.Second, 2 * ttl, 10 * ttl} {
		for _, kind := range []string{"refuses", "hangs"} {
			t.Run(kind+" for "+away.String(), func(t *testing.T) {
				t.Parallel()
				inSite(t, 8, func(s *site) {
					a, b := s.join(), s.join()
					s.await(2*handOver, a, b)
					held := []map[string]*lease.Held{a.holds(), b.holds()}
					runs := a.began() + b.began()
					for _, m := range s.all() {
						if kind == "hangs" {
							m.link.stop()
						} else {
							m.link.set(func(l *link) { l.cut = true })
						}
					}
					s.pass(away)
					if valid := len(a.holds()) > 0; valid && away > ttl*8/10 {
						s.Error("a lease is trusted that was not renewed for that long")
					}
					for _, m := range s.all() {
						m.link.set(func(l *link) { l.cut = false })
						m.link.resume()
					}
					s.pass(2 * handOver)
					s.await(0, a, b)
					for i, m := range s.all() {
						for name, h := range held[i] {
							if m.holds()[name] != h {
								s.Errorf("%d did not go on with %s", i, name)
							}
						}
					}
					if a.began()+b.began() != runs {
						s.Errorf("%d runs began", a.began()+b.began()-runs)
					}
				})
			})
		}
	}
}

// One process is cut off, or paused, for longer than its lease.
func TestInvariant5WhoWakesUpLateMayDoNothing(t *testing.T) {
	t.Parallel()
	inSite(t, 1, func(s *site) {
		a := s.join()
		s.await(handOver, a)
		h := a.holds()["shop-0"]
		b := s.join()
		s.pass(time.Second)
		a.link.stop()
		began := time.Now()
		s.await(ttl+2*poll, b)
		if took := time.Since(began); took < ttl/3 {
			s.Errorf("taken over after %s", took)
		}
		s.pass(4 * time.Second)
		if h.Valid() {
			s.Error("valid at the first look after the pause")
		}
		a.link.resume()
		err := h.Await(s.Context())
		if !errors.Is(err, observer.ErrFenced) {
			s.Errorf("got error %v, want ErrFenced", err)
		}
		for _, want := range []string{"lease database/shop-0: the lease was lost: not renewed for 1", "paused", b.group.Holder() + " holds it since 20"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				s.Errorf("got error %q, want %q in it", err, want)
			}
		}
		<-h.Lost()
		s.pass(0)
		a.will(func(m *member) {
			if !errors.Is(m.causes["shop-0"], observer.ErrFenced) {
				s.Errorf("its run ended because of %v, want ErrFenced", m.causes["shop-0"])
			}
		})
		if err := s.store.SaveCheckpoint(s.Context(), "shop-0", observer.Checkpoint{Term: h.Term(), Lease: h.Name()}); !errors.Is(err, observer.ErrFenced) {
			s.Errorf("save: got error %v, want ErrFenced", err)
		}
		b.leave()
		s.await(handOver, a)
	})
}

// Await lets through what may go on, and wakes up as soon as it is confirmed.
func TestAwait(t *testing.T) {
	t.Parallel()
	inSite(t, 1, func(s *site) {
		a := s.join()
		s.await(handOver, a)
		h := a.holds()["shop-0"]
		began := time.Now()
		if err := h.Await(s.Context()); err != nil || time.Since(began) > 0 {
			s.Errorf("of a valid one: %v after %s", err, time.Since(began))
		}
		a.link.stop()
		s.pass(2 * ttl)
		ctx, cancel := context.WithTimeout(s.Context(), time.Second)
		defer cancel()
		if err := h.Await(ctx); !errors.Is(err, ctx.Err()) || err == nil {
			s.Errorf("when its context ends: %v", err)
		}
		waited := make(chan error, 1)
		go func() { waited <- h.Await(s.Context()) }()
		s.pass(time.Second)
		select {
		case err := <-waited:
			s.Fatalf("unconfirmed: %v", err)
		default:
		}
		a.link.resume()
		s.pass(time.Second)
		select {
		case err := <-waited:
			if err != nil || !h.Valid() {
				s.Errorf("confirmed: valid %v, error %v", h.Valid(), err)
			}
		default:
			s.Error("nobody was told that it is confirmed")
		}
	})
}

// A process is paused when the answer to a renewal is there. The lease runs since
// it asked, not since it woke up and read the answer; and it asks again at once
// when somebody waits for that.
func TestInvariant5AnswerIsReadLate(t *testing.T) {
	t.Parallel()
	for name, others := range map[string]bool{"and somebody else has taken it": true, "and nobody else has taken it": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inSite(t, 1, func(s *site) {
				a := s.join()
				s.await(handOver, a)
				h := a.holds()["shop-0"]
				if others {
					s.join()
				}
				a.link.set(func(l *link) { l.delay = time.Second })
				s.renewed(h)
				s.pass(900 * time.Millisecond) // on its way back
				a.link.stop()
				s.pass(3 * ttl)
				a.link.resume()
				a.link.set(func(l *link) { l.delay = 0 })
				s.pass(0)
				if h.Valid() {
					s.Error("an answer of long ago was taken for one of now")
				}
				began := time.Now()
				err := h.Await(s.Context())
				if took := time.Since(began); took > ttl/10 {
					s.Errorf("known after %s", took)
				}
				if others != errors.Is(err, observer.ErrFenced) || !others && err != nil {
					s.Errorf("got error %v", err)
				}
			})
		})
	}
}

// renewed waits until the store has renewed a lease.
func (s *site) renewed(h *lease.Held) {
	first := s.stored(h.Name())
	s.until("it is renewed", func() bool { return s.stored(h.Name()).Expires.After(first.Expires) })
}

// stored is a lease as it is in the store; the zero one when it is not there.
func (s *site) stored(name string) observer.Lease {
	all, err := s.store.Leases(s.Context(), name)
	if err != nil {
		s.Fatal(err)
	}
	return append(all, observer.Lease{})[0]
}

// Others take what a process cannot run, and the process tries again later.
func TestNameThatOneProcessCannotRun(t *testing.T) {
	t.Parallel()
	inSite(t, 2, func(s *site) {
		a := s.join()
		a.will(func(m *member) { m.fails["shop-0"], m.fails["shop-1"] = true, true })
		s.pass(2 * time.Minute)
		if n := a.began(); n < 6 || n > 40 {
			s.Errorf("began %d runs in vain in two minutes, want a few", n)
		}
		b := s.join()
		s.pass(10 * time.Second)
		s.await(time.Minute, b)
		a.will(func(m *member) { clear(m.fails) })
		s.await(3*time.Minute, a, b)
	})
}

// A lease that somebody removed is lost while it would be trusted still.
func TestLeaseThatWasTakenAway(t *testing.T) {
	t.Parallel()
	inSite(t, 1, func(s *site) {
		a := s.join()
		s.await(handOver, a)
		h := a.holds()["shop-0"]
		if err := s.store.ReleaseLease(s.Context(), s.stored(h.Name())); err != nil {
			s.Fatal(err)
		}
		a.link.set(func(l *link) { l.delay = time.Second })
		s.until("it is not trusted", func() bool { return !h.Valid() })
		if h.Err() != nil {
			s.Errorf("it was trusted until it was known why it was lost: %v", h.Err())
		}
		<-h.Lost()
		if err := h.Err(); err == nil || !strings.Contains(err.Error(), "it was taken away although it was renewed") || !strings.Contains(err.Error(), "nobody holds it now") {
			s.Errorf("got error %v", err)
		}
		a.link.set(func(l *link) { l.delay = 0 })
		s.await(5*time.Second, a) // a question that is on its way takes its time
		if again := a.holds()["shop-0"]; again.Term() <= h.Term() {
			s.Errorf("term %d after term %d", again.Term(), h.Term())
		}
	})
}

// What was acquired without its answer is known later, and taken or given back.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	inSite(t, 2, func(s *site) {
		s.share(1)
		a := s.join()
		s.await(handOver, a)
		a.link.set(func(l *link) { l.lost = true })
		s.share(2)
		s.until("the other one is held", func() bool { return s.stored("database/shop-1").Holder != "" })
		b := s.join()
		s.await(2*handOver, a, b)
	})
}

// The answer to the last question comes when the process ends.
func TestAnswerAfterTheEnd(t *testing.T) {
	t.Parallel()
	inSite(t, 1, func(s *site) {
		a := s.join()
		a.link.set(func(l *link) { l.delay = time.Second })
		s.until("it is held", func() bool { return s.stored("database/shop-0").Holder != "" })
		a.stop()
		s.await(ttl*7/10, s.join())
	})
}

// The store is away for a moment when a lease is given back.
func TestGivenBackAfterAnOutage(t *testing.T) {
	t.Parallel()
	inSite(t, 1, func(s *site) {
		a := s.join()
		s.await(handOver, a)
		b := s.join()
		s.pass(time.Second)
		a.link.set(func(l *link) { l.cut = true })
		a.stop()
		s.pass(time.Second)
		a.link.set(func(l *link) { l.cut = false })
		s.await(2*handOver, b)
	})
}

// Names come and go while the group runs.
func TestNamesChange(t *testing.T) {
	t.Parallel()
	inSite(t, 3, func(s *site) {
		a, b := s.join(), s.join()
		s.await(2*handOver, a, b)
		s.share(12)
		s.await(2*handOver, a, b)
		s.share(1)
		s.await(2*handOver, a, b)
		s.share(0)
		s.await(2*handOver, a, b)
		if !a.group.Standing().StandsBy() || !b.group.Standing().StandsBy() {
			s.Error("something is held that is not shared")
		}
	})
}
