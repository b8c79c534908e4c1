package redis

import (
	"context"
	"strings"

	"github.com/redis/rueidis"
)

// Health is what decides how well a server remembers.
type Health struct {
	// Version is that of the server.
	Version string
	// Replica: it follows another server and stores nothing by itself.
	Replica bool
	// Policy is maxmemory-policy, and Bounded says whether there is a maxmemory.
	Policy  string
	Bounded bool
	// Evicted is how many keys it has evicted since it started.
	Evicted string
	// AppendOnly: it writes every command to its disk. Snapshots: it writes
	// everything now and then; "unknown" where it does not say.
	AppendOnly bool
	Snapshots  string
}

// Health asks the server.
func (c *Client) Health(ctx context.Context) (h Health, err error) {
	err = c.do(ctx, func(ctx context.Context, client rueidis.Client) error {
		text, err := client.Do(ctx, client.B().Info().Build()).ToString()
		if err != nil {
			return err
		}
		info := infoOf(text)
		h = Health{
			Version: info["redis_version"], Replica: info["role"] == "slave", Policy: info["maxmemory_policy"],
			Bounded: info["maxmemory"] != "0", Evicted: info["evicted_keys"], AppendOnly: info["aof_enabled"] == "1", Snapshots: "unknown",
		}
		// Those who rent out servers forbid this.
		if saves, err := client.Do(ctx, client.B().ConfigGet().Parameter("save").Build()).AsStrMap(); err == nil {
			h.Snapshots = saves["save"]
		}
		return nil
	})
	return h, err
}

// infoOf reads what INFO tells: a name and a value in each line.
func infoOf(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}
