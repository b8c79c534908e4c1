package postgres

import "github.com/jackc/pgx/v5/pgtype"

// What stores rows stores many of them in one statement, which takes a column of
// all rows as one parameter: $2 is that of key, $32 that of error_print.
const (
	rowColumns = `key, full_key, state, observer, action, action_type, reason, run_at, error, attempts,
    request, event, malformed, data, before, queue, endpoint, priority, full_queue, full_endpoint,
    ordering, block_when_dead, lane, blocks, event_id, entity_type, entity_id, prints, redrives, edited_at, error_print`

	rowArrays = `$2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::text[], $8::text[], $9::timestamptz[], $10::text[], $11::text[],
    $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::integer[], $20::text[], $21::text[],
    $22::text[], $23::boolean[], $24::text[], $25::boolean[], $26::text[], $27::text[], $28::text[], $29::text[], $30::integer[], $31::timestamptz[], $32::text[]`
)

// arrays are the parameters from $2 on.
func arrays(rows []*row) []any {
	text := func(get func(*row) string) []string { return columnOf(rows, get) }
	maybe := func(get func(*row) *string) []*string { return columnOf(rows, get) }
	number := func(get func(*row) int32) []int32 { return columnOf(rows, get) }
	at := func(get func(*row) pgtype.Timestamptz) []pgtype.Timestamptz { return columnOf(rows, get) }
	is := func(get func(*row) bool) []bool { return columnOf(rows, get) }
	return []any{
		text(func(r *row) string { return r.key }), maybe(func(r *row) *string { return r.fullKey }),
		text(func(r *row) string { return r.state }), text(func(r *row) string { return r.observer }),
		number(func(r *row) int32 { return r.action }), text(func(r *row) string { return r.actionType }),
		text(func(r *row) string { return r.reason }), at(func(r *row) pgtype.Timestamptz { return r.runAt }),
		text(func(r *row) string { return r.err }), text(func(r *row) string { return r.Attempts }),

		maybe(func(r *row) *string { return r.Request }), maybe(func(r *row) *string { return r.Event }),
		maybe(func(r *row) *string { return r.Malformed }), maybe(func(r *row) *string { return r.Data }),
		maybe(func(r *row) *string { return r.Before }),
		text(func(r *row) string { return r.band.queue }), text(func(r *row) string { return r.band.endpoint }),
		number(func(r *row) int32 { return r.band.priority }),
		maybe(func(r *row) *string { return r.fullQueue }), maybe(func(r *row) *string { return r.fullEndpoint }),

		text(func(r *row) string { return r.ordering }), is(func(r *row) bool { return r.blockWhenDead }),
		text(func(r *row) string { return r.lane }), is(func(r *row) bool { return r.blocks }),
		text(func(r *row) string { return r.eventID }), text(func(r *row) string { return r.entityType }),
		text(func(r *row) string { return r.entityID }), maybe(func(r *row) *string { return r.Prints }),
		number(func(r *row) int32 { return r.redrives }), at(func(r *row) pgtype.Timestamptz { return r.editedAt }),
		text(func(r *row) string { return r.errorPrint }),
	}
}

func columnOf[R, T any](rows []R, get func(R) T) []T {
	column := make([]T, len(rows))
	for i, r := range rows {
		column[i] = get(r)
	}
	return column
}
