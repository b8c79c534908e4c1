package actiontest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
)

func preparer(t *testing.T, f Fixture, message string) observer.Preparer {
	t.Helper()
	p, ok := f.New(t, message).(observer.Preparer)
	if !ok {
		t.Fatal("an action that reaches out must be an observer.Preparer")
	}
	return p
}

func prepare(t *testing.T, p observer.Preparer, d *observer.Delivery) {
	t.Helper()
	if err := p.Prepare(t.Context(), d); err != nil {
		t.Fatalf("prepare: %v", err)
	}
	if len(d.Request) == 0 {
		t.Fatal("no request was stored")
	}
}

func testPrepare(t *testing.T, f Fixture) {
	d := NewDelivery(7, "shipped")
	prepare(t, preparer(t, f, Message), d)
	request := string(d.Request)
	prepare(t, preparer(t, f, Message), d)
	prepare(t, preparer(t, f, "changed: "+Message), d)
	if diff := cmp.Diff(request, string(d.Request)); diff != "" {
		t.Errorf("preparing again changed the request:\n%s", diff)
	}
	none(t, f)
}

func testPreparedIsSent(t *testing.T, f Fixture) {
	for _, message := range []string{Message, Message + " " + Secret} {
		p, prepared := preparer(t, f, message), NewDelivery(7, "shipped")
		alone := prepared.Clone()
		prepare(t, p, prepared)
		request := string(prepared.Request)
		for _, d := range []*observer.Delivery{prepared, alone} {
			if _, err := p.Execute(t.Context(), d); err != nil {
				t.Fatalf("execute: %v", err)
			}
			if diff := cmp.Diff(request, string(d.Request)); diff != "" {
				t.Errorf("the request is another one:\n%s", diff)
			}
		}
		if strings.Contains(request, Secret) {
			t.Errorf("the secret is stored: %s", request)
		}
	}
	got := f.Received()
	if len(got) != 4 || got[0] != got[1] || got[2] != got[3] {
		t.Errorf("what was prepared is not what an attempt alone sends: %q", got)
	}
}

func testPrepareFails(t *testing.T, f Fixture) {
	d := NewDelivery(7, "shipped")
	err := preparer(t, f, "{{ data.no_such_field }}").Prepare(t.Context(), d)
	if observer.ReasonOf(err) != observer.ReasonTemplate {
		t.Errorf("%v, want a permanent error with reason template", err)
	}
	if d.Request != nil {
		t.Errorf("a request was stored: %s", d.Request)
	}
}

func testEndpoint(t *testing.T, f Fixture) {
	p, d := preparer(t, f, Message), NewDelivery(7, "shipped")
	endpoint := p.Endpoint(t.Context(), d)
	if endpoint == "" || strings.Contains(endpoint, Secret) {
		t.Errorf("endpoint %q, want one without a secret", endpoint)
	}
	same := func(when string, p observer.Preparer, d *observer.Delivery) {
		t.Helper()
		if got := p.Endpoint(t.Context(), d); got != endpoint {
			t.Errorf("%s: endpoint %q, before %q", when, got, endpoint)
		}
	}
	prepare(t, p, d)
	same("prepared", p, d)
	if _, err := p.Execute(t.Context(), d); err != nil {
		t.Fatalf("execute: %v", err)
	}
	same("delivered", p, d)
	f.Answer(RefuseNow)
	if _, err := p.Execute(t.Context(), d); err == nil {
		t.Fatal("a refused attempt gave no error")
	}
	same("refused", p, d)
	same("another delivery", p, NewDelivery(8, "lost"))
	same("another process, another message", preparer(t, f, "changed: "+Message), d)
}

func testUnanswered(t *testing.T, f Fixture) {
	f.Answer(HangUp)
	d := NewDelivery(7, "shipped")
	_, err := f.New(t, Message).Execute(t.Context(), d)
	if err == nil || !observer.Retryable(err) || !observer.IsOutcomeUnknown(err) {
		t.Errorf("%v, want a transient error with an unknown outcome", err)
	}
	if len(d.Request) == 0 {
		t.Error("the attempt stored no request: the next one could send something else")
	}
}

func testAway(t *testing.T, f Fixture) {
	f.Answer(Away)
	_, err := f.New(t, Message).Execute(t.Context(), NewDelivery(7, "shipped"))
	if err == nil || !observer.Retryable(err) || observer.IsOutcomeUnknown(err) {
		t.Errorf("%v, want a transient error with a known outcome", err)
	}
}
