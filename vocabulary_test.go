package observer_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
)

func TestErrorsAreRetryableUnlessPermanent(t *testing.T) {
	t.Parallel()
	base := errors.New("boom")
	wrapped := func(err error) error { return fmt.Errorf("outer: %w", err) }
	tests := map[string]struct {
		err       error
		retryable bool
		reason    observer.Reason
	}{
		"plain":           {base, true, observer.ReasonExhausted},
		"permanent":       {observer.Permanent(observer.ReasonGone, base), false, observer.ReasonGone},
		"permanent below": {wrapped(observer.Permanent(observer.ReasonTemplate, base)), false, observer.ReasonTemplate},
		"retry after":     {wrapped(observer.RetryAfter(base, time.Second)), true, observer.ReasonExhausted},
		"not tried":       {wrapped(observer.NotTried(base, time.Time{})), true, observer.ReasonExhausted},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if observer.Retryable(tt.err) != tt.retryable || observer.ReasonOf(tt.err) != tt.reason || !errors.Is(tt.err, base) {
				t.Errorf("retryable %v, reason %s", observer.Retryable(tt.err), observer.ReasonOf(tt.err))
			}
		})
	}
	if observer.Retryable(nil) || observer.Permanent(observer.ReasonGone, nil) != nil || observer.RetryAfter(nil, 1) != nil || observer.Deferred(nil, time.Time{}) != nil || observer.NotTried(nil, time.Time{}) != nil {
		t.Error("marking no error makes one")
	}
}

// Invariant 9: a secret has no way to print itself.
func TestSecretNeverPrints(t *testing.T) {
	t.Parallel()
	type settings struct {
		Token observer.Secret
		Ptr   *observer.Secret
		inner observer.Secret
		Known observer.Redactor
		knows observer.Redactor
	}
	s := observer.NewSecret("hunter2")
	v := settings{Token: s, Ptr: &s, inner: s, Known: observer.NewRedactor(s), knows: observer.NewRedactor(s)}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", v)
		fmt.Fprintf(&out, verb+"\n", s)
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(encoded)
	slog.New(slog.NewTextHandler(&out, nil)).Info("settings", "secret", s, "all", v)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("settings", "secret", s, "all", v)
	for _, leak := range []string{"hunter2", "68756e74657232"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("printed:\n%s", out.String())
		}
	}
}

func TestRedactor(t *testing.T) {
	t.Parallel()
	r := observer.NewRedactor(observer.NewSecret("abc"), observer.NewSecret(""), observer.NewSecret("abcdef"))
	if got := r.Redact("x abcdef y abc z"); got != "x [redacted] y [redacted] z" {
		t.Errorf("redacted %q", got)
	}
	if !r.Contains("xabcx") || r.Contains("x") || (observer.Redactor{}).Contains("abc") {
		t.Error("Contains is wrong")
	}
}

func TestChainIsOutermostFirst(t *testing.T) {
	t.Parallel()
	var order []string
	layer := func(name string) observer.Middleware[func()] {
		return func(next func()) func() {
			return func() { order = append(order, name); next() }
		}
	}
	observer.Chain(layer("a"), layer("b"), layer("c"))(func() { order = append(order, "action") })()
	if d := cmp.Diff([]string{"a", "b", "c", "action"}, order); d != "" {
		t.Error(d)
	}
}

func TestParseOperation(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]observer.Operation{
		"INSERT": observer.Insert, "UPDATE": observer.Update, "DELETE": observer.Delete,
		"CUSTOM": observer.Custom, "NOOP": observer.Custom, "READ": observer.Custom,
	} {
		if got, err := observer.ParseOperation(word); err != nil || got != want {
			t.Errorf("%s: %s, %v", word, got, err)
		}
	}
	if _, err := observer.ParseOperation("UPSERT"); err == nil || !strings.Contains(err.Error(), "UPSERT") {
		t.Errorf("unknown verb: %v", err)
	}
}
