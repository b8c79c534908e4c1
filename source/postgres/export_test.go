package postgres

import (
	"context"
	"time"
)

// SetPatience shortens the time that a statement of the source may take.
func (s *Source) SetPatience(d time.Duration) { s.patience = d }

// SetHung shortens the time after which a transaction hangs.
func (s *Source) SetHung(d time.Duration) { s.hung = d }

// Queries are the texts that the reader polls and prunes with.
type Queries struct {
	// Next takes the highest key seen and a limit; Poll takes the lower ends of
	// the holes and the upper ones before that.
	Next, Poll string
	// Prune takes the keys between which to delete, a time and a limit.
	Prune string
	// Set is what a session of the reader begins with.
	Set string
}

// QueriesOf are the texts for the log that the source reads.
func (s *Source) QueriesOf(ctx context.Context) (q Queries, err error) {
	err = s.withLog(ctx, func(_ *link, log *table) error {
		q = Queries{Next: log.nextQuery(), Poll: log.pollQuery(), Prune: pruneQuery(log.name), Set: set("SET", sessionSettings())}
		return nil
	})
	return q, err
}
