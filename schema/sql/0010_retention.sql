-- Retention by groups of tags, and what is known of the archive.
--
-- Raw samples, and the buckets of each rollup level, are kept for so many days, by group. What is removed lies before the horizon: up to there all rollups have been made,
-- and from then on a bucket there is made again only by historian.remake_rollups, from the samples of its tag in the database and the archive together, and never by the
-- refresh, which would see what the database has left of them and forget the rest.

-- The first group that has a tag, by priority, is the tag's. `regexes` are the patterns as PostgreSQL matches them. NULL days: for ever.
CREATE TABLE historian.retention_group (
    name     text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,39}$'),
    priority int4 NOT NULL,
    patterns text[] NOT NULL,
    regexes  text[] NOT NULL,
    raw_days int4 CHECK (raw_days >= 2),
    -- whether raw samples go into the archive before they are removed
    archive  boolean NOT NULL,
    days_1m  int4 CHECK (days_1m >= 2),
    days_10m int4 CHECK (days_10m >= 2),
    days_1h  int4 CHECK (days_1h >= 2),
    days_1d  int4 CHECK (days_1d >= 2)
);
INSERT INTO historian.retention_group (name, priority, patterns, regexes, archive) VALUES ('default', 2147483647, '{#}', '{^.*$}', false);

