package log_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/action/log"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink is a log that tests can read while it is written.
type sink struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

// lines are the entries so far, without their time.
func (s *sink) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Split(strings.TrimSuffix(s.buf.String(), "\n"), "\n")
}

func (s *sink) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(s, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func TestConformance(t *testing.T) {
	t.Parallel()
	actiontest.Run(t, func(*testing.T) actiontest.Fixture {
		out := &sink{}
		return actiontest.Fixture{
			New: func(t *testing.T, message string) observer.Action {
				t.Helper()
				a, err := log.New(log.Config{
					MessageTemplate: message,
					Redactor:        observer.NewRedactor(observer.NewSecret(actiontest.Secret)),
				}, out.logger(slog.LevelInfo))
				if err != nil {
					t.Fatal(err)
				}
				return a
			},
			Received: func() []string {
				if lines := out.lines(); lines[0] != "" {
					return lines
				}
				return nil
			},
		}
	})
}

func TestLine(t *testing.T) {
	t.Parallel()
	out := &sink{}
	a, err := log.New(log.Config{Level: "warn", MessageTemplate: "{{ data.status }}\nforged=1 hunter22",
		Redactor: observer.NewRedactor(observer.NewSecret("hunter22"))}, out.logger(slog.LevelDebug))
	if err != nil {
		t.Fatal(err)
	}
	d := actiontest.NewDelivery(7, "shipped")
	if _, err := a.Execute(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	lines := out.lines()
	if err := json.Unmarshal([]byte(lines[0]), &got); err != nil || len(lines) != 1 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	want := map[string]any{
		"level": "WARN", "msg": "shipped\nforged=1 [redacted]", "delivery": d.Key, "event_id": d.Event.ID,
		"entity_type": "Order", "entity_id": "7", "event_type": "UPDATE",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMessageIsTheEventUnlessSet(t *testing.T) {
	t.Parallel()
	out := &sink{}
	a, err := log.New(log.Config{}, out.logger(slog.LevelInfo))
	if err != nil {
		t.Fatal(err)
	}
	d := actiontest.NewDelivery(7, "shipped")
	if _, err := a.Execute(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(d.Event)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Msg, Level string }
	if err := json.Unmarshal([]byte(out.lines()[0]), &got); err != nil {
		t.Fatal(err)
	}
	if got.Msg != string(want) || got.Level != "INFO" {
		t.Errorf("%s %s, want INFO %s", got.Level, got.Msg, want)
	}
}

func TestCancelledContextWritesNothing(t *testing.T) {
	t.Parallel()
	out := &sink{}
	a, err := log.New(log.Config{}, out.logger(slog.LevelInfo))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = a.Execute(ctx, actiontest.NewDelivery(7, "shipped"))
	if !errors.Is(err, context.Canceled) || out.lines()[0] != "" {
		t.Errorf("%v, wrote %q", err, out.lines())
	}
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	_, err := log.New(log.Config{Level: "loud", MessageTemplate: "{{ data."}, slog.New(slog.DiscardHandler))
	if diff := cmp.Diff([]string{"level", "message_template"}, actiontest.InvalidFields(err)); diff != "" {
		t.Error(diff)
	}
}
