// Package postgres reads the change log of a PostgreSQL database without
// skipping a committed row.
//
// # Why a cursor is not enough
//
// Keys of the log are handed out when a row is inserted and become visible when
// its transaction commits, in another order: whoever remembers only the highest
// key it saw never sees the rows that commit later with lower ones. So every
// visible row is given out at once, in the order of keys, and the keys below
// that were not seen are remembered as holes.
//
// A hole is dead when nobody is left who could fill it. Whoever draws a key
// holds a lock on the sequence until its transaction ends, through rolled back
// savepoints and PREPARE TRANSACTION. The holders are listed after the snapshot
// that showed the hole; when all of them are gone, and a snapshot taken after
// that still has no row, there will never be one. No time passes judgement: a
// transaction that hangs for a day delays its own rows and nobody else's.
//
// The order of an entity's changes follows from its row lock: the later change
// draws its key after the earlier one committed. That needs a sequence without
// a cache; another one is refused, and so is a standby.
//
// # What a writer must keep to
//
// Capture does all of it. An application that writes the log itself changes the
// row first and writes the log after it, in the same transaction, and lets the
// log draw the key: a key that another transaction drew is taken for dead when
// that one ends.
//
// # Positions
//
// A position holds the cursor, the holes, the history (cluster, timeline,
// database, table) and a trail of rows that were read. When the history is
// another one, as after the promotion of a standby that lagged, reading goes
// back to the newest row of the trail that both histories have: keys are used a
// second time there, but event ids are not, so nothing of the new history is
// skipped and what comes again comes under its old id. When the sequence moves
// back (TRUNCATE ... RESTART IDENTITY, setval, a crash that lost commits made with
// synchronous_commit off), the keys it gives again are read again, from the
// newest row of the trail on. Both are reported to Config.Rewound.
//
// While a transaction hangs, the holes that others leave by rolling back stay
// open too. Above about a thousand of them the rows of a batch share a position,
// and a restart repeats up to a batch.
//
// # Waking up
//
// Polling alone finds everything. So that an idle reader need not poll often,
// the log's trigger notifies a reader that sleeps, and only then; see
// [changelog]. Without the trigger, behind a pooler in transaction mode, or where
// prepared transactions are enabled (they cannot contain NOTIFY), polling slows
// down to PollInterval when the log is quiet.
package postgres
