package log

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// Action writes one line to a logger. It is safe for concurrent use.
type Action struct {
	logger   *slog.Logger
	level    slog.Level
	redactor observer.Redactor
	message  outbound.Renderer
}

// New makes an action that writes to logger, which must not be nil. An invalid
// configuration gives [observer.FieldError]s, joined.
func New(cfg Config, logger *slog.Logger) (*Action, error) {
	level, levelErr := parseLevel(cfg.Level)
	message, messageErr := compileMessage(cfg.MessageTemplate)
	if err := errors.Join(levelErr, messageErr); err != nil {
		return nil, err
	}
	return &Action{logger: logger, level: level, redactor: cfg.Redactor, message: message}, nil
}

func compileMessage(src string) (outbound.Renderer, error) {
	if src == "" {
		return eventJSON{}, nil
	}
	t, err := template.Compile(src, template.Text)
	if err != nil {
		return nil, &observer.FieldError{Field: "message_template", Err: err}
	}
	return t, nil
}

func parseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "", "info":
		return slog.LevelInfo, nil
	case "debug":
		return slog.LevelDebug, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, &observer.FieldError{
		Field: "level",
		Err:   fmt.Errorf("unknown level %q (want debug, info, warn or error)", s),
	}
}

// eventJSON renders the whole event.
type eventJSON struct{}

func (eventJSON) Render(_ context.Context, e *observer.Event) (string, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return "", observer.Permanent(observer.ReasonTemplate, fmt.Errorf("encode event: %w", err))
	}
	return string(b), nil
}

// request is a rendered line as it is stored.
type request struct {
	Message outbound.Piece `json:"message,omitempty"`
}

// Execute writes the line. What the redactor knows does not reach the log.
func (a *Action) Execute(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
	message, err := a.prepare(ctx, d)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return observer.Result{}, outbound.Redact(a.redactor, err)
	}
	a.logger.LogAttrs(ctx, a.level, a.redactor.Redact(message), //nolint:sloglint // The message is what users configured.
		slog.String("delivery", d.Key),
		slog.String("event_id", d.Event.ID),
		slog.String("entity_type", d.Event.EntityType),
		slog.String("entity_id", d.Event.EntityID),
		slog.String("event_type", string(d.Event.Operation)))
	return observer.Result{}, nil
}

// prepare renders the message and, on a first attempt, stores it in d.
func (a *Action) prepare(ctx context.Context, d *observer.Delivery) (string, error) {
	var stored request
	there, err := outbound.LoadRequest(d, &stored)
	if err != nil {
		return "", err
	}
	message, err := outbound.Resolve(ctx, stored.Message, a.message, d.Event)
	if err != nil {
		return "", fmt.Errorf("message_template: %w", err)
	}
	if there {
		return message, nil
	}
	return message, outbound.StoreRequest(d, request{Message: outbound.Keep(a.redactor, message)})
}
