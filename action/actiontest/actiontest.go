// Package actiontest is the conformance suite of actions. An implementation of
// [observer.Action] calls [Run] from a test of its own, with a real counterpart
// on the other side.
package actiontest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

// Answer is how the other side treats what it gets.
type Answer int

// The answers a fixture can be asked for.
const (
	// Accept takes it. A fixture begins so.
	Accept Answer = iota
	// RefuseNow refuses with an error that may pass.
	RefuseNow
	// RefuseForever refuses with an error that trying again cannot mend.
	RefuseForever
	// Hang takes the request and does not answer until the test ends.
	Hang
	// HangUp takes the whole request and ends the connection without an answer.
	HangUp
	// Away refuses connections. Nothing is answered otherwise afterwards.
	Away
)

// Secret is the value that fixtures put among the secrets of their actions.
const Secret = "actiontest-s3cret-value"

// Message is the template that fixtures are given most: two values of the event.
const Message = "order {{ data.number }} is {{ data.status }}"

// Fixture is an action type together with a counterpart of its own.
type Fixture struct {
	// New makes an action that sends message, a template of plain words in the
	// syntax of the project, to the counterpart. [Secret] is among the secrets
	// its redactor knows, and part of the address of the counterpart where that
	// can have one.
	New func(t *testing.T, message string) observer.Action
	// Received is everything the counterpart has accepted, one text for each,
	// oldest first; equal texts mean equal bytes.
	Received func() []string
	// Answer sets how the counterpart treats what comes from now on. nil when
	// the action has no other side that could refuse; only such an action need
	// not be an [observer.Preparer]. A refusal repeats what was received as far
	// as the protocol can.
	Answer func(Answer)
}

// Run runs the suite. start makes a fixture for one test; it registers its
// cleanup with t and is called concurrently.
func Run(t *testing.T, start func(t *testing.T) Fixture) {
	t.Helper()
	tests := []struct {
		name    string
		refuses bool // needs a counterpart that can refuse
		test    func(t *testing.T, f Fixture)
	}{
		{"a delivery reaches the other side", false, testSucceeds},
		{"the request is stored before the effect", true, testStoresFirst},
		{"a key always means the same bytes", false, testSameBytes},
		{"a stored request wins over templates and event", false, testStoredWins},
		{"a request of another action is refused", false, testForeignRequest},
		{"a template error is permanent and without effect", false, testTemplateError},
		{"a message over its cap is permanent and without effect", true, testTooLarge},
		{"what may pass is transient", true, testTransient},
		{"what cannot pass is permanent", true, testPermanent},
		{"the end of the context ends an attempt", true, testContextEnds},
		{"a cancelled context has no effect", false, testCancelled},
		{"deliveries run at the same time", false, testConcurrent},
		{"no secret is stored or told", false, testSecrets},
		{"no secret is told by a refusal", true, testSecretsRefused},
		{"preparing sends nothing and changes nothing", true, testPrepare},
		{"what is prepared is what is sent", true, testPreparedIsSent},
		{"a template error shows when preparing", true, testPrepareFails},
		{"the endpoint is stable and holds no secret", true, testEndpoint},
		{"equal requests have one identity", false, testIdentity},
		{"no answer to a request leaves the outcome unknown", true, testUnanswered},
		{"a refused connection has a known outcome", true, testAway},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			if tt.refuses && f.Answer == nil {
				t.Skip("the action has no other side that could refuse")
			}
			tt.test(t, f)
		})
	}
}

// NewDelivery is a delivery of an event whose data has the fields number and
// status.
func NewDelivery(number int, status string) *observer.Delivery {
	data, err := json.Marshal(map[string]any{"number": number, "status": status})
	if err != nil {
		data = nil // cannot happen: the values are an integer and a text
	}
	e := &observer.Event{
		ID:         fmt.Sprintf("0191e8a0-0000-7000-8000-%012d", number),
		Operation:  observer.Update,
		EntityType: "Order", EntityID: strconv.Itoa(number), Data: data,
		Timestamp: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
	return observer.NewDelivery(e, "order-shipped", 0, "under-test")
}

// only is the one text the counterpart got.
func only(t *testing.T, f Fixture) string {
	t.Helper()
	got := f.Received()
	if len(got) != 1 {
		t.Fatalf("the other side got %d messages, want 1: %q", len(got), got)
	}
	return got[0]
}

func none(t *testing.T, f Fixture) {
	t.Helper()
	if got := f.Received(); len(got) != 0 {
		t.Errorf("the other side got %.1000q, want nothing", got)
	}
}

// told is every text an attempt gave back or stored.
func told(d *observer.Delivery, result observer.Result, err error) string {
	texts := []string{result.Detail, string(d.Request)}
	for ; err != nil; err = errors.Unwrap(err) {
		texts = append(texts, fmt.Sprintf("%v %+v", err, err))
	}
	return strings.Join(texts, "\n")
}
