package testenv

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// own returns the cluster of a private server. Another one belongs to other
// tests, too.
func (p *Postgres) own(t testing.TB) *cluster {
	t.Helper()
	if p.cluster == nil || p.keeps {
		t.Fatal("this server is shared with other tests: take one of PrivatePostgres")
	}
	return p.cluster
}

// Start starts a private server again after Stop or Kill, on the same data and
// port, and returns when it takes connections.
func (p *Postgres) Start(t testing.TB) {
	t.Helper()
	if err := p.own(t).start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Stop ends a private server as an operator does: connections are closed, all
// is written down, and a standby that is connected gets everything.
func (p *Postgres) Stop(t testing.TB) {
	t.Helper()
	if err := p.own(t).stop((*process).shutdown); err != nil {
		t.Fatal(err)
	}
}

// Kill ends every process of a private server with SIGKILL and returns when they
// are gone. Start recovers: what was committed is there, the rest is not.
func (p *Postgres) Kill(t testing.TB) {
	t.Helper()
	if err := p.own(t).stop((*process).kill); err != nil {
		t.Fatal(err)
	}
}

// KillBackend ends the server process of one connection, by its pg_backend_pid(),
// with SIGKILL. The server answers by ending all its connections and recovering,
// which takes a moment.
func (p *Postgres) KillBackend(t testing.TB, pid int) {
	t.Helper()
	p.own(t)
	if err := killBackend(pid); err != nil {
		t.Fatalf("kill server process %d: %v", pid, err)
	}
}

// Log returns what the server has said so far. For a server that is not started
// here it only says that.
func (p *Postgres) Log() string { return p.cluster.log(0) }

// Standby copies a private server that runs, and starts the copy as its physical
// hot standby. It has the settings of the primary, and those of opts on top;
// whether it is durable, opts alone say.
//
// A standby applies, when it is promoted, everything it has received, also what
// recovery_min_apply_delay or a paused replay held back until then. One that
// really lags has been cut off with Detach.
func (p *Postgres) Standby(t testing.TB, opts Options) *Postgres {
	t.Helper()
	primary := p.own(t)
	w := primary.workspace
	c, err := w.emptyCluster()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.tool(t.Context(), "pg_basebackup", "--pgdata", c.data(), "--dbname", p.url,
		"--wal-method", "stream", "--checkpoint", "fast", "--no-sync"); err != nil {
		t.Fatalf("copy the primary: %v", errors.Join(err, c.remove()))
	}
	if err := cmp.Or(c.configure(opts), c.follow(p.url)); err != nil {
		t.Fatalf("configure the standby: %v", errors.Join(err, c.remove()))
	}
	if err := c.startSomewhere(t.Context()); err != nil {
		t.Fatalf("start the standby: %v", err)
	}
	return owned(t, c)
}

// follow makes the cluster a standby of the server at a URL.
func (c *cluster) follow(primary string) error {
	signal := filepath.Join(c.data(), "standby.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		return err
	}
	if err := c.workspace.account.own(signal); err != nil {
		return err
	}
	return c.set(map[string]string{"primary_conninfo": primary})
}

// Detach cuts a standby off from its primary: what is committed there from now
// on does not arrive. It returns when nothing arrives any more.
func (p *Postgres) Detach(t testing.TB) {
	t.Helper()
	p.own(t)
	conn := Connect(t, p.url)
	Exec(t, conn, "ALTER SYSTEM SET primary_conninfo = ''")
	Exec(t, conn, "SELECT pg_reload_conf()")
	Eventually(t, conn, "SELECT current_setting('primary_conninfo') = '' AND NOT EXISTS (SELECT FROM pg_stat_wal_receiver)")
	hangUp(t, conn)
}

// CatchUp waits until a standby has applied what its primary has written so far.
func (p *Postgres) CatchUp(t testing.TB, primary *Postgres) {
	t.Helper()
	from, to := Connect(t, primary.url), Connect(t, p.url)
	written := Value[string](t, from, "SELECT pg_current_wal_lsn()::text")
	Eventually(t, to, "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn", written)
	hangUp(t, from)
	hangUp(t, to)
}

// Promote makes a standby a primary, on a new timeline, and returns when it takes
// writes. Its URL stays the same; what was its primary is not told.
func (p *Postgres) Promote(t testing.TB) {
	t.Helper()
	p.own(t)
	conn := Connect(t, p.url)
	if !Value[bool](t, conn, "SELECT pg_promote(true, 60)") {
		t.Fatalf("the standby was not promoted within a minute:\n%s", tail(p.Log()))
	}
	hangUp(t, conn)
}