-- One row. `since`: from this transaction on writers leave word of what they write into the past; there is no horizon before all older ones are over. `wanted`: where the
-- horizon is to be. `uri`: where the archive is. `archive_id` stands in its manifest too: two databases never share one.
CREATE TABLE historian.retention_state (
    single     boolean PRIMARY KEY DEFAULT true CHECK (single),
    since      xid8,
    wanted     timestamptz,
    horizon    timestamptz,
    uri        text,
    archive_id uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO historian.retention_state DEFAULT VALUES;

-- A file of the archive: written in the transaction that deletes its rows here, so that in every snapshot a sample is in one place. Where two have the same (tag, ts), the one
-- with the higher part_id counts. `restored` are tags whose rows have been brought back: they are not read from the file any more.
CREATE TABLE historian.archive_part (
    part_id    int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    file       text NOT NULL UNIQUE,
    group_name text NOT NULL,
    -- number or text: what the tags are of
    form       text NOT NULL CHECK (form IN ('number', 'text')),
    -- the day's bounds, and those of the samples
    lo         timestamptz NOT NULL,
    hi         timestamptz NOT NULL,
    first_ts   timestamptz NOT NULL,
    last_ts    timestamptz NOT NULL,
    tag_ids    int4[] NOT NULL,
    restored   int4[] NOT NULL DEFAULT '{}',
    rows       int8 NOT NULL,
    bytes      int8 NOT NULL,
    -- of the file, and of its columns as they were read from the database
    sha256     text NOT NULL,
    content    text NOT NULL,
    -- of the file's last bytes, by which all else in it is found; its pages have checksums of their own
    footer     text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX archive_part_hi ON historian.archive_part (hi);
-- thousands of tag ids repeat from row to row, and are seldom asked for
ALTER TABLE historian.archive_part ALTER COLUMN tag_ids SET COMPRESSION pglz;

-- Files that are being written, or have been restored. What stands here and has no part may be deleted from that instant on: a run was killed, or readers that began
-- before the restore are done. No other file may ever be.
CREATE TABLE historian.archive_pending (
    file       text PRIMARY KEY,
    from_then  timestamptz NOT NULL DEFAULT now()
);

-- What was brought back is not archived again before `until`.
CREATE TABLE historian.archive_hold (
    hold_id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lo      timestamptz NOT NULL,
    hi      timestamptz NOT NULL,
    until   timestamptz NOT NULL
);

-- What of a tag was really removed, up to when: raw samples for good in [since, before), whose buckets stay as they are (before `since` they are in the archive, from a time
-- when the tag's group had one), and the buckets of each level. Written in the transactions that remove it, so that readers know in their snapshot where a bucket that is
-- not there says nothing. Groups and their days may have been others then.
CREATE TABLE historian.retention_lost (
    tag_id     int4 PRIMARY KEY,
    since      timestamptz NOT NULL DEFAULT '-infinity',
    before     timestamptz NOT NULL DEFAULT '-infinity',
    before_1m  timestamptz NOT NULL DEFAULT '-infinity',
    before_10m timestamptz NOT NULL DEFAULT '-infinity',
    before_1h  timestamptz NOT NULL DEFAULT '-infinity',
    before_1d  timestamptz NOT NULL DEFAULT '-infinity'
);

-- Whoever reads raw samples locks it, and whoever drops a chunk or partition locks everybody out and rewrites it: a reader whose snapshot is older than a drop
-- sees that the file of this table is not the one of its snapshot.
CREATE TABLE historian.archive_guard (nothing boolean);

-- Samples of which minutes are made again, database and archive together. Empty between transactions.
CREATE UNLOGGED TABLE historian.late_sample (
    tag_id   int4        NOT NULL,
    scale    int2        NOT NULL DEFAULT 0,
    quality  int2        NOT NULL,
    ts       timestamptz NOT NULL,
    mantissa int8,
    value    float8,
    text     text,
    archived boolean     NOT NULL DEFAULT true
);

CREATE VIEW historian.late_minute AS
SELECT
    tag_id,
    date_bin(INTERVAL '1 minute', ts, timestamptz '2000-01-01 00:00:00+00') AS bucket,
    count(*) AS count,
    count(*) FILTER (WHERE quality >= 192) AS good_count,
    count(*) FILTER (WHERE quality < 64) AS bad_count,
    max(scale) AS scale,
    historian.sum_mantissa(
        sum(historian.known(mantissa, scale, value, quality)) FILTER (WHERE abs(historian.known(mantissa, scale, value, quality)) < 1e290),
        max(scale),
        count(value) FILTER (WHERE quality >= 64),
        count(*) FILTER (WHERE abs(historian.known(mantissa, scale, value, quality)) >= 1e290)
    ) AS sum_mantissa,
    historian.sum_value(
        sum(historian.known(mantissa, scale, value, quality)) FILTER (WHERE abs(historian.known(mantissa, scale, value, quality)) < 1e290),
        max(scale),
        count(value) FILTER (WHERE quality >= 64),
        count(*) FILTER (WHERE abs(historian.known(mantissa, scale, value, quality)) >= 1e290)
    ) AS sum_value,
    historian.decimal_mantissa(min(historian.known(mantissa, scale, value, quality)), max(scale)) AS min_mantissa,
    historian.undecimal(min(historian.known(mantissa, scale, value, quality)), max(scale)) AS min_value,
    historian.decimal_mantissa(max(historian.known(mantissa, scale, value, quality)), max(scale)) AS max_mantissa,
    historian.undecimal(max(historian.known(mantissa, scale, value, quality)), max(scale)) AS max_value,
    historian.decimal_mantissa(historian.first_of(array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts)), max(scale)) AS first_mantissa,
    historian.undecimal(historian.first_of(array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts)), max(scale)) AS first_value,
    historian.decimal_mantissa(historian.last_of(array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts)), max(scale)) AS last_mantissa,
    historian.undecimal(historian.last_of(array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts)), max(scale)) AS last_value,
    historian.time_of(
        array_agg(ts ORDER BY ts),
        array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts),
        min(historian.known(mantissa, scale, value, quality))
    ) AS min_ts,
    historian.time_of(
        array_agg(ts ORDER BY ts),
        array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts),
        max(historian.known(mantissa, scale, value, quality))
    ) AS max_ts,
    min(ts) FILTER (WHERE quality >= 64) AS first_ts,
    max(ts) FILTER (WHERE quality >= 64) AS last_ts,
    NULLIF(min(ts), min(ts) FILTER (WHERE quality >= 64)) AS start_ts,
    NULLIF(max(ts), max(ts) FILTER (WHERE quality >= 64)) AS end_ts,
    historian.area(
        array_agg(date_part('epoch', ts - date_bin(INTERVAL '1 minute', ts, timestamptz '2000-01-01 00:00:00+00')) ORDER BY ts),
        array_agg(date_part('epoch', ts - date_bin(INTERVAL '1 minute', ts, timestamptz '2000-01-01 00:00:00+00')) ORDER BY ts),
        array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts),
        array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts),
        false
    ) AS step_area,
    historian.area(
        array_agg(date_part('epoch', ts - date_bin(INTERVAL '1 minute', ts, timestamptz '2000-01-01 00:00:00+00')) ORDER BY ts),
        array_agg(date_part('epoch', ts - date_bin(INTERVAL '1 minute', ts, timestamptz '2000-01-01 00:00:00+00')) ORDER BY ts),
        array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts),
        array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts),
        true
    ) AS linear_area,
    CASE WHEN count(*) FILTER (WHERE quality >= 64) < count(*) THEN historian.known_seconds(
        array_agg(date_part('epoch', ts - date_bin(INTERVAL '1 minute', ts, timestamptz '2000-01-01 00:00:00+00')) ORDER BY ts),
        array_agg(date_part('epoch', ts - date_bin(INTERVAL '1 minute', ts, timestamptz '2000-01-01 00:00:00+00')) ORDER BY ts),
        array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts)) END AS known_s
FROM historian.late_sample GROUP BY 1, 2;

