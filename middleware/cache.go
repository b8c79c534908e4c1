package middleware

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/fraiseql/observer"
)

// CachedResult is what the receiver answered to a request, and when.
type CachedResult struct {
	Status int       `json:"status,omitempty"`
	Detail string    `json:"detail,omitempty"`
	At     time.Time `json:"at"`
}

// Size is about how many bytes it takes.
func (r CachedResult) Size() int { return len(r.Detail) + 40 }

// Renderer is a compiled template.
type Renderer interface {
	Render(ctx context.Context, e *observer.Event) (string, error)
}

// Cache ends a delivery without sending it when an equal request has succeeded a
// short time ago. Requests that are equal and come at the same time are made one
// after the other, so that the first success serves all. Its fields are required
// unless they say otherwise.
//
// Only successes are kept, and tenants never share one. What a person had run
// again is always sent.
type Cache struct {
	// Results are those of the process.
	Results *Results
	// TTL is how long a result serves others.
	TTL time.Duration
	// Key, if it is not nil, says which requests of the action are equal in place
	// of Identify; Scope is the name of the action, which no other one has. A
	// delivery with an empty key is sent.
	Key   Renderer
	Scope string
	// Identify tells which requests are equal; nil when there is a Key.
	Identify observer.Identifier
	// Patience is how long a delivery waits for others that fail, one after the
	// other, before it is sent beside them.
	Patience time.Duration
	// Stats count for each action.
	Stats  *CacheStats
	Logger *slog.Logger
}

// Middleware stands outside of retry: what others wait for is the success of the
// request, in whichever attempt.
func (c Cache) Middleware() observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			key, ok := c.key(ctx, d)
			switch {
			case !ok:
				return next.Execute(ctx, d)
			case redriven(d):
				return c.send(ctx, d, key, next)
			}
			began := time.Now()
			if cached, found := c.find(ctx, d, key); found {
				return c.hit(d, cached, began), nil
			}
			return c.share(ctx, d, key, next)
		})
	}
}

// share sends d, or waits for the success of an equal request that is under way.
func (c Cache) share(ctx context.Context, d *observer.Delivery, key string, next observer.Action) (observer.Result, error) {
	began := time.Now()
	for {
		f, first := c.Results.join(key)
		if first {
			return c.lead(ctx, d, f, next)
		}
		select {
		case <-f.ended:
		case <-ctx.Done():
			return observer.Result{}, observer.Deferred(fmt.Errorf("interrupted while an equal request was made: %w", ctx.Err()), time.Now())
		case <-observer.Drain(ctx):
			return observer.Result{}, observer.Deferred(errWaiting, time.Now())
		}
		if f.ok {
			return c.hit(d, f.result, began), nil
		}
		if time.Since(began) >= c.Patience {
			c.miss(d)
			return c.send(ctx, d, key, next)
		}
	}
}

// lead makes the request for everybody who waits for it. Between the look for a
// result and now, another one may have succeeded.
func (c Cache) lead(ctx context.Context, d *observer.Delivery, f *flight, next observer.Action) (observer.Result, error) {
	defer c.Results.leave(f)
	began := time.Now()
	if f.result, f.ok = c.find(ctx, d, f.key); f.ok {
		return c.hit(d, f.result, began), nil
	}
	c.miss(d)
	result, err := next.Execute(ctx, d)
	if err == nil {
		f.result, f.ok = c.keep(ctx, d, f.key, result), true
	}
	return result, err
}

// send sends d and keeps its success.
func (c Cache) send(ctx context.Context, d *observer.Delivery, key string, next observer.Action) (observer.Result, error) {
	result, err := next.Execute(ctx, d)
	if err == nil {
		c.keep(ctx, d, key, result)
	}
	return result, err
}

// find looks for a result. Invariant 8: a store that is away has none.
func (c Cache) find(ctx context.Context, d *observer.Delivery, key string) (CachedResult, bool) {
	cached, found, err := c.Results.store.Get(ctx, key)
	c.note(d, err)
	// A store may keep it for longer than this action wants it.
	return cached, found && err == nil && time.Since(cached.At) < c.TTL
}

func (c Cache) keep(ctx context.Context, d *observer.Delivery, key string, result observer.Result) CachedResult {
	kept := CachedResult{Status: result.Status, Detail: result.Detail, At: time.Now().UTC()}
	// What succeeded did so, even though whoever asked is gone.
	c.note(d, c.Results.store.Set(context.WithoutCancel(ctx), key, kept, c.TTL))
	return kept
}

// hit ends d with the result of an equal request.
func (c Cache) hit(d *observer.Delivery, cached CachedResult, began time.Time) observer.Result {
	c.counters(d).hits.Add(1)
	c.Results.counts.hits.Add(1)
	detail := cached.text()
	d.Attempts = append(d.Attempts, observer.Attempt{
		Number: len(d.Attempts) + 1, At: began, Duration: time.Since(began), Detail: detail, Cached: true,
	})
	return observer.Result{Detail: detail}
}

// text says what happened: nothing was sent, so there is no status of it.
func (r CachedResult) text() string {
	text := "cached result of " + r.At.UTC().Format(time.RFC3339) + ", nothing was sent"
	if r.Status != 0 {
		text += ": status " + strconv.Itoa(r.Status)
	}
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	return text
}

func (c Cache) counters(d *observer.Delivery) *CacheCounters { return c.Stats.Of(d.Observer, d.Action) }

func (c Cache) miss(d *observer.Delivery) {
	c.counters(d).misses.Add(1)
	c.Results.counts.misses.Add(1)
}

// note counts a failure of the store. A hundred deliveries a second would tell
// the same of it: it is told when that begins and when it ends.
func (c Cache) note(d *observer.Delivery, err error) {
	if err != nil {
		c.counters(d).failures.Add(1)
	}
	c.Results.note(err, c.Logger)
}

// key names the request of d; ok is false when it cannot have a cached result.
func (c Cache) key(ctx context.Context, d *observer.Delivery) (key string, ok bool) {
	text, err := c.identity(ctx, d)
	switch {
	case err != nil && c.Key != nil:
		c.Logger.Warn("the cache key of a delivery cannot be rendered; it is sent", "delivery", d.Key, "error", err)
		return "", false
	case err != nil, text == "": // sending it fails in the same way, and is recorded
		return "", false
	}
	var named []byte
	for _, part := range []string{tenantOf(d), d.ActionType, d.Endpoint, c.Scope, text} {
		// With their lengths: no two lists of parts look the same.
		named = binary.AppendUvarint(named, uint64(len(part)))
		named = append(named, part...)
	}
	sum := sha256.Sum256(named)
	return base64.RawURLEncoding.EncodeToString(sum[:]), true
}

// identity is what makes requests of the action equal. A panic of the action is
// left to the attempt.
func (c Cache) identity(ctx context.Context, d *observer.Delivery) (text string, err error) {
	defer recovered(&err)
	if c.Key != nil {
		return c.Key.Render(ctx, d.Event)
	}
	return c.Identify.Identity(ctx, d)
}

func tenantOf(d *observer.Delivery) string {
	if d.Event == nil {
		return ""
	}
	return d.Event.TenantID
}
