package doctor_test

import (
	"maps"
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/doctor"
)

// Every case makes a good database sick, wants the finding, does what the finding
// says, and wants a good one again.
func TestFindingsAndTheirCures(t *testing.T) {
	t.Parallel()
	for name, c := range findings() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn, conn := newDatabase(t)
			if c.incurable {
				good(t, examine(t, dsn, doctor.Options{}), c.want.check)
			}
			testenv.Exec(t, conn, c.sick)
			report := examine(t, dsn, doctor.Options{})
			expect(t, report, c.want)
			if c.incurable {
				return
			}
			for _, f := range of(report, c.want.check) {
				statements := sql(f.Do)
				if len(statements) == 0 {
					t.Fatalf("no SQL in %q", f.Do)
				}
				for _, s := range statements {
					testenv.Exec(t, conn, s)
				}
			}
			good(t, examine(t, dsn, doctor.Options{}), c.want.check)
		})
	}
}

type finding struct {
	sick string
	want want
	// incurable: the advice is no SQL that can be run as it stands.
	incurable bool
}

func findings() map[string]finding {
	all := map[string]finding{}
	for _, some := range []map[string]finding{aboutTheLog(), aboutKeys(), aboutTriggersAndSettings()} {
		maps.Copy(all, some)
	}
	return all
}

func aboutTheLog() map[string]finding {
	return map[string]finding{
		"no log": {
			"DROP TABLE core.tb_entity_change_log",
			want{"log", doctor.Problem, "table core.tb_entity_change_log is missing", "fraiseql-observer migrate"}, true,
		},
		"log is a view": {
			"DROP TABLE core.tb_entity_change_log; CREATE VIEW core.tb_entity_change_log AS SELECT 1 AS id",
			want{"log", doctor.Problem, "is not a table", "rename it"}, true,
		},
		"log is something else": {
			"ALTER TABLE core.tb_entity_change_log DROP COLUMN object_type, DROP COLUMN id",
			want{"log_columns", doctor.Problem, "it lacks id, object_type", "rename the table"}, true,
		},
		"columns of FraiseQL only": {
			"ALTER TABLE core.tb_entity_change_log DROP COLUMN entity_key, DROP COLUMN tenant_key",
			want{"log_columns", doctor.Note, "lacks entity_key and tenant_key", "ADD COLUMN entity_key text, ADD COLUMN tenant_key text;"}, false,
		},
		"no images": {
			"ALTER TABLE core.tb_entity_change_log DROP COLUMN object_data",
			want{"log_columns", doctor.Warning, "no entity id or no data", "migrate"}, true,
		},
	}
}

func aboutKeys() map[string]finding {
	return map[string]finding{
		"key of another type": {
			"ALTER TABLE core.tb_entity_change_log ALTER COLUMN pk_entity_change_log DROP IDENTITY; ALTER TABLE core.tb_entity_change_log ALTER COLUMN pk_entity_change_log TYPE numeric",
			want{"log_key", doctor.Problem, "is of type numeric", "TYPE bigint;"}, false,
		},
		"small key": {
			"ALTER TABLE core.tb_entity_change_log ALTER COLUMN pk_entity_change_log TYPE integer",
			want{"log_key", doctor.Warning, "is of type integer", "TYPE bigint;"}, false,
		},
		"no index": {
			"ALTER TABLE core.tb_entity_change_log DROP CONSTRAINT tb_entity_change_log_pkey",
			want{"log_key", doctor.Problem, "no index serves pk_entity_change_log", "CREATE UNIQUE INDEX CONCURRENTLY"}, false,
		},
		"index on a part": {
			"ALTER TABLE core.tb_entity_change_log DROP CONSTRAINT tb_entity_change_log_pkey; CREATE INDEX ON core.tb_entity_change_log (pk_entity_change_log) WHERE pk_entity_change_log > 100",
			want{"log_key", doctor.Problem, "no index serves pk_entity_change_log", "CREATE UNIQUE INDEX CONCURRENTLY"}, false,
		},
		"unlogged": {
			"ALTER TABLE core.tb_entity_change_log SET UNLOGGED",
			want{"log_storage", doctor.Problem, "is UNLOGGED", "SET LOGGED;"}, false,
		},
		"cache": {
			"ALTER SEQUENCE core.tb_entity_change_log_pk_entity_change_log_seq CACHE 10",
			want{"sequence", doctor.Problem, "hands out 10 keys in advance", "CACHE 1;"}, false,
		},
		"backwards": {
			"ALTER SEQUENCE core.tb_entity_change_log_pk_entity_change_log_seq INCREMENT BY -1 MINVALUE -100 MAXVALUE 100",
			want{"sequence", doctor.Problem, "in steps of -1", "INCREMENT BY 1;"}, false,
		},
		"cycle": {
			"ALTER SEQUENCE core.tb_entity_change_log_pk_entity_change_log_seq CYCLE",
			want{"sequence", doctor.Warning, "begins again at its end", "NO CYCLE;"}, false,
		},
		"no sequence": {
			"ALTER TABLE core.tb_entity_change_log ALTER COLUMN pk_entity_change_log DROP IDENTITY",
			want{"sequence", doctor.Problem, "no sequence stands behind", "ADD GENERATED ALWAYS AS IDENTITY;"}, true,
		},
		"integers near their end": {
			"ALTER TABLE core.tb_entity_change_log ALTER COLUMN pk_entity_change_log TYPE integer; SELECT setval('core.tb_entity_change_log_pk_entity_change_log_seq', 1600000000)",
			want{"sequence_range", doctor.Warning, "the last key is 1600000000, 75% of what there is", "TYPE bigint;"}, false,
		},
		"integers at their end": {
			"ALTER TABLE core.tb_entity_change_log ALTER COLUMN pk_entity_change_log TYPE integer; SELECT setval('core.tb_entity_change_log_pk_entity_change_log_seq', 2100000000)",
			want{"sequence_range", doctor.Problem, "98%", "TYPE bigint;"}, false,
		},
		"serial near its end": {
			`ALTER TABLE core.tb_entity_change_log ALTER COLUMN pk_entity_change_log DROP IDENTITY, ALTER COLUMN pk_entity_change_log TYPE integer;
			 CREATE SEQUENCE core.s AS integer OWNED BY core.tb_entity_change_log.pk_entity_change_log;
			 ALTER TABLE core.tb_entity_change_log ALTER COLUMN pk_entity_change_log SET DEFAULT nextval('core.s'); SELECT setval('core.s', 1600000000)`,
			want{"sequence_range", doctor.Warning, "75%", "ALTER SEQUENCE core.s AS bigint;"}, false,
		},
		"sequence wider than its column": {
			`ALTER TABLE core.tb_entity_change_log ALTER COLUMN pk_entity_change_log DROP IDENTITY, ALTER COLUMN pk_entity_change_log TYPE integer;
			 CREATE SEQUENCE core.s OWNED BY core.tb_entity_change_log.pk_entity_change_log;
			 ALTER TABLE core.tb_entity_change_log ALTER COLUMN pk_entity_change_log SET DEFAULT nextval('core.s'); SELECT setval('core.s', 1600000000)`,
			want{"sequence_range", doctor.Warning, "75%", "TYPE bigint;"}, false,
		},
		"low maximum": {
			"ALTER SEQUENCE core.tb_entity_change_log_pk_entity_change_log_seq MAXVALUE 100; SELECT setval('core.tb_entity_change_log_pk_entity_change_log_seq', 90)",
			want{"sequence_range", doctor.Warning, "the last key is 90, 90%", "NO MAXVALUE;"}, false,
		},
		"setval to the end": {
			"SELECT setval('core.tb_entity_change_log_pk_entity_change_log_seq', 9223372036854775807)",
			want{"sequence_range", doctor.Problem, "100%", "who called setval"}, true,
		},
	}
}

