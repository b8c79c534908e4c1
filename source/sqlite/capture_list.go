package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// CaptureStatus is a capture as it stands.
type CaptureStatus struct {
	// Capture is what was asked for. Table is the table's name now.
	Capture
	// Drift says, for people, in what the table or the triggers differ from
	// what was installed; empty when they agree. Adding the capture again mends
	// all of it.
	Drift []string `json:"drift,omitempty"`
}

// ListCaptures reports every captured table, by name. A database without a
// change log has none.
func ListCaptures(ctx context.Context, path string) (_ []CaptureStatus, err error) {
	db, err := open(ctx, path, reading)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	list, err := listCaptures(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("list captures of %s: %w", path, err)
	}
	return list, nil
}

func listCaptures(ctx context.Context, q queryer) ([]CaptureStatus, error) {
	if _, err := inspectLog(ctx, q); errors.Is(err, ErrNoLog) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	tables, err := strs(ctx, q, "SELECT DISTINCT tbl_name FROM sqlite_schema WHERE type = 'trigger' AND name GLOB ? ORDER BY 1", triggerPrefix+"*")
	if err != nil {
		return nil, err
	}
	var list []CaptureStatus
	installed := map[string]bool{}
	for _, name := range tables {
		status, id, err := statusOf(ctx, q, name)
		if err != nil {
			return nil, err
		}
		installed[id] = true
		list = append(list, status)
	}
	lost, err := lostCaptures(ctx, q, installed)
	if err != nil {
		return nil, err
	}
	list = append(list, lost...)
	slices.SortFunc(list, func(a, b CaptureStatus) int { return strings.Compare(a.Table, b.Table) })
	return list, nil
}

// statusOf compares the triggers on a table with the table. id is that of the
// installation.
func statusOf(ctx context.Context, q queryer, name string) (status CaptureStatus, id string, err error) {
	triggers, err := ownTriggers(ctx, q, name)
	if err != nil {
		return status, "", err
	}
	s, err := specOf(ctx, q, triggers[0])
	if err != nil {
		return status, "", err
	}
	columns, err := columnsOf(ctx, q, name)
	if err != nil {
		return status, "", err
	}
	now := make([]string, len(columns))
	for i, c := range columns {
		now[i] = c.name
	}
	status.Capture = s.Capture
	if s.Table != name {
		status.Drift = append(status.Drift, "the table was renamed from "+s.Table)
		status.Table = name
	}
	if len(triggers) != 4 {
		status.Drift = append(status.Drift, fmt.Sprintf("%d of 4 triggers are missing", 4-len(triggers)))
	}
	status.Drift = append(status.Drift, columnDrift(&s, now)...)
	return status, s.ID, nil
}

// columnDrift compares the columns of then and now. A column in the place of
// one that is gone is that column under a new name: SQLite has no way to move
// one, and refuses to drop one that a trigger mentions.
func columnDrift(s *spec, now []string) (drift []string) {
	explained := map[string]bool{}
	for i, was := range s.All {
		switch {
		case slices.Contains(now, was):
		case i < len(now) && !slices.Contains(s.All, now[i]):
			explained[now[i]] = true
			drift = append(drift, fmt.Sprintf("column %s was renamed to %s: events still call it %s", was, now[i], was))
		default:
			drift = append(drift, fmt.Sprintf("column %s was removed", was))
		}
	}
	for _, c := range now {
		if !slices.Contains(s.All, c) && !explained[c] && len(s.Columns) == 0 {
			drift = append(drift, fmt.Sprintf("column %s was added: events do not carry it", c))
		}
	}
	return drift
}

// lostCaptures are the tables that ought to have triggers and have none.
func lostCaptures(ctx context.Context, q queryer, installed map[string]bool) ([]CaptureStatus, error) {
	specs, err := strs(ctx, q, "SELECT spec FROM tb_entity_change_log_capture ORDER BY table_name")
	if err != nil {
		return nil, err
	}
	var list []CaptureStatus
	for _, text := range specs {
		var s spec
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return nil, fmt.Errorf("read the list of captures: %w", err)
		}
		if installed[s.ID] {
			continue
		}
		drift := "its triggers are gone, as after making the table anew: changes are not recorded"
		if columns, err := columnsOf(ctx, q, s.Table); err != nil {
			return nil, err
		} else if len(columns) == 0 {
			drift = "the table is gone"
		}
		list = append(list, CaptureStatus{Capture: s.Capture, Drift: []string{drift}})
	}
	return list, nil
}