--@timescale -- Which minutes of which tags were written to, of what is older than a day: TimescaleDB's own log knows times alone, and makes all tags again.
--@timescale CREATE TABLE historian.rollup_change (
--@timescale     change_id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
--@timescale     level     text NOT NULL,
--@timescale     lo        timestamptz NOT NULL,
--@timescale     hi        timestamptz NOT NULL,
--@timescale     tag_ids   int4[] NOT NULL
--@timescale );
--@timescale -- for what lies before the horizon
--@timescale CREATE INDEX rollup_change_level_lo ON historian.rollup_change (level, lo);

--@timescale CREATE OR REPLACE FUNCTION historian.rollup_changed(tags int4[], firsts timestamptz[], lasts timestamptz[]) RETURNS void
--@timescale LANGUAGE sql AS $$
--@timescale INSERT INTO historian.rollup_change (level, lo, hi, tag_ids)
--@timescale SELECT 'late', lo, hi, array_agg(tag_id) FROM unnest(tags, firsts, lasts) AS c (tag_id, lo, hi)
--@timescale WHERE EXISTS (SELECT FROM historian.retention_state WHERE since IS NOT NULL) GROUP BY lo, hi
--@timescale $$;

-- The instant before which what is kept for so many days has expired.
CREATE FUNCTION historian.expired_before(days int4) RETURNS timestamptz
LANGUAGE sql STABLE STRICT
RETURN date_trunc('day', now(), 'UTC') - make_interval(days => days);

CREATE FUNCTION historian.retention_group_of(path text) RETURNS text
LANGUAGE sql STABLE STRICT
RETURN (SELECT g.name FROM historian.retention_group g WHERE EXISTS (SELECT FROM unnest(g.regexes) AS r WHERE path ~ r) ORDER BY g.priority, g.name LIMIT 1);

-- in order; empty, where it has none
CREATE FUNCTION historian.retention_tags(wanted text) RETURNS int4[]
LANGUAGE sql STABLE STRICT
RETURN (SELECT COALESCE(array_agg(t.tag_id ORDER BY t.tag_id), '{}') FROM historian.tag t WHERE historian.retention_group_of(t.path) = wanted);

-- Ask for the horizon that the groups need. Returns it; NULL: everything is kept for ever.
CREATE FUNCTION historian.want_horizon() RETURNS timestamptz
LANGUAGE sql AS $$
UPDATE historian.retention_state SET
    since = CASE WHEN need.at IS NOT NULL THEN COALESCE(since, pg_current_xact_id()) ELSE since END,
    wanted = greatest(wanted, need.at)
FROM (SELECT max(greatest(historian.expired_before(raw_days), historian.expired_before(days_1m), historian.expired_before(days_10m),
        historian.expired_before(days_1h), historian.expired_before(days_1d))) AS at FROM historian.retention_group) AS need
RETURNING need.at
$$;

--@plain -- Whether it stands where it is wanted; moves it there if all rollups before it have been made, and nothing that is still being written could be missing.
--@plain CREATE FUNCTION historian.advance_horizon() RETURNS boolean
--@plain LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
--@plain DECLARE
--@plain     state historian.retention_state;
--@plain BEGIN
--@plain     PERFORM pg_advisory_xact_lock(hashtext('historian.refresh_rollups'));
--@plain     SELECT * INTO state FROM historian.retention_state;
--@plain     IF state.wanted IS NULL OR state.horizon >= state.wanted THEN
--@plain         RETURN true;
--@plain     END IF;
--@plain     IF state.since >= pg_snapshot_xmin(pg_current_snapshot())
--@plain         OR EXISTS (SELECT FROM historian.rollup_level WHERE watermark < state.wanted)
--@plain         OR EXISTS (SELECT FROM historian.rollup_change WHERE level <> 'late' AND lo < state.wanted)
--@plain     THEN
--@plain         RETURN false;
--@plain     END IF;
--@plain     UPDATE historian.retention_state SET horizon = state.wanted;
--@plain     RETURN true;
--@plain END $$;

