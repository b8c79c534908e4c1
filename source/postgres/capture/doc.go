// Package capture records the changes of PostgreSQL tables that nobody else
// records: statement-level triggers, installed per table, that write to the change
// log in the transaction of the change.
//
// [Add] generates one function for a table and the triggers that call it: after
// INSERT, UPDATE and DELETE with transition tables, so that a statement of a
// million rows is recorded by one statement, and after TRUNCATE. [List] compares
// what is installed with the tables as they are, [Remove] takes it away.
//
// # What the function may do to a writer
//
// It never fails because of a value, a session setting or a changed table, and
// never waits for anything but the log.
//
// Before it writes, it computes what it is about to write, inside a block that
// catches errors. That block only reads, so it costs no subtransaction id, of
// which PostgreSQL keeps 64 per session before everybody pays. The event of a
// statement of one row, as most are, is kept in variables and only left to be
// written. A statement of a few rows is computed twice. One of more than a hundred
// is written inside the block, for which one subtransaction is nothing. The block
// also locks the log, so that nobody alters it between the trial and the writing.
//
// When computing fails, because a column was renamed, because a value has no form
// in jsonb (json may hold \u0000, jsonb may not; a text may be longer than 256
// MiB), or because the log lacks a column, the statement is recorded again with SQL
// made for the table and the log as they are now, value by value: a value that
// cannot be written as it is becomes its text, and one that cannot be written at
// all {"omitted_bytes": n}. When even that fails the events come without images.
// Each event written this way says why, in extra_metadata.capture_error.
//
// Errors that are not about the statement are left alone: serialization failures,
// deadlocks, timeouts, cancellation. So is a log that refuses the row, for want of
// disk space, by a constraint or a policy that somebody added, or because a
// partition is missing: the change and its record commit together or not at all.
// Only where there is no log any more, or no right to write to it, is there nothing
// to keep in step with. Then the change goes through, with a WARNING and a row in
// tb_capture_unrecorded of our own schema, which List reports.
//
// # Order
//
// Events of one statement are in the order in which it touched the rows, those of
// an UPDATE that changes keys after the DELETEs that belong to it. An UPDATE is
// compared by key and not by row: an entity that was there before and is there
// after it has one UPDATE, whichever row carries its key now; the others have a
// DELETE or an INSERT. So no entity has two events in one statement, and UPDATE t
// SET id = id + 1 says what became of each id.
package capture
