-- Rollups: buckets of a minute, ten minutes, an hour and a day (UTC) for each tag, each level made of the one below.
--
-- count is of all samples, good_count of those of quality 192 and more, bad_count of those below 64. All else is of the samples that are not bad. Numbers are kept as
-- in historian.sample: x = x_mantissa / 10^scale, or x_value where that is not exact. first, last, min and max have their times; of equal ones the earliest.
-- start_ts and end_ts are those of the first and last sample of any quality, where that is a bad one: there the trend line is broken.
--
-- step_area and linear_area are the integral of the value (value × seconds) from the first to the last sample of the bucket: held from each sample to the next, and
-- along the line between them. A bad sample ends the line: up to it the last value is held, and from it to the next one nothing is known. known_s is the time
-- for which there is a value, where that is not all of it. With them, a time-weighted average over any run of buckets is
-- (sum of areas + what lies between one bucket's last sample and the next one's first) / (the same for the times); historian.area adds up what lies between.

CREATE FUNCTION historian.number(mantissa int8, scale int2, value float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN COALESCE(historian.decimal_value(mantissa, scale), value);

-- a sample's number, or NULL where it is bad
CREATE FUNCTION historian.known(mantissa int8, scale int2, value float8, quality int2) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN quality >= 64 THEN COALESCE(historian.decimal_value(mantissa, scale), value) END;

CREATE FUNCTION historian.decimal_mantissa(v float8, scale int2) RETURNS int8
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    power float8 := ('{1,1e1,1e2,1e3,1e4,1e5,1e6,1e7,1e8,1e9,1e10,1e11,1e12,1e13,1e14,1e15,1e16,1e17,1e18,1e19,1e20,1e21,1e22}'::float8[])[scale + 1];
    m     float8;
BEGIN
    -- the very same float8 comes back, or none
    IF abs(v) > 9007199254740992 THEN
        RETURN NULL;
    END IF;
    m := round(v * power);
    RETURN CASE WHEN abs(m) <= 9007199254740992 AND m / power = v THEN m::int8 END;
END $$;

-- the number itself, where it is no such decimal
CREATE FUNCTION historian.undecimal(v float8, scale int2) RETURNS float8
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN CASE WHEN historian.decimal_mantissa(v, scale) IS NULL THEN v END;
END $$;

-- A sum of decimals is one too: what its float8 has lost by rounding comes back. `others` of what was added up are no decimals. `lost` are so large that sums of
-- them may be beyond all numbers: then there is none.
CREATE FUNCTION historian.sum_mantissa(sum float8, scale int2, others int8, lost int8) RETURNS int8
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    m float8;
BEGIN
    IF others > 0 OR lost > 0 OR abs(sum) > 9007199254740992 THEN
        RETURN NULL;
    END IF;
    m := round(sum * ('{1,1e1,1e2,1e3,1e4,1e5,1e6,1e7,1e8,1e9,1e10,1e11,1e12,1e13,1e14,1e15,1e16,1e17,1e18,1e19,1e20,1e21,1e22}'::float8[])[scale + 1]);
    RETURN CASE WHEN abs(m) <= 9007199254740992 THEN m::int8 END;
END $$;

CREATE FUNCTION historian.sum_value(sum float8, scale int2, others int8, lost int8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN CASE WHEN lost = 0 AND historian.sum_mantissa(sum, scale, others, lost) IS NULL THEN sum END;
END $$;

CREATE FUNCTION historian.first_of(numbers float8[]) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (array_remove(numbers, NULL))[1];

CREATE FUNCTION historian.last_of(numbers float8[]) RETURNS float8
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    numbers := array_remove(numbers, NULL);
    RETURN numbers[cardinality(numbers)];
END $$;

-- when a number comes for the first time
CREATE FUNCTION historian.time_of(times timestamptz[], numbers float8[], number float8) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN times[array_position(numbers, number)];
END $$;

-- Samples or buckets in the order of time: where each starts and ends (s), and its first and last value, NULL where that sample is bad. The integral over what lies
-- between them.
CREATE FUNCTION historian.area(starts float8[], ends float8[], firsts float8[], lasts float8[], linear boolean) RETURNS float8
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    sum  float8 := 0;
    a    float8 := lasts[1];
    b    float8;
    t    float8 := ends[1];
BEGIN
    -- Times are taken in units of 2^-20 s: microseconds are then at least 1, and a product with a value next to nothing is no error ("underflow") to PostgreSQL.
    FOR i IN 2 .. cardinality(starts) LOOP
        -- sums of such values may be beyond all numbers
        IF abs(a) >= 1e290 THEN
            RETURN NULL;
        END IF;
        IF a IS NOT NULL THEN
            IF linear THEN
                b := firsts[i];
                IF abs(b) >= 1e290 THEN
                    RETURN NULL;
                ELSIF b IS NULL THEN
                    sum := sum + (a + a) * (1048576 * (starts[i] - t));
                ELSE
                    sum := sum + (a + b) * (1048576 * (starts[i] - t));
                END IF;
            ELSE
                sum := sum + a * (1048576 * (starts[i] - t));
            END IF;
        END IF;
        a := lasts[i];
        t := ends[i];
    END LOOP;
    RETURN CASE WHEN abs(sum) < 1e-290 THEN 0 WHEN linear THEN sum / 2097152 ELSE sum / 1048576 END;
END $$;

-- of the same, the seconds for which there is a value
CREATE FUNCTION historian.known_seconds(starts float8[], ends float8[], lasts float8[]) RETURNS float8
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    sum float8 := 0;
BEGIN
    FOR i IN 2 .. cardinality(starts) LOOP
        IF lasts[i - 1] IS NOT NULL THEN
            sum := sum + (starts[i] - ends[i - 1]);
        END IF;
    END LOOP;
    RETURN sum;
END $$;

-- TimescaleDB: hierarchical continuous aggregates. What is newer than the last refresh is aggregated when it is read.

CREATE MATERIALIZED VIEW historian.rollup_1m WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT
    tag_id,
    time_bucket(INTERVAL '1 minute', ts) AS bucket,
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
        array_agg(date_part('epoch', ts - time_bucket(INTERVAL '1 minute', ts)) ORDER BY ts),
        array_agg(date_part('epoch', ts - time_bucket(INTERVAL '1 minute', ts)) ORDER BY ts),
        array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts),
        array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts),
        false
    ) AS step_area,
    historian.area(
        array_agg(date_part('epoch', ts - time_bucket(INTERVAL '1 minute', ts)) ORDER BY ts),
        array_agg(date_part('epoch', ts - time_bucket(INTERVAL '1 minute', ts)) ORDER BY ts),
        array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts),
        array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts),
        true
    ) AS linear_area,
    CASE WHEN count(*) FILTER (WHERE quality >= 64) < count(*) THEN historian.known_seconds(
        array_agg(date_part('epoch', ts - time_bucket(INTERVAL '1 minute', ts)) ORDER BY ts),
        array_agg(date_part('epoch', ts - time_bucket(INTERVAL '1 minute', ts)) ORDER BY ts),
        array_agg(historian.known(mantissa, scale, value, quality) ORDER BY ts)) END AS known_s
