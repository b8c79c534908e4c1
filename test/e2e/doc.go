// Package e2e holds the evidence that the program keeps its promises: its tests
// build the real binary, run it against a database that an application writes,
// SQLite or PostgreSQL, kill it, restart it, and compare what was committed with what a
// webhook receiver got. Each test is named after the invariant it watches.
//
// Random tests log their seed; E2E_SEED=n repeats one.
package e2e
