package config

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// The modes of an action.
const (
	// ModeInline makes the first attempt while the event is handled.
	ModeInline = "inline"
	// ModeQueued stores the delivery, for a worker to run.
	ModeQueued = "queued"
)

// What a dead letter of a strict observer does to what waits behind it.
const (
	// OnDeadContinue lets it go on.
	OnDeadContinue = "continue"
	// OnDeadBlock keeps it waiting until a person redrives or removes the dead
	// letter.
	OnDeadBlock = "block"
)

// What follows an attempt that was sent and not answered.
const (
	// OnUnknownRetry sends it again, under the same key.
	OnUnknownRetry = "retry"
	// OnUnknownDeadLetter never sends it twice.
	OnUnknownDeadLetter = "dead_letter"
)

// JobQueue says how stored deliveries are run: those of queued actions, retries,
// and what was parked.
type JobQueue struct {
	// WorkerConcurrency is how many attempts a process makes at once.
	WorkerConcurrency int `toml:"worker_concurrency" default:"50" min:"1" max:"10000"`
	// BatchSize is how many deliveries are claimed at once at most.
	BatchSize int `toml:"batch_size" default:"100" min:"1" max:"10000"`
	// PollInterval is how often work is looked for that nothing announced.
	PollInterval time.Duration `toml:"poll_interval_ms" default:"1000" min:"10" max:"3600000"`
	// MaxRetries, InitialDelay and MaxDelay are for queued actions whose observer
	// does not say. MaxRetries does not count the first attempt.
	MaxRetries   int           `toml:"max_retries" default:"5" min:"0" max:"999"`
	InitialDelay time.Duration `toml:"initial_delay_ms" default:"100" min:"0" max:"86400000"`
	MaxDelay     time.Duration `toml:"max_delay_ms" default:"30000" min:"0" max:"86400000"`
	// Lease is how long a delivery waits whose process died.
	Lease time.Duration `toml:"lease" default:"60s" min:"5s" max:"1h"`
	// Retention is how long finished deliveries are kept that are not dead; 0
	// keeps them for ever.
	Retention time.Duration `toml:"retention" default:"24h" min:"0s" max:"87600h"`
	// Queues are what queued actions may name. There may be none.
	Queues []Queue `toml:"queues"`
}

// Queue limits how many deliveries run at once.
type Queue struct {
	// Name is unique.
	Name string `toml:"name"`
	// Concurrency is how many attempts a process makes at once.
	Concurrency int `toml:"concurrency" default:"1" min:"1" max:"10000"`
}

func (q *JobQueue) read(s *scope) {
	s.fields(q)
	s.checkDelays(q.InitialDelay, q.MaxDelay, s)
	seen := map[string]int{}
	for i, queue := range q.Queues {
		s.unique(seen, "queues", nameKey, i, queue.Name)
	}
}

func (q *Queue) read(s *scope) {
	s.fields(q)
	s.checkName(q.Name)
}

// retry is that of a queued action whose observer does not say.
func (q JobQueue) retry() Retry {
	return Retry{MaxAttempts: q.MaxRetries + 1, InitialDelay: q.InitialDelay, MaxDelay: q.MaxDelay, Backoff: "exponential"}
}

// checkQueue reports a name that no queue has.
func (s *scope) checkQueue(name string, q JobQueue) {
	known := make([]string, len(q.Queues))
	for i, queue := range q.Queues {
		known[i] = queue.Name
	}
	if name == "" || slices.Contains(known, name) || s.brokenBelow("job_queue") {
		return
	}
	hint := ": declare it with [[job_queue.queues]]"
	if len(known) > 0 {
		hint = suggestion(name, known, nil)
	}
	s.failKey("queue", "there is no queue %s%s", s.vault.safe(strconv.Quote(name)), hint)
}

// brokenBelow reports whether a section has a mistake, of which others follow.
func (r *reader) brokenBelow(section string) bool {
	for key := range r.broken {
		if key == section || strings.HasPrefix(key, section+".") {
			return true
		}
	}
	return false
}

// checkRetention reports dead letters that would go before what succeeded: it is
// by the latter that an event is known that comes again.
func (s *scope) checkRetention(c *Config) {
	const key = "retention"
	dead, done := c.DeadLetters.Retention, c.JobQueue.Retention
	deadAt, doneAt := s.inner("dead_letters"), s.inner("job_queue")
	switch {
	case deadAt.failed(key) || doneAt.failed(key) || dead == 0 || done != 0 && dead >= done:
	case deadAt.given(key) || !doneAt.given(key):
		deadAt.failKey(key, "is shorter than that of [job_queue] (%s): dead letters are kept at least as long as what succeeded", keptFor(done))
	default:
		doneAt.failKey(key, "is longer than that of [dead_letters] (%s): dead letters are kept at least as long as what succeeded", keptFor(dead))
	}
}

func keptFor(d time.Duration) string {
	if d == 0 {
		return `"0", for ever`
	}
	return strconv.Quote(short(d))
}

// short writes a duration as people do: 720h, not 720h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
