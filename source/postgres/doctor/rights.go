package doctor

import (
	"context"
	"fmt"
	"strings"
)

func (x *examination) rightToRead(ctx context.Context) error {
	const query = `SELECT relnamespace::regnamespace::text, has_schema_privilege(relnamespace, 'USAGE'), has_table_privilege(oid, 'SELECT'),
       has_function_privilege('pg_control_system()', 'EXECUTE') AND has_function_privilege('pg_current_wal_lsn()', 'EXECUTE')
       AND has_function_privilege('pg_walfile_name(pg_lsn)', 'EXECUTE')
  FROM pg_class WHERE oid = $1`
	var place string
	var schema, table, history bool
	if err := x.conn.QueryRow(ctx, query, x.log.TableOID).Scan(&place, &schema, &table, &history); err != nil {
		return err
	}
	var lacks, grants []string
	lack := func(missing bool, what, grant string) {
		if missing {
			lacks, grants = append(lacks, what), append(grants, grant+" TO "+x.role+";")
		}
	}
	lack(!schema, "USAGE on its schema", "GRANT USAGE ON SCHEMA "+place)
	lack(!table, "SELECT on it", "GRANT SELECT ON "+x.table)
	lack(!history, "EXECUTE on pg_control_system, pg_current_wal_lsn and pg_walfile_name, which tell one history from another",
		"GRANT EXECUTE ON FUNCTION pg_control_system(), pg_current_wal_lsn(), pg_walfile_name(pg_lsn)")
	if len(lacks) > 0 {
		x.add(Problem, fmt.Sprintf("role %s cannot read the log: it lacks %s", x.report.Role, strings.Join(lacks, ", ")), strings.Join(grants, " "))
		return nil
	}
	x.ok("role %s may read the log", x.report.Role)
	return nil
}

func (x *examination) rowSecurity(context.Context) error {
	if x.log.RowSecurity {
		x.add(Problem, "row-level security hides rows of the log from role "+x.report.Role,
			fmt.Sprintf("ALTER ROLE %s BYPASSRLS; or let the role own the table", x.role))
		return nil
	}
	x.ok("row-level security hides nothing of the log from the role")
	return nil
}

func (x *examination) rightToReadSequence(ctx context.Context) error {
	if x.log.SequenceOID == 0 {
		return nil
	}
	var may bool
	if err := x.conn.QueryRow(ctx, "SELECT has_sequence_privilege($1::oid, 'SELECT, USAGE')", x.log.SequenceOID).Scan(&may); err != nil {
		return err
	}
	if !may {
		x.add(Warning, fmt.Sprintf("role %s may not ask %s how far it is, so that a sequence that was set back is not noticed", x.report.Role, x.log.Sequence),
			fmt.Sprintf("GRANT SELECT ON SEQUENCE %s TO %s;", x.log.Sequence, x.role))
		return nil
	}
	x.ok("the role may ask the sequence how far it is")
	return nil
}

func (x *examination) rightToPrune(ctx context.Context) error {
	var may bool
	if err := x.conn.QueryRow(ctx, "SELECT has_table_privilege($1::oid, 'DELETE')", x.log.TableOID).Scan(&may); err != nil {
		return err
	}
	if !may {
		x.add(Warning, fmt.Sprintf("role %s may not delete handled rows of the log, which grows until somebody else does", x.report.Role),
			fmt.Sprintf("GRANT DELETE ON %s TO %s;", x.table, x.role))
		return nil
	}
	x.ok("the role may delete handled rows of the log")
	return nil
}

// rightToCreate matters to migrate and to the first start only.
func (x *examination) rightToCreate(ctx context.Context) error {
	const query = `SELECT CASE WHEN to_regnamespace(quote_ident($1)) IS NULL THEN has_database_privilege(current_database(), 'CREATE')
            ELSE has_schema_privilege(to_regnamespace(quote_ident($1)), 'CREATE') END
       AND coalesce((SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = $2),
             CASE WHEN to_regnamespace(quote_ident($3)) IS NULL THEN has_database_privilege(current_database(), 'CREATE')
             ELSE has_schema_privilege(to_regnamespace(quote_ident($3)), 'CREATE') END)`
	var may bool
	if err := x.conn.QueryRow(ctx, query, x.Schema, x.tableOID(), x.Log.Schema).Scan(&may); err != nil {
		return err
	}
	if may {
		x.ok("the role may create and complete what migrate makes")
		return nil
	}
	x.add(Note, fmt.Sprintf("role %s cannot run migrate, which is fine where another role has done so", x.report.Role),
		"run migrate as the owner of the log, after each upgrade of this program; fraiseql-observer migrate --print shows the SQL")
	return nil
}

// rightToState looks at whatever tables of ours are there: those with names of
// settings, versions and captures are written by migrate and capture only.
func (x *examination) rightToState(ctx context.Context) error {
	const query = `SELECT count(*), coalesce(string_agg(DISTINCT p || ' on ' || c.relname, ', ')
          FILTER (WHERE NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, p))), '')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS p
 WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND c.oid <> $2
   AND right(c.relname, 7) <> 'version' AND left(c.relname, 10) <> 'tb_capture' AND c.relname <> 'tb_setting'`
	var rights int
	var lacks string
	if err := x.conn.QueryRow(ctx, query, x.Schema, x.tableOID()).Scan(&rights, &lacks); err != nil {
		return err
	}
	switch {
	case rights == 0:
		x.add(Note, "no state is kept in schema "+x.Schema+" of this database", "nothing, if [state] names another database; otherwise run or migrate makes the tables")
	case lacks != "":
		x.add(Problem, fmt.Sprintf("role %s cannot keep its state in schema %s: it lacks %s", x.report.Role, x.Schema, lacks),
			fmt.Sprintf("GRANT USAGE ON SCHEMA %[1]s TO %[2]s; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %[1]s TO %[2]s;",
				x.schema, x.role))
	default:
		x.ok("the role may keep its state in schema %s", x.Schema)
	}
	return nil
}
