package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/fraiseql/observer"
)

// maxBatchBytes ends a batch early, so that large images do not fill memory.
const maxBatchBytes = 8 << 20

// decoder reads rows and makes messages of them.
type decoder struct {
	source string
	log    *changeLog
	// reuse is room for the messages.
	reuse []observer.Message
}

// batch is what one query gave.
type batch struct {
	messages []observer.Message
	last     place
	// more: there were at least as many rows as asked for, or too many bytes.
	more bool
}

// selection says which rows to read.
type selection struct {
	// where is a condition with one parameter, a key.
	where string
	key   int64
	limit int
}

// query reads rows in commit order. q is one snapshot: the rows that cannot be
// understood are read a second time, whole.
func (d *decoder) query(ctx context.Context, q queryer, sel selection) (batch, error) {
	b := batch{messages: d.reuse}
	broken, err := d.scan(ctx, q, sel, &b)
	if err != nil {
		return batch{}, fmt.Errorf("read change log: %w", err)
	}
	for _, i := range broken {
		if err := d.addRaw(ctx, q, b.messages[i].Malformed); err != nil {
			return batch{}, fmt.Errorf("read change log: %w", err)
		}
	}
	return b, nil
}

// scan fills b and returns the indexes of the malformed messages.
func (d *decoder) scan(ctx context.Context, q queryer, sel selection, b *batch) (broken []int, err error) {
	rows, err := q.QueryContext(ctx, "SELECT "+d.log.eventColumns()+" FROM "+logTable+
		" WHERE "+sel.where+" ORDER BY pk_entity_change_log LIMIT ?", sel.key, sel.limit)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var r row
	dest := r.dest()
	size := 0
	for size < maxBatchBytes && rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		p := r.place(d.log.epoch)
		msg := d.decode(&r, p)
		if msg.Malformed != nil {
			broken = append(broken, len(b.messages))
		}
		b.messages, b.last = append(b.messages, msg), p
		size += r.size()
	}
	b.more = len(b.messages) == sel.limit || size >= maxBatchBytes
	return broken, rows.Err()
}

// addRaw completes a malformed message with the row as it stands in the log.
func (d *decoder) addRaw(ctx context.Context, q queryer, m *observer.Malformed) error {
	p, err := parsePosition(m.Position)
	if err != nil {
		return err
	}
	values := make([]any, len(d.log.columns))
	dest := make([]any, len(values))
	for i := range values {
		dest[i] = &values[i]
	}
	err = q.QueryRowContext(ctx, "SELECT "+d.log.rawColumns()+" FROM "+logTable+" WHERE pk_entity_change_log = ?", p.pk).Scan(dest...)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	d.finish(m, p.pk, rawRow(d.log.columns, values))
	return nil
}

func (d *decoder) finish(m *observer.Malformed, pk int64, raw json.RawMessage) {
	m.Raw = raw
	if m.ID == "" {
		m.ID = malformedID(d.source, pk, raw)
	}
}
