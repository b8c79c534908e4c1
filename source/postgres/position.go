package postgres

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/fraiseql/observer"
)

// A position is text of five parts, separated by "|":
//
//	2|epoch|cursor|holes|trail
//
// Everything up to the cursor was read, except what lies in the holes. Holes
// and trail may describe a later state of the same reading: what lies above the
// cursor does not count. Rows of one batch can so share their text.
const positionVersion = "2"

// place is a position taken apart.
type place struct {
	// epoch names the history that the keys belong to.
	epoch string
	gaps  gaps
	// trail are rows that were read, the newest first.
	trail []mark
}

// mark recognizes a row: its key and a digest of its event id.
type mark struct {
	pk     int64
	digest string
}

// trailLength bounds the trail. Its marks lie about twice as far apart with
// each step back, so 24 reach back some millions of batches.
const trailLength = 24

// digestOf is short: it tells whether the row with a given key is still the
// same one, where 32 bits leave one chance in four billion.
func digestOf(id string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return strconv.FormatUint(uint64(h.Sum32()), 36)
}

// leave adds the newest row to the trail and thins out what lies behind.
func leave(trail []mark, newest mark) []mark {
	longer := make([]mark, 0, len(trail)+1)
	longer = append(longer, newest)
	longer = append(longer, trail...)
	// Of three neighbours the middle one goes where its neighbours lie closer
	// together than both do to the newest.
	for i := len(longer) - 2; i > 1; i-- {
		if longer[i-1].pk-longer[i+1].pk < newest.pk-longer[i-1].pk {
			longer = append(longer[:i], longer[i+1:]...)
		}
	}
	return longer[:min(len(longer), trailLength)]
}

func (p *place) position() observer.Position {
	return at(p.epoch, p.gaps.high) + p.shared()
}

// at is the part of a position that differs between the rows of a batch.
func at(epoch string, cursor int64) observer.Position {
	return observer.Position(positionVersion + "|" + epoch + "|" + strconv.FormatInt(cursor, 36))
}

// shared is the rest of a position. Holes are written as the distance from the
// end of the one before, and their size less one; "!" says that the sequence
// has not reached them.
func (p *place) shared() observer.Position {
	b := make([]byte, 0, 16+8*len(p.gaps.holes)+20*len(p.trail))
	b = append(b, '|')
	before := int64(0)
	for i, h := range p.gaps.holes {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendInt(b, h.lo-before, 36)
		if h.hi > h.lo {
			b = append(b, '+')
			b = strconv.AppendInt(b, h.hi-h.lo, 36)
		}
		if h.owners.undrawn {
			b = append(b, '!')
		}
		before = h.hi
	}
	b = append(b, '|')
	for i, m := range p.trail {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendInt(b, m.pk, 36)
		b = append(b, '.')
		b = append(b, m.digest...)
	}
	return observer.Position(b)
}

var errPosition = errors.New("it is not a position in a PostgreSQL change log: the checkpoint belongs to another kind of database; give this one a name of its own")

func parsePosition(pos observer.Position) (place, error) {
	p, err := parse(string(pos))
	if err != nil {
		const most = 80
		shown := string(pos)
		if len(shown) > most {
			shown = shown[:most] + "..."
		}
		return place{}, fmt.Errorf("position %q: %w", shown, err)
	}
	return p, nil
}

func parse(text string) (place, error) {
	parts := strings.Split(text, "|")
	if len(parts) != 5 || parts[0] != positionVersion {
		return place{}, errPosition
	}
	cursor, err := strconv.ParseInt(parts[2], 36, 64)
	if err != nil {
		return place{}, errPosition
	}
	p := place{epoch: parts[1], gaps: gaps{high: cursor}}
	if p.gaps.holes, err = parseHoles(parts[3], cursor); err != nil {
		return place{}, err
	}
	p.trail, err = parseTrail(parts[4], cursor)
	return p, err
}

func parseHoles(text string, cursor int64) ([]hole, error) {
	var holes []hole
	before := int64(0)
	everyone, unborn := &owners{}, &owners{undrawn: true}
	for word := range strings.FieldsSeq(text) {
		word, undrawn := strings.CutSuffix(word, "!")
		distance, size, _ := strings.Cut(word, "+")
		lo, err := strconv.ParseInt(distance, 36, 64)
		if err != nil || len(holes) > 0 && lo < 1 {
			return nil, errPosition
		}
		h := hole{lo: before + lo, owners: everyone}
		h.hi = h.lo
		if undrawn {
			h.owners = unborn
		}
		if size != "" {
			n, err := strconv.ParseInt(size, 36, 64)
			if err != nil || n < 1 || h.lo+n < h.lo {
				return nil, errPosition
			}
			h.hi += n
		}
		if h.lo < before {
			return nil, errPosition
		}
		before = h.hi
		if h.hi < cursor {
			holes = append(holes, h)
		}
	}
	return holes, nil
}

func parseTrail(text string, cursor int64) ([]mark, error) {
	var trail []mark
	for word := range strings.FieldsSeq(text) {
		key, digest, ok := strings.Cut(word, ".")
		pk, err := strconv.ParseInt(key, 36, 64)
		if err != nil || !ok {
			return nil, errPosition
		}
		if pk <= cursor {
			trail = append(trail, mark{pk, digest})
		}
	}
	return trail, nil
}

// rowPosition finds one row again; see [Source.Refetch].
func rowPosition(pk int64) observer.Position {
	return observer.Position("row " + strconv.FormatInt(pk, 10))
}

func parseRowPosition(pos observer.Position) (int64, error) {
	text, ok := strings.CutPrefix(string(pos), "row ")
	pk, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q does not name a row of a PostgreSQL change log", string(pos))
	}
	return pk, nil
}
