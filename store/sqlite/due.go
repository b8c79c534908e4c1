package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	observer "github.com/fraiseql/observer"
)

// claimChosen leases the rows of a JSON array of pk_delivery.
const claimChosen = `
UPDATE tb_delivery SET lease_owner = ?2, lease_until = ?4, claims = claims + 1, lost_at = claimed_at, claimed_at = ?3
WHERE pk_delivery IN (SELECT value FROM json_each(?1))
RETURNING ` + columns + `, pk_delivery`

// ClaimDue implements [observer.DeliveryStore]. Room is asked about the queues
// and endpoints that may have something due, with no transaction open. Of more
// of them than Limit those go first whose next delivery has been due longest.
func (s *Store) ClaimDue(ctx context.Context, c observer.Claim) ([]*observer.Delivery, error) {
	if err := ctx.Err(); err != nil || c.Limit <= 0 {
		return nil, err
	}
	bands, err := readBands(ctx, s.read, selectDueBands, micros(s.now()))
	if err != nil {
		return nil, fmt.Errorf("claim due deliveries: %w", s.explain(err))
	}
	turns := withRoom(bands, newRooms(c.Room), c.Limit)
	if len(turns) == 0 {
		return nil, nil
	}
	var ds []*observer.Delivery
	err = s.write(ctx, "claim due deliveries", func(tx *session) (err error) {
		ds, err = s.claimDue(tx, c, turns)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ds, nil
}

// turn is what one queue and endpoint may claim.
type turn struct {
	// bands are by priority; the earliest of them is due at bound or later.
	bands []band
	bound int64
	room  int
}

// withRoom groups bands, which are by due time, by what has room.
func withRoom(bands []band, has *rooms, limit int) []*turn {
	var turns []*turn
	byTarget := map[target]*turn{}
	for _, b := range bands {
		t, known := byTarget[b.target()]
		if !known {
			t = &turn{bound: b.dueAt, room: has.of(b.target(), limit)}
			byTarget[b.target()] = t
			if t.room > 0 {
				turns = append(turns, t)
			}
		}
		t.bands = append(t.bands, b)
	}
	for _, t := range turns {
		slices.SortFunc(t.bands, func(a, b band) int { return a.rank - b.rank })
	}
	return turns
}

// candidate is a delivery that may be claimed.
type candidate struct{ pk, dueAt int64 }

func longestDue(a, b candidate) int {
	return cmp.Or(cmp.Compare(a.dueAt, b.dueAt), cmp.Compare(a.pk, b.pk))
}

func (s *Store) claimDue(tx *session, c observer.Claim, turns []*turn) ([]*observer.Delivery, error) {
	now := s.now()
	look := &lookout{tx: tx, now: micros(now), limit: c.Limit}
	chosen, err := look.choose(turns)
	if err != nil || len(chosen) == 0 {
		return nil, err
	}
	pks, err := json.Marshal(chosen)
	if err != nil {
		return nil, err
	}
	rows, err := tx.query(claimChosen, string(pks), c.Owner, micros(now), micros(now.Add(c.Lease)))
	if err != nil {
		return nil, err
	}
	return scanChosen(rows, chosen, now)
}

// lookout looks for what is due inside the transaction that claims it.
type lookout struct {
	tx    *session
	now   int64
	limit int
}

// line is what a turn may take next, in order.
type line struct {
	*turn
	found []candidate
	// all: there is no more, or no more room.
	all bool
}

// choose gives the pk_delivery of what to claim, in the order in which it is
// claimed: the first of each turn, then the second of each, and so on.
func (l *lookout) choose(turns []*turn) ([]int64, error) {
	depth := (l.limit + len(turns) - 1) / len(turns)
	lines, err := l.first(turns, depth)
	for ; err == nil && l.short(lines); depth *= 2 {
		err = l.more(lines, 2*depth)
	}
	if err != nil {
		return nil, err
	}
	var chosen []int64
	for rank := 0; len(lines) > 0; rank++ {
		lines = slices.DeleteFunc(lines, func(w *line) bool { return rank >= len(w.found) })
		for _, w := range lines {
			if len(chosen) == l.limit {
				return chosen, nil
			}
			chosen = append(chosen, w.found[rank].pk)
		}
	}
	return chosen, nil
}

// first gives the lines that have something due, by what has been due longest.
// turns are by their bounds: with enough lines, those are not looked at whose
// first cannot have been due longer.
func (l *lookout) first(turns []*turn, depth int) ([]*line, error) {
	var lines []*line
	for _, t := range turns {
		if len(lines) >= l.limit && lines[l.limit-1].found[0].dueAt < t.bound {
			break
		}
		w := &line{turn: t}
		if err := l.find(w, depth); err != nil {
			return nil, err
		}
		if len(w.found) > 0 {
			at, _ := slices.BinarySearchFunc(lines, w, func(a, b *line) int { return longestDue(a.found[0], b.found[0]) })
			lines = slices.Insert(lines, at, w)
		}
	}
	return lines, nil
}

// short reports whether there is more to claim and to find.
func (l *lookout) short(lines []*line) bool {
	n := 0
	for _, w := range lines {
		n += len(w.found)
	}
	return n < l.limit && slices.ContainsFunc(lines, func(w *line) bool { return !w.all })
}

func (l *lookout) more(lines []*line, depth int) error {
	for _, w := range lines {
		if w.all {
			continue
		}
		if err := l.find(w, depth); err != nil {
			return err
		}
	}
	return nil
}

// find looks up to depth deep, lower ranks first, and settles the bands that
// have less.
func (l *lookout) find(w *line, depth int) error {
	depth = min(depth, w.room)
	w.found = w.found[:0]
	for i := range w.bands {
		missing := depth - len(w.found)
		found, err := l.probe(&w.bands[i], missing)
		if err != nil {
			return err
		}
		w.found = append(w.found, found...)
		if len(found) == missing {
			w.all = depth == w.room
			return nil
		}
		if err := l.tx.settle(&w.bands[i]); err != nil {
			return err
		}
	}
	w.all = true
	return nil
}

func (l *lookout) probe(b *band, limit int) (found []candidate, err error) {
	rows, err := l.tx.query(dueInBand, b.args(l.now, limit)...)
	if err != nil {
		return nil, err
	}
	err = eachRow(rows, func(rows *sql.Rows) error {
		var c candidate
		err := rows.Scan(&c.pk, &c.dueAt)
		found = append(found, c)
		return err
	})
	return found, err
}

// scanChosen reads and closes rows, and puts them in order: RETURNING has none.
func scanChosen(rows *sql.Rows, chosen []int64, now time.Time) ([]*observer.Delivery, error) {
	byPK := make(map[int64]*observer.Delivery, len(chosen))
	err := eachRow(rows, func(rows *sql.Rows) error {
		var pk int64
		d, err := scan(withPK{rows, &pk}, now)
		byPK[pk] = d
		return err
	})
	if err != nil {
		return nil, err
	}
	ds := make([]*observer.Delivery, 0, len(chosen))
	for _, pk := range chosen {
		if d := byPK[pk]; d != nil {
			ds = append(ds, d)
		}
	}
	return ds, nil
}

// withPK scans a column after those of a delivery.
type withPK struct {
	scanner

	pk *int64
}

// Scan implements scanner.
func (w withPK) Scan(dest ...any) error { return w.scanner.Scan(append(dest, w.pk)...) }
