package topology

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	postgressource "github.com/fraiseql/observer/source/postgres"
	sqlitesource "github.com/fraiseql/observer/source/sqlite"
	postgresstore "github.com/fraiseql/observer/store/postgres"
	sqlitestore "github.com/fraiseql/observer/store/sqlite"
)

// Source is the change log of a database, with what a daemon and its commands
// ask of one besides reading it. Its methods may be called concurrently.
type Source interface {
	observer.Source
	observer.Refetcher
	// Head is the position of now: reading after it gives what is committed
	// later. It fails where the log cannot be read.
	Head(ctx context.Context) (observer.Position, error)
	// Backlog counts the rows after a position and says when the first of them
	// was recorded (the zero time when there is none).
	Backlog(ctx context.Context, after observer.Position) (rows int64, oldest time.Time, err error)
	// Prune removes the rows up to a checkpoint that were recorded before a time,
	// and says how many.
	Prune(ctx context.Context, upTo observer.Position, olderThan time.Time) (deleted int64, err error)
}

// Database is one observed database.
type Database struct {
	Config config.Database
	Source Source

	checkpoint string // the name of its checkpoint
}

// Rewound is told when a source has to go back in its log, so that changes may
// come again; why is for people.
type Rewound func(ctx context.Context, why string)

// NewSource makes the source of a database. It does not connect. A nil rewound
// leaves it at a line in the log; logger is required.
func NewSource(db config.Database, rewound Rewound, logger *slog.Logger) Source {
	if db.Kind() == config.Postgres {
		return postgressource.New(postgressource.Config{
			Name: db.Name, URL: db.URL, Log: db.LogName(),
			PollInterval: db.PollInterval, BatchSize: db.BatchSize, Rewound: rewound, Logger: logger,
		})
	}
	return sqlitesource.New(sqlitesource.Config{
		Name: db.Name, Path: db.FilePath(), PollInterval: db.PollInterval, BatchSize: db.BatchSize, Logger: logger,
	})
}

// OpenStore opens the state store of a configuration. A store that is not there
// is made, unless readOnly: then it is an error that matches
// [observer.ErrNotFound].
func OpenStore(ctx context.Context, cfg *config.Config, readOnly bool) (observer.StateStore, error) {
	if cfg.State.Kind() == config.Postgres {
		store, err := postgresstore.Open(ctx, postgresstore.Config{
			URL: cfg.State.URL, Schema: cfg.State.Schema, MaxDead: cfg.DeadLetters.MaxItems, ReadOnly: readOnly,
		})
		if err != nil {
			return nil, err // not store, which would be a nil pointer in an interface
		}
		return store, nil
	}
	store, err := sqlitestore.Open(ctx, sqlitestore.Config{
		Path: cfg.State.FilePath(), MaxDead: cfg.DeadLetters.MaxItems, ReadOnly: readOnly,
	})
	if err != nil {
		return nil, err
	}
	return store, nil
}

// The reasons in alerts that are not about a dead letter.
const (
	reasonRewound observer.Reason = "rewound"
	reasonPaused  observer.Reason = "endpoint_paused"
	// reasonStreamBroken: the stream does not continue what was read of it.
	reasonStreamBroken observer.Reason = "stream_broken"
	// reasonMissing: events that were published were never handled.
	reasonMissing observer.Reason = "missing"
)

// rewound raises the alert of the [alert] section, if there is one. The source
// has logged it.
func (t *Topology) rewound(name string) Rewound {
	return func(ctx context.Context, why string) { t.alert(ctx, reasonRewound, "database "+name, why) }
}

// paused raises the same alert about an endpoint to which nothing is sent any
// more.
func (t *Topology) paused(ctx context.Context, e observer.Endpoint) {
	t.alert(ctx, reasonPaused, e.Name, e.LastError)
}

func (t *Topology) alert(ctx context.Context, reason observer.Reason, about, why string) {
	set := t.actions.Load()
	if set == nil || set.alert == nil {
		return
	}
	set.alert.Raise(ctx, &observer.Delivery{
		// No dead letter has this key, and each time is one of its own.
		Key:      string(reason) + "/" + about + "/" + strconv.FormatInt(time.Now().UnixMilli(), 10),
		Observer: about, Reason: reason, Error: why,
	})
}
