package topology

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/fraiseql/observer/config"
)

// PostgresOnly is [Build] for the smallest system: one PostgreSQL database, its
// state in PostgreSQL, one process. Any other configuration is refused.
func PostgresOnly(ctx context.Context, cfg *config.Config, logger *slog.Logger) (*Topology, error) {
	switch {
	case len(cfg.Databases) != 1:
		return nil, fmt.Errorf("this topology has one PostgreSQL database, and %s has %d databases: use Build", cfg.Path, len(cfg.Databases))
	case cfg.Databases[0].Kind() != config.Postgres:
		return nil, fmt.Errorf("this topology has a PostgreSQL database, and database %s is %s: use Build", cfg.Databases[0].Name, cfg.Databases[0].Kind())
	case cfg.State.Kind() != config.Postgres:
		return nil, fmt.Errorf("this topology keeps its state in PostgreSQL, and [state] url of %s is %s: use Build", cfg.Path, cfg.State.Kind())
	}
	return Build(ctx, cfg, logger)
}
