package cli

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/topology"
)

// status is what the command prints. A pointer is nil where the value is
// unknown or there is none; problem then says why.
type status struct {
	Now       time.Time         `json:"now"`
	State     stateStatus       `json:"state"`
	Daemon    daemonStatus      `json:"daemon"`
	Databases []*databaseStatus `json:"databases"`
	// Stream is there where events go through NATS.
	Stream     *streamStatus   `json:"stream,omitempty"`
	Deliveries *deliveryStatus `json:"deliveries"`
	// Chains are those of the configuration as it is now, in detail only.
	Chains *topology.Explanation `json:"chains,omitempty"`
}

type stateStatus struct {
	// Kind is sqlite or postgres.
	Kind string `json:"kind"`
	// Path is the file, or the place of the database.
	Path string `json:"path"`
	// Exists: a daemon has run, so there is something to tell.
	Exists bool `json:"exists"`
}

type daemonStatus struct {
	Running bool `json:"running"`
	// Processes are those that read, or stand by to; one that was killed is among
	// them until its leases end.
	Processes []string `json:"processes"`
}

// readerStatus is the process that reads a database or a partition.
type readerStatus struct {
	Holder string    `json:"holder"`
	Term   int64     `json:"term"`
	Since  time.Time `json:"since"`
}

type databaseStatus struct {
	Name string `json:"name"`
	// Kind and Path are as in the state.
	Kind string `json:"kind"`
	Path string `json:"path"`
	// RetentionSeconds is how long handled rows are kept in the log; 0 for ever.
	RetentionSeconds int64 `json:"retention_seconds"`
	// Reader is null while nobody reads the log.
	Reader     *readerStatus     `json:"reader"`
	Checkpoint *checkpointStatus `json:"checkpoint"`
	// Verified is up to where the workers are known to have handled the log; absent
	// without a reconciler.
	Verified *checkpointStatus `json:"verified,omitempty"`
	Backlog  *backlogStatus    `json:"backlog"`
	Captures []captureView     `json:"captures,omitempty"`
	Problem  string            `json:"problem,omitempty"`
}

type checkpointStatus struct {
	Position   observer.Position `json:"position"`
	SavedAt    time.Time         `json:"saved_at"`
	AgeSeconds int64             `json:"age_seconds"`
	// DoneAhead are rows after the position that are handled too.
	DoneAhead int `json:"done_ahead"`
}

// backlogStatus is about committed rows that are not known to be handled.
type backlogStatus struct {
	Rows int64 `json:"rows"`
	// OldestAt is when the first row after the checkpoint was recorded.
	OldestAt         *time.Time `json:"oldest_at"`
	OldestAgeSeconds *int64     `json:"oldest_age_seconds"`
}

type deliveryStatus struct {
	// States counts by state; what is done or dropped stays for the retention.
	States map[observer.State]int `json:"states"`
	// Unfinished are all that something is still to become of.
	Unfinished int        `json:"unfinished"`
	Scheduled  int        `json:"scheduled"`
	NextDueAt  *time.Time `json:"next_due_at"`
	// OldestDueAt is since when the one that waits longest is due; null when none
	// is.
	OldestDueAt      *time.Time              `json:"oldest_due_at"`
	OldestDueSeconds *int64                  `json:"oldest_due_seconds"`
	Dead             int                     `json:"dead"`
	MaxDead          int                     `json:"max_dead"`
	OldestDeadAt     *time.Time              `json:"oldest_dead_at"`
	DeadByObserver   map[string]int          `json:"dead_by_observer"`
	DeadByReason     map[observer.Reason]int `json:"dead_by_reason"`
	// Endpoints are those that fail or are paused, for which most waits, and
	// OtherEndpoints how many more of them there are.
	Endpoints      []endpointView `json:"endpoints"`
	OtherEndpoints int            `json:"other_endpoints"`
}

func (c *cli) statusCommand() *cobra.Command {
	var detailed bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how far the logs are handled and what waits",
		Long: "Read the state store and the change logs and say how far each log is handled and\n" +
			"what waits, whether or not a daemon runs. What cannot be known is shown as unknown.\n" +
			"With --detailed also what a delivery of each action goes through, by the\n" +
			"configuration as it is now: a daemon that was started with another one, or before\n" +
			"a change that takes effect with the next start, runs that.",
		Args: arguments(0, 0),
	}
	c.settings.flags(cmd)
	cmd.Flags().BoolVar(&detailed, "detailed", false, "also show positions, captured tables, finished deliveries, the reasons of dead letters and the chain of each action")
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		c.settings.optional = true
		cfg, err := c.settings.load()
		if err != nil {
			return err
		}
		s, err := readStatus(cmd.Context(), cfg, detailed)
		if err != nil {
			return err
		}
		if detailed {
			chains, err := topology.Explain(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			s.Chains = &chains
		}
		if err := c.print(s, statusText{s, detailed}.write); err != nil {
			return err
		}
		return s.failure()
	})
	return cmd
}

