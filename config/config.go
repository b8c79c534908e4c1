package config

import (
	"log/slog"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/email"
)

// Config is a whole configuration: valid, with every default filled in. It is
// read-only after [Load] and never prints a value, since any of them may have
// come from the environment.
type Config struct {
	// Path is the file it was read from, as it was named.
	Path string `toml:"-"`
	// Modified and Size are those of the file just before it was read; zero
	// where there was no file.
	Modified time.Time `toml:"-"`
	Size     int64     `toml:"-"`
	// Databases are where changes come from: at least one, unless the process only
	// runs actions.
	Databases []Database `toml:"databases"`
	// State is where the daemon keeps what it must not forget.
	State State `toml:"state"`
	// Transport says how events get to the actions.
	Transport Transport `toml:"transport"`
	// Leases say how processes that share a state agree who reads what.
	Leases Leases `toml:"leases"`
	// Network says what actions may reach.
	Network Network `toml:"network"`
	// Performance bounds what runs at once.
	Performance Performance `toml:"performance"`
	// Redis is the server that makes things faster, if there is one.
	Redis Redis `toml:"redis"`
	// Dedup says how deliveries are kept from being handled twice.
	Dedup Dedup `toml:"dedup"`
	// Cache bounds the cached results in the memory of the process.
	Cache Cache `toml:"cache"`
	// JobQueue says how stored deliveries are run.
	JobQueue JobQueue `toml:"job_queue"`
	// Endpoints says when receivers that fail are left alone.
	Endpoints Endpoints `toml:"endpoints"`
	// Breaker and Limits hold for each receiver that has no override.
	Breaker Breaker `toml:"breaker"`
	Limits  Limits  `toml:"limits"`
	// DeadLetters bounds what waits for a person.
	DeadLetters DeadLetters `toml:"dead_letters"`
	// SMTP is the server of the email actions.
	SMTP email.Server `toml:"smtp"`
	// Alert is the action for observers with on_failure = "alert" that have none
	// of their own; nil when there is none.
	Alert *Alert `toml:"alert"`
	// Log says what the daemon logs.
	Log Log `toml:"log"`
	// Observers are what to do about which changes. There may be none.
	Observers []Observer `toml:"observers"`

	// variables are the names of the environment that stand for a key.
	variables map[string]bool
	// idle says which keys are given and have no effect.
	idle []string
}

// Leases say how processes that share a state agree who reads what.
type Leases struct {
	// TTL is how long what a process read is read by nobody after it died.
	TTL time.Duration `toml:"ttl" default:"10s" min:"1s" max:"10m"`
}

// Performance bounds what runs at once.
type Performance struct {
	// EnableConcurrent runs the actions of an event at once; without it they
	// run one at a time, in their order.
	EnableConcurrent bool `toml:"enable_concurrent" default:"true"`
	// EnableDedup has deliveries handled once however often their events are
	// handed over.
	EnableDedup bool `toml:"enable_dedup" default:"false"`
	// EnableCaching lets the actions that have a cache use it.
	EnableCaching bool `toml:"enable_caching" default:"false"`
	// MaxConcurrentActions is how many actions of one event run at once.
	MaxConcurrentActions int `toml:"max_concurrent_actions" default:"10" min:"1" max:"10000"`
	// ConcurrentTimeout ends an attempt of an action that names no timeout.
	ConcurrentTimeout time.Duration `toml:"concurrent_timeout_ms" default:"30000" min:"1" max:"86400000"`
	// ChannelCapacity is how many events may be unfinished at once.
	ChannelCapacity int `toml:"channel_capacity" default:"1000" min:"1" max:"1000000"`
	// MaxConcurrency is how many entities are worked on at once.
	MaxConcurrency int `toml:"max_concurrency" default:"50" min:"1" max:"10000"`
	// ShutdownTimeout is how long a stop may wait for what has begun.
	ShutdownTimeout time.Duration `toml:"shutdown_timeout" default:"30s" min:"0s" max:"24h"`
}

