package doctor

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// rowsOf collects rows into structs, by the position of their fields.
func rowsOf[T any](ctx context.Context, conn *pgx.Conn, query string, args ...any) ([]T, error) {
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[T])
}

// literal writes a text as SQL wants it.
func literal(text string) string {
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	if strings.Contains(quoted, `\`) {
		return "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// size writes a number of bytes for people.
func size(bytes int64) string {
	const kilo = 1024
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	value, unit := float64(bytes), 0
	for value >= kilo && unit < len(units)-1 {
		value /= kilo
		unit++
	}
	if unit == 0 {
		return strconv.FormatInt(bytes, 10) + " bytes"
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}

// age writes a number of seconds for people; "an unknown time" when it is nil.
func age(seconds *float64) string {
	if seconds == nil {
		return "an unknown time"
	}
	return time.Duration(*seconds * float64(time.Second)).Round(time.Second).String()
}
