package middleware

import (
	"sync"
	"time"
)

// moment is how long an attempt may take before its lane counts as held up. A
// receiver on the other side of the world answers within it.
const moment = 250 * time.Millisecond

// Crowd bounds how many lanes wait for one endpoint while the others have their
// own work: a receiver that hangs would else hold all of them before the first
// attempt has outlasted its lane. It is safe for concurrent use.
type Crowd struct {
	limit int

	mu      sync.Mutex
	waiting map[string]*waiting
}

// waiting are the lanes that are held up by one endpoint.
type waiting struct {
	lanes int
	// crowded is closed when there are too many.
	crowded chan struct{}
	over    bool
}

// NewCrowd lets at most limit lanes wait for one endpoint for longer than a
// moment.
func NewCrowd(limit int) *Crowd { return &Crowd{limit: limit, waiting: map[string]*waiting{}} }

// linger notes that a lane is held up by endpoint until leave is called. crowded
// is closed when too many are; all of them should then go on.
func (c *Crowd) linger(endpoint string) (crowded <-chan struct{}, leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.waiting[endpoint]
	if w == nil {
		w = &waiting{crowded: make(chan struct{})}
		c.waiting[endpoint] = w
	}
	w.lanes++
	if w.lanes > c.limit && !w.over {
		w.over = true
		close(w.crowded)
	}
	return w.crowded, func() { c.leave(endpoint, w) }
}

func (c *Crowd) leave(endpoint string, w *waiting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.lanes--; w.lanes == 0 {
		delete(c.waiting, endpoint)
	}
}
