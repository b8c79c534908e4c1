package delivery

import (
	"sync"
	"time"
)

// doubts are the claims of which it is not known whether the store has them,
// because its answer was lost. Who has one asks again, and so renews it; one that
// is not renewed for the time of a lease is given up. Its zero value is ready.
type doubts struct {
	mu     sync.Mutex
	claims map[string]doubt
}

type doubt struct {
	owner string
	until time.Time
}

// add notes a doubt until a time, or renews it.
func (s *doubts) add(key, owner string, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claims == nil {
		s.claims = map[string]doubt{}
	}
	s.sweep()
	s.claims[key] = doubt{owner, until}
}

// sweep forgets what nobody asks about any more.
func (s *doubts) sweep() {
	now := time.Now()
	for key, d := range s.claims {
		if now.After(d.until) {
			delete(s.claims, key)
		}
	}
}

// any reports whether somebody still asks.
func (s *doubts) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.claims) > 0 {
		s.sweep()
	}
	return len(s.claims) > 0
}

// owner gives the owner under which the delivery of a key may be stored.
func (s *doubts) owner(key string) (owner string, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, there := s.claims[key]
	return d.owner, there
}

func (s *doubts) remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.claims, key)
}
