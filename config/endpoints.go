package config

import (
	"reflect"
	"strings"
	"time"
)

// Endpoints says when receivers that fail are left alone.
type Endpoints struct {
	// DisableAfter is how long a receiver has to fail before it is paused; 0
	// never pauses one for that.
	DisableAfter time.Duration `toml:"disable_after" default:"72h" min:"0s" max:"8760h"`
	// ProbeInterval is how often one that was paused for failing is tried.
	ProbeInterval time.Duration `toml:"probe_interval" default:"1m" min:"1s" max:"24h"`
	// Overrides are for single receivers. There may be none.
	Overrides []Override `toml:"overrides"`
}

// Breaker is the circuit breaker of a receiver.
type Breaker struct {
	Enabled bool `toml:"enabled" default:"true"`
	// FailureRate is the percentage of the calls within Window, MinCalls at least,
	// that have to fail for it to open.
	FailureRate int           `toml:"failure_rate" default:"50" min:"1" max:"100"`
	MinCalls    int           `toml:"min_calls" default:"50" min:"1" max:"1000000"`
	Window      time.Duration `toml:"window" default:"30s" min:"1s" max:"24h"`
	// OpenFor is how long nothing is sent, and Probes how many attempts are made
	// then to see whether it works again.
	OpenFor time.Duration `toml:"open_for" default:"30s" min:"1s" max:"24h"`
	Probes  int           `toml:"probes" default:"3" min:"1" max:"1000"`
}

// Limits bound what is sent to a receiver: by all processes together where there
// is Redis, else by each.
type Limits struct {
	// MaxConcurrent is how many attempts run at once; 0 is no limit.
	MaxConcurrent int `toml:"max_concurrent" default:"0" min:"0" max:"10000"`
	// Rate is how many begin in a second; 0 is no limit. Burst is how many may
	// begin at once after a pause; 0 is those of one second.
	Rate  float64 `toml:"rate" default:"0" min:"0" max:"100000"`
	Burst int     `toml:"burst" default:"0" min:"0" max:"100000"`
}

// Override is what holds for some receivers in place of [Config.Breaker] and
// [Config.Limits].
type Override struct {
	// Endpoint is the name of a receiver, as endpoints list shows it, or the
	// beginning of names, with an asterisk at its end. The longest that fits
	// counts; a whole name counts before any beginning.
	Endpoint string `toml:"endpoint"`
	// Breaker and Limits have what the override does not say from the defaults.
	Breaker Breaker `toml:"breaker"`
	Limits  Limits  `toml:"limits"`
}

// Rules are the breaker and the limits of a receiver.
func (c *Config) Rules(endpoint string) (Breaker, Limits) {
	best := -1
	for i, o := range c.Endpoints.Overrides {
		if o.matches(endpoint) && (best < 0 || o.narrower(c.Endpoints.Overrides[best])) {
			best = i
		}
	}
	if best < 0 {
		return c.Breaker, c.Limits
	}
	return c.Endpoints.Overrides[best].Breaker, c.Endpoints.Overrides[best].Limits
}

func (o Override) matches(endpoint string) bool {
	if prefix, open := strings.CutSuffix(o.Endpoint, "*"); open {
		return strings.HasPrefix(endpoint, prefix)
	}
	return o.Endpoint == endpoint
}

func (o Override) narrower(than Override) bool {
	if open, other := strings.HasSuffix(o.Endpoint, "*"), strings.HasSuffix(than.Endpoint, "*"); open != other {
		return other
	}
	return len(o.Endpoint) > len(than.Endpoint)
}

func (e *Endpoints) read(s *scope) {
	s.fields(e)
	seen := map[string]int{}
	for i, o := range e.Overrides {
		s.unique(seen, "overrides", endpointKey, i, o.Endpoint)
	}
}

const endpointKey = "endpoint"

func (o *Override) read(s *scope) {
	s.fields(o)
	if o.Endpoint == "" && !s.failed(endpointKey) {
		s.failKey(endpointKey, `is missing: name a receiver as "endpoints list" shows it, or the beginning of names with * at its end`)
	}
	s.later = append(s.later, func(c *Config) {
		s.inner("breaker").inherit(&o.Breaker, c.Breaker)
		s.inner("limits").inherit(&o.Limits, c.Limits)
		o.Limits.check(s.inner("limits"))
	})
}

func (l *Limits) read(s *scope) {
	s.fields(l)
	if !strings.HasPrefix(s.path, "endpoints.") { // an override may have the rate from here
		l.check(s)
	}
}

// slowest is the lowest rate but none: one in almost three hours.
const slowest = 0.0001

// check reports a burst of nothing, and a rate of nearly nothing.
func (l Limits) check(s *scope) {
	if l.Rate > 0 && l.Rate < slowest && s.given("rate") && !s.failed("rate") {
		s.failKey("rate", "must be 0 or at least %v", slowest)
	}
	if l.Burst > 0 && l.Rate == 0 && s.given("burst") && !s.failed("rate") {
		s.failKey("burst", "is for a rate: write rate too, or leave it out")
	}
}

// inherit fills what the table at s does not say from what holds otherwise, of
// the same type.
func (s *scope) inherit(target, otherwise any) {
	to, from := reflect.ValueOf(target).Elem(), reflect.ValueOf(otherwise)
	for i := range to.NumField() {
		if !s.given(to.Type().Field(i).Tag.Get("toml")) {
			to.Field(i).Set(from.Field(i))
		}
	}
}
