-- The tag catalogue and the snapshot.

CREATE TABLE historian.tag (
    tag_id      int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- "C": paths are compared byte by byte, so that prefixes are ranges of the index whatever the server's locale
    path        text COLLATE "C" NOT NULL UNIQUE CHECK (octet_length(path) BETWEEN 1 AND 512),
    kind        text NOT NULL CHECK (kind IN ('float', 'int', 'bool', 'digital', 'text')),
    unit        text,
    description text,
    low         float8,
    high        float8,
    step        boolean NOT NULL,
    -- {"0": "stopped", "1": "running"}: the state set of a digital tag
    states      jsonb,
    created_at  timestamptz NOT NULL DEFAULT now(),
    -- the transaction that wrote this row last: other processes find by it what changed since they looked
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CHECK (low IS NULL OR high IS NULL OR low <= high)
);

-- for "what changed since transaction X", which every server asks once a second
CREATE INDEX tag_xid ON historian.tag (xid);

-- The newest sample of every tag. A row is made with its tag, so that writers always have one to lock: the lock on it, taken in tag_id order, is what
-- makes the writes of one tag follow each other. Half-empty pages keep the update in its page (heap-only tuples, no index work).
CREATE TABLE historian.snapshot (
    tag_id  int4 PRIMARY KEY REFERENCES historian.tag,
    ts      timestamptz,
    value   float8,
    quality int2,
    text    text
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200);

CREATE FUNCTION historian.tag_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.xid := pg_current_xact_id();
    RETURN NEW;
END $$;

CREATE TRIGGER tag_changed BEFORE UPDATE ON historian.tag FOR EACH ROW EXECUTE FUNCTION historian.tag_changed();
