-- The samples table, before an engine cuts it by time.
--
-- A number is kept as a decimal where that is exact: value = mantissa / 10^scale (see schema/decimals.py), and as a float8 in `value` where it is not.
-- Exactly one of mantissa, value and text is there. The columns stand in the order that needs no padding: a decimal row is 48 bytes with its header.

CREATE TABLE historian.sample (
    tag_id   int4        NOT NULL,
    scale    int2        NOT NULL DEFAULT 0,
    quality  int2        NOT NULL,
    ts       timestamptz NOT NULL,
    mantissa int8,
    value    float8,
    text     text
) --@plain PARTITION BY RANGE (ts)
;

-- One tag's samples by time: every trend, and the search for what a late sample replaces. Not unique: the writer sees to one sample per (tag, ts) under
-- the lock of the tag's snapshot row, and a unique index would cost half of the write rate and forbid direct compress.
CREATE INDEX sample_tag_ts ON historian.sample (tag_id, ts);