FROM historian.sample GROUP BY 1, 2
WITH NO DATA;

CREATE MATERIALIZED VIEW historian.rollup_10m WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT
    tag_id,
    time_bucket(INTERVAL '10 minutes', bucket) AS bucket,
    sum(count)::int8 AS count,
    sum(good_count)::int8 AS good_count,
    sum(bad_count)::int8 AS bad_count,
    max(scale) AS scale,
    historian.sum_mantissa(
        sum(historian.number(sum_mantissa, scale, sum_value)),
        max(scale),
        count(sum_value),
        count(*) FILTER (WHERE step_area IS NULL)
    ) AS sum_mantissa,
    historian.sum_value(
        sum(historian.number(sum_mantissa, scale, sum_value)),
        max(scale),
        count(sum_value),
        count(*) FILTER (WHERE step_area IS NULL)
    ) AS sum_value,
    historian.decimal_mantissa(min(historian.number(min_mantissa, scale, min_value)), max(scale)) AS min_mantissa,
    historian.undecimal(min(historian.number(min_mantissa, scale, min_value)), max(scale)) AS min_value,
    historian.decimal_mantissa(max(historian.number(max_mantissa, scale, max_value)), max(scale)) AS max_mantissa,
    historian.undecimal(max(historian.number(max_mantissa, scale, max_value)), max(scale)) AS max_value,
    historian.decimal_mantissa(
        historian.first_of(array_agg(historian.number(first_mantissa, scale, first_value) ORDER BY bucket)),
        max(scale)
    ) AS first_mantissa,
    historian.undecimal(historian.first_of(array_agg(historian.number(first_mantissa, scale, first_value) ORDER BY bucket)), max(scale)) AS first_value,
    historian.decimal_mantissa(historian.last_of(array_agg(historian.number(last_mantissa, scale, last_value) ORDER BY bucket)), max(scale)) AS last_mantissa,
    historian.undecimal(historian.last_of(array_agg(historian.number(last_mantissa, scale, last_value) ORDER BY bucket)), max(scale)) AS last_value,
    historian.time_of(
        array_agg(min_ts ORDER BY bucket),
        array_agg(historian.number(min_mantissa, scale, min_value) ORDER BY bucket),
        min(historian.number(min_mantissa, scale, min_value))
    ) AS min_ts,
    historian.time_of(
        array_agg(max_ts ORDER BY bucket),
        array_agg(historian.number(max_mantissa, scale, max_value) ORDER BY bucket),
        max(historian.number(max_mantissa, scale, max_value))
    ) AS max_ts,
    min(first_ts) AS first_ts,
    max(last_ts) AS last_ts,
    NULLIF(min(COALESCE(start_ts, first_ts)), min(first_ts)) AS start_ts,
    NULLIF(max(COALESCE(end_ts, last_ts)), max(last_ts)) AS end_ts,
    CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(step_area) + historian.area(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - time_bucket(INTERVAL '10 minutes', bucket)) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - time_bucket(INTERVAL '10 minutes', bucket)) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), false) END AS step_area,
    CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(linear_area) + historian.area(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - time_bucket(INTERVAL '10 minutes', bucket)) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - time_bucket(INTERVAL '10 minutes', bucket)) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), true) END AS linear_area,
    CASE WHEN sum(bad_count) > 0 THEN
        sum(COALESCE(known_s, date_part('epoch', COALESCE(end_ts, last_ts) - COALESCE(start_ts, first_ts)))) + historian.known_seconds(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - time_bucket(INTERVAL '10 minutes', bucket)) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - time_bucket(INTERVAL '10 minutes', bucket)) ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket)) END AS known_s
