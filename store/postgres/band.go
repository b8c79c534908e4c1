package postgres

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	observer "github.com/fraiseql/observer"
)

const (
	// renewBands is how long a process relies on a band that it stored or used,
	// and unusedBands after how long nobody's use of it is the reason to remove
	// it. The second must be much longer than the first.
	renewBands  = time.Hour
	unusedBands = "30 days"
	// reloadBands is how often all bands are read. In between only those with a
	// later id are, which leaves out what is committed out of order.
	reloadBands = 5 * time.Second
	// With more than manyBands, those that were found empty are left out for a
	// while: others may store into them without this process noticing.
	manyBands = 256
	quietBand = time.Second

	ensureBands = `
INSERT INTO {{schema}}.tb_queue AS q (queue, endpoint, priority, full_queue, full_endpoint, used_at)
SELECT queue, endpoint, priority, full_queue, full_endpoint, ` + clock + `
FROM unnest($2::text[], $3::text[], $4::integer[], $5::text[], $6::text[]) AS u(queue, endpoint, priority, full_queue, full_endpoint)
ON CONFLICT (queue, endpoint, priority) DO UPDATE SET used_at = excluded.used_at
WHERE q.used_at < excluded.used_at - interval '30 minutes'`

	selectBands = `
SELECT id, queue, endpoint, priority, coalesce(full_queue, queue), coalesce(full_endpoint, endpoint) FROM {{schema}}.tb_queue WHERE id > $1`

	// pruneBands removes those that no row is left in and none was stored in for
	// long. The one that the migration stored is for ever.
	pruneBands = `
DELETE FROM {{schema}}.tb_queue AS q
WHERE used_at < ` + clock + ` - interval '` + unusedBands + `' AND NOT EXISTS (
    SELECT FROM {{schema}}.tb_delivery AS d WHERE d.queue = q.queue AND d.endpoint = q.endpoint AND d.priority = q.priority)`
	unusedBand = `
SELECT EXISTS (SELECT FROM {{schema}}.tb_queue WHERE used_at < ` + clock + ` - interval '` + unusedBands + `')`
)

// bandKey names the deliveries of a queue to an endpoint with a priority: those
// of one band are claimed in the order in which they are due.
type bandKey struct {
	queue, endpoint string // as stored
	priority        int32
}

func (a bandKey) compare(b bandKey) int {
	return cmp.Or(cmp.Compare(a.queue, b.queue), cmp.Compare(a.endpoint, b.endpoint), cmp.Compare(a.priority, b.priority))
}

// rank orders the bands of a queue and an endpoint.
func (a bandKey) rank() int32 {
	if a.priority == 0 {
		return observer.DefaultPriority
	}
	return a.priority
}

// band is what a process knows about one.
type band struct {
	bandKey
	queueName, endpointName string
	ensured                 time.Time // when this process last made sure that it is stored
	// next is when something gets due, as far as is known. Until quiet there is
	// nothing due before, unless this process stores it, and until asked nothing
	// is to come where next is none.
	next         pgtype.Timestamptz
	quiet, asked time.Time
	floor
}

// bands are those known to this process.
type bands struct {
	mu     sync.Mutex
	all    map[bandKey]*band
	last   int64     // the highest id seen
	loaded time.Time // when all were read
	looks  map[*looking]struct{}
}

func newBands() *bands { return &bands{all: map[bandKey]*band{}, looks: map[*looking]struct{}{}} }

// missing are those of rows, one for each band, whose bands may not be stored,
// in the order in which everybody stores them.
func (b *bands) missing(rows []*row) []*row {
	b.mu.Lock()
	defer b.mu.Unlock()
	var missing []*row
	for _, r := range rows {
		if known := b.all[r.band]; known == nil || time.Since(known.ensured) > renewBands {
			missing = append(missing, r)
		}
	}
	slices.SortFunc(missing, func(x, y *row) int { return x.band.compare(y.band) })
	return slices.CompactFunc(missing, func(x, y *row) bool { return x.band == y.band })
}

// known takes note of bands that were stored just now.
func (b *bands) known(rows []*row) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range rows {
		name := func(short string, full *string) string {
			if full != nil {
				short = *full
			}
			return decode(short)
		}
		b.add(r.band, name(r.band.queue, r.fullQueue), name(r.band.endpoint, r.fullEndpoint)).ensured = time.Now()
	}
}

func (b *bands) add(key bandKey, queueName, endpointName string) *band {
	known := b.all[key]
	if known == nil {
		known = &band{bandKey: key, queueName: queueName, endpointName: endpointName, floor: newFloor()}
		b.all[key] = known
	}
	return known
}

// storeBands makes sure that the bands of rows are stored, before the rows are: in
// a transaction of its own, which nobody has to wait for.
func (s *Store) storeBands(ctx context.Context, rows []*row) error {
	if len(rows) == 0 {
		return nil
	}
	if err := s.transact(ctx, func(c *change) {
		c.run(ensureBands, s.clockNow(),
			columnOf(rows, func(r *row) string { return r.band.queue }), columnOf(rows, func(r *row) string { return r.band.endpoint }),
			columnOf(rows, func(r *row) int32 { return r.band.priority }),
			columnOf(rows, func(r *row) *string { return r.fullQueue }), columnOf(rows, func(r *row) *string { return r.fullEndpoint }))
	}); err != nil {
		return err
	}
	s.bands.known(rows)
	return nil
}

// readBands adds the statement that reads the bands which are new, or all when
// that was long ago.
func (b *bands) readBands(c *change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	after, all := b.last, time.Since(b.loaded) > reloadBands
	if all {
		after = 0
	}
	c.rows(func(rows pgx.Rows) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		seen := map[bandKey]bool{}
		var id int64
		var key bandKey
		var queueName, endpointName string
		_, err := pgx.ForEachRow(rows, []any{&id, &key.queue, &key.endpoint, &key.priority, &queueName, &endpointName}, func() error {
			b.last = max(b.last, id)
			seen[key] = true
			b.add(key, decode(queueName), decode(endpointName))
			return nil
		})
		if err == nil && all {
			b.loaded = time.Now()
			b.forget(seen)
		}
		return err
	}, selectBands, after)
}

// forget drops the bands that are gone, but not those that this process stored
// and that it may have read before they were committed.
func (b *bands) forget(seen map[bandKey]bool) {
	for key, known := range b.all {
		if !seen[key] && time.Since(known.ensured) > renewBands {
			delete(b.all, key)
		}
	}
}

// stored takes note of a row in a band that is due at a time, however early.
func (b *bands) stored(key bandKey, due pgtype.Timestamptz) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if known := b.all[key]; known != nil {
		known.lower(due)
		known.busy = true
	}
	for l := range b.looks {
		l.lower(key, due)
	}
}

// pruneUnused removes bands nobody used for long.
func (s *Store) pruneUnused(ctx context.Context) error {
	var unused bool
	if err := s.look(ctx, func(c *change) {
		c.rows(func(rows pgx.Rows) (err error) {
			unused, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
			return err
		}, unusedBand, s.clockNow())
	}); err != nil || !unused {
		return err
	}
	// All of the table is read once, instead of once for each band.
	return s.transact(ctx, func(c *change) {
		c.run("SELECT set_config('enable_seqscan', 'on', true), set_config('enable_hashjoin', 'on', true)")
		c.run(pruneBands, s.clockNow())
	})
}
