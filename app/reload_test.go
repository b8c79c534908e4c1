package app

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer/config"
)

// edited is a daemon of a configuration file that only watches the file, by
// the clock of the bubble that it is made in.
type edited struct {
	*App
	path string
	log  bytes.Buffer
}

func newEdited(t *testing.T, observers ...string) *edited {
	t.Helper()
	e := &edited{path: filepath.Join(t.TempDir(), "o.toml")}
	e.write(t, observers...)
	load := func() (*config.Config, error) { return config.Load(e.path, nil) }
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	opts := Options{Config: cfg, Load: load, Logger: slog.New(slog.NewTextHandler(&e.log, nil))}
	if e.App, err = New(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	return e
}

// write replaces the file. Every version needs a length of its own: the clock of
// the file system may not move between two of them.
func (e *edited) write(t *testing.T, observers ...string) {
	t.Helper()
	var text bytes.Buffer
	text.WriteString("[[databases]]\nname = \"shop\"\nurl = \"sqlite:shop.db\"\n")
	for _, name := range observers {
		fmt.Fprintf(&text, "[[observers]]\nname = %q\nentity = \"Order\"\n[[observers.actions]]\ntype = \"log\"\n", name)
	}
	if err := os.WriteFile(e.path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start watches until stop is called, and stop waits for its end.
func (e *edited) start(t *testing.T) (stop func()) {
	t.Helper()
	return during(t, e.App, e.watch)
}

// want compares the names of the observers that are in place.
func (e *edited) want(t *testing.T, when string, names ...string) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	var got []string
	for _, o := range e.current.Observers {
		got = append(got, o.Name)
	}
	if d := cmp.Diff(names, got); d != "" {
		t.Errorf("%s: observers (-want +got):\n%s", when, d)
	}
}

// Until the watch begins a daemon opens its state and looks at its databases. An
// edit in that time is an edit like a later one.
func TestEditBeforeTheWatchBeginsIsNoticed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEdited(t, "first")
		e.write(t, "first", "second")
		stop := e.start(t)
		defer stop()
		round(0)
		e.want(t, "at the start of the watch", "first", "second")
		e.write(t, "third")
		round(watchInterval - time.Millisecond)
		e.want(t, "before the next look", "first", "second")
		round(time.Millisecond)
		e.want(t, "after the next look", "third")
	})
}

// An edit between the reading of the file and New is noticed, too.
func TestEditBeforeNewIsNoticed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEdited(t, "first")
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		e.write(t, "first", "second")
		daemon, err := New(t.Context(), e.opts)
		if err != nil {
			t.Fatal(err)
		}
		e.App = daemon
		stop := e.start(t)
		defer stop()
		round(0)
		e.want(t, "at the start of the watch", "first", "second")
	})
}

// A section that differs from what the daemon started with needs a restart at
// every reload, and needs none any more when it is put back.
func TestReloadComparesWithTheStart(t *testing.T) {
	t.Parallel()
	e := newEdited(t, "first")
	t.Cleanup(func() { _ = e.Close() })
	load, longer := e.opts.Load, time.Duration(0)
	e.opts.Load = func() (*config.Config, error) {
		cfg, err := load()
		if err == nil {
			cfg.Databases[0].Retention += longer
		}
		return cfg, err
	}
	announced := func() int {
		t.Helper()
		if err := e.Reload(); err != nil {
			t.Fatal(err)
		}
		return strings.Count(e.log.String(), "sections=databases")
	}
	longer = time.Hour
	if first, again := announced(), announced(); first != 1 || again != 2 {
		t.Errorf("announced %d times after the first reload and %d after the second, want 1 and 2", first, again)
	}
	longer = 0
	if back := announced(); back != 2 {
		t.Errorf("announced %d times after it was put back, want 2", back)
	}
}

// A file that nobody touched, or that is gone for a moment, is not read again; a
// bad one is refused once.
func TestWatchReloadsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEdited(t, "first")
		stop := e.start(t)
		round(3 * watchInterval)
		if err := os.Rename(e.path, e.path+".away"); err != nil {
			t.Fatal(err)
		}
		round(3 * watchInterval)
		if err := os.Rename(e.path+".away", e.path); err != nil {
			t.Fatal(err)
		}
		round(3 * watchInterval)
		if got := e.log.String(); got != "" {
			t.Errorf("of one version:\n%s", got)
		}
		e.write(t, "not a name")
		round(3 * watchInterval)
		e.want(t, "after a mistake", "first")
		e.write(t, "mended")
		round(3 * watchInterval)
		e.want(t, "after it was mended", "mended")
		stop()
		refused := strings.Count(e.log.String(), "configuration was not reloaded")
		reloaded := strings.Count(e.log.String(), "configuration reloaded")
		if refused != 1 || reloaded != 1 {
			t.Errorf("%d refused and %d reloaded, want 1 and 1:\n%s", refused, reloaded, &e.log)
		}
	})
}

// What a refused file says takes effect neither now nor at the next start, so
// nothing of it is announced.
func TestRefusedReloadAnnouncesNothing(t *testing.T) {
	t.Parallel()
	e := newEdited(t, "first")
	t.Cleanup(func() { _ = e.Close() })
	load := e.opts.Load
	e.opts.Load = func() (*config.Config, error) {
		cfg, err := load()
		if err == nil {
			cfg.Databases[0].Retention++
			cfg.Observers[0].Condition = "("
		}
		return cfg, err
	}
	e.write(t, "second")
	if err := e.Reload(); err == nil || !strings.Contains(err.Error(), "observer second: condition") {
		t.Errorf("reload: %v", err)
	}
	if got := e.log.String(); got != "" {
		t.Errorf("log:\n%s", got)
	}
	e.want(t, "after the refusal", "first")
}
