package postgres_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres"
)

// scheduled is a stand with the real reader, which runs, on a log of our own.
func scheduled(t testing.TB, url string) (*stressStand, *stressRelay) {
	t.Helper()
	migrateStressLog(t, url)
	reader := newStressRelay(t)
	s := newStressStand(t, url, reader)
	s.start()
	return s, reader
}

// TestStragglerAcrossRestart: a checkpoint says what is missing below it.
func TestStragglerAcrossRestart(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]bool{"committed while the reader runs": false, "committed while it is down": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := scheduled(t, testenv.Database(t))
			slow, fast := s.connect(), s.connect()
			s.pass(fast, 3)
			key := s.draw(slow)
			s.pass(fast, 3)
			s.stop()
			s.start()
			s.pass(fast, 3)
			c := s.write(slow, key)
			if down {
				s.stop()
			}
			s.commit(slow, c)
			if down {
				s.start()
			}
			s.faultless()
		})
	}
}

// TestOwnerIsKilled: nobody writes the keys of a session that is gone, and
// nothing waits for them.
func TestOwnerIsKilled(t *testing.T) {
	t.Parallel()
	s, reader := scheduled(t, testenv.Database(t))
	slow, fast := s.connect(), s.connect()
	s.pass(fast, 3)
	pid := slow.PgConn().PID()
	key := s.draw(slow)
	s.pass(fast, 3)
	if left := s.prune(reader); left != 3 {
		t.Errorf("after pruning below the key that is missing, %d rows are left, want the 3 above it", left)
	}
	if !testenv.Value[bool](t, fast, "SELECT pg_terminate_backend($1, 10000)", pid) {
		t.Fatal("the session does not end")
	}
	s.pass(fast, 3)
	if left := s.prune(reader); left > 1 {
		t.Errorf("after the end of the session that owned key %d, %d rows are left by pruning", key, left)
	}
	s.faultless()
}

// prune removes what no reader needs any more, and returns how many rows are
// left.
func (s *stressStand) prune(r *stressRelay) int {
	s.Helper()
	position := observer.Position(s.checkpoint(r))
	if _, err := r.source(s.url).Prune(s.Context(), position, farFuture()); err != nil {
		s.Fatal(err)
	}
	return len(s.held())
}

// checkpoint stops the reader and returns where it stands.
func (s *stressStand) checkpoint(r *stressRelay) string {
	s.Helper()
	s.stop()
	position, err := r.position(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	s.start()
	return string(position)
}

// TestSavepointKeepsTheKeysOwner: rolling back to a savepoint gives up neither
// the key that was drawn in it nor the right to use it.
func TestSavepointKeepsTheKeysOwner(t *testing.T) {
	t.Parallel()
	s, _ := scheduled(t, testenv.Database(t))
	slow, fast := s.connect(), s.connect()
	s.pass(fast, 2)
	testenv.Exec(t, slow, "BEGIN; SAVEPOINT one")
	dropped := s.write(slow, 0)
	key := testenv.Value[int64](t, slow, stressDraw)
	s.pass(fast, 3)
	testenv.Exec(t, slow, "ROLLBACK TO SAVEPOINT one")
	s.pass(fast, 5)
	c := s.write(slow, key)
	s.pass(fast, 3)
	s.commit(slow, c)
	s.faultless()
	for _, c := range s.sink.all() {
		if c.id == dropped.id {
			t.Error("a change that was rolled back has arrived")
		}
	}
}

// TestSequenceSetBack: keys are given again, and rows with the higher keys are
// still there.
func TestSequenceSetBack(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]bool{"while the reader runs": false, "while it is down": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, reader := scheduled(t, testenv.Database(t))
			conn := s.connect()
			for range 50 {
				s.change(conn)
			}
			s.settle()
			if down {
				s.stop()
			}
			testenv.Exec(t, conn, "DELETE FROM "+stressLog+" WHERE pk_entity_change_log <= 30")
			testenv.Exec(t, conn, "SELECT setval(pg_get_serial_sequence('"+stressLog+"', 'pk_entity_change_log'), 10)")
			for range 10 {
				s.change(conn)
			}
			if down {
				s.start()
			}
			s.settle()
			for range 10 { // up to the rows that are there
				s.change(conn)
			}
			s.settle()
			testenv.Exec(t, conn, "SELECT setval(pg_get_serial_sequence('"+stressLog+"', 'pk_entity_change_log'), 50)")
			s.faultless("repeated")
			s.alarmed(reader)
		})
	}
}

