-- What the readers of a transport have handled, until it has been compared with
-- the change log. ids is a list as internal/idlist writes it: nothing in it can be
-- compressed. Rows come and go all the time.
CREATE TABLE {{schema}}.tb_receipt (
    seq           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_name    text COLLATE "C" NOT NULL,
    database_name text COLLATE "C" NOT NULL,
    saved_at      timestamptz NOT NULL,
    ids           bytea NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000
);
ALTER TABLE {{schema}}.tb_receipt ALTER COLUMN ids SET STORAGE EXTERNAL;
CREATE INDEX idx_receipt ON {{schema}}.tb_receipt (group_name, database_name, seq);

-- Who may use the deliveries may use this, too.
DO $fraiseql_rights$
DECLARE
    r record;
    -- Any name will do for the schema, so it cannot stand in a literal.
    this_table oid := (SELECT t.oid FROM pg_catalog.pg_class t
        WHERE t.relname = 'tb_delivery' AND t.relnamespace =
            (SELECT c.relnamespace FROM pg_catalog.pg_class c WHERE c.oid = (SELECT tableoid FROM {{schema}}.tb_dead_count LIMIT 1)));
BEGIN
    FOR r IN
        SELECT n.nspname AS schema, a.privilege_type AS privilege,
            CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS role
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, pg_catalog.aclexplode(c.relacl) a
        WHERE c.oid = this_table AND a.grantee <> c.relowner AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE pg_catalog.format('GRANT %1$s ON %2$I.tb_receipt TO %3$s', r.privilege, r.schema, r.role);
    END LOOP;
END
$fraiseql_rights$;
