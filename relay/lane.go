package relay

import "sync"

// lane is the queue of one goroutine. Adding never blocks: the window bounds
// what waits in all lanes together, so none needs a bound, or room, of its own.
type lane struct {
	mu     sync.Mutex
	filled sync.Cond
	queue  []item
	closed bool
}

func newLane() *lane {
	l := &lane{}
	l.filled.L = &l.mu
	return l
}

func (l *lane) add(it item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, it)
	if len(l.queue) == 1 {
		l.filled.Signal()
	}
}

// close ends the lane after what is in it.
func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.filled.Signal()
}

// keptRoom is the most room that an empty queue holds on to, in items.
const keptRoom = 1024

// take waits for items and gives all there are; none means that the lane ended.
// The items to come use the room of the cleared ones in used.
func (l *lane) take(used []item) []item {
	if cap(used) > keptRoom {
		used = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.filled.Wait()
	}
	taken := l.queue
	l.queue = used[:0]
	return taken
}