--@plain -- What was written before the horizon is not for the refresh.
--@plain CREATE FUNCTION historian.set_aside_late() RETURNS void
--@plain LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
--@plain WITH state AS (SELECT horizon FROM historian.retention_state WHERE horizon IS NOT NULL),
--@plain taken AS (DELETE FROM historian.rollup_change c USING state WHERE c.level = '1m' AND c.lo < state.horizon RETURNING c.lo, c.hi, c.tag_ids)
--@plain INSERT INTO historian.rollup_change (level, lo, hi, tag_ids)
--@plain SELECT 'late', t.lo, least(t.hi, s.horizon - INTERVAL '1 minute'), t.tag_ids FROM taken t, state s
--@plain UNION ALL
--@plain SELECT '1m', s.horizon, t.hi, t.tag_ids FROM taken t, state s WHERE t.hi >= s.horizon
--@plain $$;
--@plain CREATE OR REPLACE FUNCTION historian.refresh_rollups(up_to timestamptz, bite int8 DEFAULT 50000) RETURNS int8
--@plain LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
--@plain DECLARE
--@plain     this   record;
--@plain     step   interval;
--@plain     mark   timestamptz;
--@plain     tags   int4[];
--@plain     los    timestamptz[];
--@plain     his    timestamptz[];
--@plain     whole  boolean;
--@plain     made   int8 := 0;
--@plain     horizon timestamptz := COALESCE((SELECT s.horizon FROM historian.retention_state s), '-infinity');
--@plain BEGIN
--@plain     -- one at a time: whoever has it does all of it
--@plain     IF NOT pg_try_advisory_xact_lock(hashtext('historian.refresh_rollups')) THEN
--@plain         RETURN 0;
--@plain     END IF;
--@plain     PERFORM historian.set_aside_late();
--@plain     FOR this IN
--@plain         SELECT level, watermark, seconds, lead(level) OVER w AS upper, lead(seconds) OVER w AS upper_seconds
--@plain         FROM historian.rollup_level WINDOW w AS (ORDER BY seconds) ORDER BY seconds
--@plain     LOOP
--@plain         step := make_interval(secs => this.seconds);
--@plain         mark := greatest(this.watermark, date_bin(step, up_to, timestamptz '2000-01-01 00:00:00+00'));
--@plain         WITH due AS (
--@plain             SELECT change_id, sum(cardinality(tag_ids)) OVER (ORDER BY lo, change_id) - cardinality(tag_ids) AS before
--@plain             FROM historian.rollup_change WHERE level = this.level AND lo >= horizon AND lo < mark
--@plain         ), taken AS (
--@plain             DELETE FROM historian.rollup_change c USING due WHERE c.change_id = due.change_id AND due.before < 1000000 RETURNING c.lo, c.hi, c.tag_ids
--@plain         ), span AS (
--@plain             -- each bucket once, however often it was written
--@plain             SELECT tag_id, lower(r) AS lo, upper(r) AS hi
--@plain             FROM (SELECT tag_id, unnest(range_agg(tstzrange(lo, hi + step))) AS r FROM taken, unnest(tag_ids) AS tag_id GROUP BY tag_id) AS merged
--@plain         ), ordered AS (
--@plain             SELECT tag_id, lo, hi, least(hi, mark) AS cut,
--@plain                 sum(extract(epoch FROM least(hi, mark) - lo) / this.seconds) OVER (ORDER BY lo, tag_id)
--@plain                     - extract(epoch FROM least(hi, mark) - lo) / this.seconds AS before
--@plain             FROM span
--@plain         ), bitten AS (
--@plain             SELECT tag_id, lo, hi, CASE WHEN before < bite THEN least(cut, lo + greatest(1, bite - before)::float8 * step) ELSE lo END AS cut FROM ordered
--@plain         ), back AS (
--@plain             INSERT INTO historian.rollup_change (level, lo, hi, tag_ids)
--@plain             SELECT this.level, cut, hi - step, array_agg(tag_id) FROM bitten WHERE cut < hi GROUP BY cut, hi RETURNING lo
--@plain         )
--@plain         SELECT array_agg(tag_id) FILTER (WHERE lo < cut), array_agg(lo) FILTER (WHERE lo < cut), array_agg(cut) FILTER (WHERE lo < cut),
--@plain             NOT EXISTS (SELECT FROM due WHERE before >= 1000000) AND coalesce(bool_and(cut >= least(hi, mark)), true)
--@plain         INTO tags, los, his, whole FROM bitten;
--@plain         IF tags IS NOT NULL THEN
--@plain             EXECUTE format(
--@plain                 'DELETE FROM historian.rollup_%s_stored s USING unnest($1, $2, $3) AS k (tag_id, lo, hi) '
--@plain                 'WHERE s.tag_id = k.tag_id AND s.bucket >= k.lo AND s.bucket < k.hi', this.level)
--@plain             USING tags, los, his;
--@plain             EXECUTE format(
--@plain                 'INSERT INTO historian.rollup_%1$s_stored SELECT r.* FROM unnest($1, $2, $3) AS k (tag_id, lo, hi) '
--@plain                 'CROSS JOIN LATERAL historian.make_rollup_%1$s(k.tag_id, k.lo, k.hi) AS r', this.level)
--@plain             USING tags, los, his;
--@plain             IF this.upper IS NOT NULL THEN
--@plain                 INSERT INTO historian.rollup_change (level, lo, hi, tag_ids)
--@plain                 SELECT this.upper, lo, hi, array_agg(DISTINCT tag_id)
--@plain                 FROM (
--@plain                     SELECT tag_id, date_bin(make_interval(secs => this.upper_seconds), k.lo, timestamptz '2000-01-01 00:00:00+00') AS lo,
--@plain                         date_bin(make_interval(secs => this.upper_seconds), k.hi - step, timestamptz '2000-01-01 00:00:00+00') AS hi
--@plain                     FROM unnest(tags, los, his) AS k (tag_id, lo, hi)
--@plain                 ) AS u GROUP BY lo, hi;
--@plain             END IF;
--@plain             made := made + cardinality(tags);
--@plain         END IF;
--@plain         -- what is left over is still read from below
--@plain         EXIT WHEN NOT whole;
--@plain         UPDATE historian.rollup_level SET watermark = mark WHERE level = this.level AND watermark < mark;
--@plain     END LOOP;
--@plain     RETURN made;
--@plain END $$;