func readStatus(ctx context.Context, cfg *config.Config, detailed bool) (_ *status, err error) {
	s := &status{Now: time.Now().UTC(), State: stateStatus{Kind: cfg.State.Kind(), Path: cfg.State.Place()}, Databases: []*databaseStatus{}}
	readers := map[string]*readerStatus{}
	store, err := readState(ctx, cfg)
	if err == nil {
		s.State.Exists = true
		defer func() { err = errors.Join(err, store.Close()) }()
		if err := s.readDeliveries(ctx, store, cfg.DeadLetters.MaxItems); err != nil {
			return nil, connectionError(err)
		}
		if readers, err = s.readLeases(ctx, store); err != nil {
			return nil, connectionError(err)
		}
	} else if !errors.Is(err, errNoState) {
		return nil, err
	}
	for _, db := range cfg.Databases {
		d := &databaseStatus{Name: db.Name, Kind: db.Kind(), Path: db.Place(), Reader: readers[topology.DatabaseLease(db.Name)], RetentionSeconds: int64(math.Ceil(db.Retention.Seconds()))}
		s.Databases = append(s.Databases, d)
		if d.Checkpoint, err = readCheckpoint(ctx, store, cfg.CheckpointName(db.Name), s.Now); err != nil {
			return nil, connectionError(err)
		}
		if name, ok := topology.ReconcileName(cfg, db.Name); ok {
			if d.Verified, err = readCheckpoint(ctx, store, name, s.Now); err != nil {
				return nil, connectionError(err)
			}
		}
		if detailed {
			d.readCaptures(ctx, capturesOf(db, cfg.State.Schema))
		}
		if err := d.readLog(ctx, db, s.Now); err != nil {
			d.Problem = explain(err, d.Path).Error()
		}
	}
	if err := s.readStream(ctx, cfg, store, readers); err != nil {
		return nil, connectionError(err)
	}
	return s, nil
}

// readLeases says which processes live, and gives who holds each lease.
func (s *status) readLeases(ctx context.Context, store observer.LeaseStore) (map[string]*readerStatus, error) {
	readers := map[string]*readerStatus{}
	leases, err := store.Leases(ctx, "")
	for _, l := range leases {
		if !l.Running() {
			continue
		}
		if process := topology.ProcessOf(l.Holder); !slices.Contains(s.Daemon.Processes, process) {
			s.Daemon.Processes = append(s.Daemon.Processes, process)
		}
		readers[l.Name] = &readerStatus{Holder: l.Holder, Term: l.Term, Since: l.Since.UTC()}
	}
	slices.Sort(s.Daemon.Processes)
	s.Daemon.Running = len(s.Daemon.Processes) > 0
	return readers, err
}

func (s *status) readDeliveries(ctx context.Context, store observer.StateStore, maxDead int) error {
	stats, err := store.DeliveryStats(ctx)
	if err != nil {
		return err
	}
	next, err := store.NextDue(ctx, nil)
	if err != nil {
		return err
	}
	endpoints, err := store.Endpoints(ctx)
	if err != nil {
		return err
	}
	d := &deliveryStatus{
		States: map[observer.State]int{}, Scheduled: stats.States[observer.Scheduled], NextDueAt: when(next), OldestDueAt: when(stats.OldestDue),
		Dead: stats.States[observer.Dead], MaxDead: maxDead, OldestDeadAt: when(stats.OldestDead),
		DeadByObserver: stats.DeadByObserver, DeadByReason: stats.DeadByReason,
	}
	for _, state := range observer.States() {
		d.States[state] = stats.States[state]
		if !state.Finished() {
			d.Unfinished += stats.States[state]
		}
	}
	if !stats.OldestDue.IsZero() {
		seconds := int64(max(0, s.Now.Sub(stats.OldestDue)).Seconds())
		d.OldestDueSeconds = &seconds
	}
	p := pageOf(slices.DeleteFunc(viewEndpoints(endpoints, stats.Waiting), endpointView.works), topEndpoints)
	d.Endpoints, d.OtherEndpoints = p.Items, p.OtherEndpoints
	s.Deliveries = d
	return nil
}

// readCheckpoint is nil when there is none; store may be nil.
func readCheckpoint(ctx context.Context, store observer.StateStore, source string, now time.Time) (*checkpointStatus, error) {
	if store == nil {
		return nil, nil
	}
	cp, err := store.LoadCheckpoint(ctx, source)
	if errors.Is(err, observer.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &checkpointStatus{
		Position: cp.Position, SavedAt: cp.SavedAt.UTC(), DoneAhead: len(cp.Done),
		AgeSeconds: int64(now.Sub(cp.SavedAt).Seconds()),
	}, nil
}

// readCaptures leaves out what cannot be read: the log, which is read next, says
// why.
func (d *databaseStatus) readCaptures(ctx context.Context, on captures) {
	if list, err := on.list(ctx); err == nil {
		d.Captures = list
	}
}

func (d *databaseStatus) readLog(ctx context.Context, db config.Database, now time.Time) error {
	var after observer.Position
	ahead := 0
	if d.Checkpoint != nil {
		after, ahead = d.Checkpoint.Position, d.Checkpoint.DoneAhead
	}
	rows, oldest, err := topology.NewSource(db, nil, slog.New(slog.DiscardHandler)).Backlog(ctx, after)
	if err != nil {
		return err
	}
	d.Backlog = &backlogStatus{Rows: max(0, rows-int64(ahead)), OldestAt: when(oldest)}
	if !oldest.IsZero() {
		seconds := int64(max(0, now.Sub(oldest)).Seconds())
		d.Backlog.OldestAgeSeconds = &seconds
	}
	return nil
}

// failure tells scripts that a log or the stream could not be read. It has been
// printed.
func (s *status) failure() error {
	if s.Stream != nil && s.Stream.Problem != "" {
		return &codedError{code: exitConnection}
	}
	for _, d := range s.Databases {
		if d.Problem != "" {
			return &codedError{code: exitConnection}
		}
	}
	return nil
}
