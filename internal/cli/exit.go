package cli

import (
	"errors"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	postgressource "github.com/fraiseql/observer/source/postgres"
	"github.com/fraiseql/observer/source/postgres/changelog"
	sqlitesource "github.com/fraiseql/observer/source/sqlite"
	postgresstore "github.com/fraiseql/observer/store/postgres"
)

// The exit codes. Scripts and service managers branch on them: docs/cli.md
// says what each means.
const (
	exitOK         = 0
	exitError      = 1
	exitConfig     = 2
	exitConnection = 3
	exitInvalid    = 4
	exitNotFound   = 5
)

// codedError is an error whose exit code its kind does not tell. A nil err is a
// failure that has been printed already.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *codedError) Unwrap() error { return e.err }

// usageError is a mistake in the command line.
func usageError(err error) error { return &codedError{code: exitConfig, err: err} }

// connectionError is something that cannot be reached or opened.
func connectionError(err error) error { return &codedError{code: exitConnection, err: err} }

func codeOf(err error) int {
	var coded *codedError
	var mistakes config.Errors
	var file *config.FileError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &mistakes), errors.As(err, &file):
		return exitConfig
	case errors.Is(err, sqlitesource.ErrNoDatabase), errors.Is(err, sqlitesource.ErrCannotOpen), errors.Is(err, sqlitesource.ErrNoLog),
		errors.Is(err, postgressource.ErrConnect), errors.Is(err, postgresstore.ErrConnect), errors.Is(err, changelog.ErrNoLog):
		return exitConnection
	case errors.Is(err, observer.ErrNotFound):
		return exitNotFound
	}
	return exitError
}
