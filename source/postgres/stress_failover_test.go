package postgres_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres"
)

// stressPrepared is a stand with a prepared transaction, whose key is missing.
type stressPrepared struct {
	*stressStand

	name   string
	change stressChange
}

// prepareLate draws a key in a session, which prepares its transaction when the
// reader knows it as the owner.
func prepareLate(t *testing.T, server *testenv.Postgres, name string) stressPrepared {
	t.Helper()
	s, _ := scheduled(t, server.Database(t))
	slow, fast := s.connect(), s.connect()
	key := s.draw(slow)
	s.pass(fast, 3)
	c := s.write(slow, key)
	testenv.Exec(t, slow, "PREPARE TRANSACTION '"+name+"'")
	s.pass(fast, 5)
	s.draw(slow) // the session goes on, and owns a key that nobody will write
	s.pass(fast, 1)
	return stressPrepared{stressStand: s, name: name, change: c}
}

// finish commits it when the reader has had time to give it up.
func (p stressPrepared) finish() {
	p.Helper()
	conn := p.connect()
	p.pass(conn, 5)
	testenv.Exec(p, conn, "COMMIT PREPARED '"+p.name+"'")
	p.ledger.add(p.change)
	p.faultless()
}

// TestPreparedAcrossRestarts: a prepared transaction belongs to no session, and
// outlives the reader and the server.
func TestPreparedAcrossRestarts(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{Settings: map[string]string{"max_prepared_transactions": "10"}})
	here := prepareLate(t, server, "while the reader runs")
	reader := prepareLate(t, server, "across a restart of the reader")
	running := prepareLate(t, server, "across a restart of the server")
	down := prepareLate(t, server, "across a restart of both")
	here.finish()
	reader.restart()
	reader.finish()
	down.stop()
	server.Kill(t)
	server.Start(t)
	down.start()
	running.finish()
	down.finish()
}

// TestServerIsKilledUnderLoad: what a server had committed when its processes
// were killed is read, and nothing else.
func TestServerIsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{Settings: map[string]string{"max_prepared_transactions": "10", "max_connections": "50"}})
	s, _ := scheduled(t, server.Database(t))
	for range 3 {
		crowd := s.crowd(time.Minute)
		write, written := crowd.connected(12), make(chan struct{})
		go func() {
			defer close(written)
			write()
		}()
		stressPause(t.Context(), 1500*time.Millisecond)
		crowd.doomed.Store(true)
		server.Kill(t)
		<-written
		server.Start(t)
		s.endAllPrepared()
		// Whether a commit that was cut off happened, the log knows alone.
		s.ledger.replace(s.held())
		s.settle()
		s.restart()
	}
	s.faultless()
}

// endAllPrepared commits what a killed server leaves prepared.
func (s *stressStand) endAllPrepared() {
	s.Helper()
	conn := s.connect()
	rows, err := conn.Query(s.Context(), "SELECT format('COMMIT PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = current_database()")
	if err != nil {
		s.Fatal(err)
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		s.Fatal(err)
	}
	for _, statement := range statements {
		testenv.Exec(s, conn, statement)
	}
}

// TestPromotedStandby: a standby that lagged gives keys again that the primary
// had given, to other changes. All of its history is delivered.
func TestPromotedStandby(t *testing.T) {
	t.Parallel()
	const shared, lost, since = 20, 120, 150
	primary := testenv.PrivatePostgres(t, testenv.Options{})
	var stands []*stressStand
	var readers []*stressRelay
	for range 2 {
		s, reader := scheduled(t, primary.Database(t))
		conn := s.connect()
		for range shared {
			s.change(conn)
		}
		s.settle()
		stands, readers = append(stands, s), append(readers, reader)
	}
	standby := primary.Standby(t, testenv.Options{})
	standby.CatchUp(t, primary)
	standby.Detach(t)
	for i, s := range stands {
		conn := s.connect()
		s.draw(conn) // a key is missing when the reader stops
		conn = s.connect()
		for range lost {
			s.change(conn)
		}
		s.settle()
		position := s.checkpoint(readers[i])
		s.stop()
		s.url = onServer(t, standby, s.url)
		s.refused(readers[i], position, postgres.ErrStandby)
		s.refused(readers[i], "", postgres.ErrStandby)
	}
	primary.Kill(t)
	standby.Promote(t)
	for i, early := range []bool{false, true} { // whether the reader is there before there is anything to read
		s, conn := stands[i], stands[i].connect()
		if early {
			s.start()
			s.alarmed(readers[i])
		}
		for range since {
			s.change(conn)
		}
		if !early {
			s.start()
		}
		s.faultless("repeated")
		again := testenv.Value[int](t, s.connect(), "SELECT count(*) FROM "+stressLog+" WHERE pk_entity_change_log BETWEEN $1 AND $2", shared+1, shared+lost)
		if again == 0 {
			t.Error("no key was given a second time, so this test shows nothing")
		}
		s.alarmed(readers[i])
	}
}

// onServer returns the URL of a database of the same name on another server.
func onServer(t testing.TB, server *testenv.Postgres, database string) string {
	t.Helper()
	from, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	to.Path = from.Path
	return to.String()
}
