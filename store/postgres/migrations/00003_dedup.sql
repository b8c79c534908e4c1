-- Which deliveries are being handled and which were. A claim is a row with an
-- owner, a mark has none. What changes when a claim becomes a mark is in no
-- index, and pages are kept half empty for that: it leaves the indexes alone
-- (HOT). made_at never changes; it is what is pruned by.
CREATE TABLE {{schema}}.tb_dedup (
    key      text COLLATE "C" PRIMARY KEY,
    full_key text COLLATE "C",
    owner    text COLLATE "C" NOT NULL,
    until    timestamptz NOT NULL,
    made_at  timestamptz NOT NULL
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 1,
    autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_vacuum_insert_threshold = 10000,
    autovacuum_analyze_scale_factor = 0.2, autovacuum_analyze_threshold = 10000
);
CREATE INDEX idx_dedup_made ON {{schema}}.tb_dedup (made_at);

-- Where all processes agree to make claims: one row.
CREATE TABLE {{schema}}.tb_dedup_view (
    id         integer PRIMARY KEY CHECK (id = 1),
    generation bigint NOT NULL,
    place      text COLLATE "C" NOT NULL,
    epoch      text COLLATE "C" NOT NULL
);
INSERT INTO {{schema}}.tb_dedup_view (id, generation, place, epoch) VALUES (1, 1, 'state', '');

-- The lives of processes, updated every few seconds by each.
CREATE TABLE {{schema}}.tb_dedup_session (
    session text COLLATE "C" PRIMARY KEY,
    adopted bigint NOT NULL,
    until   timestamptz NOT NULL
) WITH (
    fillfactor = 40,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000
);

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
        EXECUTE pg_catalog.format('GRANT %1$s ON %2$I.tb_dedup, %2$I.tb_dedup_view, %2$I.tb_dedup_session TO %3$s', r.privilege, r.schema, r.role);
    END LOOP;
END
$fraiseql_rights$;
