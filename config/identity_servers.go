package config

import (
	"cmp"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/cache"
	"github.com/fraiseql/observer/action/database"
	"github.com/fraiseql/observer/action/nats"
	"github.com/fraiseql/observer/action/search"
)

// serverIdentity is that of the actions that write to a server of the user's.
func (a Action) serverIdentity() []part {
	switch cfg := a.Config.(type) {
	case *database.Config:
		return []part{
			{"url", a.servers(cfg.URL)},
			{"function_name", a.given("function_name", cfg.FunctionName)},
			{"params", a.given("params", cfg.Params)},
		}
	case *cache.Config:
		return []part{
			{"url", a.servers(cfg.URL)},
			{"key_pattern", a.given("key_pattern", cfg.KeyPattern)},
			{"action", cmp.Or(a.given("action", cfg.Action), "invalidate")},
		}
	case *nats.Config:
		return []part{
			{"url", a.servers(cfg.URL)},
			{"subject", a.given("subject", cfg.Subject)},
			{"body_template", a.given("body_template", cfg.BodyTemplate)},
			{"ack", cmp.Or(a.given("ack", cfg.Ack), "jetstream")},
		}
	case *search.Config:
		return []part{
			{"url", a.given("url", cfg.URL)},
			{"index", a.given("index", cfg.Index)},
			{"id_template", a.given("id_template", cfg.IDTemplate)},
			{"body_template", a.given("body_template", cfg.BodyTemplate)},
			{"update", cmp.Or(a.given("update", cfg.Update), "replace")},
		}
	}
	return nil
}

// servers are the servers of a URL, or of several separated by commas, without
// users and passwords.
func (a Action) servers(urls observer.Secret) string {
	var places []string
	for one := range strings.SplitSeq(urls.Reveal(), ",") {
		places = append(places, withoutTokens(strings.TrimSpace(one)))
	}
	return a.given("url", strings.Join(places, ","))
}
