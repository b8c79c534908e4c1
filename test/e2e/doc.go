// Package e2e holds the evidence that the program keeps its promises: its tests
// build the real binary, run it against a database that an application writes,
// SQLite or PostgreSQL, kill it, restart it, and compare what was committed with what a
// webhook receiver got. Tests of an invariant are named after it.
//
// A second binary has the failpoints compiled in: it ends itself at a named step
// of a delivery, see package failpoint.
//
// A fleet is an installation with a NATS stream: bridges over databases, and
// workers. Tests that take long are left out by -short.
//
// Random tests log their seed; E2E_SEED=n repeats one. E2E_BACKLOG=n sets how
// many deliveries wait for the endpoint that recovers.
package e2e
