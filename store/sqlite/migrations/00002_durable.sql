-- Every delivery that was not finished on its first pass, with what orders it,
-- who receives it, and how often it was claimed. The table is made anew because
-- added columns would stand behind those that can be large. Times are as in the
-- first migration.

-- +goose Up
CREATE TABLE tb_delivery_new (
    -- The place in lanes and lists. It may be given again after the newest row
    -- was removed: that leaves the order of those that are there as it was.
    pk_delivery     INTEGER PRIMARY KEY,
    key             TEXT    NOT NULL UNIQUE,
    -- Where the delivery stands when nobody runs it. That it is running follows
    -- from a lease that has not ended.
    state           TEXT    NOT NULL,
    observer        TEXT    NOT NULL,
    action          INTEGER NOT NULL,
    action_type     TEXT    NOT NULL,
    reason          TEXT    NOT NULL,
    run_at          INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    -- Who holds the delivery while the lease runs, and who held it last before.
    lease_owner     TEXT    NOT NULL,
    lease_until     INTEGER NOT NULL,
    -- Claims since the last stored outcome. The last began at claimed_at, the
    -- one before it at lost_at.
    claims          INTEGER NOT NULL,
    claimed_at      INTEGER NOT NULL,
    lost_at         INTEGER NOT NULL,
    queue           TEXT    NOT NULL,
    endpoint        TEXT    NOT NULL,
    priority        INTEGER NOT NULL,
    -- What the priority counts as, and when workers may claim the delivery: NULL
    -- unless it is queued, scheduled or unknown. No generated columns: with those
    -- SQLite reads the row beside the index.
    rank            INTEGER NOT NULL,
    due_at          INTEGER,
    ordering        TEXT    NOT NULL,
    block_when_dead INTEGER NOT NULL,
    lane            TEXT    NOT NULL,
    -- Whether the delivery blocks its lane as it stands, and whether it would
    -- if it were queued.
    blocks          INTEGER NOT NULL,
    blocks_queued   INTEGER NOT NULL,
    event_id        TEXT    NOT NULL,
    entity_type     TEXT    NOT NULL,
    entity_id       TEXT    NOT NULL,
    redrives        INTEGER NOT NULL,
    edited_at       INTEGER NOT NULL,
    error_print     TEXT    NOT NULL,
    prints          TEXT,
    error           TEXT    NOT NULL,
    attempts        TEXT    NOT NULL,
    request         TEXT,
    event           TEXT,
    malformed       TEXT,
    data            TEXT,
    before          TEXT
) STRICT;

-- A lease that was not given back is an attempt of which nobody knows how far it
-- came. It began after the last update.
INSERT INTO tb_delivery_new (pk_delivery, key, state, observer, action, action_type, reason, run_at, created_at,
    updated_at, lease_owner, lease_until, claims, claimed_at, lost_at, queue, endpoint, priority, rank, due_at,
    ordering, block_when_dead, lane, blocks, blocks_queued, event_id, entity_type, entity_id, redrives, edited_at, error_print,
    prints, error, attempts, request, event, malformed, data, before)
SELECT pk_delivery, key, state, observer, action, action_type, reason, run_at, created_at,
    updated_at, lease_owner, lease_until, lease_until > 0, iif(lease_until > 0, updated_at, 0), 0, '', '', 0, 2,
    iif(state = 'scheduled', iif(run_at = 0, created_at, run_at), NULL), '', 0, '', 0, 0, coalesce(subject ->> 'id', ''), coalesce(subject ->> 'entity_type', ''),
    coalesce(subject ->> 'entity_id', ''), 0, 0, '',
    NULL, error, attempts, request, event, malformed, data, before
FROM (SELECT *, CASE WHEN json_valid(event) THEN event WHEN json_valid(malformed) THEN malformed END AS subject
      FROM tb_delivery)
ORDER BY pk_delivery;

DROP TABLE tb_delivery;
ALTER TABLE tb_delivery_new RENAME TO tb_delivery;

CREATE INDEX idx_delivery_listing ON tb_delivery (created_at, pk_delivery);
CREATE INDEX idx_delivery_dead ON tb_delivery (created_at, pk_delivery) WHERE state = 'dead';
CREATE INDEX idx_delivery_leased ON tb_delivery (lease_until) WHERE lease_until > 0;
CREATE INDEX idx_delivery_band ON tb_delivery (queue, endpoint, rank, due_at, pk_delivery, lease_until, state)
    WHERE due_at IS NOT NULL;
