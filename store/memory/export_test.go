package memory

// Lose deletes the row of key and leaves everything else alone, as nothing but a
// change behind the store's back does.
func (s *Store) Lose(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(s.rows[key])
}
