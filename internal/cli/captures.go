package cli

import (
	"context"
	"errors"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/source/postgres/changelog"
	sqlitesource "github.com/fraiseql/observer/source/sqlite"
)

// captures are the captured tables of one database.
type captures interface {
	// place is the database for people.
	place() string
	// add installs a capture and gives it as it was installed.
	add(ctx context.Context, capture captureView) (captureView, error)
	// addAll captures every table of a schema ("" is the usual one) as far as that
	// can be done without asking, with the tenant and the before-image of like.
	addAll(ctx context.Context, schema string, like captureView) (allAdded, error)
	list(ctx context.Context) ([]captureView, error)
	remove(ctx context.Context, table string) error
}

// captureView is a capture, asked for or as JSON shows it.
type captureView struct {
	Table   string   `json:"table"`
	Entity  string   `json:"entity"`
	Key     []string `json:"key"`
	Columns []string `json:"columns"`
	Tenant  string   `json:"tenant"`
	// BeforeImage: an UPDATE has the row as it was.
	BeforeImage bool     `json:"before_image"`
	Drift       []string `json:"drift"`
}

// allAdded is what became of the tables of a schema.
type allAdded struct {
	Added   []captureView  `json:"added"`
	Skipped []skippedTable `json:"skipped"`
}

type skippedTable struct {
	Table  string `json:"table"`
	Reason string `json:"reason"`
}

// shown keeps its lists lists in JSON.
func (v captureView) shown() captureView {
	for _, list := range []*[]string{&v.Key, &v.Columns, &v.Drift} {
		if *list == nil {
			*list = []string{}
		}
	}
	return v
}

// captures are those of the one database that the command line names.
func (c *cli) captures() (captures, error) {
	cfg, err := c.settings.one()
	if err != nil {
		return nil, err
	}
	return capturesOf(cfg.Databases[0], cfg.State.Schema), nil
}

func capturesOf(db config.Database, schema string) captures {
	if db.Kind() == config.SQLite {
		return sqliteCaptures(db.FilePath())
	}
	return &postgresCaptures{db: db, options: changelog.Options{Log: db.LogName(), Schema: schema}}
}

// sqliteCaptures are those of a SQLite file.
type sqliteCaptures string

func (path sqliteCaptures) place() string { return string(path) }

func (path sqliteCaptures) add(ctx context.Context, v captureView) (captureView, error) {
	added, err := sqlitesource.AddCapture(ctx, string(path), sqlitesource.Capture{
		Table: v.Table, Entity: v.Entity, Key: v.Key, Tenant: v.Tenant, Columns: v.Columns,
	})
	return viewSQLite(added, nil), err
}

func (path sqliteCaptures) addAll(context.Context, string, captureView) (allAdded, error) {
	return allAdded{}, usageError(errors.New("--all is for PostgreSQL: give --table and --entity"))
}

func (path sqliteCaptures) list(ctx context.Context) ([]captureView, error) {
	list, err := sqlitesource.ListCaptures(ctx, string(path))
	views := make([]captureView, len(list))
	for i, status := range list {
		views[i] = viewSQLite(status.Capture, status.Drift)
	}
	return views, err
}

func (path sqliteCaptures) remove(ctx context.Context, table string) error {
	return sqlitesource.RemoveCapture(ctx, string(path), table)
}

func viewSQLite(capture sqlitesource.Capture, drift []string) captureView {
	v := captureView{
		Table: capture.Table, Entity: capture.Entity, Key: capture.Key, Columns: capture.Columns, Tenant: capture.Tenant,
		BeforeImage: true, Drift: drift, // the triggers of SQLite always record it
	}
	if len(v.Key) == 0 {
		v.Key = []string{"rowid"}
	}
	return v.shown()
}
