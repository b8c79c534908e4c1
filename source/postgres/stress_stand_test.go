package postgres_test

import (
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/internal/testenv"
)

const (
	// stressLog is the change log that is read, stressEntity the table whose
	// rows have versions, stressOther one that nobody reads.
	stressLog   = "core.tb_entity_change_log"
	stressTable = `
		CREATE TABLE stress_entity (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), version bigint NOT NULL);
		CREATE TABLE stress_other (at timestamptz DEFAULT now());`
	stressEntities = 150
	stressName     = "stress_writer"

	// patient is how long what must arrive may take on a machine that is busy
	// with other tests. Nobody waits for it unless something is wrong.
	patient = 40 * time.Second
)

// stressReader is a reader under test.
type stressReader interface {
	// run hands every change in the log at url to deliver, from where the last
	// run ended, until ctx ends. Then it ends cleanly: what it handed over is
	// not handed over again by the next run.
	run(ctx context.Context, url string, deliver func(stressChange)) error
}

// stressStand joins writers, a reader and what the oracle compares.
type stressStand struct {
	testing.TB
	url    string
	reader stressReader
	ledger *stressLedger
	sink   *stressSink
	seed   uint64
	halt   func() // ends the running reader
}

// newStressStand makes entities to change in a database with a change log.
func newStressStand(t testing.TB, url string, reader stressReader) *stressStand {
	t.Helper()
	s := &stressStand{
		TB: t, url: url, reader: reader, seed: stressSeed(t), sink: newStressSink(),
		ledger: &stressLedger{committed: map[string]stressChange{}},
	}
	t.Logf("seed %d: set STRESS_SEED to it to draw the same again", s.seed)
	conn := s.connect()
	testenv.Exec(t, conn, stressTable)
	testenv.Exec(t, conn, "INSERT INTO stress_entity (version) SELECT 0 FROM generate_series(1, "+strconv.Itoa(stressEntities)+")")
	return s
}

func stressSeed(t testing.TB) uint64 {
	t.Helper()
	text := os.Getenv("STRESS_SEED")
	if text == "" {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("STRESS_SEED: %v", err)
	}
	return seed
}

// stressDuration is how long random writers write.
func stressDuration(t testing.TB, usual time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv("STRESS_DURATION")
	if text == "" {
		return usual
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("STRESS_DURATION: %v", err)
	}
	return d
}

func (s *stressStand) random(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(s.seed, stream)) }

// connect opens a connection that is closed when the test ends.
func (s *stressStand) connect() *pgx.Conn {
	s.Helper()
	conn, err := s.dial(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close(context.WithoutCancel(s.Context())) }) // the server may be gone
	return conn
}

// dial opens a connection to write with. Its name tells it from a reader's.
func (s *stressStand) dial(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(s.url)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = stressName
	return pgx.ConnectConfig(ctx, config)
}

// start starts the reader.
func (s *stressStand) start() {
	ctx, cancel := context.WithCancel(s.Context())
	done := make(chan error, 1)
	go func() { done <- s.reader.run(ctx, s.url, s.sink.deliver) }()
	s.halt = func() {
		cancel()
		if err := <-done; err != nil {
			s.Errorf("the reader ended: %v", err)
		}
	}
}

// stop ends the reader cleanly. A reader that is stopped stays so.
func (s *stressStand) stop() {
	if s.halt != nil {
		s.halt()
	}
	s.halt = nil
}

func (s *stressStand) restart() {
	s.stop()
	s.start()
}

// restartAtRandom restarts the reader now and then until end is closed.
func (s *stressStand) restartAtRandom(end <-chan struct{}) {
	random := s.random(1)
	ctx, cancel := s.until(end)
	defer cancel()
	for stressPause(ctx, time.Duration(50+random.IntN(900))*time.Millisecond) {
		s.stop()
		stressPause(ctx, time.Duration(random.IntN(200))*time.Millisecond)
		s.start()
	}
}

// cutAtRandom ends the connections of the reader now and then until end is
// closed.
func (s *stressStand) cutAtRandom(conn *pgx.Conn, end <-chan struct{}) {
	random := s.random(3)
	ctx, cancel := s.until(end)
	defer cancel()
	for stressPause(ctx, time.Duration(50+random.IntN(600))*time.Millisecond) {
		if _, err := conn.Exec(s.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name <> $1`, stressName); err != nil {
			s.Errorf("cut the connection of the reader: %v", err)
			return
		}
	}
}

// until returns a context that ends with the test or when end is closed.
func (s *stressStand) until(end <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(s.Context())
	go func() {
		defer cancel()
		select {
		case <-end:
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// arrived waits until all that was committed has arrived, and returns what has
// not within the time.
func (s *stressStand) arrived(within time.Duration) map[string]bool {
	return s.sink.await(s.Context(), s.ledger.all(), within)
}

// seen waits until one change has arrived, and reports whether it did within the
// time.
func (s *stressStand) seen(c stressChange, within time.Duration) bool {
	return len(s.sink.await(s.Context(), map[string]stressChange{c.id: c}, within)) == 0
}

// settle fails the test unless all that was committed arrives.
func (s *stressStand) settle() {
	s.Helper()
	if missing := s.arrived(patient); len(missing) > 0 {
		s.Fatalf("%d changes have not arrived within %s: %s", len(missing), patient, judgeStress(s.ledger.all(), s.sink.all(), nil))
	}
}

// pass makes the reader look at the log n times, at least: every time at a
// change that is committed when the one before has arrived.
func (s *stressStand) pass(conn *pgx.Conn, n int) {
	s.Helper()
	for range n {
		s.change(conn)
		s.settle()
	}
}

// faultless fails the test unless what arrives is what was committed, also after
// one more restart. What is allowed may happen all the same.
func (s *stressStand) faultless(allowed ...string) {
	s.Helper()
	s.settle()
	s.restart()
	s.pass(s.connect(), 1)
	s.stop()
	v := judgeStress(s.ledger.all(), s.sink.all(), nil)
	flaws := v.flaws()
	maps.DeleteFunc(flaws, func(name string, _ int) bool { return slices.Contains(allowed, name) })
	if len(flaws) > 0 {
		s.Error(v)
	}
}

// stressPause waits, and reports whether it was not cut short.
func stressPause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
