package demo

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// progressInterval is the time between two looks at the progress; in a pipe
	// only every plainEvery-th becomes a line.
	progressInterval = 100 * time.Millisecond
	plainEvery       = 20

	eraseLine = "\r\x1b[K"
	// mostListed is how many lost deliveries the summary names.
	mostListed = 5
)

// screen prints lines, and on a terminal keeps a progress line below them. It
// is safe for concurrent use.
type screen struct {
	mu    sync.Mutex
	out   io.Writer
	opts  Options
	began time.Time
	below string // the progress line that stands on the terminal
	gone  func() // called when out cannot be written to
	err   error  // why it cannot
}

func newScreen(out io.Writer, opts Options, gone func()) *screen {
	return &screen{out: out, opts: opts, began: time.Now(), gone: gone}
}

// write is called with the lock held.
func (s *screen) write(text string) {
	if s.err != nil {
		return
	}
	if _, s.err = io.WriteString(s.out, text); s.err != nil {
		s.gone()
	}
}

// failure is why not everything was printed. A reader that went away has seen
// what it wanted.
func (s *screen) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil || errors.Is(s.err, syscall.EPIPE) {
		return nil
	}
	return fmt.Errorf("print: %w", s.err)
}

// print writes whole lines above the progress line.
func (s *screen) print(lines string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.below != "" {
		lines = eraseLine + lines + s.below
	}
	s.write(lines)
}

// Write makes a screen the output of a log.
func (s *screen) Write(p []byte) (int, error) {
	s.print(string(p))
	return len(p), nil
}

func (s *screen) begin(database string) {
	if s.opts.Quiet {
		return
	}
	s.print(fmt.Sprintf("a shop writes %d orders a second to %s for %s; every committed change becomes webhook calls\n"+
		"latencies run from just before COMMIT to the arrival of the call\n\n", s.opts.Rate, database, s.opts.Duration))
}

func (s *screen) beginDistributed(database string) {
	if s.opts.Quiet {
		return
	}
	s.print(fmt.Sprintf("a shop writes %d orders a second to %s for %s\n"+
		"this process publishes every committed change to a NATS server inside it; %d workers, processes of their own,\n"+
		"make webhook calls of them; one of them is killed half-way\n\n", s.opts.Rate, database, s.opts.Duration, s.opts.Workers))
}

// happened prints what happened to a worker.
func (s *screen) happened(what string) {
	if !s.opts.Quiet {
		s.print(time.Now().Format("15:04:05.000") + "  " + what + "\n")
	}
}

// received prints the line of one request. With several workers what happens to
// them would be lost among those.
func (s *screen) received(r receipt) {
	if s.opts.Quiet || s.opts.Workers > 0 {
		return
	}
	s.print(fmt.Sprintf("%s  %-15s  Order %-4d  %-6s  attempt %d  %-12s  %9s  %s\n",
		r.at.Format("15:04:05.000"), r.duty.observer, r.change.order, r.duty.op, r.attempt, verdict(r.status), milliseconds(r.latency), r.key))
}

func verdict(status int) string {
	if status < 300 {
		return "accepted"
	}
	return fmt.Sprintf("refused %d", status)
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// startProgress shows the progress until the function it returns is called.
func (s *screen) startProgress(l *ledger) (stop func()) {
	if s.opts.Quiet {
		return func() {}
	}
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-tick.C:
				s.progress(n, l.progress())
			case <-stopping:
				s.setBelow("")
				return
			}
		}
	}()
	return func() { close(stopping); <-stopped }
}

func (s *screen) progress(n int, p progress) {
	line := fmt.Sprintf("%5.1f s  %d changes committed, %d of %d deliveries accepted",
		time.Since(s.began).Seconds(), p.changes, p.accepted, p.expected)
	switch {
	case s.opts.Terminal:
		s.setBelow(line)
	case n%plainEvery == 0:
		s.print(line + "\n")
	}
}

func (s *screen) setBelow(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := line
	if s.below != "" {
		text = eraseLine + line
	}
	s.below = line
	s.write(text)
}

// summary prints how it ended.
func (s *screen) summary(r summary) {
	dead := 0
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(r.dead)) {
		dead += r.dead[reason]
		reasons = append(reasons, fmt.Sprintf("%s %d", reason, r.dead[reason]))
	}
	var b strings.Builder
	row := func(name string, n int, remark string) {
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("%-10s %7d  %s", name, n, remark), " "))
	}
	if !s.opts.Quiet {
		b.WriteString("\n")
	}
	row("committed", r.changes, fmt.Sprintf("changes in %d transactions; %d rolled back", r.transactions, r.rolledBack))
	row("expected", r.expected, "deliveries")
	row("delivered", r.delivered, "")
	row("retried", r.retried, fmt.Sprintf("took more than one attempt: the flaky endpoint answers %d at first", http.StatusServiceUnavailable))
	row("dead", dead, deadRemark(reasons))
	row("waiting", r.waiting, "")
	row("lost", len(r.lost), "")
	row("repeated", r.repeated, repeatedRemark(r))
	if r.workers != nil {
		row("disordered", len(r.workers.disorder), "changes of an order that came after a later one")
	}
	fmt.Fprintf(&b, "%-10s %s at p50, %s at p99, from commit to the first accepted call\n", "latency", milliseconds(r.p50), milliseconds(r.p99))
	list(&b, "lost", r.lost)
	list(&b, "received although it was never committed", r.unexpected)
	if r.workers != nil {
		list(&b, "repeated without a reason", r.workers.unexplained)
		list(&b, "out of order", r.workers.disorder)
	}
	if !s.opts.Quiet {
		b.WriteString("\nnext: `fraiseql-observer init` writes a configuration; `fraiseql-observer capture add --table TABLE --entity ENTITY`\n" +
			"records the changes of a table of yours; `fraiseql-observer run` delivers them\n")
	}
	s.print(b.String())
}

// repeatedRemark says why deliveries were repeated, where that is known.
func repeatedRemark(r summary) string {
	if r.workers == nil || r.workers.outage.worker == 0 {
		return ""
	}
	if r.repeated == 0 {
		return fmt.Sprintf("worker %d had stored every call that it had made", r.workers.outage.worker)
	}
	return fmt.Sprintf("%d because worker %d had made the call and not yet stored that when it was killed; same key",
		r.repeated-len(r.workers.unexplained), r.workers.outage.worker)
}

func deadRemark(reasons []string) string {
	if len(reasons) == 0 {
		return ""
	}
	return "dead letters: " + strings.Join(reasons, ", ") + fmt.Sprintf("; the failing endpoint answers %d", http.StatusUnprocessableEntity)
}

func list(b *strings.Builder, what string, items []string) {
	for i, item := range items {
		if i == mostListed {
			fmt.Fprintf(b, "%s: and %d more\n", what, len(items)-i)
			return
		}
		fmt.Fprintf(b, "%s: %s\n", what, item)
	}
}
