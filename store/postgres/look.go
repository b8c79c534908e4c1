package postgres

import (
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	observer "github.com/fraiseql/observer"
)

// looking is one look for what is due, in rounds: mostly one, and more when
// bands turn out to be new or to have more than was asked for.
type looking struct {
	bands  *bands
	clock  func() time.Time
	room   observer.Room
	claims bool
	limit  int
	left   int // how many more to take
	turns  map[turnKey]*turn
	order  []*turn
	// probes are the bands of the round.
	probes []*probe
	rounds int
	// lows are the times since which the rows are due that this process stored
	// since the look began. It may have missed them.
	lows map[bandKey]pgtype.Timestamptz
}

type turnKey struct{ queue, endpoint string }

// turn is a queue and an endpoint, which take turns with the others.
type turn struct {
	queueName, endpointName string
	index                   int
	bands                   []*band
	asked                   bool
	room                    int
	probed                  int // how many of bands were
	quota, taken            int // in this round
	more                    bool
}

// probe is a look into one band.
type probe struct {
	*band
	turn  *turn
	start pgtype.Timestamptz
	full  bool
	taken int
	until pgtype.Timestamptz // since when the last one taken is due
	clock time.Time          // of the database
	found pgtype.Timestamptz // since when the first free one is due
	held  pgtype.Timestamptz // when a leased one before it gets due
}

func (p *probe) take(due pgtype.Timestamptz, clock time.Time) {
	p.taken++
	p.turn.taken++
	p.clock = clock
	if p.taken == 1 || before(p.until, due) {
		p.until = due
	}
}

// look begins a look that is ended with done. A limit of 0 is for one that claims
// nothing.
func (b *bands) look(clock func() time.Time, room observer.Room, limit int) *looking {
	l := &looking{bands: b, clock: clock, room: room, claims: limit > 0, limit: max(limit, 1), left: max(limit, 1), turns: map[turnKey]*turn{}, lows: map[bandKey]pgtype.Timestamptz{}}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.looks[l] = struct{}{}
	return l
}

func (b *bands) done(l *looking) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.looks, l)
}

func (l *looking) lower(key bandKey, due pgtype.Timestamptz) {
	if low, there := l.lows[key]; !there || before(due, low) {
		l.lows[key] = due
	}
}

// begin lays out the next round, and reports whether there is one. The first
// always is: it reads which bands there are.
func (l *looking) begin() bool {
	if l.left <= 0 {
		return false
	}
	l.collect()
	for _, t := range l.order { // with nothing locked
		if !t.asked {
			t.asked, t.room = true, l.limit
			if l.room != nil {
				t.room = min(l.room(t.queueName, t.endpointName), l.limit)
			}
		}
	}
	l.probe()
	l.rounds++
	return l.rounds == 1 || len(l.probes) > 0
}

// collect adds the bands that are new to the turns.
func (l *looking) collect() {
	l.bands.mu.Lock()
	defer l.bands.mu.Unlock()
	known := map[*band]bool{}
	for _, t := range l.order {
		for _, b := range t.bands {
			known[b] = true
		}
	}
	now := l.clock()
	many := len(l.bands.all) > manyBands
	for key, b := range l.bands.all {
		if known[b] || many && l.skip(b, now) {
			continue
		}
		t := l.turns[turnKey{key.queue, key.endpoint}]
		if t == nil {
			t = &turn{queueName: b.queueName, endpointName: b.endpointName, index: len(l.order)}
			l.turns[turnKey{key.queue, key.endpoint}] = t
			l.order = append(l.order, t)
		}
		t.bands = append(t.bands, b)
	}
}

// skip reports whether b, one of many, was found empty a moment ago.
func (l *looking) skip(b *band, now time.Time) bool {
	switch {
	case b.busy:
		return false
	case l.claims:
		return now.Before(b.quiet) && !b.isNext(now)
	}
	return now.Before(b.asked) && !b.next.Valid
}

