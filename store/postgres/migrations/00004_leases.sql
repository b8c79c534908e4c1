-- Who holds which of the names that several processes share. holder is empty when
-- the lease was released. Nothing that changes is in an index, and pages are kept
-- half empty: renewing leaves the index alone (HOT).
CREATE TABLE {{schema}}.tb_lease (
    name      text COLLATE "C" PRIMARY KEY,
    full_name text COLLATE "C",
    holder    text COLLATE "C" NOT NULL,
    term      bigint NOT NULL,
    since     timestamptz NOT NULL,
    until     timestamptz NOT NULL
) WITH (
    fillfactor = 40,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000
);

-- The last term that was given, to any name: one row. It outlives the rows of
-- leases, so that no term comes back. A sequence would give terms before their
-- lease is locked, and so in another order.
CREATE TABLE {{schema}}.tb_lease_term (
    id   integer PRIMARY KEY CHECK (id = 1),
    term bigint NOT NULL
) WITH (
    fillfactor = 20,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000
);
INSERT INTO {{schema}}.tb_lease_term (id, term) VALUES (1, 0);

-- Who may use the deliveries may use these, too.
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
        EXECUTE pg_catalog.format('GRANT %1$s ON %2$I.tb_lease, %2$I.tb_lease_term TO %3$s', r.privilege, r.schema, r.role);
    END LOOP;
END
$fraiseql_rights$;
