package postgres

import (
	"cmp"
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	observer "github.com/fraiseql/observer"
)

// room is what dead letters need before they are stored.
type room struct {
	lock  string // shared or alone
	limit int
}

// group is changes that share a transaction.
type group struct {
	updates []*op
	rows    []*newRow
	waves   [][]*newRow
	lanes   []string // those that change
	moves   []string // those of them that may go on after the updates
	parked  []string // the keys of what is put back as parked
	bands   []*row   // the rows whose bands must be there
	freed   []freed
}

// newGroup lays out what ops change. It is as if they were made in their order,
// inserts first.
func (s *Store) newGroup(ops []*op) *group {
	g := &group{}
	for _, o := range ops {
		o.err = nil
		for _, r := range o.insert {
			r.stored, r.parked = false, false
			g.rows = append(g.rows, r)
			g.touch(r.row)
		}
		if r := o.update; r != nil {
			g.updates = append(g.updates, o)
			g.touch(r)
			if o.was != r.lane && o.was != "" {
				g.lanes, g.moves = append(g.lanes, o.was), append(g.moves, o.was)
			}
			if r.lane != "" && (!r.blocks || r.state == string(observer.Parked)) {
				g.moves = append(g.moves, r.lane)
			}
			if r.state == string(observer.Parked) {
				g.parked = append(g.parked, r.key)
			}
		}
	}
	slices.SortFunc(g.updates, func(a, b *op) int { return cmp.Compare(a.update.key, b.update.key) })
	g.waves = waves(g.rows)
	slices.Sort(g.lanes)
	g.lanes = slices.Compact(g.lanes)
	return g
}

func (g *group) touch(r *row) {
	if r.lane != "" {
		g.lanes = append(g.lanes, r.lane)
	}
	g.bands = append(g.bands, r)
}

// commitOps makes changes in one transaction. Updates whose rows turn out to be
// in another lane are the rest, to be made alone: each may have to wait for that
// lane. What is made alone already is made in a transaction after it.
func (s *Store) commitOps(ctx context.Context, ops []*op, patient bool) (rest []*op, err error) {
	if _, err := s.commitGroup(ctx, ops, room{}, patient); err != nil {
		return nil, err
	}
	rest = s.busy(ctx, ops)
	if len(rest) == 0 || !patient {
		return rest, nil
	}
	_, err = s.commitGroup(ctx, rest, room{}, patient)
	return nil, err
}

// commitDead is commitOps for those with dead letters among them.
func (s *Store) commitDead(ctx context.Context, ops []*op, patient bool) (rest []*op, err error) {
	if s.maxDead > margin {
		fits, err := s.commitGroup(ctx, ops, room{lockShared, s.maxDead - margin}, patient)
		if err != nil || fits {
			return nil, err
		}
	}
	for _, o := range ops {
		var fits bool
		o.err = yielding(func() (err error) {
			fits, err = s.commitGroup(ctx, []*op{o}, room{lockAlone, s.maxDead}, true)
			return err
		})
		if o.err == nil && !fits {
			o.err = observer.ErrFull
		}
	}
	return nil, nil
}

// commitGroup makes changes in one transaction. fits is false, and nothing was
// stored, when there is no room for the dead letters among them.
func (s *Store) commitGroup(ctx context.Context, ops []*op, need room, patient bool) (fits bool, err error) {
	g := s.newGroup(ops)
	if err := s.storeBands(ctx, s.bands.missing(g.bands)); err != nil {
		return false, err
	}
	fits = true
	transact := s.transactSoon
	if patient {
		transact = s.transact
	}
	if err := transact(ctx, func(c *change) {
		insert := insertPlain
		if need.lock != "" {
			insert = insertChecked
			c.run(need.lock, s.schema.lockID("dead letters"))
		}
		s.lockLanes(c, g.lanes)
		if need.lock != "" {
			g.checkRoom(c, &fits, need.limit)
		}
		for _, wave := range g.waves {
			s.insert(c, insert, wave)
		}
		if len(g.updates) > 0 {
			s.update(c, g.updates)
		}
		if len(g.parked) > 0 {
			c.rows(freedRows(&g.freed), unpark, s.clockNow(), g.parked)
		}
		s.release(c, &g.freed, g.moves)
	}); err != nil {
		return false, err
	}
	g.note(s.bands)
	s.settle(ctx, g.freed)
	return fits, nil
}

func (g *group) checkRoom(c *change, fits *bool, limit int) {
	var dead []string
	for _, r := range g.rows {
		if r.state == string(observer.Dead) {
			dead = append(dead, r.key)
		}
	}
	c.rows(func(rows pgx.Rows) error {
		answer, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
		*fits = answer == "yes"
		return err
	}, checkRoom, dead, limit)
}

// note takes note of what was stored.
func (g *group) note(b *bands) {
	for _, r := range g.rows {
		if r.stored && observer.State(r.state).Due() {
			b.stored(r.band, r.due)
		}
	}
	for _, o := range g.updates {
		if o.err == nil && observer.State(o.update.state).Due() {
			b.stored(o.update.band, o.due)
		}
	}
}
