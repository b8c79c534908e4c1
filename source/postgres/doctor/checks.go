package doctor

import "context"

// check is one thing that is looked at.
type check struct {
	name string
	run  func(x *examination, ctx context.Context) error
	// log: it is about the change log, and left out when there is none.
	log bool
	// bare: it runs outside a transaction.
	bare bool
}

// checks are all checks in the order of the report. The first ones find out what
// others need.
func checks() []check {
	return []check{
		// The server and the way to it.
		{name: "server_version", run: (*examination).serverVersion},
		{name: "standby", run: (*examination).standbyServer},
		{name: "pooler", run: (*examination).pooler, bare: true},
		{name: "connections", run: (*examination).connections},
		{name: "clock", run: (*examination).clock},
		{name: "encoding", run: (*examination).encoding},
		{name: "wal_level", run: (*examination).walLevel},
		{name: "durability", run: (*examination).durability},
		{name: "activity_rights", run: (*examination).activityRights},

		// The log.
		{name: "log", run: (*examination).changeLog},
		{name: "log_columns", run: (*examination).logColumns, log: true},
		{name: "log_key", run: (*examination).logKey, log: true},
		{name: "log_storage", run: (*examination).logStorage, log: true},
		{name: "sequence", run: (*examination).sequence, log: true},
		{name: "sequence_range", run: (*examination).sequenceRange, log: true},
		{name: "prepared", run: (*examination).prepared, log: true},

		// What the role may do.
		{name: "right_to_read", run: (*examination).rightToRead, log: true},
		{name: "row_security", run: (*examination).rowSecurity, log: true},
		{name: "right_to_read_sequence", run: (*examination).rightToReadSequence, log: true},
		{name: "right_to_prune", run: (*examination).rightToPrune, log: true},
		{name: "right_to_create", run: (*examination).rightToCreate},
		{name: "right_to_state", run: (*examination).rightToState},
		{name: "role_settings", run: (*examination).roleSettings},

		// Writers: whether what they change is recorded, and wakes the reader.
		{name: "wake_up", run: (*examination).wakeUp, log: true},
		{name: "notification_queue", run: (*examination).notificationQueue},
		{name: "captures", run: (*examination).captures, bare: true},
		{name: "capture_lost", run: (*examination).captureLost},
		{name: "replica_role", run: (*examination).replicaRole},
		{name: "subscriptions", run: (*examination).subscriptions},

		// What is in the way at the moment.
		{name: "long_transactions", run: (*examination).longTransactions, log: true},
		{name: "prepared_transactions", run: (*examination).preparedTransactions, log: true},
		{name: "autovacuum", run: (*examination).autovacuum},
		{name: "dead_rows", run: (*examination).deadRows},
		{name: "old_snapshots", run: (*examination).oldSnapshots},
		{name: "replication_slots", run: (*examination).replicationSlots},
		{name: "size", run: (*examination).size},

		// The proof.
		{name: "reader", run: (*examination).reader, log: true, bare: true},
	}
}
