package changelog

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// The names that writers, the log and its reader agree on.
const (
	// OwnSchema is where everything is kept that FraiseQL does not know, when
	// [Options] name no other place.
	OwnSchema = "fraiseql_observer"
	// Channel is the channel of NOTIFY. Its payload is empty.
	Channel = "fraiseql_events"
	// KeyColumn is the primary key of the log, in the order of allocation.
	KeyColumn = "pk_entity_change_log"

	defaultSchema = "core"
	defaultTable  = "tb_entity_change_log"
)

// Name is where the log stands. The zero value of a field is its default, so the
// zero Name is core.tb_entity_change_log. Names are as PostgreSQL stores them:
// their case counts and nothing in them is quoted.
type Name struct {
	Schema, Table string
}

// DefaultName is core.tb_entity_change_log, where FraiseQL has its log.
func DefaultName() Name { return Name{Schema: defaultSchema, Table: defaultTable} }

// OrDefault fills in what n leaves out.
func (n Name) OrDefault() Name {
	if n.Schema == "" {
		n.Schema = defaultSchema
	}
	if n.Table == "" {
		n.Table = defaultTable
	}
	return n
}

// String writes the name so that it can stand in SQL, quoted.
func (n Name) String() string {
	n = n.OrDefault()
	return QuoteName(n.Schema, n.Table)
}

// plain writes the name for people.
func (n Name) plain() string {
	n = n.OrDefault()
	return n.Schema + "." + n.Table
}

// sequence is the producer's sequence, which stands beside the log.
func (n Name) sequence() string {
	n = n.OrDefault()
	return QuoteName(n.Schema, "seq_"+strings.TrimPrefix(n.Table, "tb_"))
}

// WakeKey is the advisory lock by which writers know that the reader of a log
// sleeps.
func WakeKey(n Name) int64 {
	return lockKey("wake-up", n.plain())
}

// lockKey keeps the locks for different ends apart, and apart from those of other
// programs in the same database.
func lockKey(end, name string) int64 {
	sum := sha256.Sum256([]byte("fraiseql observer " + end + " " + name))
	return int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // any 64 bits are a key
}

// Notify says when the wake-up trigger may send a notification.
type Notify string

// The modes of the wake-up trigger.
const (
	// NotifyAuto sends when the reader sleeps and max_prepared_transactions is 0.
	NotifyAuto Notify = "auto"
	// NotifyAlways sends when the reader sleeps. A two-phase commit that writes to
	// the log while the reader sleeps then fails to prepare.
	NotifyAlways Notify = "always"
	// NotifyNever leaves the reader to poll.
	NotifyNever Notify = "never"
)

// Options say where the log is and what belongs to it.
type Options struct {
	// Log is the table; default core.tb_entity_change_log.
	Log Name
	// Schema is the one for our own tables and functions; default [OwnSchema].
	Schema string
	// Notify is the mode of the wake-up trigger. Default: the mode that was set
	// last, [NotifyAuto] when none was.
	Notify Notify
}

// OrDefault fills in Log and Schema. Notify stays empty, which means "as it is".
func (o Options) OrDefault() Options {
	o.Log = o.Log.OrDefault()
	if o.Schema == "" {
		o.Schema = OwnSchema
	}
	return o
}

// maxName is the length of a PostgreSQL name in bytes; longer ones are cut off.
const maxName = 63

func (o Options) check() error {
	for what, name := range map[string]string{"schema of the log": o.Log.Schema, "table of the log": o.Log.Table, "own schema": o.Schema} {
		if len(name) > maxName || strings.ContainsRune(name, 0) {
			return fmt.Errorf("%s: the name %q is longer than %d bytes or holds a NUL", what, name, maxName)
		}
	}
	switch o.Notify {
	case "", NotifyAuto, NotifyAlways, NotifyNever:
	default:
		return fmt.Errorf("unknown notify mode %q (want auto, always or never)", o.Notify)
	}
	if o.Log.Schema == o.Schema && strings.HasPrefix(o.Log.Table, "changelog_") {
		return errors.New("a log in the own schema cannot have a name that begins with changelog_")
	}
	return nil
}

// own is a name in our own schema, quoted.
func (o Options) own(name string) string { return QuoteName(o.Schema, name) }
