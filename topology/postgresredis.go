package topology

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/fraiseql/observer/config"
)

// PostgresRedis is [PostgresOnly] with Redis in front of the state store.
func PostgresRedis(ctx context.Context, cfg *config.Config, logger *slog.Logger) (*Topology, error) {
	if !cfg.Redis.Configured() {
		return nil, fmt.Errorf("this topology has Redis, and %s has none: write [redis] with a url, or use PostgresOnly", cfg.Path)
	}
	return PostgresOnly(ctx, cfg, logger)
}