FROM historian.rollup_1m GROUP BY 1, 2
WITH NO DATA;

CREATE MATERIALIZED VIEW historian.rollup_1h WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT
    tag_id,
    time_bucket(INTERVAL '1 hour', bucket) AS bucket,
    sum(count)::int8 AS count,
    sum(good_count)::int8 AS good_count,
    sum(bad_count)::int8 AS bad_count,
    max(scale) AS scale,
    historian.sum_mantissa(
        sum(historian.number(sum_mantissa, scale, sum_value)),
        max(scale),
        count(sum_value),
        count(*) FILTER (WHERE step_area IS NULL)
    ) AS sum_mantissa,
    historian.sum_value(
        sum(historian.number(sum_mantissa, scale, sum_value)),
        max(scale),
        count(sum_value),
        count(*) FILTER (WHERE step_area IS NULL)
    ) AS sum_value,
    historian.decimal_mantissa(min(historian.number(min_mantissa, scale, min_value)), max(scale)) AS min_mantissa,
    historian.undecimal(min(historian.number(min_mantissa, scale, min_value)), max(scale)) AS min_value,
    historian.decimal_mantissa(max(historian.number(max_mantissa, scale, max_value)), max(scale)) AS max_mantissa,
    historian.undecimal(max(historian.number(max_mantissa, scale, max_value)), max(scale)) AS max_value,
    historian.decimal_mantissa(
        historian.first_of(array_agg(historian.number(first_mantissa, scale, first_value) ORDER BY bucket)),
        max(scale)
    ) AS first_mantissa,
    historian.undecimal(historian.first_of(array_agg(historian.number(first_mantissa, scale, first_value) ORDER BY bucket)), max(scale)) AS first_value,
    historian.decimal_mantissa(historian.last_of(array_agg(historian.number(last_mantissa, scale, last_value) ORDER BY bucket)), max(scale)) AS last_mantissa,
    historian.undecimal(historian.last_of(array_agg(historian.number(last_mantissa, scale, last_value) ORDER BY bucket)), max(scale)) AS last_value,
    historian.time_of(
        array_agg(min_ts ORDER BY bucket),
        array_agg(historian.number(min_mantissa, scale, min_value) ORDER BY bucket),
        min(historian.number(min_mantissa, scale, min_value))
    ) AS min_ts,
    historian.time_of(
        array_agg(max_ts ORDER BY bucket),
        array_agg(historian.number(max_mantissa, scale, max_value) ORDER BY bucket),
        max(historian.number(max_mantissa, scale, max_value))
    ) AS max_ts,
    min(first_ts) AS first_ts,
    max(last_ts) AS last_ts,
    NULLIF(min(COALESCE(start_ts, first_ts)), min(first_ts)) AS start_ts,
    NULLIF(max(COALESCE(end_ts, last_ts)), max(last_ts)) AS end_ts,
    CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(step_area) + historian.area(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - time_bucket(INTERVAL '1 hour', bucket)) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - time_bucket(INTERVAL '1 hour', bucket)) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), false) END AS step_area,
    CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(linear_area) + historian.area(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - time_bucket(INTERVAL '1 hour', bucket)) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - time_bucket(INTERVAL '1 hour', bucket)) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), true) END AS linear_area,
    CASE WHEN sum(bad_count) > 0 THEN
        sum(COALESCE(known_s, date_part('epoch', COALESCE(end_ts, last_ts) - COALESCE(start_ts, first_ts)))) + historian.known_seconds(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - time_bucket(INTERVAL '1 hour', bucket)) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - time_bucket(INTERVAL '1 hour', bucket)) ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket)) END AS known_s
