// Package demo shows the daemon at work with nothing installed: a temporary
// SQLite database, or schemas of its own in a PostgreSQL database, with an orders
// table, a writer that commits and rolls back,
// the daemon itself with a configuration as a user would write it, and a
// webhook receiver on the loopback interface with endpoints that are slow,
// flaky and failing.
//
//	writer -> orders -> change log -> daemon -> receiver
//	   |                                |          |
//	   +--------> ledger <--- dead letters --------+
//
// With several workers the daemon is cut in two by a NATS server inside the demo,
// and the workers are processes of their own, of which one is killed:
//
//	writer -> orders -> change log -> bridge -> stream -> workers -> receiver
//
// The ledger is the oracle: it holds what the writer committed against what the
// receiver accepted and what the state store keeps as dead letters. Whatever is
// missing is lost, and makes the demo fail; so does, with several workers, what was
// delivered again for no reason, or out of order.
package demo
