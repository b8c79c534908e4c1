package topology

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/middleware"
)

// ObserverChains say what runs for the deliveries of an observer, or for those of
// the global alert, which have no actions.
type ObserverChains struct {
	// Name and Entity are empty for the global alert.
	Name      string         `json:"name"`
	Entity    string         `json:"entity"`
	Order     observer.Order `json:"order"`
	OnDead    string         `json:"on_dead"`
	OnFailure string         `json:"on_failure"`
	Actions   []ActionChain  `json:"actions"`
	// Alert is the observer's own; nil when it has none.
	Alert *ActionChain `json:"alert"`
}

// ActionChain is what a delivery of an action goes through.
type ActionChain struct {
	Type string `json:"type"`
	// Endpoint is the receiver, without secrets: nil where the event decides, and
	// where there is none.
	Endpoint *string `json:"endpoint"`
	// EventDecides says that each event may have another receiver.
	EventDecides bool   `json:"event_decides"`
	Mode         string `json:"mode"`
	Queue        string `json:"queue"`
	Priority     int    `json:"priority"`
	// DelayMS is in milliseconds.
	DelayMS int64 `json:"delay_ms"`
	// Layers are those of the first pass, outermost first. A fallback and an alert
	// have no first pass: they only ever run from the store.
	Layers []Layer `json:"layers"`
	// Worker names those of a delivery from the store, outermost first.
	Worker []string `json:"worker"`
	// Fallback is the action that runs in place of this one; nil without.
	Fallback *ActionChain `json:"fallback"`
}

// Explanation is what [Explain] finds out.
type Explanation struct {
	Observers []ObserverChains `json:"observers"`
	// Alert is the global one; nil when there is none.
	Alert *ActionChain `json:"alert"`
}

// Explain says what a process that starts with cfg runs, without connecting to
// anything and without opening a store. It is safe for concurrent use.
func Explain(ctx context.Context, cfg *config.Config) (_ Explanation, err error) {
	set := &actions{}
	defer func() { err = errors.Join(err, set.close()) }()
	e := explainer{
		layers:  &layers{cfg: cfg, begun: ctx},
		deps:    config.Deps{Network: cfg.Network.Outbound(), SMTP: cfg.SMTP, Logger: slog.New(slog.DiscardHandler)},
		actions: set,
	}
	explained := Explanation{Observers: make([]ObserverChains, 0, len(cfg.Observers))}
	for _, o := range cfg.Observers {
		chains, err := e.observer(o)
		if err != nil {
			return Explanation{}, fmt.Errorf("observer %s: %w", o.Name, err)
		}
		explained.Observers = append(explained.Observers, chains)
	}
	explained.Alert, err = e.alert(cfg.Alert)
	return explained, err
}

// explainer makes actions and no layers.
type explainer struct {
	layers  *layers
	deps    config.Deps
	actions *actions
}

func (e explainer) observer(o config.Observer) (ObserverChains, error) {
	chains := ObserverChains{Name: o.Name, Entity: o.Entity, Order: o.Order, OnDead: o.OnDead, OnFailure: o.OnFailure}
	for i, a := range o.Actions {
		chain, err := e.action(o, a)
		if err != nil {
			return chains, fmt.Errorf("action %d: %w", i, err)
		}
		chains.Actions = append(chains.Actions, chain)
	}
	var err error
	chains.Alert, err = e.alert(o.Alert)
	return chains, err
}

// action explains an action that has a first pass.
func (e explainer) action(o config.Observer, a config.Action) (ActionChain, error) {
	chain, act, err := e.stored(o, a)
	if err != nil {
		return chain, err
	}
	chain.Layers = slices.Concat(
		e.layers.first(a, act, unmade),
		e.layers.chain(o, a, act, middleware.DeadLetter{}, a.Retry.InlineBudget),
	)
	if a.Fallback == nil {
		return chain, nil
	}
	fallback, _, err := e.stored(o, a.Fallback.Action)
	if err != nil {
		return chain, fmt.Errorf("fallback: %w", err)
	}
	fallback.Priority = a.Priority
	chain.Fallback = &fallback
	return chain, nil
}

// unmade stands for what only a running process makes.
func unmade() observer.Middleware[observer.Action] { return observer.Chain[observer.Action]() }

// stored explains an action for what is in the store.
func (e explainer) stored(o config.Observer, a config.Action) (ActionChain, observer.Action, error) {
	act, err := e.actions.build(a, e.deps)
	if err != nil {
		return ActionChain{}, nil, err
	}
	to := e.layers.receiverOf(act)
	chain := ActionChain{
		Type: a.Type, EventDecides: to.any && to.endpoint == "",
		Mode: a.Mode, Queue: a.Queue, Priority: a.Priority, DelayMS: a.Delay.Milliseconds(),
		Layers: e.layers.chain(o, a, act, middleware.DeadLetter{}, 0),
	}
	if to.endpoint != "" {
		chain.Endpoint = &to.endpoint
	}
	for _, y := range chain.Layers {
		chain.Worker = append(chain.Worker, y.Name)
	}
	return chain, act, nil
}

func (e explainer) alert(a *config.Alert) (*ActionChain, error) {
	if a == nil {
		return nil, nil //nolint:nilnil // there may be none
	}
	chain, _, err := e.stored(alertObserver(""), a.Action)
	if err != nil {
		return nil, fmt.Errorf("alert: %w", err)
	}
	return &chain, nil
}