--@timescale -- Whether it stands where it is wanted. historian.tend_rollups moves it there.
--@timescale CREATE FUNCTION historian.advance_horizon() RETURNS boolean
--@timescale LANGUAGE sql STABLE
--@timescale RETURN (SELECT wanted IS NULL OR horizon >= wanted FROM historian.retention_state);

--@timescale CREATE FUNCTION historian.set_aside_late() RETURNS void LANGUAGE sql AS $$ SELECT $$;

--@timescale -- The job: each level whose turn it is, the lowest first, from the horizon on. Where a later horizon is wanted, all levels, and then it stands there: a level that was refreshed
--@timescale -- has all that was committed before, and of what comes after that writers leave word. Option: `all`, whether it is their turn or not.
--@timescale CREATE OR REPLACE PROCEDURE historian.tend_rollups(job_id int, config jsonb)
--@timescale LANGUAGE plpgsql AS $$
--@timescale DECLARE
--@timescale     levels text[];
--@timescale     due    text;
--@timescale     policy record;
--@timescale     state  historian.retention_state;
--@timescale     moves  boolean;
--@timescale BEGIN
--@timescale     -- who calls it by hand waits for the job
--@timescale     PERFORM pg_advisory_lock(hashtext('historian.tend_rollups'));
--@timescale     COMMIT;
--@timescale     SELECT * INTO state FROM historian.retention_state;
--@timescale     moves := COALESCE(state.wanted > COALESCE(state.horizon, '-infinity') AND state.since < pg_snapshot_xmin(pg_current_snapshot()), false);
--@timescale     -- committed, and so a matter of the refreshes from here on
--@timescale     DELETE FROM historian.rollup_change c WHERE c.level = 'late' AND c.lo >= greatest(state.wanted, state.horizon);
--@timescale     SELECT array_agg(t.level ORDER BY j.schedule_interval) INTO levels
--@timescale         FROM historian.rollup_turn t JOIN timescaledb_information.jobs j ON j.job_id = t.job_id
--@timescale         -- some seconds early, since the job itself is not to the second
--@timescale         WHERE moves OR (tend_rollups.config ->> 'all')::boolean
--@timescale             OR COALESCE(t.refreshed_at <= clock_timestamp() - j.schedule_interval + INTERVAL '5 seconds', true);
--@timescale     FOREACH due IN ARRAY COALESCE(levels, '{}') LOOP
--@timescale         SELECT j.job_id, j.config INTO policy FROM historian.rollup_turn t JOIN timescaledb_information.jobs j ON j.job_id = t.job_id WHERE t.level = due;
--@timescale         IF state.horizon IS NOT NULL THEN
--@timescale             -- it begins with the first bucket that is wholly within: a little earlier, then, since its clock goes on
--@timescale             policy.config := jsonb_set(policy.config, '{start_offset}', to_jsonb((now() - state.horizon + INTERVAL '1 second')::text));
--@timescale         END IF;
--@timescale         COMMIT;
--@timescale         CALL _timescaledb_functions.policy_refresh_continuous_aggregate(policy.job_id, policy.config);
--@timescale         UPDATE historian.rollup_turn t SET refreshed_at = clock_timestamp() WHERE t.level = due;
--@timescale         COMMIT;
--@timescale     END LOOP;
--@timescale     IF moves THEN
--@timescale         UPDATE historian.retention_state SET horizon = state.wanted;
--@timescale         COMMIT;
--@timescale     END IF;
--@timescale     PERFORM pg_advisory_unlock(hashtext('historian.tend_rollups'));
--@timescale END $$;

-- Stretches of minutes before the horizon that have to be made again: taken from the log, at most a day of a tag each; what is longer goes back to it. As long as the
-- widest bucket whose level has expired needs: what is above that is made from it.
CREATE FUNCTION historian.take_late(most int4) RETURNS TABLE (tag_id int4, lo timestamptz, hi timestamptz)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
#variable_conflict use_column
DECLARE
    mark timestamptz := (SELECT s.horizon FROM historian.retention_state s);
