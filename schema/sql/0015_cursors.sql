-- Durable cursors: how far named readers of the stream have come, in terms of transactions, so that they go on after days and after restarts of any server.

CREATE TABLE historian.cursor (
    name         text COLLATE "C" PRIMARY KEY,
    -- paths and wildcards, and the start of its backfill, as it was opened with
    tags         text[] NOT NULL,
    start        timestamptz,
    -- the database that the transaction ids are of: those of another one, as after a logical restore, say nothing here
    origin       text NOT NULL,
    -- the last position that the client has acknowledged; none before it has the backfill
    acknowledged pg_snapshot,
    -- all that this sees is of no more use to it: the acknowledged position, and what followed it without a sample of its tags. The ledger is kept from here on
    seen         pg_snapshot NOT NULL,
    -- the newest transaction that the ledger let go of though `seen` did not see it: a stream from before it has a gap
    lost         xid8,
    -- of the stream that has it now: an older one finds out by this that it is no longer its own
    holder       text NOT NULL,
    client       text,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    acknowledged_at timestamptz
);
