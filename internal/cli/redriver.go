package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/delivery"
	"github.com/fraiseql/observer/topology"
)

// redriver runs dead letters in this process, with the actions of the
// configuration. The daemon may run beside it: they share the state store.
type redriver struct{ topology *topology.Topology }

func (c *cli) openRedriver(ctx context.Context) (*redriver, error) {
	c.settings.optional = false // the actions stand in it
	cfg, err := c.settings.loadAll()
	if err != nil {
		return nil, err
	}
	// What happens is printed, so it needs no log.
	t, err := topology.Build(ctx, unhurried(cfg), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, connectionError(err)
	}
	return &redriver{topology: t}, nil
}

// storingTime is how long the outcome of the last attempt may take to be stored.
const storingTime = 5 * time.Second

// unhurried gives what goes on in the background as long as its own timeout
// allows: shutdown_timeout is for a daemon, whose end somebody waits for.
func unhurried(cfg *config.Config) *config.Config {
	patient := *cfg
	for _, o := range cfg.Observers {
		for _, a := range o.Actions {
			patient.Performance.ShutdownTimeout = max(patient.Performance.ShutdownTimeout, a.Timeout+storingTime)
		}
	}
	return &patient
}

// run makes one attempt. Its error means that none was made or that how it
// ended could not be stored. The attempt is not interrupted when ctx ends: what
// became of its request would be unknown.
func (r *redriver) run(ctx context.Context, key string) (outcome, error) {
	d, err := delivery.Redrive(context.WithoutCancel(ctx), delivery.RedriveConfig{
		Store: r.topology.Store, Run: r.topology.RunStored, Owner: r.topology.Owner, Logger: slog.New(slog.DiscardHandler),
	}, key)
	switch {
	case errors.Is(err, delivery.ErrBlocked):
		return outcome{Key: key, Result: blocked, Error: strings.TrimPrefix(err.Error(), "redrive "+key+": ")}, nil
	case err != nil:
		return outcome{}, err
	case d.State == observer.Done && d.Event != nil && len(d.Attempts) == 0:
		return outcome{Key: key, Result: dropped}, nil
	case d.State == observer.Done:
		return outcome{Key: key, Result: delivered, event: r.eventOf(ctx, d.Malformed)}, nil
	case d.State.Due():
		return outcome{Key: key, Result: scheduled, Error: d.Error}, nil
	}
	return outcome{Key: key, Result: failed, Error: d.Error}, nil
}

// eventOf is the id of the event that a repaired log entry is; "" for what was
// one before. The repair may have given the row another id.
func (r *redriver) eventOf(ctx context.Context, m *observer.Malformed) string {
	if m == nil {
		return ""
	}
	for _, db := range r.topology.Databases {
		if db.Source.Name() != m.Source {
			continue
		}
		if msg, err := db.Source.Refetch(ctx, m.Position); err == nil && msg.Event != nil {
			return msg.Event.ID
		}
	}
	return m.ID
}

// finish waits for the attempts that outlasted retry.inline_budget and go on in
// the background, as those of a repaired log entry may, completes the outcomes
// and releases the store. Nothing can be run afterwards.
func (r *redriver) finish(ctx context.Context, outcomes ...*outcome) error {
	ended, end := context.WithCancel(ctx)
	end()
	err := r.topology.Worker.Run(ended) // claims nothing any more, and drains
	for _, o := range outcomes {
		if err == nil {
			err = r.follow(context.WithoutCancel(ctx), o)
		}
	}
	return errors.Join(err, r.topology.Close())
}

// followed is what became of a delivery of a repaired log entry.
type followed struct {
	Key   string         `json:"key"`
	State observer.State `json:"state"`
	Error string         `json:"error,omitempty"`

	what string // for a person
}

// follow looks up what became of the deliveries of a repaired log entry.
func (r *redriver) follow(ctx context.Context, o *outcome) error {
	if o.event == "" {
		return nil
	}
	all, err := r.topology.Store.Deliveries(ctx, observer.DeliveryFilter{EventID: o.event})
	for _, d := range all {
		if d.Key != o.Key {
			o.Deliveries = append(o.Deliveries, followed{Key: d.Key, State: d.State, Error: d.Error, what: describe(d)})
		}
	}
	if err != nil {
		return fmt.Errorf("what became of the deliveries of %s is not known: %w", o.Key, err)
	}
	return nil
}

// unfinished names what of a repaired log entry is not delivered.
func (o *outcome) unfinished() string {
	var list []string
	for _, f := range o.Deliveries {
		if f.State != observer.Done {
			list = append(list, f.text())
		}
	}
	if len(list) == 0 {
		return ""
	}
	return ", except: " + strings.Join(list, "; ")
}

func (f followed) text() string {
	text := f.what + " is " + string(f.State)
	if f.Error != "" {
		text += " (" + f.Error + ")"
	}
	return text
}
