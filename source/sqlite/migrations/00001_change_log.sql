-- +goose Up

-- The same words as core.tb_entity_change_log of a FraiseQL server, in SQLite's
-- types. AUTOINCREMENT: a key that was given out is never given out again, even
-- when the newest rows are deleted.
CREATE TABLE IF NOT EXISTS tb_entity_change_log (
    pk_entity_change_log INTEGER PRIMARY KEY AUTOINCREMENT,
    id                   TEXT NOT NULL UNIQUE DEFAULT (
        lower(hex(randomblob(4))) || '-' || lower(hex(randomblob(2))) || '-4' ||
        substr(lower(hex(randomblob(2))), 2) || '-' || substr('89ab', 1 + (random() & 3), 1) ||
        substr(lower(hex(randomblob(2))), 2) || '-' || lower(hex(randomblob(6)))),
    object_type          TEXT NOT NULL,
    modification_type    TEXT NOT NULL,
    created_at           TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    object_id            TEXT,
    object_data          TEXT,
    object_data_before   TEXT,
    updated_fields       TEXT,
    cascade              TEXT,
    duration_ms          INTEGER,
    started_at           TEXT,
    commit_time          TEXT,
    tenant_id            TEXT,
    fk_customer_org      INTEGER,
    fk_contact           INTEGER,
    seq                  INTEGER,
    actor_type           TEXT,
    acting_for           TEXT,
    schema_version       TEXT,
    trace_id             TEXT,
    trace_context        TEXT,
    change_status        TEXT,
    extra_metadata       TEXT,
    nats_published_at    TEXT,
    nats_event_id        TEXT
);

-- The epoch tells this log from every other one.
CREATE TABLE IF NOT EXISTS tb_entity_change_log_meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
INSERT OR IGNORE INTO tb_entity_change_log_meta (name, value) VALUES ('epoch', lower(hex(randomblob(16))));

-- Which tables ought to be captured: triggers vanish with a table that is
-- dropped and made anew, and without this nobody would notice.
CREATE TABLE IF NOT EXISTS tb_entity_change_log_capture (
    table_name TEXT PRIMARY KEY COLLATE NOCASE,
    spec       TEXT NOT NULL
);
