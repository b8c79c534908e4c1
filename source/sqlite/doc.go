// Package sqlite is the source for a SQLite database: a change log inside the
// user's own file, the triggers that fill it, and the reader.
//
// [Migrate] creates the table tb_entity_change_log, [AddCapture] installs
// triggers that record every change of a table in the transaction that makes
// it, and a [Source] reads the log. An application may also write rows itself,
// in its own transactions.
//
// # Why a cursor is enough
//
// SQLite has one writer at a time. A transaction takes the write lock before
// its first INSERT and keeps it until it commits or rolls back, so the next
// value of the AUTOINCREMENT key is drawn only after every smaller one is
// visible or gone for ever: keys become visible in commit order. Reading
// "greater than the last key" loses nothing and inverts nothing. A row that is
// written with an explicit key below one already read would be missed; leave
// the key to the database.
//
// # Waking up
//
// A commit writes to the database file or to its -wal file, and the directory
// is watched for that. The write is seen a little before the commit becomes
// visible, so after each one the reader looks again at growing intervals for
// about a second. PollInterval covers what cannot be watched, such as writes
// from another machine. A look is one PRAGMA data_version; rows are only
// queried when it changed.
//
// # Restored and replaced files
//
// A position carries the log's epoch (drawn when the log was created), the key,
// and a digest of the event id in that row. When the file at the path is
// another one, or the log moved back because a backup was restored, or another
// event stands at the key, reading begins again at the start of what the log
// now holds and a warning says so. Events that had been handled before come
// again with the same ids; none is skipped.
package sqlite
