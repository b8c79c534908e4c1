package topology

import (
	"context"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
)

// traced is an action that takes note of the layers it is called through, in place
// of sending.
type traced struct {
	observer.Identifier

	mu sync.Mutex
	// asked are those around the question for the endpoint, ran those around the
	// attempt.
	asked, ran []string
}

func (a *traced) Endpoint(ctx context.Context, d *observer.Delivery) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.asked) == 0 {
		a.asked = layersAround()
	}
	return a.Identifier.Endpoint(ctx, d)
}

func (a *traced) Execute(context.Context, *observer.Delivery) (observer.Result, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ran = layersAround()
	return observer.Result{}, nil
}

// take gives what was noted since the last time.
func (a *traced) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := slices.Compact(slices.Concat(a.asked, a.ran))
	a.asked, a.ran = nil, nil
	return all
}

// unreached is an action without a receiver.
type unreached struct{ *traced }

// plain hides that the action is more than one.
func (a unreached) plain() observer.Action { return observer.ActionFunc(a.Execute) }

// layersAround reads the layers from the stack, outermost first. Each has a file
// of its own.
func layersAround() []string {
	files := map[string]string{
		"known": "known", "dedup": "dedup", "firstpass": "first pass", "observe": "observe", "deadletter": "dead letter",
		"defer": "defer", "fallback": "fallback", "cache": "cache", "retry": "retry", "breaker": "breaker", "limits": "limit",
		"endpoint": "report", "timeout": "timeout", "recover": "recover",
	}
	callers := make([]uintptr, 100)
	frames := runtime.CallersFrames(callers[:runtime.Callers(1, callers)])
	var names []string
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		dir, file := filepath.Split(f.File)
		name := files[strings.TrimSuffix(file, ".go")]
		if filepath.Base(dir) != "middleware" || name == "" {
			continue
		}
		if strings.Contains(f.Function, "Unrecorded") {
			name = "unrecorded"
		}
		names = append(names, name)
	}
	slices.Reverse(names)
	return slices.Compact(names)
}

const (
	shopped   = "[[databases]]\nname = 'shop'\nurl = 'sqlite:shop.db'\n"
	deduped   = "[performance]\nenable_dedup = true\nenable_caching = true\n"
	bounded   = "[limits]\nrate = 1000.0\n"
	unbroken  = "[breaker]\nenabled = false\n"
	observing = "[[observers]]\nname = 'o'\nentity = '*'\n"
	hooked    = "[[observers.actions]]\ntype = 'webhook'\nbody_template = '{}'\nurl = 'https://example.com/hook'\n"
	anywhere  = "[[observers.actions]]\ntype = 'webhook'\nurl = 'https://{{ data.host }}/hook'\n"
	mailed    = "[[observers.actions]]\ntype = 'email'\nto = 'a@example.com'\nsubject = 's'\nbody_template = 'b'\n"
	server    = "[smtp]\nhost = 'mail.example.com'\nfrom = 'o@example.com'\n"
	logged    = "[[observers.actions]]\ntype = 'log'\n"
	freed     = "[[endpoints.overrides]]\nendpoint = 'webhook https://example.com/*'\nbreaker = { enabled = false }\n"
	guarded   = "[[endpoints.overrides]]\nendpoint = 'webhook https://example.com/*'\nbreaker = { enabled = true }\nlimits = { rate = 9.0 }\n"
)

