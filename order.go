package observer

import "strconv"

// Order says what may overtake what among the deliveries of one entity for one
// observer.
type Order string

// The choices, as users write them in order.
const (
	// OrderNone promises nothing.
	OrderNone Order = "none"
	// OrderEntity promises that the first attempts begin in commit order; a
	// retry may come after later changes.
	OrderEntity Order = "entity"
	// OrderStrict promises that nothing is sent while an earlier one is
	// unfinished.
	OrderStrict Order = "strict"
)

// Lane names the deliveries among which d keeps its order: those of its
// observer for its entity. It is "" when d keeps none.
func (d *Delivery) Lane() string {
	if d.Event == nil || d.Order == OrderNone || d.Order == "" {
		return ""
	}
	// No observer's name has a slash, and one inside the entity's type is
	// escaped by its length.
	return d.Observer + "/" + strconv.Itoa(len(d.Event.EntityType)) + "/" + d.Event.EntityType + "/" + d.Event.EntityID
}

// Blocks reports whether a stored delivery keeps those of later events in its
// lane from being sent. Parked ones do: those behind them wait for the same and
// for them.
func (d *Delivery) Blocks() bool {
	switch d.Order {
	case OrderStrict:
		return !d.State.Finished() || d.State == Dead && d.BlockWhenDead
	case OrderEntity:
		return d.State == Parked || d.State == Queued && len(d.Attempts) == 0
	case OrderNone:
	}
	return false
}
