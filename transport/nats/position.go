package nats

import (
	"fmt"
	hashfnv "hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/fraiseql/observer"
)

// point is a position taken apart: a message of a stream, after which reading
// goes on. Sequences alone would not do: a stream that was deleted and created
// again, or put back to an older copy, gives the same sequences once more.
type point struct {
	// life is when the stream was created, in nanoseconds of Unix time. A stream
	// that is deleted and created again has another one; an older copy has not.
	life int64
	// seq is the sequence of the message, which need not be one of the partition:
	// it is the last that was passed.
	seq uint64
	// at is when the server stored the message, in nanoseconds of Unix time.
	at int64
	// mark is a digest of the message's Nats-Msg-Id, "" where it is not known.
	mark string
}

const positionVersion = "1"

func (p point) position() observer.Position {
	return observer.Position(positionVersion + ":" + strconv.FormatInt(p.life, 36) + ":" +
		strconv.FormatUint(p.seq, 10) + ":" + strconv.FormatInt(p.at, 36) + ":" + p.mark)
}

// parsePosition reads what position wrote, and nothing else: two texts are never
// the same place.
func parsePosition(pos observer.Position) (point, error) {
	parts := strings.Split(string(pos), ":")
	if len(parts) == 5 && parts[0] == positionVersion {
		life, err1 := strconv.ParseInt(parts[1], 36, 64)
		seq, err2 := strconv.ParseUint(parts[2], 10, 64)
		at, err3 := strconv.ParseInt(parts[3], 36, 64)
		p := point{life: life, seq: seq, at: at, mark: parts[4]}
		if err1 == nil && err2 == nil && err3 == nil && p.position() == pos {
			return p, nil
		}
	}
	return point{}, fmt.Errorf("%q is not a position in a NATS stream: the checkpoint belongs to another kind of source; give this consumer another name", string(pos))
}

func mark(id string) string {
	if id == "" {
		return ""
	}
	h := hashfnv.New64a()
	_, _ = h.Write([]byte(id))
	return strconv.FormatUint(h.Sum64(), 36)
}

// is reports whether the message stored at a time under an id is that of p.
func (p point) is(at time.Time, id string) bool {
	return p.at == at.UnixNano() && (p.mark == "" || id == "" || p.mark == mark(id))
}
