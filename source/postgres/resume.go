package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
)

// resume finds where to go on reading, and says so when that is not where the
// position says.
func (s *Source) resume(ctx context.Context, conn *link, log *table, after observer.Position) (p place, err error) {
	ctx, cancel := s.patiently(ctx)
	defer cancel()
	var why string
	err = conn.do(ctx, func() error {
		p, why, err = locate(ctx, conn.Conn, log, after)
		return err
	})
	if err != nil {
		return place{}, s.failed("find the place in the change log", err)
	}
	if why != "" {
		s.rewound(ctx, why)
	}
	return p, nil
}

func (s *Source) rewound(ctx context.Context, why string) {
	s.cfg.Logger.Error("the history of this database is another one; reading again from where both agree", "why", why)
	if s.cfg.Rewound != nil {
		s.cfg.Rewound(ctx, why)
	}
}

// locate takes a position to the log as it is now. why is for people, and empty
// when reading goes on where it was left.
func locate(ctx context.Context, conn *pgx.Conn, log *table, after observer.Position) (p place, why string, err error) {
	if after == "" {
		return place{epoch: log.epoch()}, "", nil
	}
	if p, err = parsePosition(after); err != nil {
		return place{}, "", err
	}
	found, err := log.find(ctx, conn, p.trail)
	if err != nil {
		return place{}, "", err
	}
	why = p.compare(found, log.epoch())
	p.epoch = log.epoch()
	moved, err := p.follow(ctx, conn, log)
	if moved != "" && why != "" {
		why += "; "
	}
	return p, why + moved, err
}

// follow asks the sequence how far it is, where the role may know. moved is for
// people, and empty unless it moved back.
func (p *place) follow(ctx context.Context, conn *pgx.Conn, log *table) (moved string, err error) {
	last, err := log.lastDrawn(ctx, conn)
	if err != nil {
		return "", err
	}
	reached := p.gaps.reached()
	if !log.sequenceReadable {
		return "", nil
	}
	if last >= reached {
		p.gaps.drawn(last)
		return "", nil
	}
	return fmt.Sprintf("the sequence stands at %d, and had given %d", last, reached), p.fallBack(ctx, conn, log, last)
}

// compare goes back to the newest row of the trail that the log still has, when
// the histories differ. A row that is missing proves nothing in the same
// history: it may have been pruned.
func (p *place) compare(found map[int64]string, history string) (why string) {
	newest, differs := len(p.trail), p.epoch != history
	for i, m := range p.trail {
		digest, there := found[m.pk]
		if there && digest == m.digest {
			newest = i
			break
		}
		differs = differs || there
	}
	if newest == 0 || len(p.trail) == 0 || !differs {
		return ""
	}
	high := p.gaps.high
	p.trail = p.trail[newest:]
	if len(p.trail) == 0 {
		p.gaps = gaps{}
		return fmt.Sprintf("no row that was read up to key %d is there as it was; beginning at the start of the log", high)
	}
	p.gaps.cut(p.trail[0].pk)
	return fmt.Sprintf("the rows after key %d are not those that were read up to key %d", p.trail[0].pk, high)
}

// fallBack prepares for keys that come a second time. The log is taken to be as
// it was up to the newest row of the trail that is still there: after a crash
// that lost commits the server had not waited for, that is where the keys begin
// anew. What the sequence has given above it is read once more, and what it will
// give is waited for; rows above the sequence's last key were read.
func (p *place) fallBack(ctx context.Context, conn *pgx.Conn, log *table, last int64) error {
	found, err := log.find(ctx, conn, p.trail)
	if err != nil {
		return err
	}
	kept := int64(0)
	for len(p.trail) > 0 && kept == 0 {
		if m := p.trail[0]; m.pk <= last && found[m.pk] == m.digest {
			kept = m.pk
		} else {
			p.trail = p.trail[1:]
		}
	}
	unborn, err := log.gaps(ctx, conn, last, p.gaps.high, &owners{undrawn: true})
	if err != nil {
		return err
	}
	// A row above the last key was there before and read, unless its key was given
	// since. What the sequence has given by now covers every new row that the
	// snapshot could show.
	if last, err = log.lastDrawn(ctx, conn); err != nil {
		return err
	}
	p.again(kept, min(last, p.gaps.high), unborn)
	return nil
}

// again reads the keys above kept, up to last, once more, and waits for those of
// unborn above that.
func (p *place) again(kept, last int64, unborn []hole) {
	high := p.gaps.high
	p.gaps.cut(kept)
	if kept < last {
		p.gaps.holes = append(p.gaps.holes, hole{kept + 1, last, &owners{}})
	}
	for _, h := range unborn {
		if h.hi > last {
			p.gaps.holes = append(p.gaps.holes, hole{max(h.lo, last+1), h.hi, h.owners})
		}
	}
	p.gaps.high = high
}

// now is the place after everything that is visible, with the holes that
// transactions which are still running may fill.
func (s *Source) now(ctx context.Context, conn *link, log *table) (p place, err error) {
	p.epoch = log.epoch()
	var holders map[string]struct{}
	err = conn.do(ctx, func() error {
		if err := p.end(ctx, conn.Conn, log); err != nil {
			return err
		}
		holders, err = log.holders(ctx, conn.Conn)
		return err
	})
	if err != nil || len(holders) == 0 {
		// Nobody can write below the newest row any more.
		return p, err
	}
	// The owners of what one snapshot lacks are among the holders that the first
	// poll lists.
	err = conn.snapshot(ctx, func() error {
		if err := p.end(ctx, conn.Conn, log); err != nil {
			return err
		}
		p.gaps.holes, err = log.gaps(ctx, conn.Conn, 0, p.gaps.high, &owners{})
		return err
	})
	return p, err
}

// end moves to the newest row.
func (p *place) end(ctx context.Context, conn *pgx.Conn, log *table) error {
	newest, err := log.newest(ctx, conn)
	if err == nil && newest.pk > 0 {
		p.gaps.high, p.trail = newest.pk, []mark{newest}
	}
	return err
}
