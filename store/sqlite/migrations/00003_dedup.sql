-- Which deliveries are being handled and which were, and where all processes
-- agree to look for that. Times are as in the first migration.

-- +goose Up
-- A claim, or a mark, which has no owner. made_at is when the row was: it
-- never changes, so that its index is left alone when a claim becomes a mark.
CREATE TABLE tb_dedup (
    key     TEXT    NOT NULL PRIMARY KEY,
    owner   TEXT    NOT NULL,
    until   INTEGER NOT NULL,
    made_at INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

CREATE INDEX idx_dedup_made ON tb_dedup (made_at);

CREATE TABLE tb_dedup_view (
    pk_dedup_view INTEGER PRIMARY KEY CHECK (pk_dedup_view = 1),
    generation    INTEGER NOT NULL,
    place         TEXT    NOT NULL,
    epoch         TEXT    NOT NULL
) STRICT;

INSERT INTO tb_dedup_view (pk_dedup_view, generation, place, epoch) VALUES (1, 1, 'state', '');

CREATE TABLE tb_dedup_session (
    session TEXT    NOT NULL PRIMARY KEY,
    adopted INTEGER NOT NULL,
    until   INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