FROM historian.rollup_10m GROUP BY 1, 2
WITH NO DATA;

CREATE MATERIALIZED VIEW historian.rollup_1d WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT
    tag_id,
    time_bucket(INTERVAL '1 day', bucket) AS bucket,
    sum(count)::int8 AS count,
    sum(good_count)::int8 AS good_count,
    sum(bad_count)::int8 AS bad_count,
    max(scale) AS scale,
    historian.sum_mantissa(
        sum(historian.number(sum_mantissa, scale, sum_value)),
        max(scale),
        count(sum_value),
        count(*) FILTER (WHERE step_area IS NULL)
    ) AS sum_mantissa,
    historian.sum_value(
        sum(historian.number(sum_mantissa, scale, sum_value)),
        max(scale),
        count(sum_value),
        count(*) FILTER (WHERE step_area IS NULL)
    ) AS sum_value,
    historian.decimal_mantissa(min(historian.number(min_mantissa, scale, min_value)), max(scale)) AS min_mantissa,
    historian.undecimal(min(historian.number(min_mantissa, scale, min_value)), max(scale)) AS min_value,
    historian.decimal_mantissa(max(historian.number(max_mantissa, scale, max_value)), max(scale)) AS max_mantissa,
    historian.undecimal(max(historian.number(max_mantissa, scale, max_value)), max(scale)) AS max_value,
    historian.decimal_mantissa(
        historian.first_of(array_agg(historian.number(first_mantissa, scale, first_value) ORDER BY bucket)),
        max(scale)
    ) AS first_mantissa,
    historian.undecimal(historian.first_of(array_agg(historian.number(first_mantissa, scale, first_value) ORDER BY bucket)), max(scale)) AS first_value,
    historian.decimal_mantissa(historian.last_of(array_agg(historian.number(last_mantissa, scale, last_value) ORDER BY bucket)), max(scale)) AS last_mantissa,
    historian.undecimal(historian.last_of(array_agg(historian.number(last_mantissa, scale, last_value) ORDER BY bucket)), max(scale)) AS last_value,
    historian.time_of(
        array_agg(min_ts ORDER BY bucket),
        array_agg(historian.number(min_mantissa, scale, min_value) ORDER BY bucket),
        min(historian.number(min_mantissa, scale, min_value))
    ) AS min_ts,
    historian.time_of(
        array_agg(max_ts ORDER BY bucket),
        array_agg(historian.number(max_mantissa, scale, max_value) ORDER BY bucket),
        max(historian.number(max_mantissa, scale, max_value))
    ) AS max_ts,
    min(first_ts) AS first_ts,
    max(last_ts) AS last_ts,
    NULLIF(min(COALESCE(start_ts, first_ts)), min(first_ts)) AS start_ts,
    NULLIF(max(COALESCE(end_ts, last_ts)), max(last_ts)) AS end_ts,
    CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(step_area) + historian.area(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - time_bucket(INTERVAL '1 day', bucket)) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - time_bucket(INTERVAL '1 day', bucket)) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), false) END AS step_area,
    CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(linear_area) + historian.area(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - time_bucket(INTERVAL '1 day', bucket)) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - time_bucket(INTERVAL '1 day', bucket)) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), true) END AS linear_area,
    CASE WHEN sum(bad_count) > 0 THEN
        sum(COALESCE(known_s, date_part('epoch', COALESCE(end_ts, last_ts) - COALESCE(start_ts, first_ts)))) + historian.known_seconds(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - time_bucket(INTERVAL '1 day', bucket)) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - time_bucket(INTERVAL '1 day', bucket)) ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket)) END AS known_s
