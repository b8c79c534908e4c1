package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/topology"
)

// ErrRunning says that another daemon runs on the same state.
var ErrRunning = errors.New("another fraiseql-observer is running")

// A held file is tried a few times: [Running] holds it for the moment of its
// question, and a daemon that starts in that moment must not take it for a
// second daemon.
const (
	lockTries = 25
	lockPause = 20 * time.Millisecond
)

// lock keeps a second daemon from the same state: two would deliver everything
// twice.
type lock interface {
	// keep blocks while the lock is held, until ctx ends. Where a lock can be
	// lost, gate is shut from then until it is held again; an error means that
	// it will not be.
	keep(ctx context.Context, gate *topology.Gate) error
	release() error
}

// acquire takes the lock of a state.
func acquire(ctx context.Context, state config.State, logger *slog.Logger) (lock, error) {
	if state.Kind() == config.Postgres {
		return acquireSession(ctx, state, logger)
	}
	return acquireFile(state.FilePath())
}

// Running reports whether a daemon runs on a state, in this process or another.
// It asks whoever keeps the lock, the operating system or the database, so the
// answer is true also after a crash; it changes nothing. It may be called
// concurrently.
func Running(ctx context.Context, state config.State) (running bool, err error) {
	if state.Kind() == config.Postgres {
		return sessionHeld(ctx, state)
	}
	return fileHeld(state.FilePath())
}

// unlocked is the lock of those who need none: leases keep workers apart.
type unlocked struct{}

func (unlocked) keep(ctx context.Context, _ *topology.Gate) error {
	<-ctx.Done()
	return nil
}

func (unlocked) release() error { return nil }

// fileLock is the lock of a SQLite state. The operating system releases it when
// the process dies, however it dies, and never before.
type fileLock struct{ file *flock.Flock }

func (l *fileLock) keep(ctx context.Context, _ *topology.Gate) error {
	<-ctx.Done()
	return nil
}

func (l *fileLock) release() error { return l.file.Unlock() }

func lockPath(statePath string) string { return statePath + ".lock" }

func acquireFile(statePath string) (lock, error) {
	file := flock.New(lockPath(statePath))
	for range lockTries {
		held, err := file.TryLock()
		if err != nil {
			return nil, unlockable(statePath, err)
		}
		if held {
			return &fileLock{file: file}, nil
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

func fileHeld(statePath string) (held bool, err error) {
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
