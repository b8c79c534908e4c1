package reconcile_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// troubles are what happens to a world that loses nothing.
func troubles() map[string]func(w *world) {
	return map[string]func(w *world){
		"under load": func(w *world) {
			for range 600 {
				w.commit(100)
				<-time.After(100 * time.Millisecond)
			}
		},
		"one event now and then": func(w *world) {
			for range 100 {
				w.commit(1)
				<-time.After(time.Minute)
			}
		},
		"slow workers": func(w *world) {
			w.change(func() { w.handles = 1 })
			for range 20 {
				w.commit(400)
				<-time.After(time.Second)
			}
		},
		"workers away for an hour": func(w *world) {
			w.change(func() { w.handles = 0 })
			for range 60 {
				w.commit(50)
				<-time.After(time.Minute)
			}
			w.change(func() { w.handles = 5 })
		},
		"a slow bridge": func(w *world) {
			w.change(func() { w.publishes = 2 })
			for range 20 {
				w.commit(400)
				<-time.After(time.Second)
			}
		},
		"a bridge that fails for an hour": func(w *world) {
			w.change(func() { w.publishes = 0 })
			w.commit(500)
			<-time.After(time.Hour)
			w.change(func() { w.publishes = 10 })
		},
		"the stream away": func(w *world) {
			w.commit(500)
			<-time.After(tick)
			w.change(func() { w.streamAway = true })
			w.commit(500)
			<-time.After(time.Hour)
			w.change(func() { w.streamAway = false })
		},
		"the store away": func(w *world) {
			w.commit(500)
			w.change(func() { w.storeAway = true })
			w.commit(500)
			<-time.After(20 * time.Minute)
			w.change(func() { w.storeAway = false })
		},
		"a stream that loses what is handled": func(w *world) {
			for range 20 {
				w.commit(100)
				<-time.After(time.Second)
				w.change(func() { w.lose(func(_ message, handled bool) bool { return handled }) })
			}
		},
		"a new stream when everything is handled": func(w *world) {
			for range 5 {
				w.commit(100)
				<-time.After(3 * tick)
				w.change(func() { w.remake(10) }) // some are handled twice
			}
		},
	}
}

// While nothing is lost nothing is published again, whatever else goes on.
func TestHealthyMeansZero(t *testing.T) {
	t.Parallel()
	for name, during := range troubles() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				v, stop := w.verify(w.config())
				during(w)
				<-time.After(15 * time.Minute)
				w.wantEnd(v, 0)
				if s := v.Stats(); s.Verified != uint64(len(w.events)) {
					t.Errorf("%d events are verified, want %d", s.Verified, len(w.events))
				}
				if len(w.alerts) > 0 {
					t.Errorf("got alerts %v", w.alerts)
				}
				if name != "a new stream when everything is handled" {
					w.wantNoReceipts(v)
				}
				stop(false)
			})
		})
	}
}

// A verifier that starts again does not take for missing what its predecessor had
// seen the receipts of, however that ended.
func TestRestartsPublishNothing(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]bool{"stopped": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.change(func() { w.handles = 20 })
				v, stop := w.verify(w.config())
				for i := range 120 {
					w.commit(70)
					<-time.After(time.Duration(i*37%101)*time.Millisecond + time.Second)
					if kill {
						w.change(func() { w.dead = true })
						w.commit(30)
						<-time.After(600 * time.Millisecond)
					}
					stop(kill)
					v, stop = w.verify(w.config())
				}
				<-time.After(10 * time.Minute)
				w.wantEnd(v, 0)
				stop(false)
			})
		})
	}
}
