package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

const logTable = "core.tb_entity_change_log"

// database is a user's database with an empty change log.
type database struct {
	*pgxpool.Pool

	url string
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	return migrated(t, testenv.Database(t))
}

func migrated(t testing.TB, url string) *database {
	t.Helper()
	if err := changelog.Migrate(t.Context(), url, changelog.Options{}); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &database{Pool: pool, url: url}
}

func (d *database) source() *postgres.Source {
	return postgres.New(postgres.Config{Name: "shop", URL: observer.NewSecret(d.url), BatchSize: 50})
}

func (d *database) must(t testing.TB, statement string, args ...any) {
	t.Helper()
	if _, err := d.Exec(t.Context(), statement, args...); err != nil {
		t.Fatalf("%.200s: %v", statement, err)
	}
}

var errRollback = errors.New("roll back")

// append writes events into the log as an application does by hand.
func (d *database) append(ctx context.Context, commit bool, events ...*observer.Event) error {
	err := pgx.BeginFunc(ctx, d, func(tx pgx.Tx) error {
		for _, e := range events {
			_, err := tx.Exec(ctx, `INSERT INTO `+logTable+`
 (id, object_type, modification_type, entity_key, object_data, object_data_before, created_at)
 VALUES ($1, $2, $3, nullif($4, ''), $5, $6, $7)`,
				e.ID, e.EntityType, string(e.Operation), e.EntityID, nullable(e.Data), nullable(e.Before), e.Timestamp)
			if err != nil {
				return err
			}
		}
		if !commit {
			return errRollback
		}
		return nil
	})
	if errors.Is(err, errRollback) {
		return nil
	}
	return err
}

func nullable(raw []byte) any {
	if raw == nil {
		return nil
	}
	return string(raw)
}

func farFuture() time.Time { return time.Now().Add(24 * 365 * time.Hour) }
