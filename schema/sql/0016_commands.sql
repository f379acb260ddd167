-- Commands: values that clients write to tags, with who, from where, and what became of them.

ALTER TABLE historian.tag
    -- whether commands may write it
    ADD COLUMN writable boolean NOT NULL DEFAULT false,
    -- where a command goes: `historian` makes a sample of it, `plant` has an ingest worker publish it, and the sample is what the plant reads back
    ADD COLUMN write_to text NOT NULL DEFAULT 'historian' CHECK (write_to IN ('historian', 'plant'));

-- The audit. A row is written once, in the transaction that its answer waits for; afterwards only what became of it changes, and that until it is settled.
CREATE TABLE historian.command (
    command_id   int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tag          text COLLATE "C" NOT NULL,
    -- as it was asked for
    value        jsonb NOT NULL,
    -- what the tag had before: its newest sample
    previous     jsonb,
    previous_ts  timestamptz,
    -- who has the right, by name; null: nobody who has it
    commander    text COLLATE "C",
    -- the address that it came from
    client       text NOT NULL,
    -- given by the client: the same key of the same commander is the same command
    key          text COLLATE "C",
    write_to     text CHECK (write_to IN ('historian', 'plant')),
    requested_at timestamptz NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- after this instant it is not published to the plant
    expires_at   timestamptz,
    -- of the sample that it became
    ts           timestamptz,
    outcome      text NOT NULL CHECK (outcome IN ('refused', 'written', 'accepted', 'delivered', 'expired', 'unconfirmed', 'failed')),
    detail       text,
    -- the worker that has it, and until when nobody else may take it
    worker       text,
    held_until   timestamptz,
    attempts     int4 NOT NULL DEFAULT 0,
    -- of the attempts those that may have reached the broker
    sent         int4 NOT NULL DEFAULT 0,
    settled_at   timestamptz
) WITH (fillfactor = 90);

-- a command that is sent again is found by it; a refusal changes nothing, and is looked at anew
CREATE UNIQUE INDEX command_key ON historian.command (commander, key) WHERE key IS NOT NULL AND outcome <> 'refused';
-- what workers look for, which is little at any time
CREATE INDEX command_accepted ON historian.command (tag, command_id) WHERE outcome = 'accepted';
-- the audit of one tag, and of a time, newest first
CREATE INDEX command_tag ON historian.command (tag, command_id DESC);
CREATE INDEX command_requested ON historian.command (requested_at);
