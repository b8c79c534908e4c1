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
	_, ok, err := Verified(ctx, store, name)
	if ok || err != nil {
		return err
	}
	from, err := store.LoadCheckpoint(ctx, bridge)
	if err != nil && !errors.Is(err, observer.ErrNotFound) {
		return fmt.Errorf("find where to begin: %w", err)
	}
	from.Lease, from.Term = lease.Name, lease.Term
	if err := store.SaveCheckpoint(ctx, name, from); err != nil {
		return fmt.Errorf("save where to begin: %w", err)
	}
	return nil
}

// retired stands in the checkpoint of a verifier that does not run any more: what
// was handled since has no receipts.
const retired = "retired"

// Verified gives the checkpoint of a verifier. ok is false when there is none, or
// when it was retired.
func Verified(ctx context.Context, store observer.CheckpointStore, name string) (cp observer.Checkpoint, ok bool, err error) {
	cp, err = store.LoadCheckpoint(ctx, name)
	if errors.Is(err, observer.ErrNotFound) {
		return cp, false, nil
	}
	if err != nil {
		return cp, false, fmt.Errorf("find out what is verified: %w", err)
	}
	return cp, len(cp.Done) != 1 || cp.Done[0] != retired || cp.Position != "", nil
}

// Retire has the next verifier begin anew, where the bridge is then. It is called,
// with the lease, by who reads the log and has nothing verified.
func Retire(ctx context.Context, store observer.CheckpointStore, name string, lease observer.Lease) error {
	_, ok, err := Verified(ctx, store, name)
	if !ok || err != nil {
		return err
	}
	cp := observer.Checkpoint{Done: []string{retired}, Lease: lease.Name, Term: lease.Term}
	if err := store.SaveCheckpoint(ctx, name, cp); err != nil {
		return fmt.Errorf("end the verifying: %w", err)
	}
	return nil
}
