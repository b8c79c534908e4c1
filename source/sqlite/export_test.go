package sqlite

import (
	"context"
	"errors"

	"github.com/fraiseql/observer"
)

// Migrate makes the change log in the database file at path, without a capture.
func Migrate(ctx context.Context, path string) (err error) {
	db, err := open(ctx, path, writing)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return migrate(ctx, db)
}

// Unwatch takes a stream's wake-ups away, as where a file cannot be watched.
func Unwatch(s observer.Stream) {
	st := s.(*stream)
	_ = st.wake.close()
	st.wake = nil
}

// Vain is how many looks of a stream found nothing. It may be asked while the
// stream waits.
func Vain(s observer.Stream) int64 { return s.(*stream).vain.Load() }

// Rest ends the quick looks that follow what was found.
func Rest(s observer.Stream) { s.(*stream).pace.step = 0 }

// Buffered is how many messages a stream has read ahead.
func Buffered(s observer.Stream) int { st := s.(*stream); return len(st.buf) - st.next }

// DecodeRow decodes a row of the given id, type, verb, time, key and images.
// Each bit of classes makes one of the first seven values a blob, or NULL where
// it is empty; the eighth makes the envelope reals.
func DecodeRow(pk int64, texts [7]string, classes uint8) observer.Message {
	values := make([]any, 7)
	for i, text := range texts {
		values[i] = text
		if classes>>i&1 == 1 {
			if values[i] = []byte(text); text == "" {
				values[i] = nil
			}
		}
	}
	r := row{
		pk: pk, id: values[0], objectType: values[1], modification: values[2], createdAt: values[3],
		objectID: values[4], data: values[5], before: values[6], tenantID: texts[0], seq: pk, durationMS: texts[3], extraMD: texts[5],
	}
	if classes>>7 == 1 {
		r.seq, r.durationMS, r.fkContact = float64(pk)/3, float64(pk), float64(pk)
	}
	d := decoder{source: "s", log: &changeLog{epoch: "e"}}
	m := d.decode(&r, r.place("e"))
	if m.Malformed != nil {
		d.finish(m.Malformed, pk, rawRow([]string{"id", "object_data"}, []any{r.id, r.data}))
	}
	return m
}
