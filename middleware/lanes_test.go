package middleware

import (
	"context"
	"errors"
	"testing"
)

// An answer that is older than the last addition to a lane must not strike the
// lane off: what was added would be overtaken.
func TestLaneAddedWhileItIsAskedAboutStays(t *testing.T) {
	t.Parallel()
	stored, asked := false, 0
	var lanes *Lanes
	lanes = newLanes(func(context.Context, string, string) (bool, error) {
		asked++
		answer := stored
		if asked == 2 { // another action of the event is stored just after this answer
			stored = true
			lanes.Add("a")
		}
		return answer, nil
	})
	lanes.Add("a")
	if blocked, err := lanes.Blocked(t.Context(), "a", "e1"); blocked || err != nil {
		t.Fatalf("blocked %v, %v", blocked, err)
	}
	if blocked, err := lanes.Blocked(t.Context(), "a", "e2"); !blocked || err != nil {
		t.Errorf("the next event overtakes what was stored: %v", err)
	}
}

func TestLanesAskOnlyAboutSuspects(t *testing.T) {
	t.Parallel()
	asked := 0
	lanes := newLanes(func(context.Context, string, string) (bool, error) { asked++; return false, nil })
	for _, lane := range []string{"", "a", "b"} {
		if blocked, err := lanes.Blocked(t.Context(), lane, "e"); blocked || err != nil || asked != 0 {
			t.Errorf("%q: %v, %v after asking %d times", lane, blocked, err, asked)
		}
	}
	lanes.Add("")
	lanes.Add("a")
	for range 3 {
		if blocked, err := lanes.Blocked(t.Context(), "a", "e"); blocked || err != nil {
			t.Errorf("%v, %v", blocked, err)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times, want once for others and once for all", asked)
	}
	away := newLanes(func(context.Context, string, string) (bool, error) { return false, errors.New("away") })
	away.Add("a")
	for range 2 {
		if _, err := away.Blocked(t.Context(), "a", "e"); err == nil {
			t.Error("a store that is away says the lane is free")
		}
	}
}