// TestLogIsTruncated: what was not read is gone, and what comes is read.
func TestLogIsTruncated(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]bool{"while the reader runs": false, "while it is down": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := scheduled(t, testenv.Database(t))
			slow, fast := s.connect(), s.connect()
			key := s.draw(slow)
			s.pass(fast, 10)
			if down {
				s.stop()
			}
			testenv.Exec(t, fast, "TRUNCATE "+stressLog)
			for range 3 {
				s.change(fast)
			}
			if down {
				s.start()
			}
			s.pass(fast, 3)
			s.commit(slow, s.write(slow, key))
			s.faultless()
		})
	}
}

// TestLogIsTruncatedAndKeysRestart: the log begins again with its first key, and
// comes less far, as far and farther than the reader was.
func TestLogIsTruncatedAndKeysRestart(t *testing.T) {
	t.Parallel()
	const before = 20
	for _, c := range []struct {
		down  bool
		after int
	}{{false, 5}, {false, before}, {false, before + 15}, {true, 5}, {true, before}, {true, before + 15}} {
		t.Run(fmt.Sprintf("reader down %t, %d changes", c.down, c.after), func(t *testing.T) {
			t.Parallel()
			s, reader := scheduled(t, testenv.Database(t))
			conn := s.connect()
			s.pass(conn, before)
			if c.down {
				s.stop()
			}
			testenv.Exec(t, conn, "TRUNCATE "+stressLog+" RESTART IDENTITY")
			for range c.after {
				s.change(conn)
			}
			if c.down {
				s.start()
			}
			s.faultless("repeated")
			s.alarmed(reader)
		})
	}
}

// alarmed waits until the source has told that the log is another one.
func (s *stressStand) alarmed(r *stressRelay) {
	s.Helper()
	for deadline := time.Now().Add(patient); r.rewound.Load() == 0; stressPause(s.Context(), time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatal("no alarm was given")
		}
	}
}

// TestSequenceCacheIsRefused: sessions that draw keys in advance change an entity
// in another order than that of the keys.
func TestSequenceCacheIsRefused(t *testing.T) {
	t.Parallel()
	s, reader := scheduled(t, testenv.Database(t))
	conn := s.connect()
	s.pass(conn, 1)
	position := s.checkpoint(reader)
	s.stop()
	testenv.Exec(t, conn, "ALTER TABLE "+stressLog+" ALTER COLUMN pk_entity_change_log SET CACHE 10")
	for _, after := range []string{"", position} {
		s.refused(reader, after, postgres.ErrSequenceCache)
	}
	testenv.Exec(t, conn, "ALTER TABLE "+stressLog+" ALTER COLUMN pk_entity_change_log SET CACHE 1")
	s.start()
	s.faultless()
}

// refused fails the test unless the source does not open, for a reason.
func (s *stressStand) refused(reader *stressRelay, after string, why error) {
	s.Helper()
	stream, err := reader.source(s.url).Open(s.Context(), observer.Position(after))
	if err == nil {
		s.Errorf("the source opened, closed with %v", stream.Close(s.Context()))
	} else if !errors.Is(err, why) {
		s.Errorf("the source does not open: %v, and not because %v", err, why)
	}
}

// TestWokenInTime: with a poll in a minute, what arrives does so because somebody
// woke the reader; and a wake-up that is lost shows.
func TestWokenInTime(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	if testenv.Value[int](t, testenv.Connect(t, url), "SELECT current_setting('max_prepared_transactions')::int") > 0 {
		t.Skip("where transactions can be prepared, writers do not wake the reader")
	}
	migrateStressLog(t, url)
	reader := newStressRelay(t)
	reader.poll = time.Hour
	s := newStressStand(t, url, reader)
	run := stressCase{writers: 12, during: stressDuration(t, 3*time.Second), patience: patient}
	if v := run.run(s); len(v.flaws()) > 0 {
		t.Error(v)
	}
	s.start()
	random, conn := s.random(4), s.connect()
	for range 40 { // now that it may sleep in between
		s.change(conn)
		stressPause(t.Context(), time.Duration(random.IntN(40))*time.Millisecond)
		s.settle()
	}
	s.faultless()
}
