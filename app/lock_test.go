package app

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

func TestRunningAsksTheLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	expect(t, path, false)
	if _, err := os.Stat(lockPath(path)); err == nil {
		t.Error("the question created the lock file")
	}
	held, err := acquireFile(path)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, path, true)
	if _, err := acquireFile(path); !errors.Is(err, ErrRunning) {
		t.Errorf("a second daemon got %v, want ErrRunning", err)
	}
	expect(t, path, true) // neither the question nor the refusal took the lock away
	if err := held.release(); err != nil {
		t.Fatal(err)
	}
	expect(t, path, false)
}

func expect(t *testing.T, path string, want bool) {
	t.Helper()
	if got, err := fileHeld(path); err != nil || got != want {
		t.Errorf("held = %v, %v; want %v", got, err, want)
	}
}

// A daemon that starts in the moment in which somebody asks is not refused.
func TestQuestionDoesNotRefuseADaemon(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	question := flock.New(lockPath(path))
	if held, err := question.TryRLock(); err != nil || !held {
		t.Fatalf("TryRLock = %v, %v", held, err)
	}
	time.AfterFunc(time.Millisecond, func() {
		if err := question.Unlock(); err != nil {
			t.Error(err)
		}
	})
	held, err := acquireFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := held.release(); err != nil {
		t.Fatal(err)
	}
}
