package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/topology"
)

// errNoState: no daemon has run with this configuration yet.
var errNoState = errors.New("no state yet")

// reading calls f, which only reads it, with the state store.
func (c *cli) reading(ctx context.Context, f func(store observer.StateStore) error) error {
	return c.withState(ctx, readState, func(store observer.StateStore) error {
		err := f(store)
		if codeOf(err) == exitError {
			return connectionError(err)
		}
		return err
	})
}

// withState calls f with the state store that open gives.
func (c *cli) withState(ctx context.Context, open openState, f func(store observer.StateStore) error) (err error) {
	c.settings.optional = !c.settings.required
	cfg, err := c.settings.loadAll()
	if err != nil {
		return err
	}
	store, err := open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return f(store)
}

// openState is readState or writeState.
type openState func(ctx context.Context, cfg *config.Config) (observer.StateStore, error)

// readState opens the state store for looking at it; errNoState when it was
// never made.
func readState(ctx context.Context, cfg *config.Config) (observer.StateStore, error) {
	return openStore(ctx, cfg, true)
}

// writeState opens the state store for changing it. It never makes one.
func writeState(ctx context.Context, cfg *config.Config) (observer.StateStore, error) {
	look, err := openStore(ctx, cfg, true)
	if err != nil {
		return nil, err
	}
	if err := look.Close(); err != nil {
		return nil, connectionError(err)
	}
	return openStore(ctx, cfg, false)
}

func openStore(ctx context.Context, cfg *config.Config, readOnly bool) (observer.StateStore, error) {
	store, err := topology.OpenStore(ctx, cfg, readOnly)
	if errors.Is(err, observer.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s is not there; `%s run` makes it", errNoState, cfg.State.Place(), program)
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