FROM historian.rollup_1h GROUP BY 1, 2
WITH NO DATA;

-- Refreshed is what was written since, however old: only that, and the oldest first, since what lies behind the last refreshed bucket is taken from the samples. The newest
-- bucket is left out: it is still being filled. The policies say how; they are not run by themselves, but by a job in turn: while a level is refreshed for the first time,
-- the one above it, refreshed at the same moment, may take its new end for given and not see its new buckets yet. They would be missing there until its next turn.
CREATE TABLE historian.rollup_turn (
    level        text PRIMARY KEY,
    job_id       int NOT NULL,
    refreshed_at timestamptz
);
INSERT INTO historian.rollup_turn (level, job_id) VALUES
    ('1m', add_continuous_aggregate_policy('historian.rollup_1m',
        start_offset => NULL, end_offset => INTERVAL '1 minute', schedule_interval => INTERVAL '1 minute',
        buckets_per_batch => 240, refresh_newest_first => false)),
    ('10m', add_continuous_aggregate_policy('historian.rollup_10m',
        start_offset => NULL, end_offset => INTERVAL '10 minutes', schedule_interval => INTERVAL '2 minutes',
        buckets_per_batch => 144, refresh_newest_first => false)),
    ('1h', add_continuous_aggregate_policy('historian.rollup_1h',
        start_offset => NULL, end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '10 minutes',
        buckets_per_batch => 168, refresh_newest_first => false)),
    ('1d', add_continuous_aggregate_policy('historian.rollup_1d',
        start_offset => NULL, end_offset => INTERVAL '1 day', schedule_interval => INTERVAL '1 hour',
        buckets_per_batch => 90, refresh_newest_first => false));
