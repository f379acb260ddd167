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

-- Plain PostgreSQL: tables, and a log of what was written, left by the writer in its own transaction. The server refreshes from it, level by level. What is at or
-- after the watermark of a level is aggregated when it is read.

CREATE TABLE historian.rollup_level (
    level     text PRIMARY KEY,
    seconds   int4 NOT NULL,
    watermark timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO historian.rollup_level (level, seconds) VALUES ('1m', 60), ('10m', 600), ('1h', 3600), ('1d', 86400);

-- Buckets of a level that have to be made again: from `lo` to `hi`, both the beginnings of buckets, of each of these tags.
CREATE TABLE historian.rollup_change (
    change_id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    level     text NOT NULL,
    lo        timestamptz NOT NULL,
    hi        timestamptz NOT NULL,
    tag_ids   int4[] NOT NULL
);
CREATE INDEX rollup_change_level_lo ON historian.rollup_change (level, lo);

CREATE TABLE historian.rollup_1m_stored (
    tag_id          int4 NOT NULL,
    bucket          timestamptz NOT NULL,
    count           int8 NOT NULL,
    good_count      int8 NOT NULL,
    bad_count       int8 NOT NULL,
    scale           int2 NOT NULL,
    sum_mantissa    int8,
    sum_value       float8,
    min_mantissa    int8,
    min_value       float8,
    max_mantissa    int8,
    max_value       float8,
    first_mantissa  int8,
    first_value     float8,
    last_mantissa   int8,
    last_value      float8,
    min_ts          timestamptz,
    max_ts          timestamptz,
    first_ts        timestamptz,
    last_ts         timestamptz,
    start_ts        timestamptz,
    end_ts          timestamptz,
    step_area       float8,
    linear_area     float8,
    known_s         float8
) PARTITION BY RANGE (bucket);
CREATE UNIQUE INDEX rollup_1m_stored_tag_bucket ON historian.rollup_1m_stored (tag_id, bucket);

CREATE TABLE historian.rollup_10m_stored (LIKE historian.rollup_1m_stored) PARTITION BY RANGE (bucket);
CREATE UNIQUE INDEX rollup_10m_stored_tag_bucket ON historian.rollup_10m_stored (tag_id, bucket);

CREATE TABLE historian.rollup_1h_stored (LIKE historian.rollup_1m_stored) PARTITION BY RANGE (bucket);
CREATE UNIQUE INDEX rollup_1h_stored_tag_bucket ON historian.rollup_1h_stored (tag_id, bucket);

CREATE TABLE historian.rollup_1d_stored (LIKE historian.rollup_1m_stored) PARTITION BY RANGE (bucket);
CREATE UNIQUE INDEX rollup_1d_stored_tag_bucket ON historian.rollup_1d_stored (tag_id, bucket);

CREATE VIEW historian.rollup_1m AS
SELECT * FROM historian.rollup_1m_stored
WHERE bucket < (SELECT watermark FROM historian.rollup_level WHERE level = '1m')
UNION ALL
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
FROM historian.sample WHERE ts >= (SELECT watermark FROM historian.rollup_level WHERE level = '1m') GROUP BY 1, 2;

CREATE VIEW historian.rollup_10m AS
SELECT * FROM historian.rollup_10m_stored
WHERE bucket < (SELECT watermark FROM historian.rollup_level WHERE level = '10m')
UNION ALL
SELECT
    tag_id,
    date_bin(INTERVAL '10 minutes', bucket, timestamptz '2000-01-01 00:00:00+00') AS bucket,
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
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '10 minutes', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '10 minutes', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), false) END AS step_area,
    CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(linear_area) + historian.area(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '10 minutes', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '10 minutes', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), true) END AS linear_area,
    CASE WHEN sum(bad_count) > 0 THEN
        sum(COALESCE(known_s, date_part('epoch', COALESCE(end_ts, last_ts) - COALESCE(start_ts, first_ts)))) + historian.known_seconds(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '10 minutes', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '10 minutes', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket)) END AS known_s
