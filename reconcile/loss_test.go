package reconcile_test

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fraiseql/observer"
)

func everything(message, bool) bool { return true }

// odd is half of the messages, without regard to what is handled.
func odd(m message, _ bool) bool { return m.seq%2 == 1 }

// What is taken away before it was handled is published again, and nothing else.
func TestWhatIsLostIsPublishedAgain(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(w *world) (lost int){
		"all of a stream":           func(w *world) int { return w.lose(everything) },
		"half of a stream":          func(w *world) int { return w.lose(odd) },
		"one message":               func(w *world) int { return w.lose(func(m message, _ bool) bool { return m.id == w.events[77].ID }) },
		"a new life":                func(w *world) int { return w.remake(0) },
		"put back to an older copy": func(w *world) int { return w.remake(10) },
		"half of a stream of which half was handled": func(w *world) int {
			w.handles = 1
			for range 25 {
				w.work()
			}
			w.handles = 0
			return w.lose(odd)
		},
		"a new life when half was handled": func(w *world) int {
			w.handles = 1
			for range 25 {
				w.work()
			}
			w.handles = 0
			return w.remake(5)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.change(func() { w.handles = 0 })
				v, stop := w.verify(w.config())
				w.commit(200)
				<-time.After(time.Second)
				lost := 0
				w.change(func() { lost = lose(w) })
				if lost == 0 {
					t.Fatal("the test loses nothing")
				}
				<-time.After(20 * time.Minute)
				if s := v.Stats(); s.Republished > 0 && name == "half of a stream" {
					t.Errorf("got %+v while the workers are away, want nothing published again", s)
				}
				w.change(func() { w.handles = 3 })
				w.commit(10)
				<-time.After(10 * time.Minute)
				w.wantEnd(v, lost)
				if len(w.alerts) != 1 || w.alerts[0] > lost {
					t.Errorf("got alerts %v, want one of %d at most", w.alerts, lost)
				}
				if name != "a new life when half was handled" { // in which some are handled twice
					w.wantNoReceipts(v)
				}
				stop(false)
			})
		})
	}
}

// Purged messages are passed although the checkpoint never gets there.
func TestNothingBehindThePurgeIsNeeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.change(func() { w.handles = 0 })
		v, stop := w.verify(w.config())
		w.commit(100)
		<-time.After(5 * time.Minute) // the barrier is noted
		w.change(func() { w.lose(everything) })
		<-time.After(5 * time.Minute)
		if s := v.Stats(); s.Missing == 0 || s.Missing != s.Waiting || s.Republished == 0 {
			t.Errorf("got %+v, want some missing", s)
		}
		w.change(func() { w.handles = 10 })
		<-time.After(5 * time.Minute)
		w.wantEnd(v, 100)
		stop(false)
	})
}

// What is published again may be lost again.
func TestTheSecondLossIsFoundToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.change(func() { w.handles = 0 })
		v, stop := w.verify(w.config())
		w.commit(100)
		lost := 0
		for range 3 {
			<-time.After(time.Second)
			w.change(func() { lost += w.remake(0) })
			<-time.After(10 * time.Minute)
		}
		w.change(func() { w.handles = 10 })
		<-time.After(time.Hour)
		w.wantEnd(v, lost)
		// Those of the first batch. The others, if there are any, wait behind it.
		if most := slices.Max(slices.Collect(maps.Values(w.lost))); most != 3 {
			t.Errorf("no event was lost more than %d times, want 3", most)
		}
		if len(w.alerts) != 1 {
			t.Errorf("got alerts %v, want one", w.alerts)
		}
		stop(false)
	})
}