SELECT alter_job(job_id, scheduled => false) FROM historian.rollup_turn;

-- The job: each level whose turn it is, the lowest first. Option: `all`, whether it is their turn or not.
CREATE PROCEDURE historian.tend_rollups(job_id int, config jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    levels text[];
    due    text;
    policy record;
BEGIN
    -- who calls it by hand waits for the job
    PERFORM pg_advisory_lock(hashtext('historian.tend_rollups'));
    COMMIT;
    SELECT array_agg(t.level ORDER BY j.schedule_interval) INTO levels
        FROM historian.rollup_turn t JOIN timescaledb_information.jobs j ON j.job_id = t.job_id
        -- some seconds early, since the job itself is not to the second
        WHERE (tend_rollups.config ->> 'all')::boolean OR COALESCE(t.refreshed_at <= clock_timestamp() - j.schedule_interval + INTERVAL '5 seconds', true);
    FOREACH due IN ARRAY COALESCE(levels, '{}') LOOP
        SELECT j.job_id, j.config INTO policy FROM historian.rollup_turn t JOIN timescaledb_information.jobs j ON j.job_id = t.job_id WHERE t.level = due;
        COMMIT;
        CALL _timescaledb_functions.policy_refresh_continuous_aggregate(policy.job_id, policy.config);
        UPDATE historian.rollup_turn t SET refreshed_at = clock_timestamp() WHERE t.level = due;
        COMMIT;
    END LOOP;
    PERFORM pg_advisory_unlock(hashtext('historian.tend_rollups'));
END $$;

SELECT alter_job(add_job('historian.tend_rollups', INTERVAL '1 minute', config => '{"all": false}', fixed_schedule => false), retry_period => INTERVAL '1 minute');

-- Chunks of some thousands of buckets a tag: they are read and converted as runs of a thousand.
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT format('%I.%I', c.materialization_hypertable_schema, c.materialization_hypertable_name)::regclass AS stored, i.width
        FROM timescaledb_information.continuous_aggregates c
        JOIN (VALUES ('rollup_1m', INTERVAL '7 days'), ('rollup_10m', INTERVAL '60 days'),
                     ('rollup_1h', INTERVAL '360 days'), ('rollup_1d', INTERVAL '3600 days')) AS i (name, width)
            ON c.view_schema = 'historian' AND c.view_name = i.name
    LOOP
        PERFORM set_chunk_time_interval(one.stored, one.width);
    END LOOP;
END $$;

-- In the columnstore themselves. A chunk is converted when it is full and past most late data.
ALTER MATERIALIZED VIEW historian.rollup_1m SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'tag_id', timescaledb.orderby = 'bucket');
CALL add_columnstore_policy('historian.rollup_1m', after => INTERVAL '3 days');
ALTER MATERIALIZED VIEW historian.rollup_10m SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'tag_id', timescaledb.orderby = 'bucket');
CALL add_columnstore_policy('historian.rollup_10m', after => INTERVAL '7 days');
ALTER MATERIALIZED VIEW historian.rollup_1h SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'tag_id', timescaledb.orderby = 'bucket');
CALL add_columnstore_policy('historian.rollup_1h', after => INTERVAL '7 days');
ALTER MATERIALIZED VIEW historian.rollup_1d SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'tag_id', timescaledb.orderby = 'bucket');
CALL add_columnstore_policy('historian.rollup_1d', after => INTERVAL '30 days');

-- TimescaleDB sees by itself what is written: there is nothing to be told.
CREATE FUNCTION historian.rollup_changed(tags int4[], firsts timestamptz[], lasts timestamptz[]) RETURNS void LANGUAGE sql AS $$ SELECT $$;

