package sqlite_test

import (
	"context"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/sourcetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	sourcetest.Run(t, func(t *testing.T) sourcetest.Harness {
		t.Helper()
		d := migrated(t)
		return sourcetest.Harness{
			Source: func() observer.Source { return d.source() },
			Append: d.append,
			AppendMalformed: func(ctx context.Context) error {
				_, err := d.ExecContext(ctx, `INSERT INTO tb_entity_change_log (object_type, modification_type) VALUES ('Order', 'UPSERT')`)
				return err
			},
			Prune: func(ctx context.Context, upTo observer.Position) error {
				_, err := d.source().Prune(ctx, upTo, time.Now().Add(24*365*time.Hour))
				return err
			},
			BatchSize: 50,
		}
	})
}
