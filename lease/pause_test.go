//go:build unix

package lease_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fraiseql/observer/lease"
	"github.com/fraiseql/observer/store/memory"
)

const (
	asChild  = "LEASE_TEST_CHILD"
	shortTTL = 2 * time.Second
)

// TestInvariant5PausedProcessTrustsNothing stops a process, a real one, for longer
// than its lease. At its very first look afterwards it does not trust the lease.
func TestInvariant5PausedProcessTrustsNothing(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChildThatIsPaused$", "-test.v")
	child.Env = append(os.Environ(), asChild+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		said = append(said, line)
		if line == "valid: true" {
			pause(t, child.Process)
		}
	}
	if err := child.Wait(); err != nil {
		t.Errorf("%v: %s", err, strings.Join(said, "\n"))
	}
	if text := strings.Join(said, "\n"); !strings.Contains(text, "valid: true\nvalid after the pause: false") {
		t.Errorf("the process said:\n%s", text)
	}
}

func pause(t *testing.T, p *os.Process) {
	t.Helper()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.After(shortTTL + shortTTL/4)
	if err := p.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// TestChildThatIsPaused is the process that is paused.
func TestChildThatIsPaused(t *testing.T) {
	t.Parallel()
	if os.Getenv(asChild) == "" {
		t.Skip("it is run by another test, in a process of its own")
	}
	ctx, stop := context.WithCancel(t.Context())
	store := &link{Store: memory.New(memory.Config{})}
	g := lease.New(lease.Config{
		Store: store, Holder: "child", Prefix: "p/", Names: func() []string { return []string{"x"} },
		TTL: shortTTL, Logger: slog.New(slog.DiscardHandler),
	})
	var running sync.WaitGroup
	running.Go(func() {
		if err := g.Run(ctx, func(_ context.Context, _ string, h *lease.Held) error {
			store.set(func(l *link) { l.cut = true }) // nobody renews it before it is looked at
			defer stop()
			began := time.Now()
			fmt.Printf("valid: %v\n", h.Valid()) // the pause may begin here already
			for last := began; last.Sub(began) < 10*shortTTL; {
				now := time.Now()
				if now.Sub(last) > shortTTL {
					fmt.Printf("valid after the pause: %v\n", h.Valid())
					return nil
				}
				last = now
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	running.Wait()
}
