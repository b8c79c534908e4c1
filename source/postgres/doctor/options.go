package doctor

import (
	"cmp"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

// Options say what is examined. Zero fields have the stated defaults.
type Options struct {
	// URL is the database, as a URL or as keywords and values; required.
	URL observer.Secret
	// Log is the change log; default core.tb_entity_change_log.
	Log changelog.Name
	// Schema is the one of our own tables; default [changelog.OwnSchema].
	Schema string
	// Checkpoint is the position from which a daemon would go on. When it is
	// known, what waits behind it is counted.
	Checkpoint observer.Position
	// Limits are the figures from which on something is worth a warning.
	Limits Limits
	// Now is the clock of this machine; tests only.
	Now func() time.Time
}

// Limits are the figures from which on something is worth a warning.
type Limits struct {
	// LongTransaction is how old a transaction is that keeps the log from being
	// settled; default 1 minute.
	LongTransaction time.Duration
	// OldSnapshot is how old a transaction is that keeps dead rows from being
	// removed; default 1 hour.
	OldSnapshot time.Duration
	// Clock is the difference between the clocks of the server and of this
	// machine; default 1 second.
	Clock time.Duration
	// HeldWAL is how much of the write-ahead log a replication slot holds back,
	// in bytes; default 1 GiB.
	HeldWAL int64
	// DeadRows is how many dead rows a table of ours has, when they also are more
	// than a fifth of the living; default 100,000.
	DeadRows int64
	// Queue is how full the queue of notifications is, from 0 to 1; default 0.1.
	Queue float64
	// Connections is how many connections are left for a daemon, which opens up
	// to ten; default 10.
	Connections int
}

func (o Options) withDefaults() Options {
	o.Log = o.Log.OrDefault()
	o.Schema = cmp.Or(o.Schema, changelog.OwnSchema)
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &o.Limits
	l.LongTransaction = cmp.Or(l.LongTransaction, time.Minute)
	l.OldSnapshot = cmp.Or(l.OldSnapshot, time.Hour)
	l.Clock = cmp.Or(l.Clock, time.Second)
	l.HeldWAL = cmp.Or(l.HeldWAL, 1<<30)
	l.DeadRows = cmp.Or(l.DeadRows, 100_000)
	l.Queue = cmp.Or(l.Queue, 0.1)
	l.Connections = cmp.Or(l.Connections, 10)
	return o
}
