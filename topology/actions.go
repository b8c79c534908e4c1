package topology

import (
	"fmt"
	"maps"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/condition"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/executor"
	"github.com/fraiseql/observer/middleware"
)

// actions are the observers of one configuration, ready to run: for events on
// their first pass, and for deliveries that are in the store.
type actions struct {
	observers []executor.Observer
	stored    map[storedKey]storedAction
	// alert is that of the [alert] section; nil when there is none.
	alert *middleware.Alerts
}

type storedKey struct {
	observer string
	action   int
}

// storedAction runs the deliveries of one action that are in the store.
type storedAction struct {
	executor.Action
	// condition of its observer; nil when there is none.
	condition executor.Condition
}

// globalAlert is the name in place of an observer's in the deliveries of the
// [alert] section. No observer can be called so: @ is not allowed in names.
const globalAlert = "@alert"

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
	set = &actions{stored: map[storedKey]storedAction{}}
	if err := l.buildAlerts(cfg, deps, set); err != nil {
		return nil, err
	}
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
		built.Condition = c
	}
	for i, a := range o.Actions {
		act, err := a.Build(deps)
		if err != nil {
			return built, fmt.Errorf("action %d (%s): %w", i, a.Type, err)
		}
		built.Actions = append(built.Actions, l.pass(o, a, act, inlineBudget, l.keep))
		set.stored[storedKey{o.Name, i}] = storedAction{l.pass(o, a, act, 0, nil), built.Condition}
	}
	return built, nil
}

// buildAlerts makes the alert actions. They only ever run from the store, so
// an alert that fails for good is a dead letter and raises none itself.
func (l *layers) buildAlerts(cfg *config.Config, deps config.Deps, set *actions) error {
	alerts := map[string]*middleware.Alerts{}
	add := func(name string, a *config.Alert) error {
		act, err := a.Action.Build(deps)
		if err != nil {
			return fmt.Errorf("alert (%s): %w", a.Action.Type, err)
		}
		alerts[name] = &middleware.Alerts{
			Name: name, ActionType: a.Action.Type, MinInterval: a.MinInterval, Keep: l.keep, Logger: l.logger,
		}
		as := config.Observer{Name: name, OnFailure: string(middleware.ToDeadLetters)}
		set.stored[storedKey{name, 0}] = storedAction{Action: l.pass(as, a.Action, act, 0, nil)}
		return nil
	}
	if cfg.Alert != nil {
		if err := add(globalAlert, cfg.Alert); err != nil {
			return err
		}
	}
	for _, o := range cfg.Observers {
		if o.Alert != nil {
			if err := add(alertNameOf(o), o.Alert); err != nil {
				return fmt.Errorf("observer %s: %w", o.Name, err)
			}
		}
	}
	l.alerts = keepIntervals(l.alerts, alerts)
	set.alert = l.alerts[globalAlert]
	return nil
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

// lookup finds the action of a stored delivery.
func (s *actions) lookup(d *observer.Delivery) (storedAction, bool) {
	a, ok := s.stored[storedKey{d.Observer, d.Action}]
	return a, ok && a.Type == d.ActionType
}
