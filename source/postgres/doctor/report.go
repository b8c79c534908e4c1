package doctor

import (
	"cmp"
	"slices"
)

// Level grades a finding.
type Level string

// The levels, from good to bad.
const (
	// OK: as it should be.
	OK Level = "ok"
	// Note: nothing is wrong, but worth knowing, or it could not be found out.
	Note Level = "note"
	// Warning: it works, slower, later or less safely than it could.
	Warning Level = "warning"
	// Problem: changes are lost or cannot be delivered.
	Problem Level = "problem"
)

func (l Level) rank() int { return slices.Index([]Level{OK, Note, Warning, Problem}, l) }

// Finding is what one check found out. A check may have several.
type Finding struct {
	// Check is the name of the check; it stays the same from release to release.
	Check string `json:"check"`
	Level Level  `json:"level"`
	// What is one sentence with the facts.
	What string `json:"what"`
	// Do is what to do, with the SQL where there is one; empty when nothing is.
	Do string `json:"do"`
}

// Report is the result of an examination.
type Report struct {
	// Database is the server and the database: host:port/name.
	Database string `json:"database"`
	// Role is the role that looked. What others may do, nothing here says.
	Role string `json:"role"`
	// Log is the change log, quoted as in SQL.
	Log string `json:"log"`
	// Findings are in the order of the checks.
	Findings []Finding `json:"findings"`
}

// Worst is the worst level of all findings.
func (r Report) Worst() Level {
	worst := OK
	for _, f := range r.Findings {
		if f.Level.rank() > worst.rank() {
			worst = f.Level
		}
	}
	return worst
}

// Count is the number of findings of a level.
func (r Report) Count(level Level) (n int) {
	for _, f := range r.Findings {
		if f.Level == level {
			n++
		}
	}
	return n
}

// worstFirst are the findings with the worst first, and otherwise in the order
// of the checks.
func (r Report) worstFirst() []Finding {
	list := slices.Clone(r.Findings)
	slices.SortStableFunc(list, func(a, b Finding) int { return cmp.Compare(b.Level.rank(), a.Level.rank()) })
	return list
}
