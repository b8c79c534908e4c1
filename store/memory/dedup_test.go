package memory_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/fraiseql/observer/store/deduptest"
	"github.com/fraiseql/observer/store/memory"
)

func TestDedup(t *testing.T) {
	t.Parallel()
	deduptest.RunState(t, func(*testing.T) deduptest.StateSubject {
		var passed atomic.Int64
		began := time.Now()
		s := memory.New(memory.Config{Now: func() time.Time { return began.Add(time.Duration(passed.Load())) }})
		return deduptest.StateSubject{State: s, Subject: deduptest.Subject{
			Store: s, Unit: time.Microsecond, Pass: func(d time.Duration) { passed.Add(int64(d)) },
		}}
	})
}