BEGIN
    PERFORM historian.set_aside_late();
    RETURN QUERY
    WITH due AS (
        SELECT change_id FROM historian.rollup_change WHERE level = 'late' AND lo < mark ORDER BY lo, change_id LIMIT most
    ), taken AS (
        DELETE FROM historian.rollup_change c USING due WHERE c.change_id = due.change_id RETURNING c.lo, c.hi, c.tag_ids
    ), wide AS (
        SELECT u.tag_id, greatest(t.lo, l.before) AS lo, least(t.hi, mark - INTERVAL '1 minute') AS hi,
            -- by the days of now, or of when it was removed
            CASE WHEN t.lo >= COALESCE(greatest(historian.expired_before(g.days_1m), l.before_1m), '-infinity') THEN INTERVAL '1 minute'
                 WHEN t.lo >= COALESCE(greatest(historian.expired_before(g.days_10m), l.before_10m), '-infinity') THEN INTERVAL '10 minutes'
                 WHEN t.lo >= COALESCE(greatest(historian.expired_before(g.days_1h), l.before_1h), '-infinity') THEN INTERVAL '1 hour'
                 ELSE INTERVAL '1 day' END AS width
        FROM taken t CROSS JOIN LATERAL unnest(t.tag_ids) AS u (tag_id)
        JOIN historian.tag USING (tag_id) JOIN historian.retention_group g ON g.name = historian.retention_group_of(path)
        LEFT JOIN historian.retention_lost l USING (tag_id)
        WHERE l.before IS NULL OR t.hi >= l.before
    ), span AS (
        SELECT w.tag_id, lower(r) AS lo, upper(r) AS hi
        FROM (SELECT w.tag_id, unnest(range_agg(tstzrange(date_bin(w.width, w.lo, timestamptz '2000-01-01 00:00:00+00'),
                date_bin(w.width, w.hi, timestamptz '2000-01-01 00:00:00+00') + w.width))) AS r FROM wide w GROUP BY 1) AS w
    ), back AS (
        INSERT INTO historian.rollup_change (level, lo, hi, tag_ids)
        SELECT 'late', s.lo + INTERVAL '1 day', s.hi - INTERVAL '1 minute', ARRAY[s.tag_id] FROM span s WHERE s.hi > s.lo + INTERVAL '1 day'
    )
    SELECT s.tag_id, s.lo, least(s.hi, s.lo + INTERVAL '1 day') FROM span s ORDER BY 1, 2;
END $$;

-- Make the buckets of a tag again, from what historian.late_sample has of it in [lo, hi).
CREATE FUNCTION historian.remake_rollups(tag int4, lo timestamptz, hi timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    this  record;
    first timestamptz;
    past  timestamptz;
BEGIN
--@plain     PERFORM historian.make_partitions(array_agg((date_part('year', m) * 12 + date_part('month', m))::int - 23640 - 1))
--@plain         FROM generate_series(date_trunc('month', remake_rollups.lo), remake_rollups.hi - INTERVAL '1 microsecond', INTERVAL '1 month') AS m;
    FOR this IN
        SELECT l.level, l.width,
--@plain             format('historian.rollup_%s_stored', l.level) AS stored, format('historian.make_rollup_%s($1, $2, $3)', l.level) AS source
--@plain         FROM
--@timescale             format('%I.%I', h.schema_name, h.table_name) AS stored, format('%I.%I', c.partial_view_schema, c.partial_view_name) AS source
--@timescale         FROM _timescaledb_catalog.continuous_agg c JOIN _timescaledb_catalog.hypertable h ON h.id = c.mat_hypertable_id JOIN
            (VALUES ('1m', INTERVAL '1 minute'), ('10m', INTERVAL '10 minutes'), ('1h', INTERVAL '1 hour'), ('1d', INTERVAL '1 day')) AS l (level, width)
--@timescale             ON c.user_view_schema = 'historian' AND c.user_view_name = 'rollup_' || l.level
        ORDER BY l.width
    LOOP
        first := date_bin(this.width, lo, timestamptz '2000-01-01 00:00:00+00');
        past := date_bin(this.width, hi - INTERVAL '1 microsecond', timestamptz '2000-01-01 00:00:00+00') + this.width;
        EXECUTE format('DELETE FROM %s WHERE tag_id = $1 AND bucket >= $2 AND bucket < $3', this.stored) USING tag, first, past;
        EXECUTE format('INSERT INTO %s SELECT * FROM %s WHERE tag_id = $1 AND bucket >= $2 AND bucket < $3', this.stored,
            CASE this.level WHEN '1m' THEN 'historian.late_minute' ELSE this.source END) USING tag, first, past;
    END LOOP;
END $$;

-- Chunks and partitions, of the samples and of the rollups, that lie wholly before the horizon.
CREATE VIEW historian.removable_part AS
--@plain SELECT c.relname::text AS part, c.oid::regclass AS relation, p.relname::text AS parent,
--@plain     (regexp_match(b.bound, 'FROM \(''([^'']+)''\)'))[1]::timestamptz AS range_start,
--@plain     (regexp_match(b.bound, 'TO \(''([^'']+)''\)'))[1]::timestamptz AS range_end
--@plain FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
--@plain CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) AS b
--@plain WHERE p.relnamespace = 'historian'::regnamespace AND p.relname IN ('sample', 'rollup_1m_stored', 'rollup_10m_stored', 'rollup_1h_stored', 'rollup_1d_stored')
--@plain     AND (regexp_match(b.bound, 'TO \(''([^'']+)''\)'))[1]::timestamptz <= (SELECT horizon FROM historian.retention_state);
--@timescale SELECT i.chunk_name::text AS part, format('%I.%I', i.chunk_schema, i.chunk_name)::regclass AS relation, COALESCE(c.view_name, i.hypertable_name)::text AS parent,
--@timescale     i.range_start, i.range_end
--@timescale FROM timescaledb_information.chunks i
--@timescale LEFT JOIN timescaledb_information.continuous_aggregates c
--@timescale     ON c.materialization_hypertable_schema = i.hypertable_schema AND c.materialization_hypertable_name = i.hypertable_name
--@timescale WHERE (i.hypertable_schema = 'historian' AND i.hypertable_name = 'sample' OR c.view_schema = 'historian')
--@timescale     AND i.range_end <= (SELECT horizon FROM historian.retention_state);

