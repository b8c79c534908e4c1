package changelog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ErrNotReady means that something is missing that [Migrate] creates.
var ErrNotReady = errors.New("the database is not prepared")

// Ready says what is missing for the log to work; nil when nothing is. It reads
// catalogs only, so any role may ask. Its errors match [ErrNotReady], and
// [ErrNoLog] too when there is no log.
func Ready(ctx context.Context, conn *pgx.Conn, o Options) error {
	o = o.OrDefault()
	if err := o.check(); err != nil {
		return err
	}
	l, err := Inspect(ctx, conn, o.Log)
	if errors.Is(err, ErrNoLog) {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	if err != nil {
		return err
	}
	missing := l.missing(o)
	own, err := ownMissing(ctx, conn, o)
	if err != nil {
		return fmt.Errorf("look for what belongs to the change log: %w", err)
	}
	if missing = append(missing, own...); len(missing) > 0 {
		return fmt.Errorf("%w: %s (run \"fraiseql-observer migrate\" as a role that may create tables)", ErrNotReady, strings.Join(missing, ", "))
	}
	return nil
}

func (l *Layout) missing(o Options) (list []string) {
	for _, c := range append(required(), optional()...) {
		if !l.Columns[c.name] {
			list = append(list, "column "+c.name+" of "+o.Log.plain())
		}
	}
	switch {
	case !l.HasWakeTrigger:
		list = append(list, "trigger "+WakeTrigger+" on "+o.Log.plain())
	case l.wakeArgument != wakeArgument(o.Log):
		list = append(list, "trigger "+WakeTrigger+" on "+o.Log.plain()+", which was made for a log of another name")
	case o.Notify != "" && o.Notify != l.Notify:
		list = append(list, "the wake-up mode "+string(o.Notify)+", which is "+string(l.Notify)+" now")
	}
	return list
}

func ownMissing(ctx context.Context, conn *pgx.Conn, o Options) (list []string, err error) {
	for _, name := range []string{settingTable, UnrecordedTable} {
		var there bool
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
			WHERE s.nspname = $1 AND c.relname = $2)`, o.Schema, name).Scan(&there); err != nil {
			return nil, err
		}
		if !there {
			list = append(list, "table "+o.Schema+"."+name)
		}
	}
	for name, right := range map[string]func(string) bool{
		wakeFunction:  func(body string) bool { return body == wakeBody(modeOf(body)) },
		ValueFunction: func(body string) bool { return body == valueBody },
	} {
		var body string
		if err := conn.QueryRow(ctx, `SELECT coalesce(max(f.prosrc), '') FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace s ON s.oid = f.pronamespace
			WHERE s.nspname = $1 AND f.proname = $2`, o.Schema, name).Scan(&body); err != nil {
			return nil, err
		}
		if !right(strings.TrimSpace(body)) {
			list = append(list, "function "+o.Schema+"."+name+" as this version has it")
		}
	}
	slices.Sort(list)
	return list, nil
}
