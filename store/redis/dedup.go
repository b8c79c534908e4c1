package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/batch"
)

const (
	// A key holds d when the delivery is done, else o and the owner of its claim.
	claimScript = remembers + `
local answers = {}
for i = 2, #KEYS do
    local owner, lease = ARGV[2 * i - 1], ARGV[2 * i]
    local answer = 0
    if not redis.call('SET', KEYS[i], owner, 'NX', 'PX', lease) then
        local held = redis.call('GET', KEYS[i])
        if held == 'd' then
            answer = -1
        elseif held == owner then
            redis.call('PEXPIRE', KEYS[i], lease)
        else
            answer = {math.max(1, redis.call('PTTL', KEYS[i])), held}
        end
    end
    answers[i - 1] = answer
end
return answers
`
	finishScript = remembers + `
for i = 2, #KEYS do
    local keep = ARGV[i + 1]
    if redis.call('GET', KEYS[i]) ~= 'd' or redis.call('PTTL', KEYS[i]) < tonumber(keep) then
        redis.call('SET', KEYS[i], 'd', 'PX', keep)
    end
end
return 1
`
	releaseScript = `
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
end
return 1
`
	// scriptBatch bounds how many callers share the run of a script, and so how
	// long other commands wait for it.
	scriptBatch = 256
)

// Dedup is an [observer.DedupStore] that remembers one epoch.
type Dedup struct {
	client *Client
	epoch  epoch
	claims *batch.Batcher[claim, observer.DedupAnswer]
	marks  *batch.Batcher[observer.DedupMark, struct{}]
}

var _ observer.DedupStore = (*Dedup)(nil)

type claim struct {
	observer.DedupClaim
	lease time.Duration
}

// Dedup gives the store of an epoch that [Client.NewEpoch] has begun, here or in
// another process.
func (c *Client) Dedup(epoch string) *Dedup {
	d := &Dedup{client: c, epoch: parseEpoch(epoch)}
	// Two trips at once keep the server busy while answers are on their way.
	d.claims = batch.New(batch.Config[claim, observer.DedupAnswer]{Run: d.claimAll, Size: scriptBatch, AtOnce: 2, Timeout: 2 * c.timeout})
	d.marks = batch.New(batch.Config[observer.DedupMark, struct{}]{Run: d.finishAll, Size: scriptBatch, AtOnce: 2, Timeout: 2 * c.timeout})
	return d
}

// ClaimDedup implements [observer.DedupStore].
func (d *Dedup) ClaimDedup(ctx context.Context, c observer.DedupClaim, lease time.Duration) (observer.DedupAnswer, error) {
	answer, err := d.claims.Do(ctx, claim{c, lease})
	if err != nil {
		return answer, fmt.Errorf("claim %s: %w", c.Key, err)
	}
	return answer, nil
}

// script is the call of a script with the epoch and room for n keys.
func (d *Dedup) script(n int) (keys, args []string) {
	keys, args = make([]string, 1, n+1), make([]string, 2, 2*n+2)
	keys[0], args[0], args[1] = d.epoch.marker(), d.epoch.run, d.epoch.evicted
	return keys, args
}

func (d *Dedup) claimAll(ctx context.Context, claims []claim) (answers []observer.DedupAnswer, err error) {
	keys, args := d.script(len(claims))
	for _, c := range claims {
		keys, args = append(keys, d.epoch.key(c.Key)), append(args, "o"+c.Owner, millis(c.lease))
	}
	err = d.client.do(ctx, func(ctx context.Context, client rueidis.Client) error {
		list, err := d.client.scripts.claim.Exec(ctx, client, keys, args).ToArray()
		if err != nil {
			return err
		}
		if len(list) != len(claims) {
			return fmt.Errorf("%d answers to %d claims", len(list), len(claims))
		}
		answers = make([]observer.DedupAnswer, len(claims))
		for i := range list {
			if answers[i], err = answerOf(&list[i]); err != nil {
				return fmt.Errorf("answer to a claim: %w", err)
			}
		}
		return nil
	})
	return answers, err
}

// answerOf reads a number, or, when somebody else has a claim, for how many
// milliseconds and what its key holds.
func answerOf(m *rueidis.RedisMessage) (observer.DedupAnswer, error) {
	if m.IsInt64() {
		n, err := m.AsInt64()
		if n == 0 {
			return observer.DedupAnswer{Standing: observer.DedupClaimed}, err
		}
		return observer.DedupAnswer{Standing: observer.DedupDone}, err
	}
	other, err := m.ToArray()
	if err != nil {
		return observer.DedupAnswer{}, err
	}
	if len(other) != 2 {
		return observer.DedupAnswer{}, fmt.Errorf("it has %d parts", len(other))
	}
	left, err := other[0].AsInt64()
	if err != nil {
		return observer.DedupAnswer{}, err
	}
	held, err := other[1].ToString()
	return observer.DedupAnswer{
		Standing: observer.DedupBusy, Wait: time.Duration(left) * time.Millisecond, Owner: strings.TrimPrefix(held, "o"),
	}, err
}

// FinishDedup implements [observer.DedupStore].
func (d *Dedup) FinishDedup(ctx context.Context, marks ...observer.DedupMark) error {
	if len(marks) == 1 {
		_, err := d.marks.Do(ctx, marks[0])
		return named(err)
	}
	for len(marks) > 0 {
		n := min(len(marks), scriptBatch)
		if _, err := d.finishAll(ctx, marks[:n]); err != nil {
			return named(err)
		}
		marks = marks[n:]
	}
	return ctx.Err()
}

func named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("remember what was handled: %w", err)
}

func (d *Dedup) finishAll(ctx context.Context, marks []observer.DedupMark) ([]struct{}, error) {
	keys, args := d.script(len(marks))
	for _, m := range marks {
		keys, args = append(keys, d.epoch.key(m.Key)), append(args, millis(m.Keep))
	}
	err := d.client.do(ctx, func(ctx context.Context, client rueidis.Client) error {
		return d.client.scripts.finish.Exec(ctx, client, keys, args).Error()
	})
	return make([]struct{}, len(marks)), err
}

// ReleaseDedup implements [observer.DedupStore].
func (d *Dedup) ReleaseDedup(ctx context.Context, c observer.DedupClaim) error {
	err := d.client.do(ctx, func(ctx context.Context, client rueidis.Client) error {
		return d.client.scripts.release.Exec(ctx, client, []string{d.epoch.key(c.Key)}, []string{"o" + c.Owner}).Error()
	})
	if err != nil {
		return fmt.Errorf("release %s: %w", c.Key, err)
	}
	return nil
}

// millis is a time as scripts take it: at least a millisecond.
func millis(d time.Duration) string { return strconv.FormatInt(max(1, d.Milliseconds()), 10) }
