package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer"
)

// keyPage is how many dead letters are read at once to collect their keys.
const keyPage = 500

// summary is how a retry of many ended.
type summary struct {
	Total     int `json:"total"`
	Delivered int `json:"delivered"`
	Failed    int `json:"failed"`
	// Dropped have a condition that is false.
	Dropped int `json:"dropped"`
	// Skipped were being run by another process, or gone when their turn came.
	Skipped int `json:"skipped"`
	// Remaining were not tried because the command was interrupted.
	Remaining int       `json:"remaining"`
	DryRun    bool      `json:"dry_run"`
	Items     []outcome `json:"items"`
}

func (c *cli) dlqRetryAll() *cobra.Command {
	var chosen selection
	cmd := &cobra.Command{
		Use:   "retry-all",
		Short: "Run all dead letters again, oldest first",
		Long: "Make one attempt at each dead letter there is at the start, one after the other,\n" +
			"oldest first. Those that fail again stay. Ctrl-C stops after the one that runs.",
		Args: arguments(0, 0),
	}
	c.settings.flags(cmd)
	chosen.flags(cmd)
	dryRun := dryRunFlag(cmd)
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		keys, err := c.deadKeys(cmd.Context(), chosen.filter())
		if err != nil {
			return err
		}
		s := summary{Total: len(keys), DryRun: *dryRun, Items: []outcome{}}
		if *dryRun || len(keys) == 0 {
			return c.wouldRetryAll(&s, keys)
		}
		return c.retryAll(cmd.Context(), &s, keys)
	})
	return cmd
}

// deadKeys are the keys of all dead letters that match. They are collected
// first: a list that shrinks while it is paged through would skip some.
func (c *cli) deadKeys(ctx context.Context, filter observer.DeliveryFilter) (keys []string, err error) {
	cfg, err := c.settings.loadAll()
	if err != nil {
		return nil, err
	}
	store, err := readState(ctx, cfg)
	if errors.Is(err, errNoState) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for filter.Limit = keyPage; ; filter.Offset += keyPage {
		list, err := store.Deliveries(ctx, filter)
		if err != nil {
			return nil, connectionError(err)
		}
		for _, d := range list {
			keys = append(keys, d.Key)
		}
		if len(list) < keyPage {
			return keys, nil
		}
	}
}

func (c *cli) wouldRetryAll(s *summary, keys []string) error {
	for _, key := range keys {
		s.Items = append(s.Items, outcome{Key: key, Result: wouldRetry})
	}
	return c.print(s, func(w io.Writer) {
		if len(keys) == 0 {
			_, _ = fmt.Fprintln(w, "no dead letters to retry")
			return
		}
		for _, key := range keys {
			_, _ = fmt.Fprintf(w, "would retry %s\n", printable(key))
		}
		_, _ = fmt.Fprintf(w, "would retry %s\n", count(len(keys), "dead letter"))
	})
}

func (c *cli) retryAll(ctx context.Context, s *summary, keys []string) error {
	r, err := c.openRedriver(ctx)
	if err != nil {
		return err
	}
	interrupted, stop := notify(ctx, func() {
		_, _ = fmt.Fprintf(c.err, "%s: stopping after the one that runs\n", program)
	})
	defer stop()
	for i, key := range keys {
		if interrupted.Err() != nil {
			s.Remaining = len(keys) - i
			break
		}
		o, err := r.run(ctx, key)
		if err := s.add(key, o, err); err != nil {
			return errors.Join(err, r.close())
		}
		c.progress(s)
	}
	if err := r.close(); err != nil {
		return err
	}
	return errors.Join(c.print(s, s.text), s.failure())
}

// add counts how one ended. An error that is not about this one ends the rest.
func (s *summary) add(key string, o outcome, err error) error {
	switch {
	case errors.Is(err, observer.ErrBusy), errors.Is(err, observer.ErrNotFound):
		o = outcome{Key: key, Result: skipped, Error: err.Error()}
		s.Skipped++
	case err != nil:
		return err
	case o.Result == delivered:
		s.Delivered++
	case o.Result == dropped:
		s.Dropped++
	default:
		s.Failed++
	}
	s.Items = append(s.Items, o)
	return nil
}

// progress prints the last one as it ends.
func (c *cli) progress(s *summary) {
	if c.format != formatText {
		return
	}
	o := s.Items[len(s.Items)-1]
	line := fmt.Sprintf("%d/%d %s %s", len(s.Items), s.Total, o.Result, o.Key)
	if o.Error != "" {
		line += ": " + o.Error
	}
	_, _ = fmt.Fprintln(c.out, printable(line))
}

func (s *summary) text(w io.Writer) {
	_, _ = fmt.Fprintf(w, "%s: %d delivered, %d failed and kept, %d skipped", count(s.Total, "dead letter"), s.Delivered, s.Failed, s.Skipped)
	if s.Dropped > 0 {
		_, _ = fmt.Fprintf(w, ", %d dropped because the condition is false", s.Dropped)
	}
	if s.Remaining > 0 {
		_, _ = fmt.Fprintf(w, ", %d not tried", s.Remaining)
	}
	_, _ = fmt.Fprintln(w)
}

// failure is the exit code; the summary has said the rest.
func (s *summary) failure() error {
	if s.Failed > 0 || s.Remaining > 0 {
		return &codedError{code: exitError}
	}
	return nil
}
