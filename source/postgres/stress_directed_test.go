package postgres_test

import (
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/internal/testenv"
)

// directed runs schedules, each of which some wrong way of reading does not
// survive, on a database where nobody else writes. It waits for what a reader
// must have seen, no longer than patience: a wrong one may never see it.
func (s *stressStand) directed(patience time.Duration) {
	s.Helper()
	slow, fast := s.connect(), s.connect()
	overtake := func(n int) {
		for range n {
			s.seen(s.change(fast), patience)
		}
	}
	s.overtaken(slow, overtake)
	s.overtakenAndPrepared(slow, overtake)
	s.changedAfterLater(slow, fast)
	s.between(slow, overtake)
}

// overtaken: a key is drawn by a transaction without an id, and its row comes
// when later ones have been read.
func (s *stressStand) overtaken(slow *pgx.Conn, overtake func(int)) {
	s.Helper()
	key := s.draw(slow)
	overtake(3)
	s.commit(slow, s.write(slow, key))
	overtake(1)
}

// overtakenAndPrepared: whoever holds the key stops being a session.
func (s *stressStand) overtakenAndPrepared(slow *pgx.Conn, overtake func(int)) {
	s.Helper()
	key := s.draw(slow)
	overtake(3)
	c := s.write(slow, key)
	testenv.Exec(s, slow, fmt.Sprintf("PREPARE TRANSACTION 'overtaken-%x'", s.seed))
	overtake(3)
	testenv.Exec(s, slow, fmt.Sprintf("COMMIT PREPARED 'overtaken-%x'", s.seed))
	s.ledger.add(c)
	overtake(1)
}

// changedAfterLater: a transaction has an id before another one, and changes a
// row after it.
func (s *stressStand) changedAfterLater(slow, fast *pgx.Conn) {
	s.Helper()
	testenv.Exec(s, slow, "BEGIN; INSERT INTO stress_other DEFAULT VALUES")
	first := s.change(fast)
	s.commit(slow, s.again(slow, first))
}

// between: a key is drawn, overtaken and written at moments that have nothing to
// do with when the reader looks. Some fall between two of its looks.
func (s *stressStand) between(slow *pgx.Conn, overtake func(int)) {
	s.Helper()
	random, fast := s.random(2), s.connect()
	for range 25 {
		stressPause(s.Context(), time.Duration(random.IntN(20))*time.Millisecond)
		key := s.draw(slow)
		s.change(fast)
		stressPause(s.Context(), time.Duration(random.IntN(40))*time.Millisecond)
		s.commit(slow, s.write(slow, key))
	}
	overtake(1)
}

// again changes an entity a second time.
func (s *stressStand) again(conn *pgx.Conn, c stressChange) stressChange {
	s.Helper()
	changes, err := stressChanges(s.Context(), conn, stressWrite, []string{c.entity})
	if err != nil || len(changes) != 1 {
		s.Fatalf("change: %v, %v", changes, err)
	}
	return changes[0]
}
