package delivery

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/fraiseql/observer"
)

const (
	// importBatch is how many lines are stored at once.
	importBatch = 100
	// maxLost bounds the attempts that are made of the claims a line calls lost.
	maxLost = 1000
)

// Export writes the selected deliveries as JSON lines, oldest first, and gives
// their number. A filter without a state selects dead letters. Nothing of a
// delivery is lost on the way to [Import], also where it holds bytes that JSON
// cannot.
func Export(ctx context.Context, store observer.DeliveryStore, filter observer.DeliveryFilter, w io.Writer) (int, error) {
	if filter.State == "" {
		filter.State = observer.Dead
	}
	buffered, n := bufio.NewWriter(w), 0
	lines := json.NewEncoder(buffered)
	lines.SetEscapeHTML(false)
	err := each(ctx, store, filter, func(d *observer.Delivery) error {
		if err := lines.Encode(recordOf(d)); err != nil {
			return fmt.Errorf("write delivery %s: %w", d.Key, err)
		}
		n++
		return nil
	})
	return n, errors.Join(err, buffered.Flush())
}

// ImportResult counts what became of the lines.
type ImportResult struct {
	// Stored were new, Skipped were there already.
	Stored, Skipped int
	// Bad are the lines that were not understood.
	Bad []BadLine
}

// BadLine is a line that was not imported.
type BadLine struct {
	// Line counts from 1.
	Line int
	// Err says what is wrong with it.
	Err error
}

// Import stores what [Export] wrote. A delivery whose key is there already is
// left as it is, so importing twice is the same as importing once. Lines that
// are not understood are reported, and the others imported. When and by whom a
// delivery was stored or claimed begins anew. Its error ends it: the
// store failed or is full, and the result says what was stored before that.
func Import(ctx context.Context, store observer.DeliveryStore, r io.Reader) (ImportResult, error) {
	var result ImportResult
	var batch []*observer.Delivery
	lines := bufio.NewReader(r)
	for n, more := 1, true; more; n++ {
		line, err := lines.ReadBytes('\n')
		if more = err == nil; !more && !errors.Is(err, io.EOF) {
			return result, fmt.Errorf("read line %d: %w", n, err)
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if d, err := parse(line); err != nil {
				result.Bad = append(result.Bad, BadLine{n, err})
			} else {
				batch = append(batch, d)
			}
		}
		if len(batch) == importBatch || !more {
			if err := result.store(ctx, store, batch); err != nil {
				return result, fmt.Errorf("store the deliveries up to line %d: %w", n, err)
			}
			batch = batch[:0]
		}
	}
	return result, nil
}

// store stores a batch. In a store that has no room for all of it, it stores
// what there is room for.
func (r *ImportResult) store(ctx context.Context, store observer.DeliveryStore, batch []*observer.Delivery) error {
	if len(batch) == 0 {
		return nil
	}
	n, err := store.InsertDeliveries(ctx, batch...)
	if err == nil {
		r.Stored, r.Skipped = r.Stored+n, r.Skipped+len(batch)-n
		return nil
	}
	if !errors.Is(err, observer.ErrFull) || len(batch) == 1 {
		return err
	}
	for d := range slices.Chunk(batch, 1) {
		if err := r.store(ctx, store, d); err != nil {
			return err
		}
	}
	return nil
}

// parse reads a line into a delivery that can be stored.
func parse(line []byte) (*observer.Delivery, error) {
	var r record
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("it is not a line of an export: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one value in it")
	}
	d := r.delivery()
	if err := valid(d); err != nil {
		return nil, err
	}
	return d, storable(d)
}

// valid reports what is missing for the delivery to mean anything.
func valid(d *observer.Delivery) error {
	switch {
	case d.Key == "":
		return errors.New("its key is missing")
	case (d.Event == nil) == (d.Malformed == nil):
		return errors.New("it needs either an event or a malformed entry")
	case d.Lost < 0 || d.Lost > maxLost:
		return fmt.Errorf("its number of lost claims is %d, want 0 to %d", d.Lost, maxLost)
	case d.Malformed != nil:
		return nil
	case d.Event.ID == "":
		return errors.New("its event has no id")
	case !slices.Contains(observer.Operations(), d.Event.Operation):
		return fmt.Errorf("its event_type is %q, want one of %q", d.Event.Operation, observer.Operations())
	}
	if want := observer.DeliveryKey(d.Event.ID, d.Observer, d.Action); d.Key != want {
		return fmt.Errorf("its key is %q, want %q: event, observer and action", d.Key, want)
	}
	return nil
}

// storable makes d what a store takes: without a claim, which nobody holds here.
func storable(d *observer.Delivery) error {
	if d.State == observer.Running {
		d.State = d.ClaimedFrom
		d.Lost, d.LostAt = d.Lost+1, d.ClaimedAt // how that claim ended is not known here
	}
	recordLost(d)
	release(d)
	switch d.State {
	case observer.Parked:
		d.State = observer.Queued // the store parks it if it has to wait
	case observer.Queued, observer.Scheduled, observer.Unknown, observer.Dead:
	default:
		return fmt.Errorf("its state is %q: only unfinished and dead deliveries are imported", d.State)
	}
	return nil
}