FROM historian.rollup_1m WHERE bucket >= (SELECT watermark FROM historian.rollup_level WHERE level = '10m') GROUP BY 1, 2;

CREATE VIEW historian.rollup_1h AS
SELECT * FROM historian.rollup_1h_stored
WHERE bucket < (SELECT watermark FROM historian.rollup_level WHERE level = '1h')
UNION ALL
SELECT
    tag_id,
    date_bin(INTERVAL '1 hour', bucket, timestamptz '2000-01-01 00:00:00+00') AS bucket,
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
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '1 hour', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '1 hour', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), false) END AS step_area,
    CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(linear_area) + historian.area(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '1 hour', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '1 hour', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), true) END AS linear_area,
    CASE WHEN sum(bad_count) > 0 THEN
        sum(COALESCE(known_s, date_part('epoch', COALESCE(end_ts, last_ts) - COALESCE(start_ts, first_ts)))) + historian.known_seconds(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '1 hour', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '1 hour', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket)) END AS known_s
FROM historian.rollup_10m WHERE bucket >= (SELECT watermark FROM historian.rollup_level WHERE level = '1h') GROUP BY 1, 2;

CREATE VIEW historian.rollup_1d AS
SELECT * FROM historian.rollup_1d_stored
WHERE bucket < (SELECT watermark FROM historian.rollup_level WHERE level = '1d')
UNION ALL
SELECT
    tag_id,
    date_bin(INTERVAL '1 day', bucket, timestamptz '2000-01-01 00:00:00+00') AS bucket,
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
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '1 day', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '1 day', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), false) END AS step_area,
    CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(linear_area) + historian.area(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '1 day', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '1 day', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), true) END AS linear_area,
    CASE WHEN sum(bad_count) > 0 THEN
        sum(COALESCE(known_s, date_part('epoch', COALESCE(end_ts, last_ts) - COALESCE(start_ts, first_ts)))) + historian.known_seconds(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '1 day', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '1 day', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket)) END AS known_s
FROM historian.rollup_1h WHERE bucket >= (SELECT watermark FROM historian.rollup_level WHERE level = '1d') GROUP BY 1, 2;

CREATE FUNCTION historian.make_rollup_1m(tag int4, lo timestamptz, hi timestamptz) RETURNS SETOF historian.rollup_1m_stored
LANGUAGE sql STABLE AS $$
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
FROM historian.sample WHERE tag_id = tag AND ts >= lo AND ts < hi GROUP BY 1, 2
$$;

CREATE FUNCTION historian.make_rollup_10m(tag int4, lo timestamptz, hi timestamptz) RETURNS SETOF historian.rollup_10m_stored
LANGUAGE sql STABLE AS $$
SELECT
    tag_id,
    date_bin(INTERVAL '10 minutes', bucket, timestamptz '2000-01-01 00:00:00+00') AS bucket,
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
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '10 minutes', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '10 minutes', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), false) END AS step_area,
    CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(linear_area) + historian.area(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '10 minutes', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '10 minutes', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), true) END AS linear_area,
    CASE WHEN sum(bad_count) > 0 THEN
        sum(COALESCE(known_s, date_part('epoch', COALESCE(end_ts, last_ts) - COALESCE(start_ts, first_ts)))) + historian.known_seconds(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '10 minutes', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '10 minutes', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket)) END AS known_s
FROM historian.rollup_1m_stored WHERE tag_id = tag AND bucket >= lo AND bucket < hi GROUP BY 1, 2
$$;

