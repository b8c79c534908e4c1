package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/rueidis"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/connection"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

const (
	// scanCount is how many keys the server looks at in one step: others are
	// served between two.
	scanCount = 1000
	// unlinkCount is how many keys are removed by one command.
	unlinkCount = 500
)

// Action removes keys. It is safe for concurrent use.
type Action struct {
	key      *template.Template
	pattern  bool
	redactor observer.Redactor
	place    string
	endpoint string
	client   *connection.Held[rueidis.Client]
}

// request is a rendered key as it is stored.
type request struct {
	// Action says whether Key is one or a pattern.
	Action string         `json:"action"`
	Key    outbound.Piece `json:"key,omitempty"`
}

var _ observer.Preparer = (*Action)(nil)

// Prepare renders the key.
func (a *Action) Prepare(ctx context.Context, d *observer.Delivery) error {
	return outbound.Prepare(ctx, d, a.redactor, a.prepare)
}

// Endpoint is the Redis server.
func (a *Action) Endpoint(context.Context, *observer.Delivery) string { return a.endpoint }

// Close closes the connection once no delivery uses it.
func (a *Action) Close() error { return a.client.Close() }

// Execute makes one attempt. What was removed by one that failed stays removed.
func (a *Action) Execute(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
	r, err := a.prepare(ctx, d)
	if err != nil {
		return observer.Result{}, outbound.Redact(a.redactor, err)
	}
	removed, err := a.remove(ctx, r)
	result := observer.Result{Detail: fmt.Sprintf("%d keys removed", removed)}
	if err != nil {
		err = outbound.Redact(a.redactor, fmt.Errorf("redis server %s: %w", a.place, err))
	}
	return result, err
}

// maxKey is how long a key or a pattern may be, in bytes. Redis takes longer
// ones, which nobody means.
const maxKey = 64 << 10

// rendered is what an attempt removes.
type rendered struct {
	key     string
	pattern bool
}

// prepare renders the key and, on a first attempt, stores it in d. A stored key
// stays what it was, one or a pattern: a key that was taken for a pattern could
// match others.
func (a *Action) prepare(ctx context.Context, d *observer.Delivery) (rendered, error) {
	var stored request
	there, err := outbound.LoadRequest(d, &stored)
	if err != nil {
		return rendered{}, err
	}
	key, err := outbound.Resolve(ctx, stored.Key, a.key, d.Event)
	if err != nil {
		return rendered{}, fmt.Errorf("key_pattern: %w", err)
	}
	if key == "" {
		return rendered{}, observer.Permanent(observer.ReasonTemplate, errors.New("key_pattern: the key is empty"))
	}
	if len(key) > maxKey {
		return rendered{}, observer.Permanent(observer.ReasonTooLarge, fmt.Errorf("key_pattern: %d bytes, more than %d", len(key), maxKey))
	}
	if stored.Key != nil {
		return rendered{key, stored.Action == invalidatePattern}, nil
	}
	r := rendered{key, a.pattern}
	if there {
		return r, nil
	}
	kind := invalidate
	if a.pattern {
		kind = invalidatePattern
	}
	return r, outbound.StoreRequest(d, request{Action: kind, Key: outbound.Keep(a.redactor, key)})
}

func (a *Action) remove(ctx context.Context, r rendered) (int64, error) {
	client, done, err := a.client.Use(ctx)
	if err != nil {
		return 0, judge(ctx, err, false)
	}
	defer done()
	if err := ctx.Err(); err != nil { // here nothing has been sent
		return 0, err
	}
	if !r.pattern {
		removed, err := client.Do(ctx, client.B().Unlink().Key(r.key).Build()).AsInt64()
		return removed, judge(ctx, err, true)
	}
	removed, err := removeMatching(ctx, client, r.key)
	return removed, judge(ctx, err, true)
}

// removeMatching searches every node: each knows its own keys only. Keys that are
// set meanwhile may stay, as with any invalidation.
func removeMatching(ctx context.Context, client rueidis.Client, pattern string) (int64, error) {
	nodes := client.Nodes()
	var removed int64
	for _, node := range nodes {
		for cursor := uint64(0); ; {
			page, err := node.Do(ctx, node.B().Scan().Cursor(cursor).Match(pattern).Count(scanCount).Build()).AsScanEntry()
			if err != nil {
				return removed, err
			}
			n, err := unlink(ctx, client, page.Elements, len(nodes) > 1)
			removed += n
			if err != nil {
				return removed, err
			}
			if cursor = page.Cursor; cursor == 0 {
				break
			}
		}
	}
	return removed, nil
}

// unlink removes keys. In a cluster one command may not name keys of several
// slots, so there each has its own, all sent at once.
func unlink(ctx context.Context, client rueidis.Client, keys []string, apart bool) (int64, error) {
	size := unlinkCount
	if apart {
		size = 1
	}
	var commands rueidis.Commands
	for ; len(keys) > 0; keys = keys[min(size, len(keys)):] {
		commands = append(commands, client.B().Unlink().Key(keys[:min(size, len(keys))]...).Build())
	}
	if len(commands) == 0 {
		return 0, nil
	}
	var removed int64
	var failed error
	for _, answer := range client.DoMulti(ctx, commands...) {
		n, err := answer.AsInt64()
		removed += n
		if failed == nil {
			failed = err
		}
	}
	return removed, failed
}

// judge says what an error means. Nobody knows of a command that was sent and
// not answered.
func judge(ctx context.Context, err error, sent bool) error {
	if err == nil {
		return nil
	}
	if refusal, ok := rueidis.IsRedisErr(err); ok {
		return refused(refusal.Error())
	}
	if _, dialing := errors.AsType[*dialError](err); dialing {
		return fmt.Errorf("connect: %w", err)
	}
	if cause := ctx.Err(); cause != nil { // not the broken connection that it caused
		err = cause
	}
	if !sent {
		return fmt.Errorf("connect: %w", err)
	}
	return observer.OutcomeUnknown(fmt.Errorf("no answer: %w", err))
}

// refused judges an answer by its first word. Transient is what a server says
// that loads, is full, is no primary or has no replicas; permanent, what the
// user, its rights or the command are to blame for.
func refused(text string) error {
	err := errors.New(text)
	switch word, rest, _ := strings.Cut(text, " "); word {
	case "NOAUTH", "WRONGPASS", "NOPERM", "DENIED":
		return observer.Permanent(observer.ReasonPermanent, err)
	case "ERR":
		if !strings.Contains(rest, "max number of clients") {
			return observer.Permanent(observer.ReasonPermanent, err)
		}
	}
	return err
}
