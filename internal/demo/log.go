package demo

import (
	"context"
	"io"
	"log/slog"
)

// troubleLog lets through what is wrong with the daemon itself. The lines about
// deliveries are left out: the endpoints of the demo fail on purpose.
type troubleLog struct{ slog.Handler }

func newTroubleLog(out io.Writer) troubleLog {
	return troubleLog{slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn})}
}

// Handle writes a record unless it is the line of a delivery.
func (h troubleLog) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "delivery" {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the filter.
func (h troubleLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return troubleLog{h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the filter.
func (h troubleLog) WithGroup(name string) slog.Handler {
	return troubleLog{h.Handler.WithGroup(name)}
}