func aboutTriggersAndSettings() map[string]finding {
	const database = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET "
	return map[string]finding{
		"not migrated": {
			"DROP TABLE fraiseql_observer.tb_setting",
			want{"prepared", doctor.Warning, "missing here: table fraiseql_observer.tb_setting", "fraiseql-observer migrate"}, true,
		},
		"no wake-up trigger": {
			"DROP TRIGGER fraiseql_wake_up ON core.tb_entity_change_log",
			want{"wake_up", doctor.Note, "by polling only", "fraiseql-observer migrate"}, true,
		},
		"wake-up trigger disabled": {
			"ALTER TABLE core.tb_entity_change_log DISABLE TRIGGER fraiseql_wake_up",
			want{"wake_up", doctor.Warning, "the wake-up trigger is disabled", "ENABLE TRIGGER fraiseql_wake_up;"}, false,
		},
		"wake-up trigger for replicas": {
			"ALTER TABLE core.tb_entity_change_log ENABLE REPLICA TRIGGER fraiseql_wake_up",
			want{"wake_up", doctor.Warning, "the wake-up trigger is disabled", "ENABLE TRIGGER fraiseql_wake_up;"}, false,
		},
		"not recorded": {
			"INSERT INTO fraiseql_observer.tb_capture_unrecorded (table_name, operation, reason) VALUES ('shop.orders', 'INSERT', 'a secret value')",
			want{"capture_lost", doctor.Problem, "1 statements on shop.orders were not recorded", "DELETE FROM fraiseql_observer.tb_capture_unrecorded;"}, true,
		},
		"replica by default": {
			database + "session_replication_role = replica', current_database()); END $$",
			want{"replica_role", doctor.Problem, "by default for everybody", "RESET session_replication_role;"}, false,
		},
		"isolation": {
			database + "default_transaction_isolation = serializable', current_database()); END $$",
			want{"role_settings", doctor.Warning, "isolation level serializable", "SET default_transaction_isolation = 'read committed';"}, true,
		},
		"read only": {
			database + "default_transaction_read_only = on', current_database()); END $$",
			want{"role_settings", doctor.Warning, "may only read", "SET default_transaction_read_only = off;"}, true,
		},
		"short statements": {
			database + "statement_timeout = ''5s''', current_database()); END $$",
			want{"role_settings", doctor.Warning, "statement_timeout is 5000 ms", "SET statement_timeout = 0;"}, true,
		},
		"short sessions": {
			database + "idle_session_timeout = ''5s''', current_database()); END $$",
			want{"role_settings", doctor.Warning, "idle_session_timeout is 5000 ms", "SET idle_session_timeout = 0;"}, true,
		},
		"log without autovacuum": {
			"ALTER TABLE core.tb_entity_change_log SET (autovacuum_enabled = off); ALTER TABLE fraiseql_observer.tb_setting SET (autovacuum_enabled = false)",
			want{"autovacuum", doctor.Warning, "autovacuum is off for core.tb_entity_change_log, fraiseql_observer.tb_setting", "RESET (autovacuum_enabled);"}, false,
		},
	}
}