-- a sum next to nothing, divided, is an error ("underflow") to PostgreSQL
CREATE FUNCTION historian.average(sum float8, count int8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN abs(sum) < 1e-290 THEN 0 ELSE sum / NULLIF(count, 0) END;

CREATE VIEW historian.rollups_1m AS
SELECT t.path AS tag, r.bucket, r.count, r.good_count, r.bad_count,
    historian.number(r.min_mantissa, r.scale, r.min_value) AS min, r.min_ts,
    historian.number(r.max_mantissa, r.scale, r.max_value) AS max, r.max_ts,
    historian.number(r.first_mantissa, r.scale, r.first_value) AS first, r.first_ts,
    historian.number(r.last_mantissa, r.scale, r.last_value) AS last, r.last_ts,
    historian.number(r.sum_mantissa, r.scale, r.sum_value) AS sum,
    historian.average(historian.number(r.sum_mantissa, r.scale, r.sum_value), r.count - r.bad_count) AS avg
FROM historian.rollup_1m r JOIN historian.tag t USING (tag_id);

COMMENT ON VIEW historian.rollups_1m IS 'buckets of 1 minute for people who come with SQL; min, max, first, last, sum and avg are of the samples that are not bad';

CREATE VIEW historian.rollups_10m AS
SELECT t.path AS tag, r.bucket, r.count, r.good_count, r.bad_count,
    historian.number(r.min_mantissa, r.scale, r.min_value) AS min, r.min_ts,
    historian.number(r.max_mantissa, r.scale, r.max_value) AS max, r.max_ts,
    historian.number(r.first_mantissa, r.scale, r.first_value) AS first, r.first_ts,
    historian.number(r.last_mantissa, r.scale, r.last_value) AS last, r.last_ts,
    historian.number(r.sum_mantissa, r.scale, r.sum_value) AS sum,
    historian.average(historian.number(r.sum_mantissa, r.scale, r.sum_value), r.count - r.bad_count) AS avg
FROM historian.rollup_10m r JOIN historian.tag t USING (tag_id);

COMMENT ON VIEW historian.rollups_10m IS 'buckets of 10 minutes for people who come with SQL; min, max, first, last, sum and avg are of the samples that are not bad';

CREATE VIEW historian.rollups_1h AS
SELECT t.path AS tag, r.bucket, r.count, r.good_count, r.bad_count,
    historian.number(r.min_mantissa, r.scale, r.min_value) AS min, r.min_ts,
    historian.number(r.max_mantissa, r.scale, r.max_value) AS max, r.max_ts,
    historian.number(r.first_mantissa, r.scale, r.first_value) AS first, r.first_ts,
    historian.number(r.last_mantissa, r.scale, r.last_value) AS last, r.last_ts,
    historian.number(r.sum_mantissa, r.scale, r.sum_value) AS sum,
    historian.average(historian.number(r.sum_mantissa, r.scale, r.sum_value), r.count - r.bad_count) AS avg
FROM historian.rollup_1h r JOIN historian.tag t USING (tag_id);

COMMENT ON VIEW historian.rollups_1h IS 'buckets of 1 hour for people who come with SQL; min, max, first, last, sum and avg are of the samples that are not bad';

CREATE VIEW historian.rollups_1d AS
SELECT t.path AS tag, r.bucket, r.count, r.good_count, r.bad_count,
    historian.number(r.min_mantissa, r.scale, r.min_value) AS min, r.min_ts,
    historian.number(r.max_mantissa, r.scale, r.max_value) AS max, r.max_ts,
    historian.number(r.first_mantissa, r.scale, r.first_value) AS first, r.first_ts,
    historian.number(r.last_mantissa, r.scale, r.last_value) AS last, r.last_ts,
    historian.number(r.sum_mantissa, r.scale, r.sum_value) AS sum,
    historian.average(historian.number(r.sum_mantissa, r.scale, r.sum_value), r.count - r.bad_count) AS avg
FROM historian.rollup_1d r JOIN historian.tag t USING (tag_id);

COMMENT ON VIEW historian.rollups_1d IS 'buckets of 1 day for people who come with SQL; min, max, first, last, sum and avg are of the samples that are not bad';
