package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

const (
	// forgot begins the answer of a script that finds out that something may have
	// been forgotten.
	forgot = "FORGOT"
	// markerLife is how long an epoch lasts that nobody uses. It is longer than
	// anything is kept.
	markerLife = 8 * 24 * time.Hour

	// life gives which life of which server this is, and how many keys it has
	// evicted in it.
	life = `
local function life()
    local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
    local evicted = string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)')
    return run, evicted
end
`
	// remembers begins every script that depends on the past: the first key is
	// the marker of the epoch, the first two arguments are the life it is of.
	remembers = life + `
if redis.call('EXISTS', KEYS[1]) == 0 then
    return redis.error_reply('` + forgot + ` its database was emptied')
end
local run, evicted = life()
if run ~= ARGV[1] then
    return redis.error_reply('` + forgot + ` it was restarted, or another server took its place')
end
if evicted ~= ARGV[2] then
    return redis.error_reply('` + forgot + ` it evicted keys; set maxmemory-policy to noeviction')
end
`
	beginScript = life + `
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
local run, evicted = life()
return {run, evicted}
`
	// checkScript writes, because a server that is read-only is of no use.
	checkScript = remembers + `
redis.call('SET', KEYS[1], '1', 'PX', ARGV[3])
return 1
`
)

// scripts are sent to the server once, and called by their digests.
type scripts struct {
	begin, check, claim, finish, release *rueidis.Lua // of deduplication
	take, back, keep                     *rueidis.Lua // of limits
}

func newScripts() scripts {
	return scripts{
		begin: rueidis.NewLuaScript(beginScript), check: rueidis.NewLuaScript(checkScript), claim: rueidis.NewLuaScript(claimScript),
		finish: rueidis.NewLuaScript(finishScript), release: rueidis.NewLuaScript(releaseScript),
		take: rueidis.NewLuaScript(takeScript), back: rueidis.NewLuaScript(returnScript), keep: rueidis.NewLuaScript(keepScript),
	}
}

// epoch is what the name of an epoch says.
type epoch struct{ id, run, evicted string }

func parseEpoch(name string) epoch {
	id, rest, _ := strings.Cut(name, "/")
	run, evicted, _ := strings.Cut(rest, "/")
	return epoch{id, run, evicted}
}

// marker is the key whose absence says that the epoch is over. The braces have a
// proxy keep all keys of an epoch on one server.
func (e epoch) marker() string { return "fraiseql:dedup:{" + e.id + "}" }

func (e epoch) key(key string) string { return e.marker() + ":" + key }

// NewEpoch begins an epoch, in which nothing is claimed or done yet, and gives
// its name.
func (c *Client) NewEpoch(ctx context.Context) (name string, err error) {
	e := epoch{id: rand.Text()}
	err = c.do(ctx, func(ctx context.Context, client rueidis.Client) error {
		answer, err := c.scripts.begin.Exec(ctx, client, []string{e.marker()}, []string{millis(markerLife)}).AsStrSlice()
		if err == nil && len(answer) == 2 {
			e.run, e.evicted = answer[0], answer[1]
		}
		return err
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("begin to remember: %w", err)
	case e.run == "" || e.evicted == "":
		return "", fmt.Errorf("%s does not tell its run_id and evicted_keys in INFO, without which it cannot be relied upon", c.place)
	}
	return e.id + "/" + e.run + "/" + e.evicted, nil
}

// CheckEpoch gives an error when something of an epoch may have been forgotten,
// or nothing more can be stored. It also makes the epoch last.
func (c *Client) CheckEpoch(ctx context.Context, name string) error {
	e := parseEpoch(name)
	return c.do(ctx, func(ctx context.Context, client rueidis.Client) error {
		return c.scripts.check.Exec(ctx, client, []string{e.marker()}, []string{e.run, e.evicted, millis(markerLife)}).Error()
	})
}
