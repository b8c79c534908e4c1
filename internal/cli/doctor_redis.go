package cli

import (
	"context"
	"fmt"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/source/postgres/doctor"
	"github.com/fraiseql/observer/store/redis"
	"github.com/fraiseql/observer/topology"
)

// diagnoseRedis examines the Redis of a configuration, if it has one. Nothing
// there is a problem: what Redis forgets or cannot do, the state store does.
func diagnoseRedis(ctx context.Context, cfg *config.Config) ([]doctor.Finding, error) {
	client, err := topology.OpenRedis(cfg)
	if client == nil || err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	health, err := client.Health(ctx)
	if err != nil {
		return []doctor.Finding{{
			Check: "redis", Level: doctor.Warning, What: err.Error(),
			Do: "start it, or correct [redis] url; until then the state store does its work, slower",
		}}, nil
	}
	return redisFindings(client.String(), health), nil
}

func redisFindings(place string, h redis.Health) []doctor.Finding {
	server := doctor.Finding{Check: "redis", Level: doctor.OK, What: fmt.Sprintf("%s answers, version %s", place, h.Version)}
	if h.Replica {
		server.Level, server.What = doctor.Warning, place+" is a replica, which stores nothing by itself"
		server.Do = "give the URL of the primary in [redis] url"
	}
	eviction := doctor.Finding{Check: "redis_eviction", Level: doctor.OK, What: "it evicts nothing"}
	switch h.Policy {
	case "noeviction":
	case "":
		eviction.Level, eviction.What = doctor.Note, "it does not say whether it evicts keys"
	default:
		eviction.Level = doctor.Warning
		eviction.What = fmt.Sprintf("it evicts keys when its memory is full (maxmemory-policy %s, %s evicted so far), and with each eviction deduplication goes back to the state store", h.Policy, h.Evicted)
		if !h.Bounded {
			eviction.What = fmt.Sprintf("it would evict keys if it had a maxmemory (maxmemory-policy %s), and with each eviction deduplication would go back to the state store", h.Policy)
		}
		eviction.Do = "CONFIG SET maxmemory-policy noeviction, and the same in its configuration; give what may be evicted a server of its own"
	}
	persistence := doctor.Finding{Check: "redis_persistence", Level: doctor.OK, What: "it writes what it stores to its disk"}
	if !h.AppendOnly {
		switch h.Snapshots {
		case "":
			persistence.Level, persistence.What = doctor.Warning, "it writes nothing to its disk: a restart forgets everything, and the state store answers until Redis has been filled again"
			persistence.Do = "CONFIG SET appendonly yes, and the same in its configuration"
		case "unknown":
			persistence.Level, persistence.What = doctor.Note, "it has no append-only file, and does not say whether it writes snapshots"
		default:
			persistence.Level, persistence.What = doctor.Note, "it writes snapshots only: a restart forgets what came after the last one, which is noticed"
		}
	}
	return []doctor.Finding{server, eviction, persistence}
}
