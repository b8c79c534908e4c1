package app

import (
	"context"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/source/postgres/capture"
	"github.com/fraiseql/observer/source/postgres/changelog"
	"github.com/fraiseql/observer/source/sqlite"
	"github.com/fraiseql/observer/topology"
)

// drift is in what a captured table differs from its capture.
type drift struct {
	table string
	what  []string
}

// warnOfDrift says which tables changed since their capture was installed: what
// the triggers do not know is missing from every event.
func (a *App) warnOfDrift(ctx context.Context, db topology.Database) {
	tables, err := a.drifts(ctx, db.Config)
	if err != nil {
		a.logger.Warn("captured tables cannot be checked", "source", db.Config.Name, "error", err)
		return
	}
	for _, t := range tables {
		for _, what := range t.what {
			a.logger.Warn("captured table changed; run capture add for it again", "source", db.Config.Name, "table", t.table, "drift", what)
		}
	}
}

func (a *App) drifts(ctx context.Context, db config.Database) (tables []drift, err error) {
	if db.Kind() == config.Postgres {
		options := changelog.Options{Log: db.LogName(), Schema: a.opts.Config.State.Schema}
		list, err := capture.List(ctx, db.URL.Reveal(), options)
		for _, c := range list {
			tables = append(tables, drift{c.Table, c.Drift})
		}
		return tables, err
	}
	list, err := sqlite.ListCaptures(ctx, db.FilePath())
	for _, c := range list {
		tables = append(tables, drift{c.Table, c.Drift})
	}
	return tables, err
}

// warnOfJournal says when reading the log can fail a write of the application.
func (a *App) warnOfJournal(ctx context.Context, db topology.Database) {
	if db.Config.Kind() != config.SQLite {
		return
	}
	mode, err := sqlite.JournalMode(ctx, db.Config.FilePath())
	if err == nil && mode != "wal" {
		a.logger.Warn("this database is not in WAL mode: readers and writers lock each other out for moments; "+
			"run PRAGMA journal_mode=WAL once, or set a busy timeout in the application", "source", db.Config.Name, "journal_mode", mode)
	}
}
