package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer/config"
)

func TestCacheOfAnAction(t *testing.T) {
	t.Parallel()
	const hook = "type = \"webhook\"\nurl = \"https://example.com\"\nbody_template = \"{}\"\n"
	tests := map[string]struct {
		text string
		env  map[string]string
		want config.ActionCache
	}{
		"none":             {hook, nil, config.ActionCache{}},
		"defaults":         {hook + "cache = {}", nil, config.ActionCache{On: true, TTL: time.Minute}},
		"default of redis": {hook + "cache = {}\n[redis]\ncache_ttl_secs = 7", nil, config.ActionCache{On: true, TTL: 7 * time.Second}},
		"its own":          {hook + `cache = { ttl = "5m", key = "{{ data.id }}" }`, nil, config.ActionCache{On: true, TTL: 5 * time.Minute, Key: "{{ data.id }}"}},
		"of the environment": {hook, map[string]string{"FRAISEQL_OBSERVERS_0_ACTIONS_0_CACHE_TTL": "2m"},
			config.ActionCache{On: true, TTL: 2 * time.Minute}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := parse(t, strings.Replace(minimal, "[[observers]]", "[performance]\nenable_caching = true\n[[observers]]", 1)+tt.text, tt.env).Observers[0].Actions[0].Cache
			if (got.Template != nil) != (tt.want.Key != "") {
				t.Error("a key is compiled, and nothing else")
			}
			got.Template = nil
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestWarningOfACacheWithoutUse(t *testing.T) {
	t.Parallel()
	for more, warned := range map[string]bool{
		"cache = {}": true, "cache = { key = \"all\" }": false, "cache = {}\nbody_template = \"{}\"": false, "cache = {}\nmethod = \"get\"": false, "": false,
	} {
		text := strings.Replace(minimal, "[[observers]]", "[performance]\nenable_caching = true\n[[observers]]", 1)
		w := parse(t, text+"type = \"webhook\"\nurl = \"https://example.com\"\n"+more, nil).Warnings()
		if warned != (len(w) == 1 && strings.Contains(w[0], "observers[0].actions[0].cache")) || !warned && len(w) != 0 {
			t.Errorf("%q: %v", more, w)
		}
	}
}