// isNext reports whether what was to come has come.
func (b *band) isNext(now time.Time) bool {
	return b.next.Valid && !before(dueTime(now), b.next)
}

// probe chooses the bands to look into. With many of them each is asked for a
// few, so that one claim does not lock a multiple of what it takes.
func (l *looking) probe() {
	l.bands.mu.Lock()
	defer l.bands.mu.Unlock()
	var turns []*turn
	busy := 0
	for _, t := range l.order {
		if t.room <= 0 || !t.more && t.probed == len(t.bands) {
			continue
		}
		turns = append(turns, t)
		for _, b := range t.bands {
			if b.busy {
				busy++
				break
			}
		}
	}
	share := l.left
	if busy > 1 {
		share = min(share, (2*l.left+busy-1)/busy)
	}
	l.probes = l.probes[:0]
	now := l.clock()
	for _, t := range turns {
		t.quota, t.taken, t.more, t.probed = min(share, t.room), 0, false, len(t.bands)
		for _, b := range t.bands {
			p := &probe{band: b, turn: t}
			p.start, p.full = b.start(now)
			l.probes = append(l.probes, p)
		}
	}
}

// arrays are the probes as parameters of the statements.
func (l *looking) arrays() []any {
	return []any{
		columnOf(l.probes, func(p *probe) string { return p.queue }),
		columnOf(l.probes, func(p *probe) string { return p.endpoint }),
		columnOf(l.probes, func(p *probe) int32 { return p.priority }),
		columnOf(l.probes, func(p *probe) pgtype.Timestamptz { return p.start }),
		columnOf(l.probes, func(p *probe) int64 { return int64(p.turn.quota) }),
		columnOf(l.probes, func(p *probe) int32 { return int32(p.turn.index) }), //nolint:gosec // a small number
		columnOf(l.probes, func(p *probe) int32 { return p.rank() }),
	}
}

// end takes note of what a round of claims took.
func (l *looking) end(started time.Time, taken int) {
	l.left -= taken
	var clock time.Time
	for _, p := range l.probes {
		p.turn.more = p.turn.taken == p.turn.quota
		if p.taken > 0 {
			clock = p.clock
		}
	}
	l.bands.mu.Lock()
	defer l.bands.mu.Unlock()
	now, cost := l.clock(), time.Since(started)
	for _, p := range l.probes {
		if p.full {
			p.looked(now, cost)
		}
		l.move(p, now, clock)
	}
	for _, t := range l.order {
		t.room -= t.taken
		t.taken = 0
	}
}

// move notes how far the band of p is taken by now, by the clock of the database,
// which is not known when nothing was taken.
func (l *looking) move(p *probe, now, clock time.Time) {
	low, stored := l.lows[p.bandKey]
	if p.busy = p.taken > 0 || stored; !p.busy {
		p.quiet = now.Add(quietBand)
		if p.isNext(now) {
			p.next = pgtype.Timestamptz{} // somebody else has it
		}
	}
	// Where there was room for more, all that is due was taken.
	until, all := p.until, l.left > 0 && !p.turn.more && !clock.IsZero()
	if all {
		until = dueTime(clock)
	}
	if all || p.taken > 0 {
		p.took(p.taken, until, clock)
	}
	if p.full && !all && p.taken > 0 {
		p.lower(p.until) // it stopped there: more may follow below the floor
	}
	if stored {
		p.lower(low)
	}
}

// seen takes note of a look that took nothing.
func (l *looking) seen(started time.Time) {
	l.bands.mu.Lock()
	defer l.bands.mu.Unlock()
	now := l.clock()
	for _, p := range l.probes {
		if p.full {
			p.looked(now, time.Since(started))
		}
		if p.found.Valid {
			p.lower(p.found)
		}
		p.asked, p.next = now.Add(quietBand), p.found
		if p.held.Valid && (!p.next.Valid || before(p.held, p.next)) {
			p.next = p.held
		}
	}
}
