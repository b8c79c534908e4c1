//go:build failpoints

package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

// passes counts how often each place was reached.
type passes struct {
	mu    sync.Mutex
	count map[string]int
}

var reached = &passes{count: map[string]int{}} //nolint:gochecknoglobals // only in binaries for tests

// Hit kills the process when it is the turn of the place.
func Hit(place string) {
	name, text, _ := strings.Cut(os.Getenv("FRAISEQL_FAILPOINT"), ":")
	if name != place {
		return
	}
	turn, err := strconv.Atoi(text)
	if err != nil {
		turn = 1
	}
	reached.mu.Lock()
	defer reached.mu.Unlock()
	reached.count[place]++
	if reached.count[place] < turn {
		return
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err == nil {
		select {} // the signal is on its way
	}
}
