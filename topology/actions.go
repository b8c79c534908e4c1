package topology

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/condition"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/executor"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/middleware"
)

// actions are the observers of one configuration, ready to run: for events on
// their first pass, and for deliveries that are in the store.
type actions struct {
	observers []executor.Observer
	stored    map[string][]storedAction // by the name of the observer
	crowd     *middleware.Crowd
	// malformed records what is no event.
	malformed middleware.FirstPass
	// alert is that of the [alert] section for what is no dead letter; nil when
	// there is none.
	alert *middleware.Alerts
	// closers are the actions that hold connections.
	closers []io.Closer
}

// build makes an action of the set.
func (s *actions) build(a config.Action, deps config.Deps) (observer.Action, error) {
	act, err := a.Build(deps)
	if closer, ok := act.(io.Closer); ok && err == nil {
		s.closers = append(s.closers, closer)
	}
	return act, err
}

// close ends what the actions keep open. Deliveries that run finish.
func (s *actions) close() error {
	if s == nil {
		return nil // they could not be built
	}
	var err error
	for _, closer := range s.closers {
		err = errors.Join(err, closer.Close())
	}
	return err
}

// storedAction runs the deliveries of one action that are in the store.
type storedAction struct {
	// actionType and print say which action it is.
	actionType, print string
	run               observer.Action
	// preparer is the action, if it is one.
	preparer observer.Preparer
	// mayRepeat is false where an attempt is not to be repeated that may have
	// arrived.
	mayRepeat bool
	// dead decides what becomes of what is given up.
	dead middleware.DeadLetter
	// condition of its observer; nil when there is none.
	condition executor.Condition
}

// globalAlert is the name in place of an observer's in the deliveries of the
// [alert] section. No observer can be called so: @ is not allowed in names.
const globalAlert = "@alert"

// generalAlert stands for the alerts that are not about a dead letter. They are
// delivered under the name of globalAlert.
const generalAlert = globalAlert + " general"

// alertNameOf is the name under which the alerts of o are delivered.
func alertNameOf(o config.Observer) string {
	if o.Alert != nil {
		return globalAlert + "." + o.Name
	}
	return globalAlert
}

// buildActions makes every action of cfg with its chain. Alerts come first,
// because chains refer to them. When it fails, the running ones stay.
func (l *layers) buildActions(cfg *config.Config, deps config.Deps) (set *actions, err error) {
	running := l.alerts
	defer func() {
		if err != nil {
			l.alerts = running
		}
	}()
	set = &actions{stored: map[string][]storedAction{}, crowd: l.crowdOf(cfg)}
	if err := l.buildAlerts(cfg, deps, set); err != nil {
		return nil, err
	}
	set.malformed = l.firstPassOf(config.Observer{}, config.Action{}, nil, nil)
	compiler, err := condition.NewCompiler()
	if err != nil {
		return nil, err
	}
	for _, o := range cfg.Observers {
		built, err := l.buildObserver(o, deps, compiler, set)
		if err != nil {
			return nil, fmt.Errorf("observer %s: %w", o.Name, err)
		}
		set.observers = append(set.observers, built)
	}
	return set, nil
}

func (l *layers) buildObserver(o config.Observer, deps config.Deps, compiler *condition.Compiler, set *actions) (executor.Observer, error) {
	built := executor.Observer{Name: o.Name, Entity: o.Entity, Operations: o.EventTypes}
	if o.Condition != "" {
		c, err := compiler.Compile(o.Condition)
		if err != nil {
			return built, fmt.Errorf("condition: %w", err)
		}
		built.Condition = redacted{c, o.Redactor}
	}
	prints := make([]string, len(o.Actions))
	for i, a := range o.Actions {
		prints[i] = a.Print()
	}
	for i, a := range o.Actions {
		act, err := set.build(a, deps)
		if err != nil {
			return built, fmt.Errorf("action %d (%s): %w", i, a.Type, err)
		}
		built.Actions = append(built.Actions, l.firstPass(o, a, act, set.crowd, planOf(o, a, prints)))
		set.stored[o.Name] = append(set.stored[o.Name], l.storedAction(o, a, act, built.Condition))
		if err := l.buildFallback(o, a, deps, set); err != nil {
			return built, fmt.Errorf("fallback of action %d: %w", i, err)
		}
	}
	return built, nil
}

// redacted keeps the secrets of the configuration out of what a condition says
// when it fails: it quotes itself.
type redacted struct {
	executor.Condition

	redactor observer.Redactor
}

