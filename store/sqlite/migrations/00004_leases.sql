-- Who holds which of the names that several processes share. Times are as in the
-- first migration.

-- +goose Up
-- holder is empty when the lease was released.
CREATE TABLE tb_lease (
    name   TEXT    NOT NULL PRIMARY KEY,
    holder TEXT    NOT NULL,
    term   INTEGER NOT NULL,
    since  INTEGER NOT NULL,
    until  INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

-- The last term that was given, to any name. It outlives the rows of leases, so
-- that no term comes back.
CREATE TABLE tb_lease_term (
    pk_lease_term INTEGER PRIMARY KEY CHECK (pk_lease_term = 1),
    term          INTEGER NOT NULL
) STRICT;

INSERT INTO tb_lease_term (pk_lease_term, term) VALUES (1, 0);
