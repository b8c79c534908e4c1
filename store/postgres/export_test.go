package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	observer "github.com/fraiseql/observer"
)

// Pool opens the connections of a store to the tests.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// Bounded is how every call is bounded in time.
func (s *Store) Bounded(ctx context.Context, limit time.Duration, run func(context.Context) error) error {
	return s.bounded(ctx, limit, run)
}

// Grace is how long calls may get an answer after another one did not.
const Grace = grace

// SQL is a statement of the store.
func (s *Store) SQL(text string) string { return s.schema.in(text) }

// DeadLock is the key of the lock for dead letters.
func (s *Store) DeadLock() int64 { return s.schema.lockID("dead letters") }

// LaneLock is what the keys of the locks of lanes are made with.
func (s *Store) LaneLock() int64 { return s.schema.lockID("lanes") }

// Margin is where inserts of dead letters begin to go one after the other.
const Margin = margin

// Texts is the encoding of texts.
type Texts = encoding

// NewTexts is the encoding of texts for a database in UTF-8, or in another one.
func NewTexts(ascii bool) Texts { return encoding{ascii: ascii} }

// Encode makes a text one that PostgreSQL can hold.
func (e encoding) Encode(text string) string { return e.encode(text) }

// Decode is its inverse.
func Decode(stored string) string { return decode(stored) }

// The statements of the worker.
const (
	ClaimDueSQL  = claimDue
	ClaimSQL     = claimDelivery
	NextDueSQL   = nextDue
	ReleaseSQL   = release
	SettingsSQL  = settings
	BlockedSQL   = blocked
	StuckLaneSQL = stuckLanes
	ClaimDeadSQL = claimDead
	WhyNotSQL    = whyNot
	AbandonedSQL = abandonedLanes
	UnblockSQL   = unblock

	LastReceiptSQL    = lastReceipt
	SelectReceiptsSQL = selectReceipts
	RemoveReceiptsSQL = removeReceipts
	PruneReceiptsSQL  = pruneReceipts
)

// PruneSQL is the statement that removes what is done.
func PruneSQL() string { return pruneSQL(observer.Done) }

// ScriptOfBefore is the script that an earlier release had.
func ScriptOfBefore() (string, error) {
	all, err := steps()
	return schema{DefaultSchema}.script(all[:1]), err
}

// AllLanesLock is the key of the lock of all lanes.
func (s *Store) AllLanesLock() int64 { return s.schema.lockID("all lanes") }
