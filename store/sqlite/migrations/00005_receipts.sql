-- What the readers of a transport have handled, until it has been compared with
-- the change log. Times are as in the first migration.

-- +goose Up
-- ids is a list as internal/idlist writes it. No number comes back after its row
-- was removed: readers ask for what has a higher one.
CREATE TABLE tb_receipt (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    group_name    TEXT    NOT NULL,
    database_name TEXT    NOT NULL,
    saved_at      INTEGER NOT NULL,
    ids           BLOB    NOT NULL
) STRICT;

CREATE INDEX idx_receipt ON tb_receipt (group_name, database_name, seq);
