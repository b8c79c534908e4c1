package delivery

import "sync"

// places are what a worker runs at once, shared out over queues and endpoints.
type places struct {
	total int
	// share is how many of them one endpoint may hold.
	share int
	// limits are how many each queue may hold; others have no limit of their own.
	limits map[string]int

	mu         sync.Mutex
	taken      int
	byQueue    map[string]int
	byEndpoint map[string]int
	// short is what there was too little of since the last look.
	short shortage
}

// shortage says for whose end somebody waits.
type shortage struct {
	all               bool
	queues, endpoints map[string]bool
}

func newPlaces(total int, limits map[string]int) *places {
	share := total * 3 / 4
	if total < 4 {
		share = total
	}
	return &places{
		total: total, share: share, limits: limits,
		byQueue: map[string]int{}, byEndpoint: map[string]int{}, short: newShortage(),
	}
}

func newShortage() shortage {
	return shortage{queues: map[string]bool{}, endpoints: map[string]bool{}}
}

// look begins a look for work: whatever is too little is noted from now on.
func (p *places) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.short = newShortage()
}

// free is how many places are free.
func (p *places) free() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.short.all = p.short.all || p.taken >= p.total
	return max(p.total-p.taken, 0)
}

// left is how many more deliveries of a queue may run.
func (p *places) left(queue string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leftOf(queue)
}

func (p *places) leftOf(queue string) int {
	limit, limited := p.limits[queue]
	if !limited {
		return p.total
	}
	left := max(limit-p.byQueue[queue], 0)
	p.short.queues[queue] = p.short.queues[queue] || left == 0
	return left
}

// room is how many more deliveries of a queue to an endpoint may run.
// allowance says how many more the endpoint's health allows, given how many run.
func (p *places) room(queue, endpoint string, allowance func(running int) int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.roomOf(queue, endpoint, allowance)
}

func (p *places) roomOf(queue, endpoint string, allowance func(running int) int) int {
	running := p.byEndpoint[endpoint]
	fair := max(min(p.share-running, allowance(running)), 0)
	if fair == 0 {
		p.short.endpoints[endpoint] = true
	}
	return min(fair, p.leftOf(queue))
}

// take takes a place if there is still room.
func (p *places) take(queue, endpoint string, allowance func(running int) int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken >= p.total || p.roomOf(queue, endpoint, allowance) == 0 {
		return false
	}
	p.taken++
	p.byQueue[queue]++
	p.byEndpoint[endpoint]++
	return true
}

// give gives a place back, and reports whether somebody waits for it.
func (p *places) give(queue, endpoint string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	decrement(p.byQueue, queue)
	decrement(p.byEndpoint, endpoint)
	return p.short.all || p.short.queues[queue] || p.short.endpoints[endpoint]
}

func decrement(counts map[string]int, name string) {
	if counts[name]--; counts[name] == 0 {
		delete(counts, name)
	}
}

// limited reports whether a queue has a limit of its own.
func (p *places) limited(queue string) bool {
	_, limited := p.limits[queue]
	return limited
}
