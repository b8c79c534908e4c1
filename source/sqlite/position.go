package sqlite

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"strconv"
	"strings"

	"github.com/fraiseql/observer"
)

// place is a position taken apart.
type place struct {
	// epoch is of the log the position was made in.
	epoch string
	// pk is the key of the row that was read last.
	pk int64
	// mark is a digest of the event id in that row, "" where the row has no
	// readable id: a repaired row must not look like another one.
	mark string
}

const positionVersion = "1"

// start is before every row.
func start(epoch string) place { return place{epoch: epoch, pk: math.MinInt64} }

func (p place) position() observer.Position {
	return observer.Position(positionVersion + ":" + p.epoch + ":" + strconv.FormatInt(p.pk, 10) + ":" + p.mark)
}

func parsePosition(pos observer.Position) (place, error) {
	parts := strings.Split(string(pos), ":")
	if len(parts) == 4 && parts[0] == positionVersion {
		if pk, err := strconv.ParseInt(parts[2], 10, 64); err == nil {
			return place{epoch: parts[1], pk: pk, mark: parts[3]}, nil
		}
	}
	return place{}, fmt.Errorf("%q is not a position in a SQLite change log: the checkpoint belongs to another kind of database; give this one a name of its own", string(pos))
}

func mark(id string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	return strconv.FormatUint(h.Sum64(), 16)
}

// displaced says why reading cannot go on after p, or "" when it can. It must
// run in the transaction that reads the rows.
func displaced(ctx context.Context, q queryer, epoch string, p place) (string, error) {
	if p.epoch != epoch {
		return "the position belongs to another change log", nil
	}
	if p.pk == math.MinInt64 {
		return "", nil
	}
	var highest int64
	var id any
	err := q.QueryRowContext(ctx, `SELECT
		max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = ?1), 0),
		    coalesce((SELECT max(pk_entity_change_log) FROM tb_entity_change_log), 0)),
		(SELECT id FROM tb_entity_change_log WHERE pk_entity_change_log = ?2)`, logTable, p.pk).Scan(&highest, &id)
	if err != nil {
		return "", fmt.Errorf("check position: %w", err)
	}
	if highest < p.pk {
		return "the change log moved back, as after restoring a backup", nil
	}
	if text, ok := id.(string); ok && p.mark != "" && text != "" && mark(text) != p.mark {
		return "another event stands at the position, as after restoring a backup", nil
	}
	return "", nil
}
