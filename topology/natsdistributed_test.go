package topology_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/topology"
)

func TestTopologiesOfNATSRefuseOthers(t *testing.T) {
	t.Parallel()
	const (
		one     = "[[databases]]\nname = \"a\"\nurl = \"sqlite:a.db\"\n"
		two     = one + "[[databases]]\nname = \"b\"\nurl = \"sqlite:b.db\"\n"
		through = "[transport]\ntransport = \"nats\"\n"
		worker  = through + "run_bridge = false\n"
		state   = "[state]\nurl = \"sqlite:state.db\"\n"
	)
	for name, tt := range map[string]struct {
		build func(context.Context, *config.Config, *slog.Logger) (*topology.Topology, error)
		text  string
		want  string
	}{
		"no NATS":                     {topology.NATSDistributed, one, `transport of observer.toml is "postgres": write transport = "nats", or use Build`},
		"several and no NATS":         {topology.MultiDatabase, two, `write transport = "nats"`},
		"one database":                {topology.MultiDatabase, one + through, "observer.toml has 1: write another [[databases]], or use NATSDistributed"},
		"one database and no NATS":    {topology.MultiDatabase, one, "observer.toml has 1"},
		"a worker":                    {topology.MultiDatabase, worker + state, "use NATSDistributed for a worker"},
		"a worker that names several": {topology.MultiDatabase, two + worker, "use NATSDistributed for a worker"},
	} {
		built, err := tt.build(t.Context(), parsed(t, tt.text), slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, want %q", name, err, tt.want)
		}
		if built != nil {
			t.Errorf("%s: something was built: %v", name, built.Close())
		}
	}
}

// place is a directory of configuration files.
type place struct{ dir string }

func (p place) write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(p.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// program runs one of the examples until it is stopped, or the test ends.
func program(t *testing.T, run func(ctx context.Context, file string) error, file string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, file) }()
	stop = sync.OnceFunc(func() {
		cancel()
		// One that was still starting says what was cut off.
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// The program of the example, with nothing beside the database.
func TestPostgresOnlyAsAProgram(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(string) int { return http.StatusOK })
	url := postgresOrders(t)
	program(t, smallest, place{t.TempDir()}.write(t, "fraiseql-observer.toml", "[[databases]]\nname = \"shop\"\nurl = '"+url+"'\n"+
		"[network]\nallow = [\"127.0.0.0/8\"]\n"+observerTo("each", r.URL+"/each", "")))
	testenv.Exec(t, testenv.Connect(t, url), "INSERT INTO orders VALUES (1, 'new')")
	r.await(t, "/each")
}

// The program of the example as a bridge and as two workers, on real servers.
func TestNATSDistributedFromCommitToAction(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(string) int { return http.StatusOK })
	url, at := postgresOrders(t), place{t.TempDir()}
	shared := "[transport]\ntransport = \"nats\"\n%s\n[transport.nats]\nurl = '" + testenv.NATS(t) + "'\npartitions = 4\n[state]\nurl = '" + url + "'\n"
	program(t, distribute, at.write(t, "bridge.toml", fmt.Sprintf(shared, "run_executors = false")+"[[databases]]\nname = \"shop\"\nurl = '"+url+"'\n"))
	worker := at.write(t, "worker.toml", fmt.Sprintf(shared, "run_bridge = false")+"[network]\nallow = [\"127.0.0.0/8\"]\n"+
		observerTo("shipped", r.URL+"/shipped", `condition = "field_changed_to('status', 'shipped')"`))
	program(t, distribute, worker)
	program(t, distribute, worker)
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, "INSERT INTO orders VALUES (1, 'new')")
	testenv.Exec(t, conn, "UPDATE orders SET status = 'shipped'")
	r.await(t, "/shipped")
	if n := r.calls("/shipped"); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

// The program of the example reads two databases of different kinds; one that is
// away from the beginning keeps nothing from the other.
func TestMultiDatabaseFromCommitToAction(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(string) int { return http.StatusOK })
	url, s := postgresOrders(t), newShop(t)
	at := place{s.dir}
	shared := "[transport]\ntransport = \"nats\"\n%s\n[transport.nats]\nurl = '" + testenv.NATS(t) + "'\npartitions = 4\n[state]\nurl = \"sqlite:state.db\"\n"
	program(t, gather, at.write(t, "bridge.toml", fmt.Sprintf(shared, "run_executors = false")+"[[databases]]\nname = \"shop\"\nurl = '"+url+"'\n"+
		"[[databases]]\nname = \"branch\"\nurl = \"sqlite:shop.db\"\n[[databases]]\nname = \"away\"\nurl = \"sqlite:away.db\"\n"))
	program(t, distribute, at.write(t, "worker.toml", fmt.Sprintf(shared, "run_bridge = false")+"[network]\nallow = [\"127.0.0.0/8\"]\n"+
		observerTo("each", r.URL+"/{{ data.status }}", "")))
	testenv.Exec(t, testenv.Connect(t, url), "INSERT INTO orders VALUES (1, 'main')")
	r.await(t, "/main")
	s.exec(t, "INSERT INTO orders VALUES (1, 'branch')")
	r.await(t, "/branch")
}
