package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	sqlitestore "github.com/fraiseql/observer/store/sqlite"
)

// errNoState: no daemon has run with this configuration yet.
var errNoState = errors.New("no state yet")

// readState opens the state store for looking at it; errNoState when it was
// never made.
func readState(ctx context.Context, cfg *config.Config) (*sqlitestore.Store, error) {
	return openState(ctx, cfg, true)
}

// writeState opens the state store for changing it. It never makes one.
func writeState(ctx context.Context, cfg *config.Config) (*sqlitestore.Store, error) {
	look, err := openState(ctx, cfg, true)
	if err != nil {
		return nil, err
	}
	if err := look.Close(); err != nil {
		return nil, connectionError(err)
	}
	return openState(ctx, cfg, false)
}

func openState(ctx context.Context, cfg *config.Config, readOnly bool) (*sqlitestore.Store, error) {
	path := cfg.State.FilePath()
	store, err := sqlitestore.Open(ctx, sqlitestore.Config{Path: path, MaxDead: cfg.DeadLetters.MaxItems, ReadOnly: readOnly})
	if errors.Is(err, observer.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s is not there; `%s run` makes it", errNoState, path, program)
	}
	if err != nil {
		return nil, connectionError(err)
	}
	return store, nil
}

// notFound is the error for a dead letter that is not there, also when nothing
// is there at all.
func notFound(key string, err error) error {
	switch {
	case errors.Is(err, errNoState):
		return &codedError{code: exitNotFound, err: fmt.Errorf("no dead letter %q: %w", key, err)}
	case errors.Is(err, observer.ErrNotFound):
		return &codedError{code: exitNotFound, err: fmt.Errorf("no dead letter %q: list them with `%s dlq list`", key, program)}
	case errors.Is(err, observer.ErrBusy):
		return fmt.Errorf("%s is being run by another process: look again when that has ended", key)
	}
	return err
}
