package middleware

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// Dedup has each delivery handled once, however often its event is handed over.
// It claims the delivery, keeps the claim while the first pass runs, and
// remembers the delivery from when it was handled: done, dead-lettered or stored
// for later. What could not be handled is released. Its fields are required
// unless they say otherwise.
type Dedup struct {
	Store observer.DedupStore
	// Owner names this life of this process.
	Owner string
	// Lease is how long a delivery waits whose process died, unless the reader that
	// hands it over now has taken the lease of the one before (see
	// [observer.WithLease]); Keep is how long what was handled is remembered.
	Lease, Keep time.Duration
	// Open handles deliveries without a claim while no store answers; otherwise
	// they wait.
	Open     bool
	Counters *Counters
	Logger   *slog.Logger
}

// Middleware stands around the first pass. Deliveries that are in the store are
// claimed there, and need no other claim.
func (m Dedup) Middleware() observer.Middleware[observer.Action] {
	var claims atomic.Int64
	owner := m.Owner + "#" + rand.Text() + "#"
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			c := observer.DedupClaim{Key: dedupKey(d), Owner: claimOwner(observer.LeaseOf(ctx), owner+strconv.FormatInt(claims.Add(1), 10))}
			standing, err := m.claim(ctx, d, c)
			switch {
			case err != nil:
				return observer.Result{}, err
			case standing == observer.DedupDone:
				m.Counters.dedupSkipped.Add(1)
				return observer.Result{}, nil
			case standing != observer.DedupClaimed: // open
				return next.Execute(ctx, d)
			}
			return m.run(ctx, d, c, next)
		})
	}
}

// maxDedupKey is the length up to which a key is used as it is.
const maxDedupKey = 500

// dedupKey has the tenant in it, with its length: no name can look like that of
// another tenant.
func dedupKey(d *observer.Delivery) string {
	tenant := ""
	if d.Event != nil {
		tenant = d.Event.TenantID
	}
	key := strconv.Itoa(len(tenant)) + ":" + tenant + "/" + d.Key
	if len(key) <= maxDedupKey {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Invariant 8: claim waits while somebody else handles the delivery, and while no
// store answers. It does not wait for who had the lease of the reader before: that
// one begins nothing any more. The standing is "" when it goes on without a claim.
func (m Dedup) claim(ctx context.Context, d *observer.Delivery, c observer.DedupClaim) (observer.DedupStanding, error) {
	detected := false
	for tries := 1; ; tries++ {
		answer, err := m.Store.ClaimDedup(ctx, c, m.Lease)
		if err == nil && answer.Standing != observer.DedupClaimed && !detected {
			detected = true
			m.Counters.dedupDetected.Add(1)
		}
		if err == nil && supersedes(c.Owner, answer.Owner) {
			if err = m.Store.ReleaseDedup(ctx, observer.DedupClaim{Key: c.Key, Owner: answer.Owner}); err == nil {
				continue
			}
		}
		wait := backoff.Policy{Max: keepPause}.Delay(tries)
		switch {
		case err == nil && answer.Standing != observer.DedupBusy:
			return answer.Standing, nil
		case err == nil:
			// The other may end at any time, and if it died its lease ends by itself.
			wait = min(backoff.Policy{Initial: busyPause, Max: time.Second}.Delay(tries), max(answer.Wait, time.Millisecond))
			err = observer.ErrBusy
		case m.Open && ctx.Err() == nil:
			m.Counters.dedupOpen.Add(1)
			m.Logger.Warn("nobody knows whether a delivery was handled before; it is handled now (on_error = \"open\")", "delivery", d.Key, "error", err)
			return "", nil
		default:
			m.Logger.Error("cannot find out whether a delivery was handled before; intake of its entity waits",
				"delivery", d.Key, "error", err, "wait", wait)
		}
		if !backoff.Wait(ctx, observer.Drain(ctx), wait) {
			return "", fmt.Errorf("claim delivery %s: %w", d.Key, err)
		}
	}
}

// busyPause is the first wait for another handling.
const busyPause = 20 * time.Millisecond

func (m Dedup) run(ctx context.Context, d *observer.Delivery, c observer.DedupClaim, next observer.Action) (observer.Result, error) {
	stop := m.renew(ctx, d, c)
	result, err := next.Execute(ctx, d)
	stop()
	if err == nil {
		m.finish(ctx, d, c)
		return result, nil
	}
	// Invariant 6: what failed is not remembered as done.
	ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTimeout)
	defer cancel()
	if releaseErr := m.Store.ReleaseDedup(ended, c); releaseErr != nil {
		m.Logger.Warn("delivery cannot be released; it waits for the end of its lease", "delivery", d.Key, "error", releaseErr)
	}
	return result, err
}

// renew prolongs the claim until stop is called, also when ctx has ended: the
// first pass may still have to store something. An attempt is not ended because
// its claim was lost: what was sent would only be sent once more. Most deliveries
// end long before there is anything to prolong, so the goroutine begins with that.
func (m Dedup) renew(ctx context.Context, d *observer.Delivery, c observer.DedupClaim) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	first := time.AfterFunc(m.Lease/3, func() {
		defer close(ended)
		for m.prolong(ctx, d, c); backoff.Wait(ctx, nil, m.Lease/3); {
			m.prolong(ctx, d, c)
		}
	})
	return func() {
		cancel()
		if !first.Stop() {
			<-ended
		}
	}
}

func (m Dedup) prolong(ctx context.Context, d *observer.Delivery, c observer.DedupClaim) {
	limited, done := context.WithTimeout(ctx, m.Lease/3)
	answer, err := m.Store.ClaimDedup(limited, c, m.Lease)
	done()
	if ctx.Err() == nil && (err != nil || answer.Standing != observer.DedupClaimed) {
		m.Logger.Warn("claim of a delivery cannot be prolonged", "delivery", d.Key, "standing", string(answer.Standing), "error", err)
	}
}

// finish remembers that d was handled, waiting for a store that is away: else
// its event, handed over once more, would be handled once more.
func (m Dedup) finish(ctx context.Context, d *observer.Delivery, c observer.DedupClaim) {
	mark := observer.DedupMark{Key: c.Key, Keep: m.Keep}
	for failures := 1; ctx.Err() == nil && !m.Open; failures++ {
		err := m.Store.FinishDedup(ctx, mark)
		if err == nil {
			return
		}
		wait := backoff.Policy{Max: keepPause}.Delay(failures)
		m.Logger.Error("cannot remember that a delivery was handled; intake of its entity waits",
			"delivery", d.Key, "error", err, "wait", wait)
		backoff.Wait(ctx, nil, wait)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTimeout)
	defer cancel()
	if err := m.Store.FinishDedup(last, mark); err != nil {
		m.Logger.Error("a delivery was handled and that cannot be remembered; it may be handled again", "delivery", d.Key, "error", err)
	}
}
