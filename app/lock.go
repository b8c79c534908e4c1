package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// ErrRunning says that another daemon runs on the same state.
var ErrRunning = errors.New("another fraiseql-observer is running")

// A held lock is tried a few times: [Running] holds it for the moment of its
// question, and a daemon that starts in that moment must not take it for a
// second daemon.
const (
	lockTries = 25
	lockPause = 20 * time.Millisecond
)

// lock keeps a second daemon from the same state: two would deliver everything
// twice. The operating system releases it when the process dies, however it
// dies.
type lock struct{ file *flock.Flock }

func lockPath(statePath string) string { return statePath + ".lock" }

func acquire(statePath string) (*lock, error) {
	file := flock.New(lockPath(statePath))
	for range lockTries {
		held, err := file.TryLock()
		if err != nil {
			return nil, unlockable(statePath, err)
		}
		if held {
			return &lock{file: file}, nil
		}
		<-time.After(lockPause)
	}
	return nil, fmt.Errorf("%w with the state in %s; stop it, or give this one another [state] url", ErrRunning, statePath)
}

// unlockable says why the lock of a state cannot be opened and what to do.
func unlockable(statePath string, cause error) error {
	dir := filepath.Dir(statePath)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("state %s: the directory %s does not exist; create it, or give another [state] url", statePath, dir)
	case err == nil && !info.IsDir():
		return fmt.Errorf("state %s: %s is not a directory; give another [state] url", statePath, dir)
	}
	return fmt.Errorf("state %s: %w; see that this user may write there, or give another [state] url", statePath, cause)
}

func (l *lock) release() error { return l.file.Unlock() }

// Running reports whether a daemon runs on the state at statePath, in this
// process or another. It asks the operating system, so the answer is true also
// after a crash, and creates nothing. It may be called concurrently.
func Running(statePath string) (running bool, err error) {
	path := lockPath(statePath)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	// Shared, so that two who ask at once do not take each other for a daemon.
	file := flock.New(path, flock.SetFlag(os.O_RDONLY))
	free, err := file.TryRLock()
	if err != nil {
		return false, fmt.Errorf("look at the lock %s: %w", path, err)
	}
	if err := file.Unlock(); err != nil {
		return false, fmt.Errorf("look at the lock %s: %w", path, err)
	}
	return !free, nil
}
