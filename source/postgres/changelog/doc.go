// Package changelog is the change log of a PostgreSQL database as a table: its
// names, its definition, what is added to one that FraiseQL made, and the trigger
// that wakes a sleeping reader.
//
// [Migrate] creates or completes it, [Script] prints the SQL that does so,
// [Ready] says what is missing and needs no rights, and [Inspect] reports how the
// log of a database is built. Everything is additive: no column that is there is
// changed, and what is added may be NULL.
//
// # Waking up
//
// A statement trigger on the log, which serves captured tables and applications
// that write the log themselves, tries a shared advisory lock, [WakeKey], for its
// transaction. A reader that sleeps holds that lock exclusively. So a writer that
// gets it knows that the reader is awake, and keeps it awake until the commit; a
// writer that does not get it sends a notification. NOTIFY takes a lock at commit
// that the whole server shares, and is for that reason the exception here.
//
// PostgreSQL refuses to prepare a transaction that has executed NOTIFY. Where
// max_prepared_transactions is above 0 the trigger does nothing, and the reader
// polls, unless [NotifyAlways] was asked for.
package changelog
