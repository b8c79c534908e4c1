package actiontest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
)

func testSucceeds(t *testing.T, f Fixture) {
	d := NewDelivery(7, "shipped")
	if _, err := f.New(t, Message).Execute(t.Context(), d); err != nil {
		t.Fatalf("execute: %v", err)
	}
	if got := only(t, f); !strings.Contains(got, "order 7 is shipped") {
		t.Errorf("the other side got %q", got)
	}
	if len(d.Request) == 0 {
		t.Error("no request was stored")
	}
}

func testStoresFirst(t *testing.T, f Fixture) {
	f.Answer(RefuseNow)
	d := NewDelivery(7, "shipped")
	if _, err := f.New(t, Message).Execute(t.Context(), d); err == nil {
		t.Fatal("a refused attempt gave no error")
	}
	if len(d.Request) == 0 {
		t.Error("the failed attempt stored no request: the next one could send something else")
	}
}

func testSameBytes(t *testing.T, f Fixture) {
	action, d := f.New(t, Message), NewDelivery(7, "shipped")
	for range 3 {
		if _, err := action.Execute(t.Context(), d); err != nil {
			t.Fatalf("execute: %v", err)
		}
	}
	// A crash before anything was stored, in another process.
	if _, err := f.New(t, Message).Execute(t.Context(), NewDelivery(7, "shipped")); err != nil {
		t.Fatalf("execute: %v", err)
	}
	got := f.Received()
	if len(got) != 4 {
		t.Fatalf("the other side got %d messages, want 4", len(got))
	}
	for _, again := range got[1:] {
		if diff := cmp.Diff(got[0], again); diff != "" {
			t.Errorf("the same key, other bytes:\n%s", diff)
		}
	}
}

func testStoredWins(t *testing.T, f Fixture) {
	d := NewDelivery(7, "shipped")
	if _, err := f.New(t, Message).Execute(t.Context(), d); err != nil {
		t.Fatalf("execute: %v", err)
	}
	request := slices.Clone(d.Request)
	// The event as another version might read it, and a changed template.
	again := NewDelivery(7, "lost")
	again.Request = request
	if _, err := f.New(t, "changed: "+Message).Execute(t.Context(), again); err != nil {
		t.Fatalf("execute with a stored request: %v", err)
	}
	got := f.Received()
	if len(got) != 2 || got[0] != got[1] {
		t.Errorf("the stored request was not used: %s", cmp.Diff(got[:1], got[1:]))
	}
	if diff := cmp.Diff(string(request), string(again.Request)); diff != "" {
		t.Errorf("the stored request was changed:\n%s", diff)
	}
}

func testForeignRequest(t *testing.T, f Fixture) {
	action := f.New(t, Message)
	for _, request := range []string{`{"no_such_key_anywhere": 1}`, `[1]`, `not JSON`} {
		d := NewDelivery(7, "shipped")
		d.Request = []byte(request)
		_, err := action.Execute(t.Context(), d)
		if observer.ReasonOf(err) != observer.ReasonUnconfigured {
			t.Errorf("stored request %s: %v, want a permanent error", request, err)
		}
	}
	none(t, f)
}

// tooLarge is longer than any action may send.
const tooLarge = 11 << 20

func testTooLarge(t *testing.T, f Fixture) {
	action, d := f.New(t, Message), NewDelivery(7, strings.Repeat("x", tooLarge))
	_, err := action.Execute(t.Context(), d)
	if observer.ReasonOf(err) != observer.ReasonTooLarge || observer.Retryable(err) {
		t.Errorf("%.200v (reason %s), want a permanent error with reason %s", err, observer.ReasonOf(err), observer.ReasonTooLarge)
	}
	if err != nil && len(err.Error()) > 1000 {
		t.Errorf("the error has %d bytes: it repeats the message", len(err.Error()))
	}
	if len(d.Request) > tooLarge/10 {
		t.Errorf("a request of %d bytes was stored", len(d.Request))
	}
	none(t, f)
}