CREATE INDEX idx_delivery_done ON tb_delivery (updated_at, pk_delivery) WHERE state IN ('done', 'dropped');
CREATE INDEX idx_delivery_buried ON tb_delivery (updated_at, pk_delivery) WHERE state = 'dead' AND blocks = 0;
-- Dead letters that block their lane although that goes on when they are dead:
-- somebody runs them, or did and died.
CREATE INDEX idx_delivery_redriven ON tb_delivery (lane) WHERE state = 'dead' AND blocks = 1 AND block_when_dead = 0;
-- Those of a lane that are on their way, and those that are parked: by place, and
-- by event.
CREATE INDEX idx_delivery_blocking ON tb_delivery (lane, event_id, state) WHERE blocks = 1 AND state <> 'parked';
CREATE INDEX idx_delivery_parked ON tb_delivery (lane, pk_delivery, event_id) WHERE state = 'parked';
CREATE INDEX idx_delivery_parked_event ON tb_delivery (lane, event_id, endpoint) WHERE state = 'parked';

-- The queues, endpoints and priorities of what workers claim, so that a claim
-- finds the turn of each without reading a million rows of one. No delivery of a
-- band is due before its due_at: claims raise it and remove empty bands.
CREATE TABLE tb_band (
    queue    TEXT    NOT NULL,
    endpoint TEXT    NOT NULL,
    rank     INTEGER NOT NULL,
    due_at   INTEGER NOT NULL,
    PRIMARY KEY (queue, endpoint, rank)
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_band_due ON tb_band (due_at);
INSERT INTO tb_band (queue, endpoint, rank, due_at)
SELECT queue, endpoint, rank, min(due_at) FROM tb_delivery WHERE due_at IS NOT NULL GROUP BY queue, endpoint, rank;

-- Triggers keep due times, bands and counts true for every statement, also those
-- of a person with a SQL shell.

-- +goose StatementBegin
CREATE TRIGGER tg_delivery_due AFTER UPDATE OF state, run_at ON tb_delivery
WHEN NEW.due_at IS NOT iif(NEW.state IN ('queued', 'scheduled', 'unknown'), iif(NEW.run_at = 0, NEW.created_at, NEW.run_at), NULL)
BEGIN
    UPDATE tb_delivery
    SET due_at = iif(NEW.state IN ('queued', 'scheduled', 'unknown'), iif(NEW.run_at = 0, NEW.created_at, NEW.run_at), NULL)
    WHERE pk_delivery = NEW.pk_delivery;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER tg_delivery_band_insert AFTER INSERT ON tb_delivery WHEN NEW.due_at IS NOT NULL
BEGIN
    INSERT INTO tb_band (queue, endpoint, rank, due_at) VALUES (NEW.queue, NEW.endpoint, NEW.rank, NEW.due_at)
    ON CONFLICT (queue, endpoint, rank) DO UPDATE SET due_at = excluded.due_at WHERE due_at > excluded.due_at;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER tg_delivery_band_update AFTER UPDATE OF due_at, queue, endpoint, rank ON tb_delivery
WHEN NEW.due_at IS NOT NULL
BEGIN
    INSERT INTO tb_band (queue, endpoint, rank, due_at) VALUES (NEW.queue, NEW.endpoint, NEW.rank, NEW.due_at)
    ON CONFLICT (queue, endpoint, rank) DO UPDATE SET due_at = excluded.due_at WHERE due_at > excluded.due_at;
END;
-- +goose StatementEnd

-- Finished deliveries are many, and the cap on dead letters is checked at every
-- insert, so their numbers are kept instead of counted.
CREATE TABLE tb_finished_count (
    state TEXT    NOT NULL PRIMARY KEY,
    n     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO tb_finished_count (state, n) SELECT 'dead', count(*) FROM tb_delivery WHERE state = 'dead';
INSERT INTO tb_finished_count (state, n) VALUES ('done', 0), ('dropped', 0);
DROP TABLE tb_dead_count;

-- +goose StatementBegin
CREATE TRIGGER tg_delivery_finished_insert AFTER INSERT ON tb_delivery WHEN NEW.state IN ('dead', 'done', 'dropped')
BEGIN
    UPDATE tb_finished_count SET n = n + 1 WHERE state = NEW.state;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER tg_delivery_finished_delete AFTER DELETE ON tb_delivery WHEN OLD.state IN ('dead', 'done', 'dropped')
BEGIN
    UPDATE tb_finished_count SET n = n - 1 WHERE state = OLD.state;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER tg_delivery_finished_update AFTER UPDATE OF state ON tb_delivery
WHEN OLD.state <> NEW.state AND (OLD.state IN ('dead', 'done', 'dropped') OR NEW.state IN ('dead', 'done', 'dropped'))
BEGIN
    UPDATE tb_finished_count SET n = n + (state = NEW.state) - (state = OLD.state) WHERE state IN (OLD.state, NEW.state);
END;
-- +goose StatementEnd

CREATE TABLE tb_endpoint (
    pk_endpoint   INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    failing_since INTEGER NOT NULL,
    pause         TEXT    NOT NULL,
    paused_at     INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    last_error    TEXT    NOT NULL
) STRICT;
