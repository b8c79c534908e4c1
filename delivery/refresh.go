package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fraiseql/observer"
)

// Refresh stores what is new here about the endpoints and takes over what other
// processes stored. The worker calls it all the time.
func (e *Endpoints) Refresh(ctx context.Context) error {
	e.storing.Lock()
	defer e.storing.Unlock()
	if err := e.save(ctx); err != nil {
		return err
	}
	versions := e.versions()
	rows, err := e.rows(ctx)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, row := range rows {
		if h := e.of(name); h.version == versions[name] && !h.dirty {
			e.adopt(h, row)
		}
	}
	for name, h := range e.known {
		if _, there := rows[name]; !there && h.version == versions[name] && h.stored {
			e.cleared(name, h)
		}
		e.forget(name, h)
	}
	return nil
}

func (e *Endpoints) rows(ctx context.Context) (map[string]observer.Endpoint, error) {
	list, err := e.cfg.Store.Endpoints(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the endpoints: %w", err)
	}
	rows := make(map[string]observer.Endpoint, len(list))
	for _, row := range list {
		rows[row.Name] = row
	}
	return rows, nil
}

// versions say what was known before the rows were read: what an attempt
// changed meanwhile is newer than they are.
func (e *Endpoints) versions() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	versions := make(map[string]int, len(e.known))
	for name, h := range e.known {
		versions[name] = h.version
	}
	return versions
}

// adopt takes over a row. It is called with mu held, as cleared is.
func (e *Endpoints) adopt(h *health, row observer.Endpoint) {
	if h.stored && row.UpdatedAt.Equal(h.seen) {
		return
	}
	now := time.Now()
	h.stored, h.seen = true, row.UpdatedAt
	switch {
	case h.ended(row):
		e.resumed(row.Name, h)
	case row.Pause != h.pause:
		h.adoptPause(row)
		e.leaveProbes(h, row.UpdatedAt, now)
	case row.Pause == observer.PausedFailing && row.UpdatedAt.After(h.savedAt.Add(settleGrace)):
		e.leaveProbes(h, row.UpdatedAt, now)
	}
	h.adoptFailing(row)
	if h.failures == 0 && !row.FailingSince.IsZero() {
		h.hard, h.lastError, h.ramp = true, row.LastError, time.Time{}
	}
}

func (h *health) adoptPause(row observer.Endpoint) {
	h.pause, h.pausedAt, h.alert = row.Pause, row.PausedAt, false
	h.ramp, h.started = time.Time{}, 0
}

// adoptFailing takes over since when others have seen the endpoint fail.
func (h *health) adoptFailing(row observer.Endpoint) {
	if !row.FailingSince.IsZero() && (h.failingSince.IsZero() || row.FailingSince.Before(h.failingSince)) {
		h.failingSince = row.FailingSince
	}
}

// leaveProbes lets the process that stored the row last go on probing: this one
// takes over when it does not.
func (e *Endpoints) leaveProbes(h *health, updated, now time.Time) {
	if updated.After(now) {
		updated = now // another clock
	}
	if next := updated.Add(e.cfg.ProbeInterval + e.cfg.ProbeInterval/4); next.After(h.nextProbe) {
		h.nextProbe = next
	}
}

// cleared notes that somebody removed the row: the endpoint works, or a person
// ended its pause.
func (e *Endpoints) cleared(name string, h *health) {
	h.stored = false
	switch {
	case h.dirty:
		return
	case h.pause == observer.NotPaused && !h.hard:
		h.failures, h.failingSince = 0, time.Time{}
		return
	}
	e.resumed(name, h)
}

// resumed notes that a pause or a failure was ended elsewhere.
func (e *Endpoints) resumed(name string, h *health) {
	if h.pause != observer.NotPaused {
		e.cfg.Resumed(name)
	}
	h.resume(time.Now())
	e.cfg.Logger.Info("endpoint resumed; what waits for it is sent at a growing rate", "endpoint", name)
	e.wake()
}

// save stores what is new, on top of rows that are read anew when somebody
// changed one meanwhile. What others keep changing is left to the next time. The
// caller holds storing.
func (e *Endpoints) save(ctx context.Context) error {
	dirty := e.dirty()
	for try := 0; len(dirty) > 0 && try < changeTries; try++ {
		rows, err := e.rows(ctx)
		if err != nil {
			return err
		}
		var changed []string
		for _, name := range dirty {
			err := e.saveOne(ctx, name, rows[name])
			switch {
			case errors.Is(err, observer.ErrBusy):
				changed = append(changed, name)
			case err != nil:
				return fmt.Errorf("store endpoint %s: %w", name, err)
			}
		}
		dirty = changed
	}
	return nil
}

func (e *Endpoints) dirty() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var names []string
	for name, h := range e.known {
		if h.dirty {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// saveOne stores what is known about an endpoint on top of its row.
func (e *Endpoints) saveOne(ctx context.Context, name string, row observer.Endpoint) error {
	e.mu.Lock()
	h := e.of(name)
	if h.merge(row) {
		e.resumed(name, h)
		h.adoptFailing(row)
		h.lastError = row.LastError
	}
	want, version, alert := h.row(name), h.version, h.alert
	want.UpdatedAt = row.UpdatedAt
	e.mu.Unlock()
	err := e.cfg.Store.SaveEndpoint(ctx, want)
	e.mu.Lock()
	h.unanswered = err != nil && !errors.Is(err, observer.ErrBusy)
	if err != nil {
		e.mu.Unlock()
		return err
	}
	if h.version == version {
		h.dirty = false
	}
	if alert && h.pause == want.Pause {
		h.alert = false // and not that of a pause that began meanwhile
	}
	h.savedAt = time.Now()
	h.stored = !want.FailingSince.IsZero() || want.Pause != observer.NotPaused
	e.forget(name, h)
	e.mu.Unlock()
	if alert && e.cfg.Paused != nil {
		e.cfg.Paused(ctx, want)
	}
	return nil
}

// samePause is what a store may round away of the time of a pause. A row within
// it is that of this process, stored although the answer was lost.
const samePause = time.Millisecond

// merge takes from the row what this process must not undo: a pause that only a
// person ends, since when others have seen the endpoint fail, and the end of a
// pause. It reports whether the pause that this process knows of is over.
func (h *health) merge(row observer.Endpoint) (over bool) {
	failing := !h.failingSince.IsZero()
	final := row.Pause == observer.PausedGone || row.Pause == observer.PausedByPerson
	switch {
	case row.Pause == h.pause:
		ours := h.unanswered && row.PausedAt.Sub(h.pausedAt).Abs() <= samePause
		h.alert = h.alert && ours // whoever paused it tells of it
	case h.ended(row):
		return true
	case final, row.Pause == observer.PausedFailing && h.pause == observer.NotPaused && failing:
		h.adoptPause(row)
	}
	if failing {
		h.adoptFailing(row)
	}
	return false
}

// ended reports whether the pause that was stored is not in the row any more,
// because of a person or of a success that another process had.
func (h *health) ended(row observer.Endpoint) bool {
	return h.pause != observer.NotPaused && !h.alert && row.Pause == observer.NotPaused
}
