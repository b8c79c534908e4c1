package relay

import (
	"context"
	"sync"

	"github.com/fraiseql/observer"
)

// receipts are those that nobody was told of yet.
type receipts struct {
	mu   sync.Mutex
	list []Receipt
}

func (r *receipts) add(msg *observer.Message) {
	if msg.ID() == "" {
		return // it is no entry, and says only how far the log was passed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, Receipt{ID: msg.ID(), Origin: msg.Origin})
}

// tell hands over what there is; what is refused is handed over again.
func (r *receipts) tell(ctx context.Context, to func(context.Context, []Receipt) error) error {
	list := r.take()
	if to == nil || len(list) == 0 {
		return nil
	}
	err := to(ctx, list)
	if err != nil {
		r.giveBack(list)
	}
	return err
}

func (r *receipts) take() []Receipt {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.list
	r.list = nil
	return list
}

func (r *receipts) giveBack(list []Receipt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(list, r.list...)
}