func testTemplateError(t *testing.T, f Fixture) {
	d := NewDelivery(7, "shipped")
	_, err := f.New(t, "{{ data.no_such_field }}").Execute(t.Context(), d)
	if observer.ReasonOf(err) != observer.ReasonTemplate {
		t.Errorf("%v, want a permanent error with reason template", err)
	}
	if d.Request != nil {
		t.Errorf("a request was stored: %s", d.Request)
	}
	none(t, f)
}

func testTransient(t *testing.T, f Fixture) {
	f.Answer(RefuseNow)
	_, err := f.New(t, Message).Execute(t.Context(), NewDelivery(7, "shipped"))
	if err == nil || !observer.Retryable(err) || observer.IsOutcomeUnknown(err) {
		t.Errorf("%v, want a transient error with a known outcome", err)
	}
}

func testPermanent(t *testing.T, f Fixture) {
	f.Answer(RefuseForever)
	_, err := f.New(t, Message).Execute(t.Context(), NewDelivery(7, "shipped"))
	if err == nil || observer.Retryable(err) || observer.IsOutcomeUnknown(err) {
		t.Errorf("%v, want a permanent error with a known outcome", err)
	}
}

func testContextEnds(t *testing.T, f Fixture) {
	f.Answer(Hang)
	action := f.New(t, Message)
	// A busy machine may not get to sending in the first of these times.
	for _, limit := range []time.Duration{50 * time.Millisecond, time.Second, 10 * time.Second} {
		err := endedAfter(t, action, limit)
		if !errors.Is(err, context.DeadlineExceeded) || !observer.Retryable(err) {
			t.Fatalf("%v, want the deadline, as a transient error", err)
		}
		if observer.IsOutcomeUnknown(err) {
			return
		}
	}
	t.Error("the outcome of a request without an answer is not unknown")
}

func endedAfter(t *testing.T, action observer.Action, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	start := time.Now()
	_, err := action.Execute(ctx, NewDelivery(7, "shipped"))
	if took := time.Since(start); took > limit+5*time.Second {
		t.Errorf("it took %v to return", took)
	}
	return err
}

func testCancelled(t *testing.T, f Fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.New(t, Message).Execute(ctx, NewDelivery(7, "shipped"))
	if !errors.Is(err, context.Canceled) || !observer.Retryable(err) || observer.IsOutcomeUnknown(err) {
		t.Errorf("%v, want context.Canceled, as a transient error with a known outcome", err)
	}
	none(t, f)
}

func testConcurrent(t *testing.T, f Fixture) {
	const n = 16
	action := f.New(t, Message)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := action.Execute(t.Context(), NewDelivery(1000+i, "shipped")); err != nil {
				t.Errorf("execute: %v", err)
			}
		})
	}
	wg.Wait()
	got := f.Received()
	for i := range n {
		want := fmt.Sprintf("order %d is shipped", 1000+i)
		if count := countContaining(got, want); count != 1 {
			t.Errorf("%q arrived %d times, want once", want, count)
		}
	}
}

func countContaining(texts []string, part string) int {
	n := 0
	for _, s := range texts {
		if strings.Contains(s, part) {
			n++
		}
	}
	return n
}

func testSecrets(t *testing.T, f Fixture) {
	action, d := f.New(t, Message+" "+Secret), NewDelivery(7, "shipped")
	for range 2 {
		result, err := action.Execute(t.Context(), d)
		if err != nil {
			t.Fatalf("execute: %v", err)
		}
		if text := told(d, result, err); strings.Contains(text, Secret) {
			t.Errorf("the secret shows: %s", text)
		}
	}
	got := f.Received()
	if len(got) != 2 || got[0] != got[1] {
		t.Errorf("a message with a secret is not the same twice: %q", got)
	}
	if len(d.Request) == 0 {
		t.Error("no request was stored")
	}
}

func testSecretsRefused(t *testing.T, f Fixture) {
	for _, answer := range []Answer{RefuseNow, RefuseForever} {
		f.Answer(answer)
		d := NewDelivery(7, "shipped")
		result, err := f.New(t, Message+" "+Secret).Execute(t.Context(), d)
		if err == nil {
			t.Fatal("a refused attempt gave no error")
		}
		if text := told(d, result, err); strings.Contains(text, Secret) {
			t.Errorf("the secret shows: %s", text)
		}
	}
}
