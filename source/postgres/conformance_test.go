package postgres_test

import (
	"context"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/sourcetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	sourcetest.Run(t, func(t *testing.T) sourcetest.Harness {
		t.Helper()
		d := newDatabase(t)
		return sourcetest.Harness{
			Source: func() observer.Source { return d.source() },
			Append: d.append,
			AppendMalformed: func(ctx context.Context) error {
				_, err := d.Exec(ctx, `INSERT INTO `+logTable+` (object_type, modification_type) VALUES ('Order', 'UPSERT')`)
				return err
			},
			Prune: func(ctx context.Context, upTo observer.Position) error {
				_, err := d.source().Prune(ctx, upTo, farFuture())
				return err
			},
			BatchSize: 50,
		}
	})
}
