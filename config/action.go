package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/cache"
	"github.com/fraiseql/observer/action/database"
	"github.com/fraiseql/observer/action/discord"
	"github.com/fraiseql/observer/action/email"
	actionlog "github.com/fraiseql/observer/action/log"
	"github.com/fraiseql/observer/action/nats"
	"github.com/fraiseql/observer/action/push"
	"github.com/fraiseql/observer/action/search"
	"github.com/fraiseql/observer/action/slack"
	"github.com/fraiseql/observer/action/sms"
	"github.com/fraiseql/observer/action/teams"
	"github.com/fraiseql/observer/action/webhook"
	"github.com/fraiseql/observer/internal/outbound"
)

// Action is one action of an observer.
type Action struct {
	// Type is one of the words of newActionConfig, such as webhook.
	Type string `toml:"type"`
	// Timeout ends an attempt; concurrent_timeout_ms of [performance] unless set.
	Timeout time.Duration `toml:"timeout" default:"0s" min:"1ms" max:"24h"`
	// Mode is [ModeInline] or [ModeQueued]; that of the observer unless set.
	Mode string `toml:"mode" choice:"inline,queued"`
	// Queue is one of the queues of [JobQueue], or "" for none. Like Priority and
	// Delay it is for queued actions.
	Queue string `toml:"queue"`
	// Priority is from [observer.FirstPriority] to [observer.LastPriority].
	Priority int `toml:"priority" default:"2" min:"1" max:"4"`
	// Delay is how long after it was stored the first attempt is made.
	Delay time.Duration `toml:"delay" default:"0s" min:"0s" max:"8760h"`
	// OnUnknown says what follows an attempt that was sent and not answered:
	// [OnUnknownRetry], or [OnUnknownDeadLetter], which is the default of email
	// and sms.
	OnUnknown string `toml:"on_unknown" choice:"retry,dead_letter"`
	// Fallback runs in place of the action where that cannot; nil is none.
	Fallback *Fallback `toml:"fallback"`
	// Cache says whether and how an equal request is not sent again.
	Cache ActionCache `toml:"cache"`
	// Retry is that of the observer; for a queued action [JobQueue] has the
	// defaults.
	Retry Retry `toml:"-"`
	// Config is what the package of the action type reads, such as *webhook.Config.
	Config any `toml:"-"`

	// unexpanded are the texts that the environment has a part in, as they were
	// given, by key.
	unexpanded map[string]string
}

// Deps are what actions are built with.
type Deps struct {
	// Network reaches receivers; required.
	Network *outbound.Network
	// SMTP is the server of email actions.
	SMTP email.Server
	// Logger is where log actions write; required.
	Logger *slog.Logger
}

// newActionConfig is the configuration of an action type, empty, or nil for a
// type that does not exist. Together with [Action.Build] it is where action
// types are registered.
func newActionConfig(actionType string) any {
	switch actionType {
	case "webhook":
		return &webhook.Config{}
	case "slack":
		return &slack.Config{}
	case "email":
		return &email.Config{}
	case "log":
		return &actionlog.Config{}
	case "sms":
		return &sms.Config{}
	case "push":
		return &push.Config{}
	case "teams":
		return &teams.Config{}
	case "discord":
		return &discord.Config{}
	case "database":
		return &database.Config{}
	case "cache":
		return &cache.Config{}
	case "nats":
		return &nats.Config{}
	case "search":
		return &search.Config{}
	}
	return nil
}

// Build makes the action. An invalid configuration gives
// [observer.FieldError]s, joined. An action that is an [io.Closer] holds
// connections once it has run: it is closed when no more deliveries are handed
// to it, those that still run finish.
func (a Action) Build(d Deps) (observer.Action, error) {
	switch cfg := a.Config.(type) {
	case *webhook.Config:
		return overTLS(d, cfg.TLS, func(c *http.Client) (*webhook.Action, error) { return webhook.New(*cfg, c) })
	case *slack.Config:
		return overTLS(d, cfg.TLS, func(c *http.Client) (*slack.Action, error) { return slack.New(*cfg, c) })
	case *email.Config:
		return built(email.New(*cfg, d.SMTP, d.Network.DialContext))
	case *actionlog.Config:
		return built(actionlog.New(*cfg, d.Logger))
	case *sms.Config:
		return built(sms.New(*cfg, d.Network.HTTPClient()))
	case *push.Config:
		return built(push.New(*cfg, d.Network.HTTPClient()))
	case *teams.Config:
		return built(teams.New(*cfg, d.Network.HTTPClient()))
	case *discord.Config:
		return built(discord.New(*cfg, d.Network.HTTPClient()))
	case *database.Config:
		return built(database.New(*cfg, d.Network.DialContext))
	case *cache.Config:
		return built(cache.New(*cfg, d.Network.DialContext))
	case *nats.Config:
		return built(nats.New(*cfg, d.Network.DialContext))
	case *search.Config:
		return overTLS(d, cfg.TLS, func(c *http.Client) (*search.Action, error) { return search.New(*cfg, c) })
	}
	return nil, &observer.FieldError{Field: "type", Err: checkType(a.Type)}
}

// The actions that hold connections.
var (
	_ io.Closer = (*database.Action)(nil)
	_ io.Closer = (*cache.Action)(nil)
	_ io.Closer = (*nats.Action)(nil)
)

// built keeps a nil pointer from becoming an action that is not nil.
func built[A observer.Action](a A, err error) (observer.Action, error) {
	if err != nil {
		return nil, err
	}
	return a, nil
}

// overTLS builds an action with the client for its TLS settings.
func overTLS[A observer.Action](d Deps, settings outbound.TLS, build func(*http.Client) (A, error)) (observer.Action, error) {
	client, err := d.Network.HTTPClientWith(settings)
	a, buildErr := build(client)
	return built(a, errors.Join(err, buildErr))
}

