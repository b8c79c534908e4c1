package postgres

import (
	"testing"
	"time"
)

// TestFloor goes through the life of one, by seconds.
func TestFloor(t *testing.T) {
	t.Parallel()
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	f := newFloor()
	want := func(what string, now, second int, full bool) {
		t.Helper()
		from, gotFull := f.start(at(now))
		if gotFull != full || !full && !from.Time.Equal(at(second)) {
			t.Errorf("%s: got start %v, full %t, want second %d, full %t", what, from.Time, gotFull, second, full)
		}
	}
	want("nothing known", 100, 0, true)
	f.took(smallBand-1, dueTime(at(40)), at(100))
	f.looked(at(100), time.Millisecond)
	want("a small band", 100, 0, true)
	f.took(1, dueTime(at(50)), at(100))
	want("a backlog", 100, 50, false)
	want("the next full look is due", 101, 0, true)
	f.looked(at(101), 100*time.Millisecond)
	want("a full look took longer", 105, 50, false)
	want("and is due after that", 106, 0, true)
	f.looked(at(106), time.Hour)
	want("no look takes a minute's rest", 165, 50, false)
	want("at most", 166, 0, true)
	f.looked(at(166), 0)

	f.took(100, dueTime(at(166)), at(166))
	want("it stays behind the clock", 166, 156, false)
	f.took(window, dueTime(at(166)), at(166))
	f.took(window, dueTime(at(167)), at(166))
	want("but not by more rows than that", 166, 166, false)
	f.lower(dueTime(at(160)))
	want("something came", 166, 160, false)
	f.lower(dueTime(at(163)))
	want("something later came", 166, 160, false)
	f.took(10, dueTime(at(161)), at(166))
	want("it was taken", 166, 160, false) // what was lowered stays until as many rows were taken
	f.lower(dueTime(time.Time{}))
	if from, full := f.start(at(166)); full || from != dueTime(time.Time{}) {
		t.Errorf("something without a time came: got %v", from)
	}
}
