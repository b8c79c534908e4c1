package database

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fraiseql/observer"
)

// unconnected judges a failure to get a connection: nothing was called.
func unconnected(ctx context.Context, err error) error {
	if refusal, ok := errors.AsType[*pgconn.PgError](err); ok {
		return refused(refusal)
	}
	if cause := ctx.Err(); cause != nil { // not the broken connection that it caused
		return fmt.Errorf("connect: %w", cause)
	}
	return fmt.Errorf("connect: %w", err)
}

// judge says what the end of a call that was begun means. What the server refused
// did not happen, for the call is one transaction. A connection that broke leaves
// open whether it did: what pgconn calls safe to retry covers errors that came
// after the call was sent.
func judge(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if refusal, ok := errors.AsType[*pgconn.PgError](err); ok {
		if cause := ctx.Err(); cause != nil && refusal.Code == "57014" {
			return fmt.Errorf("the call was cancelled: %w", cause)
		}
		return refused(refusal)
	}
	if cause := ctx.Err(); cause != nil {
		err = cause
	}
	return observer.OutcomeUnknown(fmt.Errorf("no answer to the call: %w", err))
}

// refused judges an error of the server by its SQLSTATE. Transient are
// conflicts between transactions, missing resources, and a server that is
// starting, stopping or a standby; permanent is what the statement, the
// function, its arguments or the rights of the role are to blame for.
func refused(e *pgconn.PgError) error {
	err := fmt.Errorf("%s (SQLSTATE %s)", e.Message, e.Code)
	switch {
	case e.Code == "40003", e.Code == "08007":
		return observer.OutcomeUnknown(err)
	case permanentClass(e.Code):
		return observer.Permanent(observer.ReasonPermanent, err)
	}
	return err
}

func permanentClass(code string) bool {
	if len(code) != 5 {
		return false
	}
	switch code[:2] {
	case "0A", // not supported
		"22", // a value that does not fit
		"23", // an integrity constraint
		"28", // the role or its password
		"3D", // no such database
		"3F", // no such schema
		"42", // syntax, no such function, no right to it
		"44", // a check option
		"54", // a limit of the program
		"P0": // raised by the function itself
		return true
	}
	return false
}
