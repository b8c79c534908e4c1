package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	driver "modernc.org/sqlite" // registers itself as "sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors that callers branch on.
var (
	// ErrNoDatabase: there is no file at the path.
	ErrNoDatabase = errors.New("no such database file")
	// ErrCannotOpen: what is at the path cannot be opened as a database.
	ErrCannotOpen = errors.New("cannot open the database")
	// ErrNoLog: the database has no change log yet; see [Migrate].
	ErrNoLog = errors.New("the database has no change log")
	// ErrReplaced: another file stands at the path than the one being read.
	ErrReplaced = errors.New("the database file was replaced")
)

// mode is what a connection is opened for.
type mode string

const (
	// reading allows no statement that writes. The file itself is opened for
	// writing where permitted: a reader must be able to roll back the journal
	// that a crashed application left behind.
	reading mode = "_pragma=busy_timeout(5000)&_pragma=query_only(1)"
	// writing takes the write lock when a transaction begins, so that waiting
	// for another writer happens there and not in the middle.
	// Writers are let in without order: with many of them about, each syncing to
	// a slow disk, one may wait for long.
	writing mode = "_pragma=busy_timeout(30000)&_txlock=immediate"
)

// open gives a single connection to an existing database file.
func open(ctx context.Context, path string, m mode) (*sql.DB, error) {
	if err := checkFile(path); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dsn(path, m))
	if err != nil {
		return nil, cannotOpen(path, err)
	}
	db.SetMaxOpenConns(1)
	// The first statement that touches the file: a file that is no database
	// fails here and not somewhere later.
	var n int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&n); err != nil {
		return nil, errors.Join(cannotOpen(path, err), db.Close())
	}
	return db, nil
}

// cannotOpen says what is wrong with the file at path. A context that ended is
// nothing of the file's.
func cannotOpen(path string, err error) error {
	coded, ok := errors.AsType[*driver.Error](err)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("open %s: %w", path, err)
	case ok && coded.Code() == sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %s is not a SQLite database (check the path)", ErrCannotOpen, path)
	}
	return fmt.Errorf("%w: %s: %w", ErrCannotOpen, path, err)
}

func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s (check the path)", ErrNoDatabase, path)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrCannotOpen, err)
	case info.IsDir():
		return fmt.Errorf("%w: %s is a directory: give the path of a file", ErrCannotOpen, path)
	}
	return nil
}

// dsn writes path as a URI, in which no character of it has a meaning. Mode rw
// never creates a file.
func dsn(path string, m mode) string {
	uri := url.URL{Path: filepath.ToSlash(path)}
	name := strings.TrimPrefix(uri.EscapedPath(), "./")
	if filepath.VolumeName(path) != "" {
		name = "/" + name // file:/C:/...
	}
	return "file:" + name + "?mode=rw&" + string(m)
}
