//go:build unix

package postgres_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres"
)

// pooler is a PgBouncer in front of the server of a database.
type pooler struct {
	binary, dir string
	port        int
	cmd         *exec.Cmd
	account     *syscall.Credential // it refuses to run as root
}

// newPooler starts a PgBouncer. The test is skipped where there is none, and fails
// there under CI.
func newPooler(t *testing.T, d *database, mode string) *pooler {
	t.Helper()
	binary, err := exec.LookPath("pgbouncer")
	if err != nil {
		if binary = "/usr/sbin/pgbouncer"; !isFile(binary) {
			const missing = "there is no pgbouncer on this machine: install the package of that name (apt-get install pgbouncer)"
			if os.Getenv("CI") != "" {
				t.Fatal(missing)
			}
			t.Skip(missing)
		}
	}
	p := &pooler{binary: binary, port: freePort(t)}
	p.dir, p.account = ownDirectory(t)
	p.lead(t, d.url, mode)
	p.start(t)
	t.Cleanup(func() { p.stop(t) })
	return p
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// ownDirectory is a directory of the account that PgBouncer is to run as.
func ownDirectory(t *testing.T) (string, *syscall.Credential) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgbouncer-") //nolint:usetesting // another account has to reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if os.Getuid() != 0 {
		return dir, nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return dir, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// lead writes the configuration for a server.
func (p *pooler) lead(t *testing.T, server, mode string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(server)
	if err != nil {
		t.Fatal(err)
	}
	sessions := 2 // fewer than clients: they share them
	if mode == "session" {
		sessions = 5
	}
	text := fmt.Sprintf(`[databases]
pooled = host=%s port=%d dbname=%s user=%s password='%s'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
default_pool_size = %d
server_login_retry = 0.1
logfile = %s
pidfile = %s
`, cfg.Host, cfg.Port, cfg.Database, cfg.User, strings.ReplaceAll(cfg.Password, "'", "''"), p.port, mode, sessions,
		filepath.Join(p.dir, "log"), filepath.Join(p.dir, "pid"))
	if err := os.WriteFile(filepath.Join(p.dir, "ini"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (p *pooler) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(p.binary, "-q", filepath.Join(p.dir, "ini")) //nolint:noctx // the test stops it
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.account}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port))
	eventually(t, "the pooler answers at "+address, func() bool {
		c, err := net.Dial("tcp", address) //nolint:noctx // to loopback
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func (p *pooler) stop(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed
	if t.Failed() {
		log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
		t.Logf("log of the pooler:\n%s", log)
	}
}

func (p *pooler) url() string {
	return (&url.URL{
		Scheme: "postgres", User: url.User("somebody"), Path: "/pooled",
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)), RawQuery: "sslmode=disable",
	}).String()
}

func (p *pooler) config() postgres.Config {
	return postgres.Config{Name: "shop", URL: observer.NewSecret(p.url()), PollInterval: 50 * time.Millisecond}
}

// Behind a pooler everything works but the wake-up, while other clients use the
// same sessions of the server, and nothing of the reader is left in them.
func TestPooler(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"transaction", "session"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			p := newPooler(t, d, mode)
			src := postgres.New(p.config())
			head, err := src.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			r := follow(t, src, head)
			other := poolerClient(t, p)
			tx, err := d.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			insert(t, tx, "slow")
			for i := range 100 {
				insert(t, other, strconv.Itoa(i))
				if got := r.next(t); got != strconv.Itoa(i) {
					t.Fatalf("got %s, want %d", got, i)
				}
			}
			commit(t, tx)
			last := r.message(t)
			if last.Event.EntityID != "slow" {
				t.Errorf("got %s, want slow", last.Event.EntityID)
			}
			untouched(t, other)
			if n := d.count(t, sleepers); n != 0 {
				t.Errorf("%d sessions hold the wake-up lock", n)
			}
			r.stop()
			manage(t, d, src, last.Position)
		})
	}
}

// poolerClient is an application behind the same pooler.
func poolerClient(t *testing.T, p *pooler) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(p.url())
	if err != nil {
		t.Fatal(err)
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

// untouched looks for what a reader may have left in the sessions of the server.
func untouched(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for range 20 {
		got := testenv.Value[string](t, conn, `SELECT concat_ws(' ', current_setting('enable_seqscan'), current_setting('row_security'),
 current_setting('plan_cache_mode'), current_setting('search_path'), (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_listening_channels()))`)
		if want := `on on auto "$user", public 0 0`; got != want {
			t.Fatalf("settings of the sessions: %s, want %s", got, want)
		}
	}
}

// manage uses what a source can do besides reading.
func manage(t *testing.T, d *database, src *postgres.Source, at observer.Position) {
	t.Helper()
	d.must(t, "INSERT INTO "+logTable+" (object_type, modification_type) VALUES ('Order', 'UPSERT')")
	if rows, _, err := src.Backlog(t.Context(), at); err != nil || rows != 1 {
		t.Errorf("backlog of %d rows, %v; want 1", rows, err)
	}
	m := follow(t, src, at).message(t)
	if m.Malformed == nil {
		t.Fatalf("got %v, want a malformed row", m)
	}
	if again, err := src.Refetch(t.Context(), m.Malformed.Position); err != nil || again.Malformed == nil {
		t.Errorf("refetched %v, %v", again, err)
	}
	if n, err := src.Prune(t.Context(), m.Position, farFuture()); err != nil || n != 101 {
		t.Errorf("pruned %d rows, %v; want 101", n, err)
	}
}

func TestPoolerRestarts(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := newPooler(t, d, "transaction")
	src := postgres.New(p.config())
	r := follow(t, src, "")
	insert(t, d, "before")
	at := r.message(t).Position
	p.stop(t)
	_ = r.fails(t)
	insert(t, d, "meanwhile")
	p.start(t)
	if got := again(t, src, at).next(t); got != "meanwhile" {
		t.Errorf("got %s", got)
	}
}

// A pooler may be led to another server behind the back of its clients: a
// standby that was promoted, where the same keys mean other rows.
func TestPoolerMovesToAnotherServer(t *testing.T) {
	t.Parallel()
	d, other := newDatabase(t), newDatabase(t)
	p := newPooler(t, d, "transaction")
	src := postgres.New(p.config())
	r := follow(t, src, "")
	insert(t, d, "here")
	at := r.message(t).Position
	for range 2 {
		insert(t, other, "there")
	}
	p.lead(t, other.url, "transaction")
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := r.fails(t); !strings.Contains(err.Error(), "another server") {
		t.Errorf("error %q", err)
	}
	r = again(t, src, at)
	for range 2 {
		if got := r.next(t); got != "there" {
			t.Errorf("got %s, want what the other server has", got)
		}
	}
}

// A pooled connection reads values as text, with the same result.
func TestEventBehindAPooler(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	conn := testenv.Connect(t, d.url)
	testenv.Exec(t, conn, "INSERT INTO "+logTable+` (object_type, modification_type, object_id, object_data, duration_ms, fk_contact, created_at)
 VALUES ('Order', 'INSERT', gen_random_uuid(), '{"a": [1, "x\\y"]}', 3, 4, '2026-01-02 03:04:05.678901+02'), ('Order', 'INSERT', NULL, NULL, NULL, NULL, 'infinity')`)
	direct, pooled := follow(t, d.source(), ""), follow(t, postgres.New(newPooler(t, d, "transaction").config()), "")
	for range 2 {
		want, got := direct.message(t), pooled.message(t)
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(observer.Event{})); diff != "" {
			t.Errorf("message (-direct +pooled):\n%s", diff)
		}
	}
}
