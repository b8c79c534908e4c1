package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer/app"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/topology"
)

// Work runs a worker of the demo, in a process of its own, with a configuration
// that the demo wrote. It ends in order when nothing more can be read from stdin,
// which is also when the demo is killed. What is wrong with it goes to trouble. The
// process is to end when it returns.
func Work(ctx context.Context, file string, stdin io.Reader, trouble io.Writer) error {
	// The environment says something about a real daemon, and nothing about this one.
	cfg, err := config.Load(file, func(string) (string, bool) { return "", false })
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer stop()
		_, _ = io.Copy(io.Discard, stdin) // whatever ends it, nobody is there any more
	}()
	worker, err := app.New(ctx, app.Options{Config: cfg, Build: topology.NATSDistributed, Logger: slog.New(newTroubleLog(trouble))})
	if err != nil {
		return err
	}
	return worker.Run(ctx)
}

// worker is a process of [Work] as the demo sees it.
type worker struct {
	number int
	cmd    *exec.Cmd
	stdin  io.Closer
	// leaving says that it is to end.
	leaving atomic.Bool
	ended   chan struct{}
}

// stopPatience is how long a worker may take to finish what it has begun.
const stopPatience = 15 * time.Second

// startWorker starts a process. fail is called when it ends although nobody
// asked it to.
func startWorker(number int, cmd *exec.Cmd, out io.Writer, fail context.CancelCauseFunc) (*worker, error) {
	w := &worker{number: number, cmd: cmd, ended: make(chan struct{})}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	w.stdin = stdin
	cmd.Stderr = &prefixed{to: out, prefix: fmt.Sprintf("worker %d: ", number), alive: func() bool { return !w.leaving.Load() }}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(w.ended)
		if err := cmd.Wait(); !w.leaving.Load() {
			fail(fmt.Errorf("worker %d of the demo ended: %w", number, errors.Join(err, errors.New("nobody asked it to"))))
		}
	}()
	return w, nil
}

func (w *worker) pid() int { return w.cmd.Process.Pid }

// kill ends the process without a word.
func (w *worker) kill() error {
	w.leaving.Store(true)
	err := w.cmd.Process.Kill()
	<-w.ended
	return err
}

// stop ends the process in order.
func (w *worker) stop() error {
	w.leaving.Store(true)
	_ = w.stdin.Close() // it may have ended by itself
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	select {
	case <-w.ended:
		return nil
	case <-timer.C:
		return errors.Join(fmt.Errorf("worker %d of the demo did not end within %s and was killed", w.number, stopPatience), w.kill())
	}
}

// prefixed says of whole lines who wrote them.
type prefixed struct {
	to     io.Writer
	prefix string
	// alive: what is said at the end is not of interest.
	alive func() bool
	rest  []byte
}

// Write writes the lines that are complete.
func (p *prefixed) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	for {
		end := bytes.IndexByte(p.rest, '\n')
		if end < 0 {
			return len(b), nil
		}
		if line := p.rest[:end+1]; p.alive() {
			_, _ = io.WriteString(p.to, p.prefix+string(line)) // the screen keeps its errors
		}
		p.rest = p.rest[end+1:]
	}
}