// DeadLetters bounds what waits for a person.
type DeadLetters struct {
	// MaxItems is how many dead letters are kept; intake slows at the cap.
	MaxItems int `toml:"max_items" default:"100000" min:"1" max:"1000000000"`
	// Retention is how long they are kept; 0 keeps them for ever. It is never
	// shorter than that of what succeeded.
	Retention time.Duration `toml:"retention" default:"720h" min:"0s" max:"87600h"`
}

// Log says what the daemon logs about itself.
type Log struct {
	Level slog.Level `toml:"level" default:"info"`
	// Format is text or json.
	Format string `toml:"format" default:"text" choice:"text,json"`
}

// Alert is an action that runs when a delivery is given up.
type Alert struct {
	// Action is the action; its keys stand in the same table.
	Action Action `toml:"-"`
	// MinInterval is the time between two alerts at least.
	MinInterval time.Duration `toml:"min_interval" default:"1m" min:"0s" max:"720h"`
}

// Observer says what to do about which changes.
type Observer struct {
	// Name is unique; it is part of the key of every delivery.
	Name string `toml:"name"`
	// Entity is the entity type, or * for every one.
	Entity string `toml:"entity"`
	// EventTypes are the operations it looks at; nil means all.
	EventTypes []observer.Operation `toml:"event_type"`
	// Condition must hold for the actions to run; "" always holds. It has been
	// compiled once: compiling it again does not fail.
	Condition string `toml:"condition"`
	// Order says what may overtake what among the changes of one entity.
	Order observer.Order `toml:"order" default:"entity" choice:"none,entity,strict"`
	// OnDead says what a dead letter of a strict observer does to what waits
	// behind it: [OnDeadContinue] or [OnDeadBlock].
	OnDead string `toml:"on_dead" default:"continue" choice:"continue,block"`
	// Mode is that of the actions that name none: [ModeInline] or [ModeQueued].
	Mode string `toml:"mode" default:"inline" choice:"inline,queued"`
	// OnFailure is dlq, log or alert: what happens to a delivery that is given up.
	OnFailure string `toml:"on_failure" default:"dlq" choice:"dlq,log,alert"`
	// Retry says how often and when an attempt is repeated. [Action.Retry] is the
	// one that holds for an action.
	Retry Retry `toml:"retry"`
	// Actions are what runs: at least one.
	Actions []Action `toml:"actions"`
	// Alert replaces the global one; nil means the global one.
	Alert *Alert `toml:"alert"`
	// Redactor knows the secrets that the configuration took from the environment.
	Redactor observer.Redactor `toml:"-"`
}

// Retry says how often and when an attempt is repeated.
type Retry struct {
	// MaxAttempts counts every attempt, the first included; with a Schedule it is
	// one more than that has waits.
	MaxAttempts int `toml:"max_attempts" default:"3" min:"1" max:"1000"`
	// InitialDelay, MaxDelay and Backoff mean nothing where there is a Schedule.
	InitialDelay time.Duration `toml:"initial_delay_ms" default:"100" min:"0" max:"86400000"`
	MaxDelay     time.Duration `toml:"max_delay_ms" default:"30000" min:"0" max:"86400000"`
	// Backoff is exponential, linear or fixed.
	Backoff string `toml:"backoff_strategy" default:"exponential" choice:"exponential,linear,fixed"`
	// Schedule has the wait after each failed attempt but the last; nil when the
	// waits are those of Backoff.
	Schedule []time.Duration `toml:"schedule"`
	// MaxAge is how old a delivery may get before it is given up; 0 is no limit.
	MaxAge time.Duration `toml:"max_age" default:"0" min:"0s" max:"87600h"`
	// InlineBudget is how long the lane of the entity waits for an inline action.
	InlineBudget time.Duration `toml:"inline_budget" default:"2s" min:"0s" max:"10m"`
}
