package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	observer "github.com/fraiseql/observer"
)

const (
	// fillBatch bounds a transaction.
	fillBatch = 1000

	selectUnprinted = `
SELECT key, error FROM {{schema}}.tb_delivery WHERE error_print IS NULL ORDER BY key LIMIT $1`

	// printRows leaves alone what changed in the meantime.
	printRows = `
UPDATE {{schema}}.tb_delivery AS d SET error_print = u.print
FROM unnest($1::text[], $2::text[], $3::text[]) AS u(key, error, print)
WHERE d.key = u.key AND d.error = u.error AND d.error_print IS NULL`
)

// fillPrints gives a fingerprint to the errors that programs of before stored.
// Mostly that is a look into an empty index.
func (s *Store) fillPrints(ctx context.Context) error {
	for {
		var keys, errs, prints []string
		if err := s.look(ctx, func(c *change) {
			c.rows(func(rows pgx.Rows) error {
				var key, text string
				_, err := pgx.ForEachRow(rows, []any{&key, &text}, func() error {
					keys, errs = append(keys, key), append(errs, text)
					prints = append(prints, observer.Fingerprint(decode(text)))
					return nil
				})
				return err
			}, selectUnprinted, fillBatch)
		}); err != nil || len(keys) == 0 {
			return err
		}
		if err := s.transact(ctx, func(c *change) { c.run(printRows, keys, errs, prints) }); err != nil {
			return err
		}
		if len(keys) < fillBatch {
			return nil
		}
	}
}
