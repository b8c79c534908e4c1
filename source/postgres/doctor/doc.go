// Package doctor examines a PostgreSQL database for what keeps changes from
// being recorded, read and delivered, and says what to do about each finding.
//
// [Examine] only looks: every check runs in a read-only transaction of its own,
// bounded in time and in how long it waits for a lock, and changes no setting of
// the session, so that it is safe on a server in trouble and behind a pooler.
// A check that the role has no right to make, or that fails, is a note that says
// so, and the others go on.
//
// No finding contains a value of a row, a parameter or a password: of the
// statements of other sessions it shows the text without its literals.
package doctor
