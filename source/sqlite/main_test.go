package sqlite_test

import (
	"testing"

	"go.uber.org/goleak"
)

// No stream leaves its watcher behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
