package sqlite_test

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/store/deduptest"
	"github.com/fraiseql/observer/store/sqlite"
)

func TestDedup(t *testing.T) {
	t.Parallel()
	deduptest.RunState(t, func(t *testing.T) deduptest.StateSubject {
		t.Helper()
		var passed atomic.Int64
		began := time.Now()
		cfg := sqlite.Config{
			Path: filepath.Join(t.TempDir(), "state.db"),
			Now:  func() time.Time { return began.Add(time.Duration(passed.Load())) },
		}
		s := opened(t, cfg)
		return deduptest.StateSubject{State: s, Subject: deduptest.Subject{
			Store: s, Again: func(t *testing.T) observer.DedupStore { t.Helper(); return opened(t, cfg) },
			Unit: time.Microsecond, Pass: func(d time.Duration) { passed.Add(int64(d)) },
		}}
	})
}