-- Drop one of them if it has no row (`alone` is NULL), or none but of these tags. Returns whether it was; false too where somebody uses it for long.
CREATE FUNCTION historian.drop_part(wanted text, alone int4[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '1s' AS $$
DECLARE
    this    record;
    present boolean;
--@timescale     schema  text := (SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'timescaledb');
BEGIN
    SELECT p.* INTO this FROM historian.removable_part p WHERE p.part = wanted;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- a first look, with nobody waiting
    IF alone IS NULL THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', this.relation) INTO present;
        IF present THEN
            RETURN false;
        END IF;
    END IF;
    BEGIN
        LOCK TABLE historian.archive_guard IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', this.relation);
        -- a probe of the index for each tag that it might be
        IF alone IS NULL THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM %s)', this.relation) INTO present;
        ELSE
            EXECUTE format('SELECT EXISTS (SELECT FROM historian.tag t WHERE t.tag_id <> ALL ($1) AND EXISTS (SELECT FROM %s s WHERE s.tag_id = t.tag_id))', this.relation)
                INTO present USING alone;
        END IF;
        IF NOT present THEN
            TRUNCATE historian.archive_guard;
--@plain             EXECUTE format('DROP TABLE %s', this.relation);
--@timescale             IF current_setting('timescaledb.skip_cagg_invalidation', true) IS NOT NULL THEN
--@timescale                 PERFORM set_config('timescaledb.skip_cagg_invalidation', 'on', true);
--@timescale             END IF;
--@timescale             EXECUTE format('SELECT %I.drop_chunks($1::regclass, older_than => $2, newer_than => $3)', schema)
--@timescale                 USING format('historian.%I', this.parent), this.range_end, this.range_start;
        END IF;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
        RETURN false;
    END;
    RETURN NOT present;
END $$;

-- Whoever removes samples keeps their rollups: to be called first in the transaction.
CREATE FUNCTION historian.keep_rollups() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
--@plain     PERFORM set_config('historian.keep_rollups', 'on', true);
--@timescale     PERFORM set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', true);
--@timescale     -- the refresh does not come here any more; that this one knows of it as well (2.28) is for those who refresh by hand
--@timescale     IF current_setting('timescaledb.skip_cagg_invalidation', true) IS NOT NULL THEN
--@timescale         PERFORM set_config('timescaledb.skip_cagg_invalidation', 'on', true);
--@timescale     END IF;
END $$;

-- Remove the expired raw samples of a group that has no archive: whole chunks and partitions where there are no others', else row by row. Those of which there is still
-- word to be taken into rollups wait for it. Returns how many were deleted row by row, and how many parts were dropped.
CREATE FUNCTION historian.expire_raw(of_group text) RETURNS TABLE (deleted int8, dropped int4)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    before timestamptz;
    tags   int4[];
    name   text;
BEGIN
    deleted := 0;
    dropped := 0;
    SELECT least(historian.expired_before(g.raw_days), s.horizon, (SELECT min(h.lo) FROM historian.archive_hold h WHERE h.until > now())) INTO before
        FROM historian.retention_group g, historian.retention_state s
        WHERE g.name = of_group AND g.raw_days IS NOT NULL AND NOT g.archive AND s.horizon IS NOT NULL;
    IF before IS NULL THEN
        RETURN NEXT;
        RETURN;
    END IF;
    PERFORM historian.keep_rollups();
    PERFORM historian.set_aside_late();
    SELECT COALESCE(array_agg(t), '{}') INTO tags FROM unnest(historian.retention_tags(of_group)) AS t
        WHERE t NOT IN (SELECT unnest(c.tag_ids) FROM historian.rollup_change c WHERE c.level = 'late' AND c.lo < before);
    FOR name IN SELECT p.part FROM historian.removable_part p WHERE p.parent = 'sample' AND p.range_end <= before ORDER BY p.range_start LOOP
        dropped := dropped + historian.drop_part(name, tags)::int;
    END LOOP;
    DELETE FROM historian.sample s WHERE s.tag_id = ANY (tags) AND s.ts < before;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    -- what was archived once is not lost
    INSERT INTO historian.retention_lost AS l (tag_id, since)
        SELECT a.tag_id, max(p.hi) FROM historian.archive_part p CROSS JOIN LATERAL unnest(p.tag_ids) AS a (tag_id)
        WHERE a.tag_id = ANY (tags) AND EXISTS (
            SELECT FROM unnest(tags) AS t LEFT JOIN historian.retention_lost k ON k.tag_id = t WHERE k.tag_id IS NULL OR k.before = '-infinity'
        )
        GROUP BY a.tag_id
        ON CONFLICT (tag_id) DO UPDATE SET since = EXCLUDED.since WHERE l.before = '-infinity';
    INSERT INTO historian.retention_lost AS l (tag_id, before) SELECT t, before FROM unnest(tags) AS t
        ON CONFLICT (tag_id) DO UPDATE SET before = greatest(l.before, EXCLUDED.before) WHERE l.before < EXCLUDED.before;
    RETURN NEXT;
END $$;

-- Remove the expired buckets of a group. Returns how many.
CREATE FUNCTION historian.expire_rollups(of_group text) RETURNS int8
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    tags  int4[] := historian.retention_tags(of_group);
    this  record;
    these int8;
    total int8 := 0;
BEGIN
    PERFORM historian.keep_rollups();
    FOR this IN
        SELECT l.level, least(historian.expired_before(l.days), s.horizon) AS before,
--@plain             format('historian.rollup_%s_stored', l.level) AS stored
--@timescale             (SELECT format('%I.%I', c.materialization_hypertable_schema, c.materialization_hypertable_name) FROM timescaledb_information.continuous_aggregates c
--@timescale              WHERE c.view_schema = 'historian' AND c.view_name = 'rollup_' || l.level) AS stored
        FROM historian.retention_group g CROSS JOIN LATERAL (VALUES ('1m', days_1m), ('10m', days_10m), ('1h', days_1h), ('1d', days_1d)) AS l (level, days),
            historian.retention_state s
        WHERE g.name = of_group AND l.days IS NOT NULL AND s.horizon IS NOT NULL
    LOOP
        EXECUTE format('DELETE FROM %s WHERE tag_id = ANY ($1) AND bucket < $2', this.stored) USING tags, this.before;
        GET DIAGNOSTICS these = ROW_COUNT;
        total := total + these;
        IF these > 0 THEN
            EXECUTE format('INSERT INTO historian.retention_lost AS l (tag_id, before_%1$s) SELECT t, $2 FROM unnest($1) AS t '
                'ON CONFLICT (tag_id) DO UPDATE SET before_%1$s = EXCLUDED.before_%1$s WHERE l.before_%1$s < EXCLUDED.before_%1$s', this.level)
            USING tags, this.before;
        END IF;
    END LOOP;
    RETURN total;
END $$;

--@timescale -- The job: what only has to be deleted is deleted where no server of ours runs. (Groups with an archive wait for `historian archive run`, which has a file system.)
--@timescale CREATE PROCEDURE historian.tend_retention(job_id int, config jsonb)
--@timescale LANGUAGE plpgsql AS $$
--@timescale DECLARE
--@timescale     name text;
--@timescale BEGIN
--@timescale     IF historian.want_horizon() IS NULL THEN
--@timescale         RETURN;
--@timescale     END IF;
--@timescale     COMMIT;
--@timescale     FOR name IN SELECT g.name FROM historian.retention_group g LOOP
--@timescale         PERFORM historian.expire_raw(name);
--@timescale         PERFORM historian.expire_rollups(name);
--@timescale     END LOOP;
--@timescale     COMMIT;
--@timescale     FOR name IN SELECT p.part FROM historian.removable_part p LOOP
--@timescale         PERFORM historian.drop_part(name, NULL);
--@timescale         COMMIT;
--@timescale     END LOOP;
--@timescale END $$;
--@timescale SELECT add_job('historian.tend_retention', INTERVAL '1 hour', config => '{}', fixed_schedule => false);