CREATE FUNCTION historian.make_rollup_1h(tag int4, lo timestamptz, hi timestamptz) RETURNS SETOF historian.rollup_1h_stored
LANGUAGE sql STABLE AS $$
SELECT
    tag_id,
    date_bin(INTERVAL '1 hour', bucket, timestamptz '2000-01-01 00:00:00+00') AS bucket,
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
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '1 hour', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '1 hour', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), false) END AS step_area,
    CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(linear_area) + historian.area(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '1 hour', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '1 hour', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), true) END AS linear_area,
    CASE WHEN sum(bad_count) > 0 THEN
        sum(COALESCE(known_s, date_part('epoch', COALESCE(end_ts, last_ts) - COALESCE(start_ts, first_ts)))) + historian.known_seconds(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '1 hour', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '1 hour', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket)) END AS known_s
FROM historian.rollup_10m_stored WHERE tag_id = tag AND bucket >= lo AND bucket < hi GROUP BY 1, 2
$$;

CREATE FUNCTION historian.make_rollup_1d(tag int4, lo timestamptz, hi timestamptz) RETURNS SETOF historian.rollup_1d_stored
LANGUAGE sql STABLE AS $$
SELECT
    tag_id,
    date_bin(INTERVAL '1 day', bucket, timestamptz '2000-01-01 00:00:00+00') AS bucket,
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
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '1 day', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '1 day', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), false) END AS step_area,
    CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(linear_area) + historian.area(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '1 day', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '1 day', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), true) END AS linear_area,
    CASE WHEN sum(bad_count) > 0 THEN
        sum(COALESCE(known_s, date_part('epoch', COALESCE(end_ts, last_ts) - COALESCE(start_ts, first_ts)))) + historian.known_seconds(
        array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '1 day', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '1 day', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
        array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket)) END AS known_s
FROM historian.rollup_1h_stored WHERE tag_id = tag AND bucket >= lo AND bucket < hi GROUP BY 1, 2
$$;

-- For whoever writes samples by another way than the writer: which minutes of which tags to make again, from the first to the last (the beginnings of minutes).
CREATE FUNCTION historian.rollup_changed(tags int4[], firsts timestamptz[], lasts timestamptz[]) RETURNS void
LANGUAGE sql AS $$
INSERT INTO historian.rollup_change (level, lo, hi, tag_ids)
SELECT '1m', lo, hi, array_agg(tag_id) FROM unnest(tags, firsts, lasts) AS c (tag_id, lo, hi) GROUP BY lo, hi
$$;

-- Samples that are deleted or changed by SQL. Retention keeps the rollups of what it deletes: SET LOCAL historian.keep_rollups = on.
CREATE FUNCTION historian.sample_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('historian.keep_rollups', true) IS DISTINCT FROM 'on' THEN
        INSERT INTO historian.rollup_change (level, lo, hi, tag_ids)
        SELECT '1m', minute, minute, array_agg(DISTINCT tag_id)
        FROM (SELECT date_bin(INTERVAL '1 minute', ts, timestamptz '2000-01-01 00:00:00+00') AS minute, tag_id FROM gone) AS g GROUP BY minute;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION historian.sample_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO historian.rollup_change (level, lo, hi, tag_ids)
    SELECT '1m', minute, minute, array_agg(DISTINCT tag_id)
    FROM (
        SELECT date_bin(INTERVAL '1 minute', ts, timestamptz '2000-01-01 00:00:00+00') AS minute, tag_id FROM gone
        UNION SELECT date_bin(INTERVAL '1 minute', ts, timestamptz '2000-01-01 00:00:00+00'), tag_id FROM come
    ) AS g GROUP BY minute;
    RETURN NULL;
END $$;

CREATE TRIGGER sample_gone AFTER DELETE ON historian.sample
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION historian.sample_gone();
CREATE TRIGGER sample_changed AFTER UPDATE ON historian.sample
REFERENCING OLD TABLE AS gone NEW TABLE AS come FOR EACH STATEMENT EXECUTE FUNCTION historian.sample_changed();