// A loss of many batches is one incident, a later one another.
func TestPeopleAreToldOnceOfEachIncident(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, said := newWorld(t), &bytes.Buffer{}
		cfg := w.config()
		cfg.Logger = slog.New(slog.NewTextHandler(said, nil))
		v, stop := w.verify(cfg)
		lost := 0
		for range 2 {
			w.change(func() { w.handles = 0 })
			w.commit(1500) // five batches
			<-time.After(time.Second)
			w.change(func() { lost += w.remake(0); w.handles = 1000 })
			<-time.After(time.Hour)
		}
		w.commit(1)
		<-time.After(time.Minute)
		w.wantEnd(v, 3000)
		if len(w.alerts) != 2 {
			t.Errorf("got alerts %v, want two", w.alerts)
		}
		text := said.String()
		if n := strings.Count(text, "the stream lost events"); n != 2 || !strings.Contains(text, w.events[0].ID) || !strings.Contains(text, "database=shop") {
			t.Errorf("%d lines, want two with the first ids and the database:\n%.2000s", n, text)
		}
		if !strings.Contains(text, `msg="what the stream lost is handled" database=shop group=workers events=1500`) {
			t.Errorf("no line about the end:\n%.2000s", text)
		}
		if strings.Contains(text, "cannot be verified") {
			t.Errorf("says that something failed:\n%.2000s", text)
		}
		stop(false)
	})
}

// People are told of the end, too, when nothing more is written afterwards, and not
// before everything is handled.
func TestTheEndIsToldWithoutALaterEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, said := newWorld(t), &bytes.Buffer{}
		cfg := w.config()
		cfg.Logger = slog.New(slog.NewTextHandler(said, nil))
		w.change(func() { w.handles = 0 })
		v, stop := w.verify(cfg)
		w.commit(1500) // five batches
		<-time.After(time.Second)
		lost := 0
		w.change(func() { lost = w.remake(0) })
		<-time.After(20 * time.Minute)
		if strings.Contains(said.String(), "is handled") {
			t.Errorf("says that all is handled while nobody handles anything:\n%.2000s", said.String())
		}
		w.change(func() { w.handles = 1000 })
		<-time.After(time.Hour)
		w.wantEnd(v, lost)
		if n := strings.Count(said.String(), `msg="what the stream lost is handled" database=shop group=workers events=1500`); n != 1 || strings.Count(said.String(), "is handled") != 1 {
			t.Errorf("%d lines about the end, want one:\n%.2000s", n, said.String())
		}
		stop(false)
	})
}

// Publishing again waits for a stream that is away or full.
func TestPublishingAgainWaitsForTheStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, refused := newWorld(t), 0
		w.change(func() { w.handles = 0 })
		cfg := w.config()
		cfg.Republish = func(ctx context.Context, events []*observer.Event) error {
			if refused < 10 {
				refused++
				return errAway
			}
			return w.republish(ctx, events)
		}
		v, stop := w.verify(cfg)
		w.commit(100)
		<-time.After(time.Second)
		w.change(func() { w.remake(0); w.handles = 10 })
		<-time.After(time.Hour)
		w.wantEnd(v, 100)
		if refused != 10 || len(w.alerts) != 1 {
			t.Errorf("refused %d times, alerts %v, want 10 and one", refused, w.alerts)
		}
		stop(false)
	})
}

// The events come out in the order of the log.
func TestPublishedAgainInTheOrderOfTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.change(func() { w.handles = 0 })
		var ids []string
		cfg := w.config()
		cfg.Republish = func(ctx context.Context, events []*observer.Event) error {
			for _, e := range events {
				ids = append(ids, e.ID)
			}
			return w.republish(ctx, events)
		}
		_, stop := w.verify(cfg)
		w.commit(250)
		<-time.After(time.Second)
		w.change(func() { w.remake(7); w.handles = 10 })
		<-time.After(time.Hour)
		stop(false)
		if len(ids) < 200 {
			t.Errorf("%d events, want more than 200", len(ids))
		}
		for i := 1; i < len(ids); i++ {
			if ids[i] <= ids[i-1] {
				t.Errorf("%s comes before %s", ids[i-1], ids[i])
			}
		}
	})
}

// receiptless is a store that has no receipts: the workers save none.
type receiptless struct{ observer.ReceiptStore }

func (receiptless) Receipts(context.Context, string, string, int64, int) ([]observer.ReceiptBatch, error) {
	return nil, nil
}

// Workers that say nothing must not have everything handled for ever.
func TestWorkersWithoutReceipts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		cfg := w.config()
		cfg.Receipts = receiptless{cfg.Receipts}
		v, stop := w.verify(cfg)
		w.commit(10)
		<-time.After(12 * time.Hour)
		if n := v.Stats().Republished; n == 0 || n > 100 {
			t.Errorf("10 events were published again %d times in all, want an end to it", n)
		}
		stop(false)
	})
}
