package sqlite_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/fraiseql/observer/source/sqlite"
)

// TestAnErrorOfReadingIsNotAMissingLog ends the context at every moment of a
// look at the log. No moment may look like a database without a log: callers
// tell people to make one, or take it that nothing is captured.
func TestAnErrorOfReadingIsNotAMissingLog(t *testing.T) {
	t.Parallel()
	path := newDatabase(t).path
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	source := sqlite.New(sqlite.Config{Path: path})
	failed := 0
	for after := 20 * time.Microsecond; after < 20*time.Millisecond; after += after / 20 {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		_, err := source.Head(ctx)
		cancel()
		if errors.Is(err, sqlite.ErrNoLog) {
			t.Fatalf("after %s: %v", after, err)
		}
		if err != nil {
			failed++
		}
	}
	if failed == 0 {
		t.Error("no look failed, so the test shows nothing")
	}
}
