package config_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/webhook"
	"github.com/fraiseql/observer/config"
)

// delivering is a configuration with two queues and an observer that has lines of
// its own before its actions.
func delivering(queue, observer, actions string) string {
	return "[[databases]]\nname = \"shop\"\nurl = \"sqlite:shop.db\"\n[job_queue]\n" + queue +
		"\n[[job_queue.queues]]\nname = \"reports\"\n[[observers]]\nname = \"o\"\nentity = \"Order\"\n" + observer + "\n" + actions
}

const (
	inlineAction = "[[observers.actions]]\ntype = \"log\"\n"
	queuedAction = inlineAction + "mode = \"queued\"\n"
)

// TestRetryOfActions: each key of a queued action's retry comes from its observer,
// else from the job queue; that of an inline action never comes from there.
func TestRetryOfActions(t *testing.T) {
	t.Parallel()
	const ms, s = time.Millisecond, time.Second
	base := config.Retry{MaxAttempts: 3, InitialDelay: 100 * ms, MaxDelay: 30 * s, Backoff: "exponential", InlineBudget: 2 * s}
	retry := func(change func(r *config.Retry)) config.Retry {
		r := base
		change(&r)
		return r
	}
	const queue = "max_retries = 7\ninitial_delay_ms = 2000\nmax_delay_ms = 9000"
	for _, c := range []struct {
		name, queue, observer string
		inline, queued        config.Retry
	}{
		{"nothing written", "", "", base, retry(func(r *config.Retry) { r.MaxAttempts = 6 })},
		{"the job queue", queue, "", base, retry(func(r *config.Retry) { r.MaxAttempts, r.InitialDelay, r.MaxDelay = 8, 2*s, 9*s })},
		{
			"attempts", queue, "retry.max_attempts = 3", base,
			retry(func(r *config.Retry) { r.InitialDelay, r.MaxDelay = 2*s, 9*s }),
		},
		{
			"a default written out", queue, "retry = { initial_delay_ms = 100, backoff_strategy = \"fixed\" }",
			retry(func(r *config.Retry) { r.Backoff = "fixed" }),
			retry(func(r *config.Retry) { r.MaxAttempts, r.MaxDelay, r.Backoff = 8, 9*s, "fixed" }),
		},
		{
			"the longest wait", queue, "retry = { max_delay_ms = 20000, max_age = \"1h\", inline_budget = \"1s\" }",
			retry(func(r *config.Retry) { r.MaxDelay, r.MaxAge, r.InlineBudget = 20*s, time.Hour, s }),
			retry(func(r *config.Retry) {
				r.MaxAttempts, r.InitialDelay, r.MaxDelay, r.MaxAge, r.InlineBudget = 8, 2*s, 20*s, time.Hour, s
			}),
		},
		{
			"a schedule", queue, "retry.schedule = [\"5s\", \"0s\"]",
			retry(func(r *config.Retry) { r.MaxAttempts, r.Schedule = 3, []time.Duration{5 * s, 0} }),
			retry(func(r *config.Retry) { r.MaxAttempts, r.Schedule = 3, []time.Duration{5 * s, 0} }),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := parse(t, delivering(c.queue, c.observer, inlineAction+queuedAction), nil).Observers[0]
			equal(t, "inline", o.Actions[0].Retry, c.inline)
			equal(t, "of the observer", o.Retry, c.inline)
			equal(t, "queued", o.Actions[1].Retry, c.queued)
		})
	}
}

// A delivery that would be too old before its first attempt is a mistake.
func TestMaxAgeIsLongerThanADelay(t *testing.T) {
	t.Parallel()
	const delayed = queuedAction + "delay = \"1h\"\n"
	for age, accepted := range map[string]bool{"0": true, "59m": false, "1h": false, "61m": true} {
		_, err := config.Parse("f", []byte(delivering("", "retry.max_age = \""+age+"\"", inlineAction+delayed)), nil)
		const want = "observers[0].retry.max_age: is not longer than the delay of actions[1] (1h)"
		if accepted != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("max_age %s: %v", age, err)
		}
	}
}

