package actiontest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
)

// Outcome is what an attempt came to.
type Outcome struct {
	Status int
	// Reason is "" for a success, that of a permanent failure, and
	// [observer.ReasonExhausted] for one that may pass.
	Reason observer.Reason
	// Wait is how long the receiver asked to wait.
	Wait time.Duration
	// Unknown: nobody knows whether it arrived.
	Unknown bool
}

// OutcomeOf is that of an attempt.
func OutcomeOf(result observer.Result, err error) Outcome {
	o := Outcome{Status: result.Status, Unknown: observer.IsOutcomeUnknown(err)}
	if err != nil {
		o.Reason = observer.ReasonOf(err)
		o.Wait, _ = observer.RetryAfterOf(err)
	}
	return o
}

// Say answers a request, with headers as names and values in turn.
func Say(w http.ResponseWriter, status int, body string, header ...string) {
	for i := 0; i+1 < len(header); i += 2 {
		w.Header().Set(header[i], header[i+1])
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// Answering starts a receiver that gives one answer to everything, and returns its
// URL.
func Answering(t *testing.T, status int, body string, header ...string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { Say(w, status, body, header...) }))
	t.Cleanup(server.Close)
	return server.URL
}

// DiffJSON is the difference between two JSON documents, "" when they mean the
// same.
func DiffJSON(t *testing.T, want, got string) string {
	t.Helper()
	var documents [2]any
	for i, text := range []string{want, got} {
		if err := json.Unmarshal([]byte(text), &documents[i]); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
	}
	return cmp.Diff(documents[0], documents[1])
}
