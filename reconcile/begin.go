package reconcile

import (
	"context"
	"errors"
	"fmt"

	"github.com/fraiseql/observer"
)

// Begin makes sure that there is a checkpoint for the relay of a verifier, under
// the name of its source. One that never ran begins where the bridge is, whose
// checkpoint is named too: receipts of what was published earlier may not exist.
// It is called with the lease of both, before the bridge publishes anything.
func Begin(ctx context.Context, store observer.CheckpointStore, name, bridge string, lease observer.Lease) error {
	_, err := store.LoadCheckpoint(ctx, name)
	if err == nil {
		return nil
	}
	var from observer.Checkpoint
	if errors.Is(err, observer.ErrNotFound) {
		from, err = store.LoadCheckpoint(ctx, bridge)
	}
	if err != nil && !errors.Is(err, observer.ErrNotFound) {
		return fmt.Errorf("find where to begin: %w", err)
	}
	from.Lease, from.Term = lease.Name, lease.Term
	if err := store.SaveCheckpoint(ctx, name, from); err != nil {
		return fmt.Errorf("save where to begin: %w", err)
	}
	return nil
}
