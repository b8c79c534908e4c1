package outbound

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fraiseql/observer"
)

func TestDetail(t *testing.T) {
	t.Parallel()
	redactor := observer.NewRedactor(observer.NewSecret("hunter2"), observer.NewSecret("two\tparts"), observer.NewSecret("of lines"))
	long := strings.Repeat("é", 600)
	tests := []struct{ name, answer, want string }{
		{"plain", "all good", "all good"},
		{"lines", "one\r\ntwo\n", "one  two"},
		{"terminal escape", "\x1b[31mred", "[31mred"},
		{"text reordering", "a\u202eb", "a b"},
		{"not UTF-8", "a\xffb", "a\uFFFDb"},
		{"secret", "token hunter2 is wrong", "token [redacted] is wrong"},
		{"secret with a tab", "token two\tparts is wrong", "token [redacted] is wrong"},
		{"secret over two lines", "token of\nlines is wrong", "token [redacted] is wrong"},
		{"cut between characters", long, long[:1024]},
		{"cut inside a character", "x" + long, "x" + long[:1022]},
		{"secret at the cut", strings.Repeat("x", 1020) + "hunter2", strings.Repeat("x", 1020) + "[red"},
		{"empty", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := Detail(redactor, []byte(tt.answer))
			if got != tt.want {
				t.Errorf("Detail = %q, want %q", got, tt.want)
			}
			if !utf8.ValidString(got) || len(got) > detailBytes {
				t.Errorf("Detail is %d bytes, valid %t", len(got), utf8.ValidString(got))
			}
		})
	}
}

func TestRedactKeepsWhatCallersAsk(t *testing.T) {
	t.Parallel()
	redactor := observer.NewRedactor(observer.NewSecret("hunter2"))
	base := fmt.Errorf("with hunter2: %w", context.DeadlineExceeded)
	tests := []struct {
		name      string
		err       error
		retryable bool
		reason    observer.Reason
		wait      time.Duration
	}{
		{"transient", base, true, observer.ReasonExhausted, 0},
		{"permanent", observer.Permanent(observer.ReasonGone, base), false, observer.ReasonGone, 0},
		{"wait", observer.RetryAfter(base, time.Minute), true, observer.ReasonExhausted, time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := fmt.Errorf("attempt: %w", Redact(redactor, tt.err))
			if strings.Contains(fmt.Sprintf("%v %+v %s", err, err, errors.Unwrap(err)), "hunter2") {
				t.Errorf("the secret shows in %v", err)
			}
			wait, _ := observer.RetryAfterOf(err)
			if observer.Retryable(err) != tt.retryable || observer.ReasonOf(err) != tt.reason || wait != tt.wait {
				t.Errorf("retryable %t, reason %s, wait %v", observer.Retryable(err), observer.ReasonOf(err), wait)
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error("errors.Is no longer finds the cause")
			}
		})
	}
	if Redact(redactor, nil) != nil {
		t.Error("Redact(nil) is an error")
	}
}