-- Make again what the log names and lies before `up_to`: at most about `bite` buckets of each level. Returns how many were made; 0: nothing is left to do.
--
-- What a transaction wrote is seen by a statement that sees its log row: rows are taken from the log first, and the samples read after that, so nothing is
-- missed. Of what is committed in between the log row is still to come.
CREATE FUNCTION historian.refresh_rollups(up_to timestamptz, bite int8 DEFAULT 50000) RETURNS int8
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    this   record;
    step   interval;
    mark   timestamptz;
    tags   int4[];
    los    timestamptz[];
    his    timestamptz[];
    whole  boolean;
    made   int8 := 0;
BEGIN
    -- one at a time: whoever has it does all of it
    IF NOT pg_try_advisory_xact_lock(hashtext('historian.refresh_rollups')) THEN
        RETURN 0;
    END IF;
    FOR this IN
        SELECT level, watermark, seconds, lead(level) OVER w AS upper, lead(seconds) OVER w AS upper_seconds
        FROM historian.rollup_level WINDOW w AS (ORDER BY seconds) ORDER BY seconds
    LOOP
        step := make_interval(secs => this.seconds);
        mark := greatest(this.watermark, date_bin(step, up_to, timestamptz '2000-01-01 00:00:00+00'));
        WITH due AS (
            SELECT change_id, sum(cardinality(tag_ids)) OVER (ORDER BY lo, change_id) - cardinality(tag_ids) AS before
            FROM historian.rollup_change WHERE level = this.level AND lo < mark
        ), taken AS (
            DELETE FROM historian.rollup_change c USING due WHERE c.change_id = due.change_id AND due.before < 1000000 RETURNING c.lo, c.hi, c.tag_ids
        ), span AS (
            -- each bucket once, however often it was written
            SELECT tag_id, lower(r) AS lo, upper(r) AS hi
            FROM (SELECT tag_id, unnest(range_agg(tstzrange(lo, hi + step))) AS r FROM taken, unnest(tag_ids) AS tag_id GROUP BY tag_id) AS merged
        ), ordered AS (
            SELECT tag_id, lo, hi, least(hi, mark) AS cut,
                sum(extract(epoch FROM least(hi, mark) - lo) / this.seconds) OVER (ORDER BY lo, tag_id)
                    - extract(epoch FROM least(hi, mark) - lo) / this.seconds AS before
            FROM span
        ), bitten AS (
            SELECT tag_id, lo, hi, CASE WHEN before < bite THEN least(cut, lo + greatest(1, bite - before)::float8 * step) ELSE lo END AS cut FROM ordered
        ), back AS (
            INSERT INTO historian.rollup_change (level, lo, hi, tag_ids)
            SELECT this.level, cut, hi - step, array_agg(tag_id) FROM bitten WHERE cut < hi GROUP BY cut, hi RETURNING lo
        )
        SELECT array_agg(tag_id) FILTER (WHERE lo < cut), array_agg(lo) FILTER (WHERE lo < cut), array_agg(cut) FILTER (WHERE lo < cut),
            NOT EXISTS (SELECT FROM due WHERE before >= 1000000) AND coalesce(bool_and(cut >= least(hi, mark)), true)
        INTO tags, los, his, whole FROM bitten;
        IF tags IS NOT NULL THEN
            EXECUTE format(
                'DELETE FROM historian.rollup_%s_stored s USING unnest($1, $2, $3) AS k (tag_id, lo, hi) '
                'WHERE s.tag_id = k.tag_id AND s.bucket >= k.lo AND s.bucket < k.hi', this.level)
            USING tags, los, his;
            EXECUTE format(
                'INSERT INTO historian.rollup_%1$s_stored SELECT r.* FROM unnest($1, $2, $3) AS k (tag_id, lo, hi) '
                'CROSS JOIN LATERAL historian.make_rollup_%1$s(k.tag_id, k.lo, k.hi) AS r', this.level)
            USING tags, los, his;
            IF this.upper IS NOT NULL THEN
                INSERT INTO historian.rollup_change (level, lo, hi, tag_ids)
                SELECT this.upper, lo, hi, array_agg(DISTINCT tag_id)
                FROM (
                    SELECT tag_id, date_bin(make_interval(secs => this.upper_seconds), k.lo, timestamptz '2000-01-01 00:00:00+00') AS lo,
                        date_bin(make_interval(secs => this.upper_seconds), k.hi - step, timestamptz '2000-01-01 00:00:00+00') AS hi
                    FROM unnest(tags, los, his) AS k (tag_id, lo, hi)
                ) AS u GROUP BY lo, hi;
            END IF;
            made := made + cardinality(tags);
        END IF;
        -- what is left over is still read from below
        EXIT WHEN NOT whole;
        UPDATE historian.rollup_level SET watermark = mark WHERE level = this.level AND watermark < mark;
    END LOOP;
    RETURN made;
