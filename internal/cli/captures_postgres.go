package cli

import (
	"context"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/source/postgres/capture"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

// postgresCaptures are those of a PostgreSQL database.
type postgresCaptures struct {
	db      config.Database
	options changelog.Options
}

func (p *postgresCaptures) place() string { return p.db.Place() }

func (p *postgresCaptures) add(ctx context.Context, v captureView) (captureView, error) {
	added, err := capture.Add(ctx, p.db.URL.Reveal(), capture.Capture{
		Table: v.Table, Entity: v.Entity, Key: v.Key, Tenant: v.Tenant, BeforeImage: v.BeforeImage, Columns: v.Columns,
		Options: p.options,
	})
	return viewPostgres(added, nil), plainly(p.place(), err)
}

func (p *postgresCaptures) addAll(ctx context.Context, schema string, like captureView) (allAdded, error) {
	added, skipped, err := capture.AddAll(ctx, p.db.URL.Reveal(), capture.All{
		Schema: schema, Tenant: like.Tenant, BeforeImage: like.BeforeImage, Options: p.options,
	})
	all := allAdded{Added: []captureView{}, Skipped: []skippedTable{}}
	for _, c := range added {
		all.Added = append(all.Added, viewPostgres(c, nil))
	}
	for _, s := range skipped {
		all.Skipped = append(all.Skipped, skippedTable(s))
	}
	return all, plainly(p.place(), err)
}

func (p *postgresCaptures) list(ctx context.Context) ([]captureView, error) {
	list, err := capture.List(ctx, p.db.URL.Reveal(), p.options)
	views := make([]captureView, len(list))
	for i, status := range list {
		views[i] = viewPostgres(status.Capture, status.Drift)
	}
	return views, plainly(p.place(), err)
}

func (p *postgresCaptures) remove(ctx context.Context, table string) error {
	return plainly(p.place(), capture.Remove(ctx, p.db.URL.Reveal(), table, p.options))
}

func viewPostgres(c capture.Capture, drift []string) captureView {
	return captureView{
		Table: c.Table, Entity: c.Entity, Key: c.Key, Columns: c.Columns, Tenant: c.Tenant, BeforeImage: c.BeforeImage, Drift: drift,
	}.shown()
}
