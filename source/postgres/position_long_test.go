package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fraiseql/observer"
)

// With very many holes the rows of a batch share a position that begins before
// them: none of them is behind it, and only the last row has one of its own.
func TestManyHolesShareAPosition(t *testing.T) {
	t.Parallel()
	s := &stream{Source: New(Config{Name: "shop"}), log: &table{}, place: place{epoch: "e"}}
	for pk := int64(2); pk <= 20_000; pk += 2 {
		s.place.gaps.see(pk, &owners{})
	}
	before := s.place.position()
	s.exact = before
	rows := []row{rowAt(9_999), rowAt(20_002), rowAt(20_004), rowAt(20_006)} // the first from a hole
	if err := s.take(t.Context(), rows, &owners{}); err != nil {
		t.Fatal(err)
	}
	for i, m := range s.buf[:3] {
		if m.Position != before {
			t.Errorf("row %d has a position of its own", i)
		}
	}
	last, err := parsePosition(s.buf[3].Position)
	if err != nil {
		t.Fatal(err)
	}
	if _, open := last.gaps.find(9_999); open || last.gaps.high != 20_006 || len(last.gaps.holes) != 10_002 {
		t.Errorf("the last position is at %d with %d holes, 9999 open %t", last.gaps.high, len(last.gaps.holes), open)
	}
}

func rowAt(pk int64) row {
	text := func(s string) pgtype.Text { return pgtype.Text{String: s, Valid: true} }
	return row{
		pk: pk, id: text("00000000-0000-4000-8000-000000000001"), objectType: text("Order"), modification: text(string(observer.Insert)),
		entityKey: text("1"), createdAt: pgtype.Timestamptz{Valid: true}, checked: true,
	}
}
