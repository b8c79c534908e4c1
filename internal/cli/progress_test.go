package cli

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A terminal gets a bar that takes its own line away; a file gets a line now and
// then, and none for what is over soon.
func TestProgress(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		terminal bool
		step     time.Duration
		want     string
	}{
		"terminal": {true, barEvery, "\r[=======                       ] 1/4 0s\x1b[K" + "\r[===============               ] 2/4 0s\x1b[K" +
			"\r[======================        ] 3/4 0s\x1b[K" + "\r[==============================] 4/4 0s\x1b[K" + "\r\x1b[K"},
		"terminal, quick": {true, barEvery / 4, "\r[==============================] 4/4 0s\x1b[K\r\x1b[K"},
		"file":            {false, lineEvery / 2, "fraiseql-observer: 2 of 4 after 5s\nfraiseql-observer: 4 of 4 after 10s\n"},
		"file, quick":     {false, time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out strings.Builder
				c := &cli{err: &out}
				p := c.newProgress()
				p.terminal = tt.terminal
				p.at(0, 4)
				for i := range 4 {
					<-time.After(tt.step)
					p.at(i+1, 4)
				}
				p.clear()
				p.clear()
				if out.String() != tt.want {
					t.Errorf("drew %q\nwant %q", out.String(), tt.want)
				}
			})
		})
	}
}

// Only a yes is a yes, and without a terminal nobody is asked.
func TestConfirm(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]error{
		"yes\n": nil, "Y\n": nil, "yes": nil, "no\n": errUnconfirmed, "\n": errUnconfirmed, "": errUnconfirmed, "yesterday\n": errUnconfirmed,
	} {
		var out strings.Builder
		c := &cli{err: &out}
		if err := c.ask(strings.NewReader(answer), "remove 2 dead letters for good?"); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", answer, err, want)
		}
		if got := out.String(); got != "remove 2 dead letters for good? [yes/no] " {
			t.Errorf("asked %q", got)
		}
		if err := c.confirm(strings.NewReader(answer), "remove?"); codeOf(err) != exitConfig || !strings.Contains(err.Error(), "--yes") {
			t.Errorf("without a terminal: %v", err)
		}
	}
}
