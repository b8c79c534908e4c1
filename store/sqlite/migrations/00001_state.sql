-- Times are microseconds since 1970 in UTC, 0 for none. Columns that can be
-- large stand last, so that counting and claiming do not read them.

-- +goose Up
CREATE TABLE tb_checkpoint (
    pk_checkpoint INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    saved_at      INTEGER NOT NULL,
    position      TEXT    NOT NULL,
    done          TEXT    NOT NULL
) STRICT;

CREATE TABLE tb_delivery (
    pk_delivery INTEGER PRIMARY KEY,
    key         TEXT    NOT NULL UNIQUE,
    state       TEXT    NOT NULL,
    observer    TEXT    NOT NULL,
    action      INTEGER NOT NULL,
    action_type TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    run_at      INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    lease_owner TEXT    NOT NULL DEFAULT '',
    lease_until INTEGER NOT NULL DEFAULT 0,
    error       TEXT    NOT NULL,
    attempts    TEXT    NOT NULL,
    request     TEXT,
    event       TEXT,
    malformed   TEXT,
    data        TEXT,
    before      TEXT
) STRICT;

CREATE INDEX idx_delivery_listing ON tb_delivery (created_at, key);
CREATE INDEX idx_delivery_dead ON tb_delivery (created_at, key) WHERE state = 'dead';
CREATE INDEX idx_delivery_due ON tb_delivery (run_at, created_at, key) WHERE state = 'scheduled';
CREATE INDEX idx_delivery_leased ON tb_delivery (lease_until) WHERE lease_until > 0;

-- The cap on dead letters is checked at every insert, so their number is kept
-- instead of counted. Triggers keep it true for every statement, also those of
-- a person with a SQL shell.
CREATE TABLE tb_dead_count (
    pk_dead_count INTEGER PRIMARY KEY CHECK (pk_dead_count = 1),
    n             INTEGER NOT NULL
) STRICT;
INSERT INTO tb_dead_count (pk_dead_count, n) VALUES (1, 0);

-- +goose StatementBegin
CREATE TRIGGER tg_delivery_dead_insert AFTER INSERT ON tb_delivery WHEN NEW.state = 'dead'
BEGIN
    UPDATE tb_dead_count SET n = n + 1;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER tg_delivery_dead_delete AFTER DELETE ON tb_delivery WHEN OLD.state = 'dead'
BEGIN
    UPDATE tb_dead_count SET n = n - 1;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER tg_delivery_dead_update AFTER UPDATE OF state ON tb_delivery
WHEN (OLD.state = 'dead') <> (NEW.state = 'dead')
BEGIN
    UPDATE tb_dead_count SET n = n + (NEW.state = 'dead') - (OLD.state = 'dead');
END;
-- +goose StatementEnd
