package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
)

// keyPage is how many dead letters are read at once to collect their keys.
const keyPage = 500

// deadKeys are the keys of all dead letters that match. They are collected
// first: a list that shrinks while it is paged through would skip some.
func (c *cli) deadKeys(ctx context.Context, filter observer.DeliveryFilter) (keys []string, err error) {
	err = c.withState(ctx, readState, func(store observer.StateStore) error {
		keys, err = keysOf(ctx, store, filter)
		return err
	})
	if errors.Is(err, errNoState) {
		return nil, nil
	}
	return keys, err
}

func keysOf(ctx context.Context, store observer.DeliveryStore, filter observer.DeliveryFilter) (keys []string, err error) {
	most := filter.Limit
	for {
		filter.Limit = keyPage
		if most > 0 {
			filter.Limit = min(keyPage, most-len(keys))
		}
		list, err := store.Deliveries(ctx, filter)
		if err != nil {
			return nil, connectionError(err)
		}
		for _, d := range list {
			keys = append(keys, d.Key)
		}
		if len(list) < filter.Limit || len(keys) == most {
			return keys, nil
		}
		filter.Offset += len(list)
	}
}

// would lists what would be done, into the summary that a command prints.
func (c *cli) would(s list, keys []string, r result) error {
	items := make([]outcome, len(keys))
	for i, key := range keys {
		items[i] = outcome{Key: key, Result: r}
	}
	s.set(items)
	verb := map[result]string{wouldRetry: "retry", wouldQueue: "queue", wouldRemove: "remove"}[r]
	return c.print(s, func(w io.Writer) {
		if len(keys) == 0 {
			_, _ = fmt.Fprintf(w, "no dead letters to %s\n", verb)
			return
		}
		for _, key := range keys {
			_, _ = fmt.Fprintf(w, "would %s %s\n", verb, printable(key))
		}
		_, _ = fmt.Fprintf(w, "would %s %s\n", verb, count(len(keys), "dead letter"))
	})
}

// list is a summary that says what has become of each one.
type list interface{ set(items []outcome) }

func (s *summary) set(items []outcome) { s.Items = items }
func (s *changes) set(items []outcome) { s.Items = items }

// changes is how a change of many ended that needs no attempt.
type changes struct {
	Total   int `json:"total"`
	Queued  int `json:"queued"`
	Removed int `json:"removed"`
	// Parked are those of the queued ones that wait behind an earlier one of their entity.
	Parked int `json:"parked"`
	// Skipped were being run by another process, or gone when their turn came.
	Skipped int `json:"skipped"`
	// Remaining are left because the command was interrupted.
	Remaining int  `json:"remaining"`
	DryRun    bool `json:"dry_run"`
	// Items lists those of a dry run.
	Items []outcome `json:"items"`
}

// bulk is a change of many dead letters.
type bulk struct {
	// word is what has become of those that are done: queued or removed.
	word   result
	run    func(context.Context, observer.DeliveryStore, observer.DeliveryFilter, delivery.BulkOptions) (delivery.BulkResult, error)
	filter observer.DeliveryFilter
	rate   rate
}

// bulk makes the change. Ctrl-C ends it between two.
func (c *cli) bulk(ctx context.Context, b bulk) error {
	p := c.newProgress()
	interrupted, stop := notify(ctx, func() {
		_, _ = fmt.Fprintf(c.err, "%s: stopping\n", program)
	})
	defer stop()
	var done delivery.BulkResult
	err := c.withState(ctx, writeState, func(store observer.StateStore) (err error) {
		done, err = b.run(interrupted, store, b.filter, delivery.BulkOptions{Rate: b.rate.perSecond, Progress: p.at})
		return err
	})
	p.clear()
	if err != nil && interrupted.Err() == nil {
		return fmt.Errorf("%d of %s %s, then: %w", done.Changed, count(done.Selected, "dead letter"), b.word, err)
	}
	s := &changes{Total: done.Selected, Parked: done.Parked, Skipped: done.Skipped, Items: []outcome{}}
	if b.word == removed {
		s.Removed = done.Changed
	} else {
		s.Queued = done.Changed
	}
	s.Remaining = s.Total - done.Changed - s.Skipped
	return errors.Join(c.print(s, func(w io.Writer) { s.text(w, b.word) }), s.failure())
}

func (s *changes) text(w io.Writer, word result) {
	_, _ = fmt.Fprintf(w, "%s: %d %s", count(s.Total, "dead letter"), s.Queued+s.Removed, word)
	if s.Parked > 0 {
		_, _ = fmt.Fprintf(w, ", %d of them parked behind an earlier one of their entity", s.Parked)
	}
	_, _ = fmt.Fprintf(w, ", %d skipped", s.Skipped)
	if s.Remaining > 0 {
		_, _ = fmt.Fprintf(w, ", %d left as they were", s.Remaining)
	}
	_, _ = fmt.Fprintln(w)
}

// failure is the exit code; the summary has said the rest.
func (s *changes) failure() error {
	if s.Remaining > 0 {
		return &codedError{code: exitError}
	}
	return nil
}
