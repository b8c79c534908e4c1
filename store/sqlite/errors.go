package sqlite

import (
	"context"
	"errors"
	"fmt"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	observer "github.com/fraiseql/observer"
)

// errClosed answers whoever calls a closed store.
var errClosed = errors.New("the state store is closed")

// missingError is a store that is not there (yet). It matches
// [observer.ErrNotFound].
type missingError struct{ path, what string }

func (e *missingError) Error() string { return "the state store " + e.path + " " + e.what }

func (e *missingError) Is(target error) bool { return target == observer.ErrNotFound }

// code is SQLite's primary result code, 0 for other errors.
func code(err error) int {
	if e, ok := errors.AsType[*driver.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

func isBusy(err error) bool {
	c := code(err)
	return c == sqlite3.SQLITE_BUSY || c == sqlite3.SQLITE_LOCKED
}

// isAnswer reports whether err is an answer about a row, as opposed to a
// failure of the database.
func isAnswer(err error) bool {
	for _, answer := range []error{observer.ErrNotFound, observer.ErrBusy, observer.ErrFull, observer.ErrFenced} {
		if errors.Is(err, answer) {
			return true
		}
	}
	return err == nil
}

// explain adds the file and what to do about it to an error of SQLite.
func (s *Store) explain(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	switch code(err) {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%s is locked by another program; find it (for example with: fuser %s) and end its transaction: %w", s.path, s.path, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("no space for %s; nothing was stored, free space on its disk: %w", s.path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return fmt.Errorf("%s cannot be written; give this user write permission to the file and its directory: %w", s.path, err)
	case sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%s cannot be opened; check that this user may read and write the file and its directory: %w", s.path, err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("the disk failed on %s; check the disk and the kernel log: %w", s.path, err)
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%s is not a SQLite database; choose another path: %w", s.path, err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("%s is damaged; keep a copy and restore a backup, or recover it with: sqlite3 FILE .recover: %w", s.path, err)
	}
	return err
}
