package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// barWidth is how many columns the bar itself takes.
const barWidth = 30

// The times between two drawings: of the bar, which a person watches, and of
// the lines that go to a file instead.
const (
	barEvery  = 100 * time.Millisecond
	lineEvery = 5 * time.Second
)

// progress tells a person how far a long command is, on standard error: as a bar
// on a terminal, else as a line now and then. One goroutine uses it at a time.
type progress struct {
	w        io.Writer
	terminal bool
	began    time.Time
	drawn    time.Time // when it was drawn last
	shown    bool      // the bar stands in the current line
}

func (c *cli) newProgress() *progress {
	f, ok := c.err.(*os.File)
	now := time.Now()
	return &progress{w: c.err, terminal: ok && term.IsTerminal(int(f.Fd())), began: now, drawn: now}
}

// at draws that done of total are done, unless it has just drawn.
func (p *progress) at(done, total int) {
	now, every := time.Now(), lineEvery
	if p.terminal {
		every = barEvery
	}
	if now.Sub(p.drawn) < every {
		return
	}
	p.drawn = now
	if !p.terminal {
		_, _ = fmt.Fprintf(p.w, "%s: %d of %d after %s\n", program, done, total, age(now.Sub(p.began)))
		return
	}
	filled := 0
	if total > 0 {
		filled = min(barWidth, barWidth*done/total)
	}
	bar := strings.Repeat("=", filled) + strings.Repeat(" ", barWidth-filled)
	_, _ = fmt.Fprintf(p.w, "\r[%s] %d/%d %s\x1b[K", bar, done, total, age(now.Sub(p.began)))
	p.shown = true
}

// clear takes the bar away, for another line or at the end.
func (p *progress) clear() {
	if p.shown {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// rate is the value of --rate: how many in a second, 0 for no limit.
type rate struct{ perSecond float64 }

func (r *rate) flag(cmd *cobra.Command) {
	cmd.Flags().Float64Var(&r.perSecond, "rate", 0, "how many in a second at most; 0 does not limit")
}

func (r *rate) check() error {
	if r.perSecond < 0 || r.perSecond > 1e6 {
		return usageError(errors.New("--rate must be from 0, for no limit, to 1000000 in a second"))
	}
	return nil
}

// pause is the time between the beginnings of two.
func (r *rate) pause() time.Duration {
	if r.perSecond <= 0 {
		return 0
	}
	return time.Duration(float64(time.Second) / r.perSecond)
}
