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
	"strconv"
	"strings"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// access is what a connection may do; the values are SQLite's.
type access string

const (
	accessReader  access = "ro"
	accessWriter  access = "rw"
	accessCreator access = "rwc"
)

// maxLog is the size in bytes to which the log is cut back after a checkpoint,
// so that one burst does not occupy the disk for ever.
const maxLog = 64 << 20

// checkFile reports whether the file is there. It never opens it: closing a
// descriptor of a database drops the locks other connections of this process
// hold on it.
func checkFile(path string) (exists bool, err error) {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		return false, fmt.Errorf("%s is a directory; give the path of a file", path)
	}
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err == nil, err
	}
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return false, &missingError{path: path, what: fmt.Sprintf("cannot be there: %s is not a directory; create it first", dir)}
	}
	return false, nil
}

// openWriterDB gives the one connection that writes, to a file that is in WAL
// mode and has the tables of this release.
func openWriterDB(ctx context.Context, cfg Config, exists bool) (*sql.DB, error) {
	db, err := openOrCreate(ctx, cfg, exists)
	if err != nil {
		return nil, err
	}
	if err := enableWAL(ctx, db, cfg.BusyTimeout); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := migrate(ctx, db, cfg.Path); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func openOrCreate(ctx context.Context, cfg Config, exists bool) (*sql.DB, error) {
	if exists {
		return openPool(cfg, accessWriter, 1)
	}
	if err := createFile(ctx, cfg); err != nil {
		return nil, err
	}
	return openPool(cfg, accessWriter, 1)
}

// createFile makes an empty database that only its owner can read, as it will
// hold customers' data. SQLite copies the mode of another file, which closes
// the moment in which a file created first and restricted later can be read.
func createFile(ctx context.Context, cfg Config) (err error) {
	model, err := os.CreateTemp(filepath.Dir(cfg.Path), ".observer-state-*") // mode 0600
	if err != nil {
		return fmt.Errorf("create %s: %w; give this user write permission to the directory", cfg.Path, err)
	}
	defer func() { err = errors.Join(err, os.Remove(model.Name())) }()
	if err := model.Close(); err != nil {
		return fmt.Errorf("create %s: %w", cfg.Path, err)
	}
	dsn, err := dataSource(cfg, accessCreator)
	if err != nil {
		return err
	}
	// SQLite decodes %20 but not the + that stands for a space in forms.
	escaped := strings.ReplaceAll(url.QueryEscape(model.Name()), "+", "%20")
	db, err := sql.Open("sqlite", dsn+"&modeof="+escaped)
	if err != nil {
		return err
	}
	return errors.Join(db.PingContext(ctx), db.Close())
}

func openPool(cfg Config, a access, size int) (*sql.DB, error) {
	dsn, err := dataSource(cfg, a)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db, nil
}

// dataSource is the URI of the file, absolute and with every character that
// means something in a URI escaped.
func dataSource(cfg Config, a access) (string, error) {
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return "", err
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a Windows drive
	}
	q := url.Values{"mode": {string(a)}, "_txlock": {"immediate"}}
	q.Set("_busy_timeout", strconv.FormatInt(cfg.BusyTimeout.Milliseconds(), 10))
	q.Set("_synchronous", "FULL")
	q.Set("_error_rc", "1") // the message of this error, not of an earlier one
	q.Add("_pragma", fmt.Sprintf("journal_size_limit(%d)", maxLog))
	return "file://" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode(), nil
}

// enableWAL switches the journal. While another process does the same, SQLite
// answers "busy" without waiting, so the waiting is done here.
func enableWAL(ctx context.Context, db *sql.DB, timeout time.Duration) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		var mode string
		err := db.QueryRowContext(ctx, "PRAGMA journal_mode=WAL").Scan(&mode)
		switch {
		case err == nil && mode == "wal":
			return nil
		case err == nil:
			return fmt.Errorf("the file system does not support write-ahead logging (journal mode stays %q); put the file on a local disk", mode)
		case !isBusy(err):
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return err
		case <-time.After(wait):
		}
	}
}