END $$;

-- Rollups have partitions of the same months. Months are counted from January 1970 = 0. Returns how many months got something that they lacked.
-- SECURITY DEFINER: the server's role needs no right to create tables.
CREATE OR REPLACE FUNCTION historian.make_partitions(months int[]) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    m      int;
    lo     timestamptz;
    hi     timestamptz;
    parent text;
    col    text;
    part   text;
    made   int := 0;
    fresh  boolean;
BEGIN
    -- writers that find the same month missing at the same time wait for each other here
    PERFORM pg_advisory_xact_lock(hashtext('historian.make_partitions'));
    FOREACH m IN ARRAY months LOOP
        -- months before 1970 are negative
        lo := timestamptz '1970-01-01 00:00:00+00' + make_interval(months => m);
        hi := timestamptz '1970-01-01 00:00:00+00' + make_interval(months => m + 1);
        fresh := false;
        FOREACH parent IN ARRAY '{sample,rollup_1m_stored,rollup_10m_stored,rollup_1h_stored,rollup_1d_stored}'::text[] LOOP
            col := CASE parent WHEN 'sample' THEN 'ts' ELSE 'bucket' END;
            part := format('%s_%s', replace(parent, '_stored', ''), to_char(lo, 'YYYY_MM'));
            CONTINUE WHEN to_regclass(format('historian.%I', part)) IS NOT NULL;
            -- ATTACH locks the parent less than CREATE … PARTITION OF does: writers and readers go on
            EXECUTE format(
                'CREATE TABLE historian.%I (LIKE historian.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS, CHECK (%I >= %L AND %I < %L)) '
                'WITH (autovacuum_vacuum_insert_scale_factor = 0.1)', part, parent, col, lo, col, hi);
            IF parent = 'sample' THEN
                -- ATTACH takes it for its part of sample_tag_ts
                EXECUTE format('CREATE INDEX ON historian.%I (tag_id, ts) WITH (deduplicate_items = off)', part);
            END IF;
            EXECUTE format('ALTER TABLE historian.%I ATTACH PARTITION historian.%I FOR VALUES FROM (%L) TO (%L)', parent, part, lo, hi);
            EXECUTE format('ALTER TABLE historian.%I DROP CONSTRAINT %I', part, part || '_' || col || '_check');
            fresh := true;
        END LOOP;
        made := made + fresh::int;
    END LOOP;
    RETURN made;
END $$;

-- months that have samples already
SELECT historian.make_partitions(array_agg((date_part('year', lo) * 12 + date_part('month', lo))::int - 23641))
FROM (SELECT to_date(right(relname, 7), 'YYYY_MM') AS lo FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'historian.sample'::regclass) AS month
HAVING count(*) > 0;

-- what is there already: everything
INSERT INTO historian.rollup_change (level, lo, hi, tag_ids)
SELECT '1m',
    date_bin(INTERVAL '1 minute', min(s.ts), timestamptz '2000-01-01 00:00:00+00'),
    date_bin(INTERVAL '1 minute', max(s.ts), timestamptz '2000-01-01 00:00:00+00'),
    ARRAY[s.tag_id]
FROM historian.sample s GROUP BY s.tag_id, date_trunc('month', s.ts, 'UTC');

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