// What is explained is what runs, layer by layer, for every kind of action: as the
// stack of a delivery under way shows it.
func TestWhatIsExplainedRuns(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"plain":                      observing + hooked,
		"every layer":                deduped + bounded + observing + hooked + "cache = { ttl = '60s' }\nfallback = { type = 'log', when = 'open' }\n",
		"cache by a key":             deduped + observing + anywhere + "cache = { ttl = '60s', key = '{{ data.host }}' }\n",
		"no breaker":                 unbroken + observing + hooked,
		"limits without a breaker":   unbroken + bounded + observing + hooked,
		"an override without":        freed + observing + hooked,
		"an override with":           unbroken + guarded + observing + hooked,
		"an override for some":       unbroken + guarded + observing + anywhere,
		"queued":                     deduped + bounded + observing + hooked + "mode = 'queued'\n",
		"stored before its attempts": server + deduped + observing + mailed,
		"without a receiver":         deduped + bounded + observing + logged,
		"fallback to an email":       server + bounded + observing + hooked + "fallback = { type = 'email', to = 'a@example.com', subject = 's', body_template = 'b' }\n",
		"several":                    bounded + observing + logged + hooked + anywhere,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, err := config.Parse(filepath.Join(t.TempDir(), "o.toml"), []byte(shopped+text), func(string) (string, bool) { return "", false })
			if err != nil {
				t.Fatal(err)
			}
			explained, err := Explain(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			built, err := Build(t.Context(), cfg, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = built.Close() }()
			for i := range cfg.Observers[0].Actions {
				checkChain(t, built, cfg.Observers[0], i, explained.Observers[0].Actions[i])
			}
		})
	}
}

// checkChain runs a delivery of an action on its first pass and from the store, and
// one of its fallback.
func checkChain(t *testing.T, built *Topology, o config.Observer, i int, want ActionChain) {
	t.Helper()
	a := o.Actions[i]
	act, note := tracedOf(t, built, a)
	run := built.layers.firstPass(o, a, act, nil, planOf(o, a, make([]string, len(o.Actions)))).Run
	note.take()
	if _, err := run.Execute(t.Context(), aDelivery(i, a.Type)); err != nil {
		t.Fatal(err)
	}
	first, worker := note.take(), runStored(t, built, o, a)
	if a.Mode == config.ModeQueued {
		first = append(first, worker...)
	}
	if at := slices.Index(want.Worker, "limit"); at > 0 && want.Worker[at-1] != "breaker" { // a part of the limit gives the tickets
		isBreaker := func(name string) bool { return name == "breaker" }
		first, worker = slices.DeleteFunc(first, isBreaker), slices.DeleteFunc(worker, isBreaker)
	}
	if d := cmp.Diff(namesOf(want.Layers), first); d != "" {
		t.Errorf("action %d: explained and run on the first pass: %s", i, d)
	}
	if d := cmp.Diff(want.Worker, worker); d != "" {
		t.Errorf("action %d: explained and run by a worker: %s", i, d)
	}
	if a.Fallback == nil {
		return
	}
	if d := cmp.Diff(namesOf(want.Fallback.Layers), runStored(t, built, o, a.Fallback.Action)); d != "" {
		t.Errorf("fallback of action %d: explained and run: %s", i, d)
	}
}

func runStored(t *testing.T, built *Topology, o config.Observer, a config.Action) []string {
	t.Helper()
	act, note := tracedOf(t, built, a)
	stored := built.layers.storedAction(o, a, act, nil)
	note.take()
	d := aDelivery(100, a.Type)
	d.Redrives = 1 // an equal request has its result in the cache
	ctx := t.Context()
	if stored.preparer != nil { // as a worker does
		var leave func()
		ctx, leave, _ = built.layers.traffic.Admit(ctx, stored.preparer.Endpoint(ctx, d))
		defer leave()
		note.take()
	}
	if err := stored.execute(ctx, d); err != nil || d.State != observer.Done {
		t.Fatalf("%s, %v", d.State, err)
	}
	return note.take()
}

func tracedOf(t *testing.T, built *Topology, a config.Action) (observer.Action, *traced) {
	t.Helper()
	act, err := a.Build(config.Deps{Network: built.network, SMTP: built.layers.cfg.SMTP, Logger: built.logger})
	if err != nil {
		t.Fatal(err)
	}
	identifier, ok := act.(observer.Identifier)
	note := &traced{Identifier: identifier}
	if !ok {
		return unreached{note}.plain(), note
	}
	return note, note
}

func aDelivery(i int, actionType string) *observer.Delivery {
	e := &observer.Event{ID: "e", Operation: observer.Insert, EntityType: "Order", EntityID: "1", Data: []byte(`{"host": "example.com"}`)}
	return observer.NewDelivery(e, "o", i, actionType)
}

func namesOf(layers []Layer) []string {
	var names []string
	for _, y := range layers {
		names = append(names, y.Name)
	}
	return names
}
