-- The ledger: every committed batch, so that one that is sent again changes nothing, and one whose notice was lost is found.

CREATE TABLE historian.ledger (
    producer     text COLLATE "C" NOT NULL,
    seq          int8 NOT NULL,
    -- of what was written: the same (producer, seq) with another content is refused, not mistaken for done
    digest       bytea NOT NULL,
    samples      int4 NOT NULL,
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (producer, seq)
);

-- What the batches of a transaction wrote, as it goes onto the live bus: kept for some minutes, so that any server can publish what a writer committed and
-- did not live to publish. `position` is drawn while the writer holds the locks of its tags: of two transactions that wrote the same tag, the later has the higher one.
CREATE TABLE historian.ledger_content (
    xid          xid8 PRIMARY KEY DEFAULT pg_current_xact_id(),
    position     int8 NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    content      bytea NOT NULL
);
-- it comes compressed: do not try again
ALTER TABLE historian.ledger_content ALTER COLUMN content SET STORAGE EXTERNAL;
-- for the removal of old content
CREATE INDEX ledger_content_committed_at ON historian.ledger_content (committed_at);

CREATE SEQUENCE historian.write_position CACHE 1;
