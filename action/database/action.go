package database

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/connection"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// maxParams is how long the rendered arguments may be, in bytes.
const maxParams = 10 << 20

// keySetting is where the function finds the key of the delivery:
// current_setting('fraiseql.delivery_key', true).
const keySetting = "fraiseql.delivery_key"

// Action calls a function. It is safe for concurrent use.
type Action struct {
	function string // quoted
	params   *template.Template
	limit    time.Duration // 0: none but that of the attempt
	redactor observer.Redactor
	place    string
	endpoint string
	pool     *connection.Held[*client]
}

// request is a rendered call as it is stored.
type request struct {
	// Function says, for people, what the first attempt called.
	Function string         `json:"function"`
	Params   outbound.Piece `json:"params,omitempty"`
}

var _ observer.Preparer = (*Action)(nil)

// Prepare renders the arguments.
func (a *Action) Prepare(ctx context.Context, d *observer.Delivery) error {
	return outbound.Prepare(ctx, d, a.redactor, a.prepare)
}

// Endpoint is the server and the database.
func (a *Action) Endpoint(context.Context, *observer.Delivery) string { return a.endpoint }

// Close closes the connections once no delivery uses them.
func (a *Action) Close() error { return a.pool.Close() }

// Execute makes one attempt.
func (a *Action) Execute(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
	c, err := a.prepare(ctx, d)
	if err != nil {
		return observer.Result{}, outbound.Redact(a.redactor, err)
	}
	answer, err := a.run(ctx, c, d.Key)
	if err != nil {
		err = fmt.Errorf("database server %s: %w", a.place, err)
	}
	return observer.Result{Detail: outbound.Detail(a.redactor, answer)}, outbound.Redact(a.redactor, err)
}

// prepare renders the arguments and, on a first attempt, stores them in d.
func (a *Action) prepare(ctx context.Context, d *observer.Delivery) (call, error) {
	var stored request
	there, err := outbound.LoadRequest(d, &stored)
	if err != nil {
		return call{}, err
	}
	params, err := a.render(ctx, stored.Params, d.Event)
	if err != nil {
		return call{}, fmt.Errorf("params: %w", err)
	}
	c, err := newCall(a.function, params)
	if err != nil {
		return call{}, observer.Permanent(observer.ReasonTemplate, fmt.Errorf("params: %w", err))
	}
	if there {
		return c, nil
	}
	return c, outbound.StoreRequest(d, request{Function: a.function, Params: outbound.Keep(a.redactor, params)})
}

func (a *Action) render(ctx context.Context, stored outbound.Piece, e *observer.Event) (string, error) {
	if stored == nil && a.params == nil {
		event, err := json.Marshal(e)
		if err != nil {
			return "", observer.Permanent(observer.ReasonTemplate, fmt.Errorf("encode event: %w", err))
		}
		return sized("[" + string(event) + "]")
	}
	if stored == nil && a.params != nil {
		text, err := a.params.Render(ctx, e)
		if err != nil {
			return "", err
		}
		return sized(outbound.Clean(text))
	}
	return *stored, nil
}

func sized(params string) (string, error) {
	if len(params) > maxParams {
		return "", observer.Permanent(observer.ReasonTooLarge, fmt.Errorf("%d bytes, more than %d", len(params), maxParams))
	}
	return params, nil
}

// run makes the call on a connection of the pool. The settings and the call are
// one transaction and one message to the server.
func (a *Action) run(ctx context.Context, c call, key string) ([]byte, error) {
	client, done, err := a.pool.Use(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	conn, err := client.pool.Acquire(ctx)
	if err != nil {
		return nil, unconnected(ctx, err)
	}
	defer conn.Release()
	batch := &pgconn.Batch{}
	batch.ExecParams("SELECT set_config($1, $2, true)", [][]byte{[]byte(keySetting), []byte(key)}, nil, nil, nil)
	if limit := a.timeout(ctx); limit > 0 {
		batch.ExecParams("SELECT set_config('statement_timeout', $1, true)",
			[][]byte{strconv.AppendInt(nil, max(1, limit.Milliseconds()), 10)}, nil, nil, nil)
	}
	batch.ExecParams(c.statement, c.values, nil, nil, nil)
	if err := ctx.Err(); err != nil { // here nothing has been sent
		return nil, err
	}
	answer, err := last(conn.Conn().PgConn().ExecBatch(ctx, batch))
	return answer, judge(ctx, err)
}

// timeout bounds the statement on the server by what is left of the attempt, so
// that a call that was given up here does not take effect much later. 0 is no
// bound.
func (a *Action) timeout(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return a.limit
	}
	left := max(time.Millisecond, time.Until(deadline))
	if a.limit > 0 {
		left = min(left, a.limit)
	}
	return left
}

// last reads all results and returns the first value of the last one. The
// transaction commits after the last result, so that a call has succeeded only
// when the reader is closed without an error.
func last(results *pgconn.MultiResultReader) ([]byte, error) {
	var answer []byte
	for results.NextResult() {
		answer = nil
		reader := results.ResultReader()
		for reader.NextRow() {
			if values := reader.Values(); answer == nil && len(values) > 0 {
				answer = append([]byte{}, values[0]...)
			}
		}
		if _, err := reader.Close(); err != nil {
			return nil, closing(results, err)
		}
	}
	return answer, results.Close()
}

// closing reads what is left, so that the connection can be used again, and
// returns the first error.
func closing(results *pgconn.MultiResultReader, err error) error {
	_ = results.Close() // it has the same error, or one that follows from it
	return err
}
