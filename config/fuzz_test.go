package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
)

// FuzzParse: nothing panics, every refusal is [config.Errors] with places, and
// what is accepted is complete.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), "7")
	}
	f.Add(string(config.Starter()), "")
	f.Fuzz(func(t *testing.T, text, variable string) {
		// Every variable that is not a key of ours has a value.
		lookup := func(name string) (string, bool) { return variable, !strings.HasPrefix(name, "FRAISEQL_") }
		c, err := config.Parse("f.toml", []byte(text), lookup)
		if err == nil {
			complete(t, c)
			return
		}
		placed(t, err, strings.Count(text, "\n")+1)
	})
}

// placed holds for every refused configuration.
func placed(t *testing.T, err error, lines int) {
	t.Helper()
	errs, ok := errors.AsType[config.Errors](err)
	if !ok || len(errs) == 0 {
		t.Fatalf("refused with %T", err)
	}
	for _, e := range errs {
		nowhere := e.Line == 0 && e.Key == ""
		if e.File != "f.toml" || e.Message == "" || nowhere || e.Line > lines || e.Line < 0 || e.Column < 0 {
			t.Errorf("no place: %q", e.Error())
		}
	}
}

// complete holds for every accepted configuration.
func complete(t *testing.T, c *config.Config) {
	t.Helper()
	worker := c.Transport.Distributed() && !c.Transport.RunBridge
	if len(c.Databases) == 0 && !worker || c.State.Kind() == "" || c.State.Place() == "" || c.State.URL.IsZero() {
		t.Error("no database or no state store")
	}
	completeTransport(t, c.Transport)
	for _, d := range c.Databases {
		if d.Name == "" || d.Kind() == "" || d.Place() == "" || d.BatchSize < 1 || d.PollInterval <= 0 {
			t.Errorf("database %q is incomplete", d.Name)
		}
	}
	completeJobQueue(t, c)
	for _, o := range c.Observers {
		completeObserver(t, o)
		for _, a := range o.Actions {
			completeAction(t, a)
			completeMode(t, c.JobQueue, a)
		}
	}
}

func completeTransport(t *testing.T, tr config.Transport) {
	t.Helper()
	n, whole := tr.NATS, tr.RunBridge && tr.RunExecutors
	if tr.Kind == "" || !whole && (!tr.Distributed() || n.IsEmbedded()) || !tr.RunBridge && !tr.RunExecutors {
		t.Errorf("transport %q, bridge %t, executors %t", tr.Kind, tr.RunBridge, tr.RunExecutors)
	}
	if n.URL.IsZero() || n.StreamName == "" || n.SubjectPrefix == "" || n.ConsumerName == "" || n.Partitions < 1 || n.JetStream.DedupWindow > n.JetStream.MaxAge {
		t.Errorf("stream %q, prefix %q, consumer %q", n.StreamName, n.SubjectPrefix, n.ConsumerName)
	}
}

func completeJobQueue(t *testing.T, c *config.Config) {
	t.Helper()
	q, dead := c.JobQueue, c.DeadLetters.Retention
	if q.Lease <= 0 || q.WorkerConcurrency < 1 || q.BatchSize < 1 || q.PollInterval <= 0 || q.InitialDelay > q.MaxDelay {
		t.Errorf("job queue %+v", q)
	}
	if dead != 0 && (q.Retention == 0 || dead < q.Retention) {
		t.Errorf("dead letters go after %v, what succeeded after %v", dead, q.Retention)
	}
}

func completeObserver(t *testing.T, o config.Observer) {
	t.Helper()
	if o.Name == "" || o.Entity == "" || len(o.Actions) == 0 || o.Retry.MaxAttempts < 1 {
		t.Errorf("observer %q is incomplete", o.Name)
	}
	blocks := o.OnDead == config.OnDeadBlock
	if o.Mode == "" || o.Order == "" || o.OnDead == "" || blocks && (o.Order != observer.OrderStrict || o.OnFailure == "log") {
		t.Errorf("observer %q: mode %q, order %q, on_dead %q", o.Name, o.Mode, o.Order, o.OnDead)
	}
}

func completeAction(t *testing.T, a config.Action) {
	t.Helper()
	if a.Config == nil || a.Timeout <= 0 || a.OnUnknown == "" || len(a.Print()) != 16 {
		t.Errorf("a %s action is incomplete", a.Type)
	}
	r := a.Retry
	waits := r.InitialDelay <= r.MaxDelay
	if r.Schedule != nil {
		waits = r.MaxAttempts == len(r.Schedule)+1
	}
	if r.MaxAttempts < 1 || !waits {
		t.Errorf("retry %+v", r)
	}
}

func completeMode(t *testing.T, q config.JobQueue, a config.Action) {
	t.Helper()
	plain := a.Queue == "" && a.Delay == 0 && a.Priority == observer.DefaultPriority
	declared := a.Queue == "" || slices.ContainsFunc(q.Queues, func(q config.Queue) bool { return q.Name == a.Queue })
	if a.Mode == config.ModeInline && !plain || a.Mode == config.ModeQueued && !declared || a.Mode == "" {
		t.Errorf("mode %q, queue %q, delay %v, priority %d", a.Mode, a.Queue, a.Delay, a.Priority)
	}
}