func actionTypes() []string {
	return []string{
		"webhook", "slack", "email", "log", "sms", "push", "teams", "discord", "database", "cache", "nats", "search",
	}
}

// checkType says why there is no action of a type.
func checkType(actionType string) error {
	if actionType == "" {
		return fmt.Errorf("is missing: write %s", list(actionTypes()))
	}
	message := "unknown action type " + strconv.Quote(actionType)
	if best := nearest(actionType, actionTypes()); best != "" {
		message += ": did you mean " + best + "?"
	}
	return fmt.Errorf("%s (available: %s)", message, strings.Join(actionTypes(), ", "))
}

func (a *Action) read(s *scope) {
	s.fields(a)
	a.Config = newActionConfig(a.Type)
	if a.Config == nil {
		s.lenient = true
		if !s.failed("type") {
			s.failKey("type", "%s", s.vault.redactor.Redact(checkType(a.Type).Error()))
		}
		return
	}
	s.fields(a.Config)
	a.unexpanded = s.unexpanded
	if a.OnUnknown == "" {
		a.OnUnknown = onUnknown(a.Type)
	}
	s.later = append(s.later, func(c *Config) {
		if a.Timeout == 0 {
			a.Timeout = c.Performance.ConcurrentTimeout
		}
		a.checkQueued(s, c.JobQueue)
		built, err := a.Build(s.deps)
		if err != nil {
			s.failFields(err)
		}
		a.checkCache(s, c, built)
	})
}

// onUnknown is what follows an attempt that was not answered unless the
// configuration says. No receiver of an email or of a text message tells one
// sent twice from two.
func onUnknown(actionType string) string {
	switch actionType {
	case "email", "sms":
		return OnUnknownDeadLetter
	}
	return OnUnknownRetry
}

// queuedKeys are the keys that only queued actions have.
func queuedKeys() []string { return []string{"queue", "priority", "delay"} }

func (a *Action) checkQueued(s *scope, q JobQueue) {
	switch {
	case s.failed("mode"):
	case a.Mode == ModeInline:
		for _, key := range queuedKeys() {
			if s.given(key) {
				s.failKey(key, `is for queued actions: write mode = "queued" too, or leave it out`)
			}
		}
	case a.Mode == ModeQueued:
		s.checkQueue(a.Queue, q)
	}
}

func (a *Alert) read(s *scope) {
	s.fields(a)
	a.Action.readStored(s, "is not for alerts: they are always queued, go first, and wait for nothing", "is not for alerts")
	a.Action.Priority = observer.FirstPriority
	if a.Action.Cache.On && !s.failed(cacheKey) {
		s.failKey(cacheKey, "is not for alerts: min_interval says how often they are sent")
	}
}

// When a fallback runs.
const (
	// WhenDead runs it when the delivery is given up.
	WhenDead = "dead"
	// WhenOpen runs it also while the circuit breaker of the receiver is open.
	WhenOpen = "open"
)

// Fallback is an action that runs in place of another.
type Fallback struct {
	// Action is the action; its keys stand in the same table.
	Action Action `toml:"-"`
	// When is [WhenDead] or [WhenOpen].
	When string `toml:"when" default:"dead" choice:"dead,open"`
}

func (f *Fallback) read(s *scope) {
	s.fields(f)
	f.Action.readStored(s, "is not for fallbacks: they are always queued, and wait for nothing", "is not for a fallback: it has none itself")
}

// readStored reads an action that is always queued. queued is what is wrong with
// the keys of that, and fallback with one.
func (a *Action) readStored(s *scope, queued, fallback string) {
	a.read(s)
	for _, key := range append(queuedKeys(), "mode") {
		if s.given(key) {
			s.failKey(key, "%s", queued)
		}
	}
	if s.table["fallback"] != nil {
		s.failKey("fallback", "%s", fallback)
	}
	a.Mode, a.Queue, a.Delay = ModeQueued, "", 0
	s.later = append(s.later, func(c *Config) { a.Retry = c.JobQueue.retry() })
}

// failFields puts each error of building an action at its key. A key that could
// not be read has its mistake already; what follows from that is left out.
func (s *scope) failFields(err error) {
	var report []func()
	for _, field := range fieldErrors(err) {
		at, key := s.locate(field.Field)
		if !at.failed(key) {
			report = append(report, func() { at.failText(key, field.Err) })
		}
	}
	for _, fail := range report {
		fail()
	}
}

// fieldErrors flattens joined errors. An error of no field is one of the type:
// that key is there in every action.
func fieldErrors(err error) []*observer.FieldError {
	var fields []*observer.FieldError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			fields = append(fields, fieldErrors(one)...)
		}
		return fields
	}
	field, ok := errors.AsType[*observer.FieldError](err)
	if !ok {
		field = &observer.FieldError{Field: "type", Err: err}
	}
	return append(fields, field)
}

// locate finds the table and the key in it of a field that an action names.
func (s *scope) locate(field string) (*scope, string) {
	if key, ok := strings.CutPrefix(field, "smtp."); ok {
		return s.smtp().locate(key)
	}
	if section, entry, ok := strings.Cut(field, "."); ok && s.table[section] != nil {
		if table, ok := s.table[section].table(); ok {
			return s.nested(section, s.table[section], table), entry
		}
	}
	return s, field
}

// smtp is the scope of the [smtp] section. Without one, its mistakes stand where
// the action is.
func (s *scope) smtp() *scope {
	root, _ := s.doc.root.table()
	section := &scope{reader: s.reader, at: s.at, path: "smtp"}
	if v := root["smtp"]; v != nil {
		section.at = v
		section.table, _ = v.table()
	}
	return section
}
