package delivery

import (
	"sync"
	"time"
)

// doubts are the claims of which it is not known whether the store has them,
// because its answer was lost. A claim nobody keeps is over with its lease, and
// the doubt with it. Its zero value is ready.
type doubts struct {
	mu     sync.Mutex
	claims map[string]doubt
}

type doubt struct {
	owner string
	until time.Time
}

func (s *doubts) add(key, owner string, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claims == nil {
		s.claims = map[string]doubt{}
	}
	now := time.Now()
	for key, d := range s.claims {
		if now.After(d.until) {
			delete(s.claims, key)
		}
	}
	s.claims[key] = doubt{owner, until}
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