// Match asks the condition.
func (c redacted) Match(ctx context.Context, e *observer.Event) (bool, error) {
	matched, err := c.Condition.Match(ctx, e)
	return matched, outbound.Redact(c.redactor, err)
}

// buildFallback makes the fallback of an action, or a place without one. It only
// ever runs from the store; when it is given up too, the observer says what
// becomes of that.
func (l *layers) buildFallback(o config.Observer, a config.Action, deps config.Deps, set *actions) error {
	var built storedAction
	if a.Fallback != nil {
		act, err := set.build(a.Fallback.Action, deps)
		if err != nil {
			return fmt.Errorf("(%s): %w", a.Fallback.Action.Type, err)
		}
		built = l.storedAction(o, a.Fallback.Action, act, nil)
	}
	name := fallbackName(o.Name)
	set.stored[name] = append(set.stored[name], built)
	return nil
}

func (l *layers) storedAction(o config.Observer, a config.Action, act observer.Action, c executor.Condition) storedAction {
	preparer, _ := act.(observer.Preparer)
	return storedAction{
		actionType: a.Type, print: a.Print(), run: compose(l.chain(o, a, act, l.deadLetter(o), 0))(act), preparer: preparer,
		mayRepeat: a.OnUnknown != config.OnUnknownDeadLetter, dead: l.deadLetter(o), condition: c,
	}
}

// buildAlerts makes the alert actions. They only ever run from the store, so
// an alert that fails for good is a dead letter and raises none itself.
func (l *layers) buildAlerts(cfg *config.Config, deps config.Deps, set *actions) error {
	alerts := map[string]*middleware.Alerts{}
	add := func(name string, a *config.Alert) error {
		act, err := set.build(a.Action, deps)
		if err != nil {
			return fmt.Errorf("alert (%s): %w", a.Action.Type, err)
		}
		alerts[name] = l.alertsOf(name, a)
		set.stored[name] = []storedAction{l.storedAction(alertObserver(name), a.Action, act, nil)}
		return nil
	}
	if cfg.Alert != nil {
		if err := add(globalAlert, cfg.Alert); err != nil {
			return err
		}
		// An alert about a database or an endpoint must not be held back by those
		// about dead letters, which often come with it, nor hold back theirs.
		alerts[generalAlert] = l.alertsOf(globalAlert, cfg.Alert)
	}
	for _, o := range cfg.Observers {
		if o.Alert != nil {
			if err := add(alertNameOf(o), o.Alert); err != nil {
				return fmt.Errorf("observer %s: %w", o.Name, err)
			}
		}
	}
	l.alerts = keepIntervals(l.alerts, alerts)
	set.alert = l.alerts[generalAlert]
	return nil
}

// alertObserver stands for the observer of the deliveries of an alert.
func alertObserver(name string) config.Observer {
	return config.Observer{Name: name, OnFailure: string(middleware.ToDeadLetters)}
}

func (l *layers) alertsOf(name string, a *config.Alert) *middleware.Alerts {
	return &middleware.Alerts{
		Name: name, ActionType: a.Action.Type, MinInterval: a.MinInterval, Keep: l.keep, Wake: l.worker.Wake, Logger: l.logger,
	}
}

// keepIntervals lets alerts that were there before a reload keep their place in
// their interval: editing the file must not release another burst.
func keepIntervals(before, now map[string]*middleware.Alerts) map[string]*middleware.Alerts {
	merged := maps.Clone(now)
	for name, a := range now {
		if old := before[name]; old != nil && old.ActionType == a.ActionType && old.MinInterval == a.MinInterval {
			merged[name] = old
		}
	}
	return merged
}

// lookup finds the action of a stored delivery: the one at its index, unless
// the fingerprints that it carries say that somebody has reordered them since.
//
//   - The action at the index is the same: that one.
//   - The same action stands elsewhere in the observer: that one.
//   - Neither, but the action at the index is of the type and is none of those
//     that the others were: it was edited in place.
func (s *actions) lookup(d *observer.Delivery) (storedAction, bool) {
	all := s.stored[d.Observer]
	var at storedAction
	if d.Action < len(all) && all[d.Action].actionType == d.ActionType {
		at = all[d.Action]
	}
	if d.Action >= len(d.Prints) { // stored without
		return at, at.run != nil
	}
	own := d.Prints[d.Action]
	if at.run != nil && at.print == own {
		return at, true
	}
	for _, a := range all {
		if a.print == own && a.actionType == d.ActionType {
			return a, true
		}
	}
	return at, at.run != nil && !slices.Contains(d.Prints, at.print)
}
