package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/fraiseql/observer/source/postgres"
)

// reader does what a daemon does at its start. What it would be refused for was
// found before, so only what nothing explains is a finding of its own.
func (x *examination) reader(ctx context.Context) error {
	if x.report.Worst() == Problem {
		return nil
	}
	source := postgres.New(postgres.Config{Name: x.conn.Config().Database, URL: x.URL, Log: x.Log})
	var rows int64
	var oldest time.Time
	_, err := source.Head(ctx)
	if err == nil && x.Checkpoint != "" {
		rows, oldest, err = source.Backlog(ctx, x.Checkpoint)
	}
	switch {
	case err != nil:
		x.add(Problem, "the log cannot be read: "+err.Error(), "mend what the message names, and ask again")
	case x.Checkpoint == "":
		x.ok("the log can be read")
	case rows == 0:
		x.ok("the log can be read, and everything in it is handled")
	default:
		x.ok("the log can be read, and %s", backlog(rows, oldest, x.Now()))
	}
	return nil
}

func backlog(rows int64, oldest, now time.Time) string {
	text := fmt.Sprintf("%d of its rows are not known to be handled", rows)
	if !oldest.IsZero() {
		text += fmt.Sprintf(", the first of them recorded %s ago", max(now.Sub(oldest), 0).Round(time.Second))
	}
	return text
}
