package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
	"github.com/fraiseql/observer/internal/backoff"
)

// summary is how a retry of many ended.
type summary struct {
	Total     int `json:"total"`
	Delivered int `json:"delivered"`
	Failed    int `json:"failed"`
	// Dropped have a condition that is false.
	Dropped int `json:"dropped"`
	// Skipped were being run by another process, or gone when their turn came.
	Skipped int `json:"skipped"`
	// Blocked have an earlier one of their entity before them.
	Blocked int `json:"blocked"`
	// Unknown is the one at which the command failed, and whose outcome could
	// not be stored if there was one.
	Unknown int `json:"unknown"`
	// Remaining were not tried because the command was interrupted or failed.
	Remaining int       `json:"remaining"`
	DryRun    bool      `json:"dry_run"`
	Items     []outcome `json:"items"`
}

// retrial is what dlq retry-all is told.
type retrial struct {
	chosen selection
	queue  bool
	dryRun *bool
	rate   rate
}

func (c *cli) dlqRetryAll() *cobra.Command {
	var r retrial
	cmd := &cobra.Command{
		Use:   "retry-all",
		Short: "Run all dead letters again, or those that the flags select, oldest first",
		Long: "Make one attempt at each dead letter there is at the start, or at each that the flags\n" +
			"select, one after the other, oldest first. Those that fail again stay. With --queue\n" +
			"nothing is run here: they are left to the workers of the daemon. Ctrl-C stops after\n" +
			"the one that runs and says how far it came.",
		Args: arguments(0, 0),
	}
	c.settings.flags(cmd)
	r.chosen.flags(cmd, 0)
	cmd.Flags().BoolVar(&r.queue, "queue", false, "leave them to the workers of the daemon, and run nothing here")
	r.rate.flag(cmd)
	r.dryRun = dryRunFlag(cmd)
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		filter, err := r.chosen.dead()
		if err := errors.Join(err, r.rate.check()); err != nil {
			return err
		}
		c.settings.required = !r.queue
		keys, err := c.deadKeys(cmd.Context(), filter)
		switch {
		case err != nil:
			return err
		case r.queue && (*r.dryRun || len(keys) == 0):
			return c.would(&changes{Total: len(keys), DryRun: *r.dryRun}, keys, wouldQueue)
		case r.queue:
			return c.bulk(cmd.Context(), bulk{word: queued, run: delivery.Requeue, filter: filter, rate: r.rate})
		case *r.dryRun || len(keys) == 0:
			return c.would(&summary{Total: len(keys), DryRun: *r.dryRun}, keys, wouldRetry)
		}
		return c.retryAll(cmd.Context(), keys, r.rate)
	})
	return cmd
}

func (c *cli) retryAll(ctx context.Context, keys []string, limit rate) error {
	r, err := c.openRedriver(ctx)
	if err != nil {
		return err
	}
	s, p := &summary{Total: len(keys), Items: []outcome{}}, c.newProgress()
	interrupted, stop := notify(ctx, func() {
		_, _ = fmt.Fprintf(c.err, "%s: stopping after the one that runs\n", program)
	})
	defer stop()
	for i, key := range keys {
		if err != nil || interrupted.Err() != nil || i > 0 && !pace(interrupted, limit) {
			s.Remaining = len(keys) - i
			break
		}
		o, failure := r.run(ctx, key)
		if err = s.add(key, o, failure); err == nil {
			c.tell(p, s)
		}
	}
	err = errors.Join(err, r.finish(ctx, s.outcomes()...))
	p.clear()
	if err == nil {
		err = s.failure()
	}
	return errors.Join(c.print(s, s.text), err) // what arrived has arrived, whatever fails afterwards
}

// outcomes are the items, to be completed.
func (s *summary) outcomes() []*outcome {
	list := make([]*outcome, len(s.Items))
	for i := range s.Items {
		list[i] = &s.Items[i]
	}
	return list
}

// pace waits until the next one may begin; false when ctx ends first.
func pace(ctx context.Context, limit rate) bool {
	return limit.pause() == 0 || backoff.Wait(ctx, nil, limit.pause())
}

// add counts how one ended. An error that is not about this one ends the rest.
func (s *summary) add(key string, o outcome, err error) error {
	switch {
	case errors.Is(err, observer.ErrBusy), errors.Is(err, observer.ErrNotFound):
		o = outcome{Key: key, Result: skipped, Error: err.Error()}
		s.Skipped++
	case err != nil:
		s.Items = append(s.Items, outcome{Key: key, Result: undecided, Error: err.Error()})
		s.Unknown++
		return err
	case o.Result == delivered:
		s.Delivered++
	case o.Result == dropped:
		s.Dropped++
	case o.Result == blocked:
		s.Blocked++
	default:
		s.Failed++
	}
	s.Items = append(s.Items, o)
	return nil
}

// tell says how the last one ended: all of them in a line each, except beside a
// bar, where only those are a line that somebody has to look at.
func (c *cli) tell(p *progress, s *summary) {
	if c.format != formatText {
		return
	}
	o := s.Items[len(s.Items)-1]
	if !p.terminal || o.Result != delivered {
		line := fmt.Sprintf("%d/%d %s %s", len(s.Items), s.Total, o.Result, o.Key)
		if o.Error != "" {
			line += ": " + o.Error
		}
		p.clear()
		_, _ = fmt.Fprintln(c.out, printable(line))
	}
	if p.terminal {
		p.at(len(s.Items), s.Total)
	}
}

func (s *summary) text(w io.Writer) {
	for _, o := range s.Items {
		if rest := o.unfinished(); rest != "" {
			_, _ = fmt.Fprintln(w, printable(o.Key+" is an event now and was handled"+rest))
		}
	}
	_, _ = fmt.Fprintf(w, "%s: %d delivered, %d failed and kept, %d skipped", count(s.Total, "dead letter"), s.Delivered, s.Failed, s.Skipped)
	if s.Dropped > 0 {
		_, _ = fmt.Fprintf(w, ", %d dropped because the condition is false", s.Dropped)
	}
	if s.Blocked > 0 {
		_, _ = fmt.Fprintf(w, ", %d left behind an earlier one of their entity", s.Blocked)
	}
	if s.Unknown > 0 {
		_, _ = fmt.Fprintf(w, ", %d with an unknown outcome", s.Unknown)
	}
	if s.Remaining > 0 {
		_, _ = fmt.Fprintf(w, ", %d not tried", s.Remaining)
	}
	_, _ = fmt.Fprintln(w)
}

// failure is the exit code; the summary has said the rest.
func (s *summary) failure() error {
	if s.Failed > 0 || s.Blocked > 0 || s.Remaining > 0 {
		return &codedError{code: exitError}
	}
	return nil
}
