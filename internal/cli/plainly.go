package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// plainly says in one line what PostgreSQL, or the way to it, answered. The text
// of the driver has a line for each address that it tried.
func plainly(place string, err error) error {
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) {
		return err
	}
	return connectionError(fmt.Errorf("cannot connect to PostgreSQL at %s: %s", place, innermost(connect)))
}

// innermost is the first reason of all.
func innermost(err error) string {
	for {
		if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
			return answer.Message
		}
		inner := errors.Unwrap(err)
		if several, ok := err.(interface{ Unwrap() []error }); ok && len(several.Unwrap()) > 0 {
			inner = several.Unwrap()[0]
		}
		if inner == nil {
			return strings.Join(strings.Fields(err.Error()), " ")
		}
		err = inner
	}
}
