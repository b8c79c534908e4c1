-- Texts are what encode in text.go makes of them: as they are, or escaped where
-- PostgreSQL cannot hold them. They have no locale (COLLATE "C"), so their order
-- does not change with the libraries of the system.

-- One row for each source, updated many times a second. No index holds a column
-- that changes and pages are kept half empty, so an update leaves the indexes
-- alone (HOT) and the next one reuses the room.
CREATE TABLE {{schema}}.tb_checkpoint (
    name     text COLLATE "C" PRIMARY KEY,
    saved_at timestamptz NOT NULL,
    position text NOT NULL,
    done     text NOT NULL
) WITH (
    fillfactor = 40,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 500, toast.autovacuum_vacuum_cost_delay = 0
);

-- A claim changes the lease only, which no index holds: HOT again. full_key is
-- the key where that is too long for an index; key then is its digest.
CREATE TABLE {{schema}}.tb_delivery (
    key         text COLLATE "C" PRIMARY KEY,
    state       text COLLATE "C" NOT NULL,
    observer    text COLLATE "C" NOT NULL,
    action      integer NOT NULL,
    action_type text COLLATE "C" NOT NULL,
    reason      text COLLATE "C" NOT NULL,
    run_at      timestamptz NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    lease_owner text COLLATE "C" NOT NULL DEFAULT '',
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    error       text COLLATE "C" NOT NULL,
    full_key    text COLLATE "C",
    attempts    text NOT NULL,
    request     text,
    event       text,
    malformed   text,
    data        text,
    before      text
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 1,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 500,
    toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 500
);

CREATE INDEX idx_delivery_listing ON {{schema}}.tb_delivery (created_at, key);
CREATE INDEX idx_delivery_dead ON {{schema}}.tb_delivery (created_at, key) WHERE state = 'dead';
CREATE INDEX idx_delivery_due ON {{schema}}.tb_delivery (run_at, created_at) WHERE state = 'scheduled';

-- The cap on dead letters is checked at every insert of one, so their number is
-- kept instead of counted: the sum of these rows. There are several so that
-- sessions that store dead letters at the same time do not wait for each other's
-- commit. Only dead letters touch them. Triggers keep the number true for every
-- statement, also those of a person with a SQL shell.
CREATE TABLE {{schema}}.tb_dead_count (
    slot integer PRIMARY KEY,
    n    bigint NOT NULL
) WITH (
    fillfactor = 20,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000
);
INSERT INTO {{schema}}.tb_dead_count (slot, n) SELECT slot, 0 FROM generate_series(0, 31) AS slot;

CREATE FUNCTION {{schema}}.fn_dead_row() RETURNS trigger LANGUAGE plpgsql AS $fraiseql_observer$
BEGIN
    UPDATE {{schema}}.tb_dead_count
    SET n = n + CASE WHEN NEW.state = 'dead' THEN 1 ELSE -1 END
    WHERE slot = pg_catalog.pg_backend_pid() % 32;
    RETURN NULL;
END
$fraiseql_observer$;

CREATE FUNCTION {{schema}}.fn_dead_deleted() RETURNS trigger LANGUAGE plpgsql AS $fraiseql_observer$
DECLARE
    gone bigint := (SELECT count(*) FROM deleted WHERE state = 'dead');
BEGIN
    IF gone > 0 THEN
        UPDATE {{schema}}.tb_dead_count SET n = n - gone WHERE slot = pg_catalog.pg_backend_pid() % 32;
    END IF;
    RETURN NULL;
END
$fraiseql_observer$;

CREATE FUNCTION {{schema}}.fn_dead_truncated() RETURNS trigger LANGUAGE plpgsql AS $fraiseql_observer$
BEGIN
    UPDATE {{schema}}.tb_dead_count SET n = 0;
    RETURN NULL;
END
$fraiseql_observer$;

CREATE TRIGGER tg_delivery_dead_insert AFTER INSERT ON {{schema}}.tb_delivery
    FOR EACH ROW WHEN (NEW.state = 'dead') EXECUTE FUNCTION {{schema}}.fn_dead_row();
CREATE TRIGGER tg_delivery_dead_update AFTER UPDATE OF state ON {{schema}}.tb_delivery
    FOR EACH ROW WHEN ((OLD.state = 'dead') <> (NEW.state = 'dead')) EXECUTE FUNCTION {{schema}}.fn_dead_row();
-- One statement may delete many: they are counted together.
CREATE TRIGGER tg_delivery_dead_delete AFTER DELETE ON {{schema}}.tb_delivery
    REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.fn_dead_deleted();
CREATE TRIGGER tg_delivery_dead_truncate AFTER TRUNCATE ON {{schema}}.tb_delivery
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.fn_dead_truncated();
