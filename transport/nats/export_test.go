package nats

import (
	"github.com/fraiseql/observer"
)

// SequenceOf is the sequence of the message at a position; 0 where it is none.
func SequenceOf(pos observer.Position) uint64 {
	p, err := parsePosition(pos)
	if err != nil {
		return 0
	}
	return p.seq
}
