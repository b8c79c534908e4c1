package postgres_test

import (
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
)

// stressCase is one run of the harness.
type stressCase struct {
	writers int
	during  time.Duration
	hurried bool // whether they make a storm
	// patience is how long what was committed may take to arrive.
	patience time.Duration
	// open is what an unrelated transaction, open throughout, holds.
	open stressOpen
	// directed adds what must not be left to chance: see [stressStand.directed].
	directed bool
	// cut ends the connections of the reader now and then, besides restarting it.
	cut bool
}

type stressOpen int

const (
	openNothing stressOpen = iota
	openXID                // a transaction id
	openKey                // a transaction id and a drawn key, whose row comes at the end
)

// run writes, reads and restarts, and returns what came of it.
func (c stressCase) run(s *stressStand) stressVerdict {
	s.Helper()
	end := s.hold(c.open)
	s.start()
	calm := s.unrest(c.cut)
	crowd := s.crowd(c.during)
	crowd.hurried = c.hurried
	crowd.write(c.writers)
	if c.directed {
		s.directed(c.patience)
	}
	calm()
	overdue := s.arrived(c.patience)
	if c.open != openNothing {
		end()
		s.arrived(c.patience)
	}
	// A reader that begins again and gets to what is new has passed what it could
	// repeat, and what it could still deliver.
	s.restart()
	if c := s.change(s.connect()); !s.seen(c, patient) {
		s.Errorf("the last change has not arrived within %s", patient)
	}
	s.stop()
	s.audit()
	return judgeStress(s.ledger.all(), s.sink.all(), overdue)
}

// unrest disturbs the reader until the function it returns is called, which
// leaves it running.
func (s *stressStand) unrest(cut bool) (calm func()) {
	stop := make(chan struct{})
	var disturbers sync.WaitGroup
	disturbers.Go(func() { s.restartAtRandom(stop) })
	if cut {
		conn := s.connect()
		disturbers.Go(func() { s.cutAtRandom(conn, stop) })
	}
	return func() {
		close(stop)
		disturbers.Wait()
	}
}

// hold opens the unrelated transaction and returns what ends it.
func (s *stressStand) hold(what stressOpen) (end func()) {
	s.Helper()
	conn := s.connect()
	switch what {
	case openXID:
		testenv.Exec(s, conn, "BEGIN; INSERT INTO stress_other DEFAULT VALUES")
		return func() { testenv.Exec(s, conn, "COMMIT") }
	case openKey:
		key := s.draw(conn)
		testenv.Exec(s, conn, "INSERT INTO stress_other DEFAULT VALUES")
		return func() { s.commit(conn, s.write(conn, key)) }
	default:
		return func() {}
	}
}

// TestStress runs the reader through the relay, with real restarts.
func TestStress(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{Settings: map[string]string{
		"max_prepared_transactions": "40", "max_connections": "200",
	}})
	cases := []struct {
		name string
		open stressOpen
		cut  bool
		make func(testing.TB, string)
	}{
		{"a log of FraiseQL", openNothing, false, makeStressLog},
		{"an unrelated transaction is open", openXID, false, migrateStressLog},
		{"an unrelated transaction has drawn a key", openKey, false, migrateStressLog},
		{"the connection is cut", openKey, true, migrateStressLog},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := server.Database(t)
			c.make(t, url)
			s := newStressStand(t, url, newStressRelay(t))
			run := stressCase{
				writers: 12, during: stressDuration(t, 6*time.Second), patience: patient,
				open: c.open, cut: c.cut, directed: true,
			}
			v := run.run(s)
			t.Log(v)
			if len(v.flaws()) > 0 {
				t.Error("the reader is wrong")
			}
		})
	}
}

// TestStressInAStorm has many keys drawn and overtaken between two steps of one
// look at the log.
func TestStressInAStorm(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	migrateStressLog(t, url)
	s := newStressStand(t, url, newStressRelay(t))
	run := stressCase{writers: 16, hurried: true, during: stressDuration(t, 4*time.Second), patience: patient}
	v := run.run(s)
	t.Log(v)
	if len(v.flaws()) > 0 {
		t.Error("the reader is wrong")
	}
}

// stressTries is how often a wrong reader may be lucky. On a machine that hardly
// comes to do anything there is little that it could miss.
const stressTries = 20

// TestStressFailsWrongReaders: a harness that passed them would prove nothing
// about the reader that it passes.
//
//nolint:tparallel // an open transaction of one holds up another one's reader, in whichever database
func TestStressFailsWrongReaders(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{Settings: map[string]string{"max_prepared_transactions": "20"}})
	cases := []struct {
		name   string
		reader func() stressReader
		open   stressOpen
		flaw   string // "" for a reader that has none
	}{
		{"by key", readByKey, openNothing, "lost"},
		{"by key, with an open transaction", readByKey, openKey, "lost"},
		{"by transaction id", readByTransaction, openNothing, "inverted"},
		{"by transaction id, with an open transaction", readByTransaction, openXID, "stalled"},
		{"behind a barrier", readBehindBarrier, openNothing, "lost"},
		{"behind a barrier, with an open transaction", readBehindBarrier, openXID, "stalled"},
		{"after waiting", func() stressReader { return readAfterWaiting(200 * time.Millisecond) }, openNothing, "lost"},
		{"owners, looked for too early", func() stressReader { return readByOwners(tooEarly) }, openNothing, "lost"},
		{"owners, looked for too late", func() stressReader { return readByOwners(tooLate) }, openNothing, "lost"},
		{"owners", func() stressReader { return readByOwners(faultless) }, openKey, ""},
	}
	for _, c := range cases { //nolint:paralleltest // see above
		t.Run(c.name, func(t *testing.T) {
			run := stressCase{writers: 4, during: 500 * time.Millisecond, open: c.open, directed: true, patience: 400 * time.Millisecond}
			switch c.flaw {
			case "":
				run.patience = patient
			case "stalled": // what is directed waits for the reader
				run.directed, run.patience = false, 2*time.Second
			}
			for range stressTries {
				url := server.Database(t)
				makeStressLog(t, url)
				v := run.run(newStressStand(t, url, c.reader()))
				t.Log(v)
				switch flaws := v.flaws(); {
				case c.flaw == "" && len(flaws) > 0:
					t.Fatal("the harness finds flaws where there are none")
				case c.flaw == "" || flaws[c.flaw] > 0:
					return
				}
			}
			t.Errorf("nothing was %s in %d tries, though this reader cannot do better", c.flaw, stressTries)
		})
	}
}