// Delays that fit only those of the job queue are right where nothing else uses
// them.
func TestDelaysOfQueuedActionsOnly(t *testing.T) {
	t.Parallel()
	const queue, own = "max_delay_ms = 3600000", "retry.initial_delay_ms = 60000\n"
	o := parse(t, delivering(queue, own, queuedAction), nil).Observers[0]
	equal(t, "delays", []time.Duration{o.Actions[0].Retry.InitialDelay, o.Actions[0].Retry.MaxDelay}, []time.Duration{time.Minute, time.Hour})
	_, err := config.Parse("f", []byte(delivering(queue, own, queuedAction+inlineAction)), nil)
	if err == nil || !strings.Contains(err.Error(), "observers[0].retry.initial_delay_ms: is more than max_delay_ms (30000)") {
		t.Errorf("beside an inline action: %v", err)
	}
}

func TestModeAndOutcome(t *testing.T) {
	t.Parallel()
	const mail = "[[observers.actions]]\ntype = \"email\"\nto = \"a@example.com\"\nsubject = \"x\"\nbody_template = \"x\"\n"
	text := delivering("", "mode = \"queued\"\norder = \"strict\"\n",
		inlineAction+mail+"mode = \"inline\"\n"+inlineAction+"queue = \"reports\"\npriority = 4\ndelay = \"1m\"\non_unknown = \"dead_letter\"\n"+
			mail+"on_unknown = \"retry\"\n") + "[smtp]\nhost = \"mail.example.com\"\nfrom = \"a@example.com\"\n"
	type way struct {
		mode, queue string
		priority    int
		delay       time.Duration
		onUnknown   string
	}
	var got []way
	for _, a := range parse(t, text, nil).Observers[0].Actions {
		got = append(got, way{a.Mode, a.Queue, a.Priority, a.Delay, a.OnUnknown})
	}
	if diff := cmp.Diff([]way{
		{config.ModeQueued, "", 2, 0, config.OnUnknownRetry},
		{config.ModeInline, "", 2, 0, config.OnUnknownDeadLetter},
		{config.ModeQueued, "reports", 4, time.Minute, config.OnUnknownDeadLetter},
		{config.ModeQueued, "", 2, 0, config.OnUnknownRetry},
	}, got, cmp.AllowUnexported(way{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAlertsAreQueued(t *testing.T) {
	t.Parallel()
	c := parse(t, delivering("max_retries = 1\nmax_delay_ms = 500", "alert = { type = \"log\" }", inlineAction)+
		"[alert]\ntype = \"log\"\non_unknown = \"dead_letter\"\n", nil)
	for name, a := range map[string]config.Action{"global": c.Alert.Action, "own": c.Observers[0].Alert.Action} {
		if a.Mode != config.ModeQueued || a.Priority != observer.FirstPriority || a.Queue != "" || a.Delay != 0 {
			t.Errorf("%s: mode %q, priority %d, queue %q, delay %v", name, a.Mode, a.Priority, a.Queue, a.Delay)
		}
		equal(t, name, a.Retry, config.Retry{MaxAttempts: 2, InitialDelay: 100 * time.Millisecond, MaxDelay: 500 * time.Millisecond, Backoff: "exponential"})
	}
	equal(t, "on_unknown", []string{c.Alert.Action.OnUnknown, c.Observers[0].Alert.Action.OnUnknown},
		[]string{config.OnUnknownDeadLetter, config.OnUnknownRetry})
}

// What cannot be told from what was not written, or is an edge of a rule.
func TestAcceptedTogether(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"block keeps dead letters":           delivering("", "order = \"strict\"\non_dead = \"block\"\non_failure = \"dlq\"", inlineAction),
		"continue without dead letters":      delivering("", "order = \"strict\"\non_dead = \"continue\"\non_failure = \"log\"", inlineAction),
		"strict without dead letters":        delivering("", "order = \"strict\"\non_failure = \"log\"", inlineAction),
		"equal retentions":                   delivering("retention = \"48h\"", "", inlineAction) + "[dead_letters]\nretention = \"48h\"\n",
		"dead letters for ever":              delivering("retention = \"1000h\"", "", inlineAction) + "[dead_letters]\nretention = \"0\"\n",
		"everything for ever":                delivering("retention = \"0\"", "", inlineAction) + "[dead_letters]\nretention = \"0\"\n",
		"equal delays":                       delivering("initial_delay_ms = 5\nmax_delay_ms = 5", "", queuedAction),
		"a schedule, whatever the job queue": delivering("max_delay_ms = 100", "retry.schedule = \"1h\"", queuedAction),
		"max_age and budget beside schedule": delivering("", "retry = { schedule = [\"1h\"], max_age = \"2h\", inline_budget = \"1s\" }", queuedAction),
		"no queue in so many words":          delivering("", "", queuedAction+"queue = \"\"\n"),
		"more places in a queue than in all": delivering("worker_concurrency = 1", "", queuedAction) + "[[job_queue.queues]]\nname = \"wide\"\nconcurrency = 50\n",
		"the shortest lease":                 delivering("lease = \"5s\"", "", inlineAction),
		"the longest lease":                  delivering("lease = \"1h\"", "", inlineAction),
	} {
		if _, err := config.Parse("f", []byte(text), nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestScheduleTakenBack: an empty variable puts the ordinary retry in place of a
// schedule in the file.
func TestScheduleTakenBack(t *testing.T) {
	t.Parallel()
	text := delivering("", "retry.schedule = [\"1h\", \"2h\"]", inlineAction)
	o := parse(t, text, map[string]string{"FRAISEQL_OBSERVERS_0_RETRY_SCHEDULE": ""}).Observers[0]
	if o.Retry.Schedule != nil || o.Actions[0].Retry.MaxAttempts != 3 {
		t.Errorf("retry %+v", o.Actions[0].Retry)
	}
}

// TestWordsAreNoSecrets: a word out of a few that are documented is not taken out
// of messages because a variable had it.
func TestWordsAreNoSecrets(t *testing.T) {
	t.Parallel()
	const hook = "[[observers.actions]]\ntype = \"webhook\"\nurl = \"https://example.com/${TOKEN}\"\n"
	vars := map[string]string{"FRAISEQL_OBSERVERS_0_ACTIONS_0_ON_UNKNOWN": "retry", "MODE": "queued", "TOKEN": "s3cret-token"}
	for _, mode := range []string{"mode = \"${MODE}\"\n", "mode_env = \"MODE\"\n"} {
		c := parse(t, delivering("", "", hook+mode), vars)
		a := c.Observers[0].Actions[0]
		if a.Mode != config.ModeQueued || a.OnUnknown != config.OnUnknownRetry {
			t.Errorf("mode %q, on_unknown %q", a.Mode, a.OnUnknown)
		}
		equal(t, "redacted", a.Config.(*webhook.Config).Redactor.Redact("queued s3cret-token: retry"), "queued [redacted]: retry")
	}
	// What is no such word is one: it may be a misplaced secret.
	vars["MODE"] = "hunter2-hunter2"
	_, err := config.Parse("f", []byte(delivering("", "", hook+"mode_env = \"MODE\"\n")), environ(vars))
	var errs config.Errors
	if !errors.As(err, &errs) || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "must be inline or queued") {
		t.Errorf("a wrong mode: %v", err)
	}
}

// TestVariablesOfDeliveries does for them what TestVariablesOverrideTheFile does.
func TestVariablesOfDeliveries(t *testing.T) {
	t.Parallel()
	file := delivering("", "", inlineAction+queuedAction+"queue = \"reports\"\n") +
		"[[observers]]\nname = \"strict\"\nentity = \"Order\"\norder = \"strict\"\n" + inlineAction + "[[job_queue.queues]]\nname = \"mail\"\n"
	overriding(t, file, []override{
		{"FRAISEQL_DEAD_LETTERS_RETENTION", "0", func(c *config.Config) any { return c.DeadLetters.Retention }, time.Duration(0)},
		{"FRAISEQL_JOB_QUEUE_WORKER_CONCURRENCY", "3", func(c *config.Config) any { return c.JobQueue.WorkerConcurrency }, 3},
		{"FRAISEQL_JOB_QUEUE_BATCH_SIZE", "3", func(c *config.Config) any { return c.JobQueue.BatchSize }, 3},
		{"FRAISEQL_JOB_QUEUE_POLL_INTERVAL_MS", "30", func(c *config.Config) any { return c.JobQueue.PollInterval }, 30 * time.Millisecond},
		{"FRAISEQL_JOB_QUEUE_MAX_RETRIES", "3", func(c *config.Config) any { return c.Observers[0].Actions[1].Retry.MaxAttempts }, 4},
		{"FRAISEQL_JOB_QUEUE_INITIAL_DELAY_MS", "3", func(c *config.Config) any { return c.Observers[0].Actions[1].Retry.InitialDelay }, 3 * time.Millisecond},
		{"FRAISEQL_JOB_QUEUE_MAX_DELAY_MS", "300", func(c *config.Config) any { return c.Observers[0].Actions[1].Retry.MaxDelay }, 300 * time.Millisecond},
		{"FRAISEQL_JOB_QUEUE_LEASE", "9s", func(c *config.Config) any { return c.JobQueue.Lease }, 9 * time.Second},
		{"FRAISEQL_JOB_QUEUE_RETENTION", "9h", func(c *config.Config) any { return c.JobQueue.Retention }, 9 * time.Hour},
		{"FRAISEQL_JOB_QUEUE_QUEUES_1_NAME", "env", func(c *config.Config) any { return c.JobQueue.Queues[1].Name }, "env"},
		{"FRAISEQL_JOB_QUEUE_QUEUES_0_CONCURRENCY", "9", func(c *config.Config) any { return c.JobQueue.Queues[0].Concurrency }, 9},
		{"FRAISEQL_ENDPOINTS_DISABLE_AFTER", "9h", func(c *config.Config) any { return c.Endpoints.DisableAfter }, 9 * time.Hour},
		{"FRAISEQL_ENDPOINTS_PROBE_INTERVAL", "9s", func(c *config.Config) any { return c.Endpoints.ProbeInterval }, 9 * time.Second},
		{"FRAISEQL_OBSERVERS_0_ORDER", "none", func(c *config.Config) any { return c.Observers[0].Order }, observer.OrderNone},
		{"FRAISEQL_OBSERVERS_0_MODE", "queued", func(c *config.Config) any { return c.Observers[0].Actions[0].Mode }, config.ModeQueued},
		{"FRAISEQL_OBSERVERS_0_RETRY_SCHEDULE", "5s, 1h", func(c *config.Config) any { return c.Observers[0].Retry.Schedule[1] }, time.Hour},
		{"FRAISEQL_OBSERVERS_0_RETRY_MAX_AGE", "9h", func(c *config.Config) any { return c.Observers[0].Retry.MaxAge }, 9 * time.Hour},
		{"FRAISEQL_OBSERVERS_0_RETRY_INLINE_BUDGET", "9s", func(c *config.Config) any { return c.Observers[0].Retry.InlineBudget }, 9 * time.Second},
		{"FRAISEQL_OBSERVERS_1_ON_DEAD", "block", func(c *config.Config) any { return c.Observers[1].OnDead }, config.OnDeadBlock},
		{"FRAISEQL_OBSERVERS_0_ACTIONS_0_MODE", "queued", func(c *config.Config) any { return c.Observers[0].Actions[0].Mode }, config.ModeQueued},
		{"FRAISEQL_OBSERVERS_0_ACTIONS_0_ON_UNKNOWN", "dead_letter", func(c *config.Config) any { return c.Observers[0].Actions[0].OnUnknown }, config.OnUnknownDeadLetter},
		{"FRAISEQL_OBSERVERS_0_ACTIONS_1_QUEUE", "mail", func(c *config.Config) any { return c.Observers[0].Actions[1].Queue }, "mail"},
		{"FRAISEQL_OBSERVERS_0_ACTIONS_1_PRIORITY", "4", func(c *config.Config) any { return c.Observers[0].Actions[1].Priority }, 4},
		{"FRAISEQL_OBSERVERS_0_ACTIONS_1_DELAY", "9s", func(c *config.Config) any { return c.Observers[0].Actions[1].Delay }, 9 * time.Second},
	})
}
