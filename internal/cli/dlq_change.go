package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer"
)

// outcome is how a change of one delivery ended, or with --dry-run would begin.
type outcome struct {
	Key    string `json:"key"`
	Result result `json:"result"`
	Error  string `json:"error,omitempty"`
	// Deliveries are those of a log entry that is an event now, as far as they are
	// stored: one that was delivered at once leaves no trace.
	Deliveries []followed `json:"deliveries,omitempty"`

	event string // the id of that event
}

// result is one word for it.
type result string

// The results.
const (
	delivered result = "delivered"
	// dropped: the condition, which failed before, is false. Nothing was sent.
	dropped result = "dropped"
	failed  result = "failed"
	// scheduled: it failed, and the daemon tries it again.
	scheduled result = "scheduled"
	// blocked: an earlier one of its entity comes first.
	blocked result = "blocked"
	skipped result = "skipped"
	// undecided: the command failed in the middle of it.
	undecided result = "unknown"
	removed   result = "removed"
	queued    result = "queued"
	edited    result = "edited"
	// unchanged: the request was given back as it was.
	unchanged result = "unchanged"

	wouldRetry  result = "would_retry"
	wouldQueue  result = "would_queue"
	wouldRemove result = "would_remove"
)

func dryRunFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("dry-run", false, "change nothing: say what would be done")
}

// dead reads a delivery that a person wants to change and refuses one that is
// not a dead letter: the daemon has plans for it, or it is over.
func (c *cli) dead(cmd *cobra.Command, key string) (*observer.Delivery, error) {
	d, err := c.readLetter(cmd, key)
	if err != nil {
		return nil, err
	}
	return d, notDead(d)
}

// notDead is nil for a dead letter.
func notDead(d *observer.Delivery) error {
	const is = "%s is not a dead letter: it is %s"
	switch d.State {
	case observer.Dead:
		return nil
	case observer.Running:
		return notFound(d.Key, observer.ErrBusy)
	case observer.Done, observer.Dropped:
		return &codedError{code: exitNotFound, err: fmt.Errorf(is+" since %s", d.Key, d.State, moment(d.UpdatedAt))}
	case observer.Parked:
		return fmt.Errorf(is+" behind an earlier one of its entity, and runs after it", d.Key, d.State)
	default:
		return fmt.Errorf(is+", and the daemon tries it again at %s", d.Key, d.State, moment(d.RunAt))
	}
}

func (c *cli) dlqRetry() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retry KEY",
		Short: "Run a dead letter again, now",
		Long: "Make one attempt at a dead letter, with the same key and the same request. When it\n" +
			"succeeds it is a dead letter no more; when it fails it stays one, with the new\n" +
			"error. One whose condition failed asks the condition first, and is dropped when it\n" +
			"is false. In a strict order an earlier one of the same entity has to go first.",
		Args: arguments(1, 1),
	}
	c.settings.flags(cmd)
	dryRun := dryRunFlag(cmd)
	cmd.RunE = c.do(func(cmd *cobra.Command, args []string) error {
		d, err := c.dead(cmd, args[0])
		if err != nil {
			return err
		}
		if *dryRun {
			return c.printOutcome(outcome{Key: d.Key, Result: wouldRetry}, "would make attempt %d of %s", len(d.Attempts)+1, describe(d))
		}
		return c.retry(cmd.Context(), d)
	})
	return cmd
}

func (c *cli) retry(ctx context.Context, d *observer.Delivery) error {
	r, err := c.openRedriver(ctx)
	if err != nil {
		return err
	}
	_, stop := notify(ctx, func() {
		_, _ = fmt.Fprintf(c.err, "%s: the attempt that runs is finished first; a second signal stops at once\n", program)
	})
	o, err := r.run(ctx, d.Key)
	unfinished := r.finish(ctx, &o)
	stop()
	if err != nil {
		return notFound(d.Key, errors.Join(err, unfinished))
	}
	// What arrived has arrived, whatever fails afterwards.
	return errors.Join(c.retried(d, o), unfinished)
}

// retried says how an attempt ended.
func (c *cli) retried(d *observer.Delivery, o outcome) error {
	switch {
	case o.Result == dropped:
		return c.printOutcome(o, "dropped %s: the condition is false for this event, so nothing was sent", describe(d))
	case o.Result == delivered && d.Malformed != nil:
		return c.printOutcome(o, "%s is an event now and was handled%s", describe(d), o.unfinished())
	case o.Result == delivered:
		return c.printOutcome(o, "delivered %s", describe(d))
	}
	if c.format == formatJSON {
		return errors.Join(c.print(o, nil), &codedError{code: exitError})
	}
	switch o.Result {
	case blocked:
		return fmt.Errorf("%s was not tried and stays a dead letter: %s", d.Key, o.Error)
	case scheduled:
		return fmt.Errorf("%s failed again, and the daemon tries it again: %s", d.Key, o.Error)
	default:
		return fmt.Errorf("%s failed again and stays a dead letter: %s", d.Key, o.Error)
	}
}

// describe says what a delivery does, for a person.
func describe(d *observer.Delivery) string {
	switch {
	case d.Malformed != nil:
		return fmt.Sprintf("log entry %s of %s", d.Key, d.Malformed.Source)
	case d.Event == nil: // its row is damaged
		return d.Key
	}
	return fmt.Sprintf("%s action %d of %s for %s (%s)", d.ActionType, d.Action, d.Observer,
		entityName(d.Event.EntityType, d.Event.EntityID), d.Key)
}

func (c *cli) printOutcome(o outcome, text string, args ...any) error {
	return c.print(o, func(w io.Writer) {
		_, _ = fmt.Fprintln(w, printable(fmt.Sprintf(text, args...)))
	})
}
