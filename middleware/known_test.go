package middleware_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/middleware"
)

func TestKnown(t *testing.T) {
	t.Parallel()
	start := time.Now()
	type outcome struct {
		Asked, Ran int
		State      observer.State
	}
	tests := map[string]struct {
		recorded time.Time
		found    observer.State
		err      error
		want     outcome
	}{
		"scheduled before":         {start.Add(-time.Second), observer.Scheduled, nil, outcome{1, 0, observer.Scheduled}},
		"dead before":              {start.Add(-time.Second), observer.Dead, nil, outcome{1, 0, observer.Dead}},
		"not there":                {start.Add(-time.Second), "", observer.ErrNotFound, outcome{1, 1, ""}},
		"store away":               {start.Add(-time.Second), "", errors.New("disk I/O error"), outcome{1, 1, ""}},
		"recorded since the start": {start, observer.Dead, nil, outcome{0, 1, ""}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got outcome
			known := middleware.Known{Since: start, Logger: quiet(), Find: func(_ context.Context, key string) (*observer.Delivery, error) {
				got.Asked++
				if key != "e1/notify/0" {
					t.Errorf("asked for %s", key)
				}
				return &observer.Delivery{State: tt.found}, tt.err
			}}
			d, act := newDelivery(), &script{answers: []error{nil}}
			d.Event.Timestamp = tt.recorded
			if _, err := known.Middleware()(act).Execute(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			got.Ran, got.State = act.calls, d.State
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}
