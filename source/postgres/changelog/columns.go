package changelog

// column is a column of the log.
type column struct {
	name string
	// definition is its type, and how a log of our own declares it.
	kind, extra string
}

// required are the columns without which a table is not a change log.
func required() []column {
	return []column{
		{KeyColumn, "bigint", "GENERATED ALWAYS AS IDENTITY PRIMARY KEY"},
		{"id", "uuid", "NOT NULL DEFAULT pg_catalog.gen_random_uuid()"},
		{"object_type", "text", "NOT NULL"},
		{"modification_type", "text", "NOT NULL"},
		{"created_at", "timestamptz", "NOT NULL DEFAULT pg_catalog.now()"},
	}
}

// optional are the columns that are added, without a default, where they are
// missing. The last two are ours: an id that is not a UUID stands there.
func optional() []column {
	return []column{
		{"object_id", "uuid", ""},
		{"object_data", "jsonb", ""},
		{"object_data_before", "jsonb", ""},
		{"updated_fields", "text[]", ""},
		{"cascade", "jsonb", ""},
		{"duration_ms", "integer", ""},
		{"started_at", "timestamptz", ""},
		{"commit_time", "timestamptz", ""},
		{"tenant_id", "uuid", ""},
		{"fk_customer_org", "bigint", ""},
		{"fk_contact", "bigint", ""},
		{"seq", "bigint", "DEFAULT pg_catalog.nextval(%SEQUENCE%)"},
		{"actor_type", "text", ""},
		{"acting_for", "uuid", ""},
		{"schema_version", "text", ""},
		{"trace_id", "text", ""},
		{"trace_context", "jsonb", ""},
		{"change_status", "text", ""},
		{"extra_metadata", "jsonb", ""},
		{"nats_published_at", "timestamptz", ""},
		{"nats_event_id", "uuid", ""},
		{"entity_key", "text", ""},
		{"tenant_key", "text", ""},
	}
}
