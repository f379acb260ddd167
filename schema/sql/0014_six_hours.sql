-- Buckets of six hours, between those of an hour and of a day: a chart of a year reads 1 460 rows of a pen and not 8 760. They are made from the hours, and so are the days.
--
-- In a database that has samples already they are made as what is late is: until then a chart of years is read from hours.

--@plain CREATE TABLE historian.rollup_6h_stored (LIKE historian.rollup_1m_stored) PARTITION BY RANGE (bucket);
--@plain CREATE UNIQUE INDEX rollup_6h_stored_tag_bucket ON historian.rollup_6h_stored (tag_id, bucket);
--@plain INSERT INTO historian.rollup_level (level, seconds) VALUES ('6h', 21600);

--@plain CREATE VIEW historian.rollup_6h AS
--@plain SELECT * FROM historian.rollup_6h_stored
--@plain WHERE bucket < (SELECT watermark FROM historian.rollup_level WHERE level = '6h')
--@plain UNION ALL
--@plain SELECT
--@plain     tag_id,
--@plain     date_bin(INTERVAL '6 hours', bucket, timestamptz '2000-01-01 00:00:00+00') AS bucket,
--@plain     sum(count)::int8 AS count,
--@plain     sum(good_count)::int8 AS good_count,
--@plain     sum(bad_count)::int8 AS bad_count,
--@plain     max(scale) AS scale,
--@plain     historian.sum_mantissa(
--@plain         sum(historian.number(sum_mantissa, scale, sum_value)),
--@plain         max(scale),
--@plain         count(sum_value),
--@plain         count(*) FILTER (WHERE step_area IS NULL)
--@plain     ) AS sum_mantissa,
--@plain     historian.sum_value(
--@plain         sum(historian.number(sum_mantissa, scale, sum_value)),
--@plain         max(scale),
--@plain         count(sum_value),
--@plain         count(*) FILTER (WHERE step_area IS NULL)
--@plain     ) AS sum_value,
--@plain     historian.decimal_mantissa(min(historian.number(min_mantissa, scale, min_value)), max(scale)) AS min_mantissa,
--@plain     historian.undecimal(min(historian.number(min_mantissa, scale, min_value)), max(scale)) AS min_value,
--@plain     historian.decimal_mantissa(max(historian.number(max_mantissa, scale, max_value)), max(scale)) AS max_mantissa,
--@plain     historian.undecimal(max(historian.number(max_mantissa, scale, max_value)), max(scale)) AS max_value,
--@plain     historian.decimal_mantissa(
--@plain         historian.first_of(array_agg(historian.number(first_mantissa, scale, first_value) ORDER BY bucket)),
--@plain         max(scale)
--@plain     ) AS first_mantissa,
--@plain     historian.undecimal(historian.first_of(array_agg(historian.number(first_mantissa, scale, first_value) ORDER BY bucket)), max(scale)) AS first_value,
--@plain     historian.decimal_mantissa(historian.last_of(array_agg(historian.number(last_mantissa, scale, last_value) ORDER BY bucket)), max(scale)) AS last_mantissa,
--@plain     historian.undecimal(historian.last_of(array_agg(historian.number(last_mantissa, scale, last_value) ORDER BY bucket)), max(scale)) AS last_value,
--@plain     historian.time_of(
--@plain         array_agg(min_ts ORDER BY bucket),
--@plain         array_agg(historian.number(min_mantissa, scale, min_value) ORDER BY bucket),
--@plain         min(historian.number(min_mantissa, scale, min_value))
--@plain     ) AS min_ts,
--@plain     historian.time_of(
--@plain         array_agg(max_ts ORDER BY bucket),
--@plain         array_agg(historian.number(max_mantissa, scale, max_value) ORDER BY bucket),
--@plain         max(historian.number(max_mantissa, scale, max_value))
--@plain     ) AS max_ts,
--@plain     min(first_ts) AS first_ts,
--@plain     max(last_ts) AS last_ts,
--@plain     NULLIF(min(COALESCE(start_ts, first_ts)), min(first_ts)) AS start_ts,
--@plain     NULLIF(max(COALESCE(end_ts, last_ts)), max(last_ts)) AS end_ts,
--@plain     CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(step_area) + historian.area(
--@plain         array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '6 hours', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
--@plain         array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '6 hours', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
--@plain         array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
--@plain         array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), false) END AS step_area,
--@plain     CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(linear_area) + historian.area(
--@plain         array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '6 hours', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
--@plain         array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '6 hours', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
--@plain         array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
--@plain         array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), true) END AS linear_area,
--@plain     CASE WHEN sum(bad_count) > 0 THEN
--@plain         sum(COALESCE(known_s, date_part('epoch', COALESCE(end_ts, last_ts) - COALESCE(start_ts, first_ts)))) + historian.known_seconds(
--@plain         array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '6 hours', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
--@plain         array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '6 hours', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
--@plain         array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket)) END AS known_s
--@plain FROM historian.rollup_1h WHERE bucket >= (SELECT watermark FROM historian.rollup_level WHERE level = '6h') GROUP BY 1, 2;

--@plain CREATE FUNCTION historian.make_rollup_6h(tag int4, lo timestamptz, hi timestamptz) RETURNS SETOF historian.rollup_6h_stored
--@plain LANGUAGE sql STABLE AS $$
--@plain SELECT
--@plain     tag_id,
--@plain     date_bin(INTERVAL '6 hours', bucket, timestamptz '2000-01-01 00:00:00+00') AS bucket,
--@plain     sum(count)::int8 AS count,
--@plain     sum(good_count)::int8 AS good_count,
--@plain     sum(bad_count)::int8 AS bad_count,
--@plain     max(scale) AS scale,
--@plain     historian.sum_mantissa(
--@plain         sum(historian.number(sum_mantissa, scale, sum_value)),
--@plain         max(scale),
--@plain         count(sum_value),
--@plain         count(*) FILTER (WHERE step_area IS NULL)
--@plain     ) AS sum_mantissa,
--@plain     historian.sum_value(
--@plain         sum(historian.number(sum_mantissa, scale, sum_value)),
--@plain         max(scale),
--@plain         count(sum_value),
--@plain         count(*) FILTER (WHERE step_area IS NULL)
--@plain     ) AS sum_value,
--@plain     historian.decimal_mantissa(min(historian.number(min_mantissa, scale, min_value)), max(scale)) AS min_mantissa,
--@plain     historian.undecimal(min(historian.number(min_mantissa, scale, min_value)), max(scale)) AS min_value,
--@plain     historian.decimal_mantissa(max(historian.number(max_mantissa, scale, max_value)), max(scale)) AS max_mantissa,
--@plain     historian.undecimal(max(historian.number(max_mantissa, scale, max_value)), max(scale)) AS max_value,
--@plain     historian.decimal_mantissa(
--@plain         historian.first_of(array_agg(historian.number(first_mantissa, scale, first_value) ORDER BY bucket)),
--@plain         max(scale)
--@plain     ) AS first_mantissa,
--@plain     historian.undecimal(historian.first_of(array_agg(historian.number(first_mantissa, scale, first_value) ORDER BY bucket)), max(scale)) AS first_value,
--@plain     historian.decimal_mantissa(historian.last_of(array_agg(historian.number(last_mantissa, scale, last_value) ORDER BY bucket)), max(scale)) AS last_mantissa,
--@plain     historian.undecimal(historian.last_of(array_agg(historian.number(last_mantissa, scale, last_value) ORDER BY bucket)), max(scale)) AS last_value,
--@plain     historian.time_of(
--@plain         array_agg(min_ts ORDER BY bucket),
--@plain         array_agg(historian.number(min_mantissa, scale, min_value) ORDER BY bucket),
--@plain         min(historian.number(min_mantissa, scale, min_value))
--@plain     ) AS min_ts,
--@plain     historian.time_of(
--@plain         array_agg(max_ts ORDER BY bucket),
--@plain         array_agg(historian.number(max_mantissa, scale, max_value) ORDER BY bucket),
--@plain         max(historian.number(max_mantissa, scale, max_value))
--@plain     ) AS max_ts,
--@plain     min(first_ts) AS first_ts,
--@plain     max(last_ts) AS last_ts,
--@plain     NULLIF(min(COALESCE(start_ts, first_ts)), min(first_ts)) AS start_ts,
--@plain     NULLIF(max(COALESCE(end_ts, last_ts)), max(last_ts)) AS end_ts,
--@plain     CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(step_area) + historian.area(
--@plain         array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '6 hours', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
--@plain         array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '6 hours', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
--@plain         array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
--@plain         array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), false) END AS step_area,
--@plain     CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(linear_area) + historian.area(
--@plain         array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '6 hours', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
--@plain         array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '6 hours', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
--@plain         array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
--@plain         array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), true) END AS linear_area,
--@plain     CASE WHEN sum(bad_count) > 0 THEN
--@plain         sum(COALESCE(known_s, date_part('epoch', COALESCE(end_ts, last_ts) - COALESCE(start_ts, first_ts)))) + historian.known_seconds(
--@plain         array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - date_bin(INTERVAL '6 hours', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
--@plain         array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - date_bin(INTERVAL '6 hours', bucket, timestamptz '2000-01-01 00:00:00+00')) ORDER BY bucket),
--@plain         array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket)) END AS known_s
--@plain FROM historian.rollup_1h_stored WHERE tag_id = tag AND bucket >= lo AND bucket < hi GROUP BY 1, 2
--@plain $$;

--@plain -- Rollups have partitions of the same months. Months are counted from January 1970 = 0. Returns how many months got something that they lacked.
--@plain -- SECURITY DEFINER: the server's role needs no right to create tables.
--@plain CREATE OR REPLACE FUNCTION historian.make_partitions(months int[]) RETURNS int
--@plain LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
--@plain DECLARE
--@plain     m      int;
--@plain     lo     timestamptz;
--@plain     hi     timestamptz;
--@plain     parent text;
--@plain     col    text;
--@plain     part   text;
--@plain     made   int := 0;
--@plain     fresh  boolean;
--@plain BEGIN
--@plain     -- writers that find the same month missing at the same time wait for each other here
--@plain     PERFORM pg_advisory_xact_lock(hashtext('historian.make_partitions'));
--@plain     FOREACH m IN ARRAY months LOOP
--@plain         -- months before 1970 are negative
--@plain         lo := timestamptz '1970-01-01 00:00:00+00' + make_interval(months => m);
--@plain         hi := timestamptz '1970-01-01 00:00:00+00' + make_interval(months => m + 1);
--@plain         fresh := false;
--@plain         FOREACH parent IN ARRAY '{sample,rollup_1m_stored,rollup_10m_stored,rollup_1h_stored,rollup_6h_stored,rollup_1d_stored}'::text[] LOOP
--@plain             col := CASE parent WHEN 'sample' THEN 'ts' ELSE 'bucket' END;
--@plain             part := format('%s_%s', replace(parent, '_stored', ''), to_char(lo, 'YYYY_MM'));
--@plain             CONTINUE WHEN to_regclass(format('historian.%I', part)) IS NOT NULL;
--@plain             -- ATTACH locks the parent less than CREATE … PARTITION OF does: writers and readers go on
--@plain             EXECUTE format(
--@plain                 'CREATE TABLE historian.%I (LIKE historian.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS, CHECK (%I >= %L AND %I < %L)) '
--@plain                 'WITH (autovacuum_vacuum_insert_scale_factor = 0.1)', part, parent, col, lo, col, hi);
--@plain             IF parent = 'sample' THEN
--@plain                 -- ATTACH takes it for its part of sample_tag_ts
--@plain                 EXECUTE format('CREATE INDEX ON historian.%I (tag_id, ts) WITH (deduplicate_items = off)', part);
--@plain             END IF;
--@plain             EXECUTE format('ALTER TABLE historian.%I ATTACH PARTITION historian.%I FOR VALUES FROM (%L) TO (%L)', parent, part, lo, hi);
--@plain             EXECUTE format('ALTER TABLE historian.%I DROP CONSTRAINT %I', part, part || '_' || col || '_check');
--@plain             fresh := true;
--@plain         END LOOP;
--@plain         made := made + fresh::int;
--@plain     END LOOP;
--@plain     RETURN made;
--@plain END $$;

--@plain -- months that have samples already
--@plain SELECT historian.make_partitions(array_agg((date_part('year', lo) * 12 + date_part('month', lo))::int - 23641))
--@plain FROM (SELECT to_date(right(relname, 7), 'YYYY_MM') AS lo FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'historian.sample'::regclass) AS month
--@plain HAVING count(*) > 0;

--@plain -- What is there already. No refresh comes before the horizon: there they are made now, from what hours are left.
--@plain INSERT INTO historian.rollup_6h_stored
--@plain SELECT r.* FROM historian.retention_state s, historian.tag t, historian.make_rollup_6h(t.tag_id, '-infinity', s.horizon) AS r WHERE s.horizon IS NOT NULL;
--@plain UPDATE historian.rollup_level SET watermark = s.horizon FROM historian.retention_state s WHERE level = '6h' AND s.horizon IS NOT NULL;
--@plain INSERT INTO historian.rollup_change (level, lo, hi, tag_ids)
--@plain SELECT '6h',
--@plain     date_bin(INTERVAL '6 hours', min(h.bucket), timestamptz '2000-01-01 00:00:00+00'),
--@plain     date_bin(INTERVAL '6 hours', max(h.bucket), timestamptz '2000-01-01 00:00:00+00'),
--@plain     ARRAY[h.tag_id]
--@plain FROM historian.rollup_1h_stored h WHERE h.bucket >= COALESCE((SELECT s.horizon FROM historian.retention_state s), '-infinity')
--@plain GROUP BY h.tag_id, date_trunc('month', h.bucket, 'UTC');

--@timescale CREATE MATERIALIZED VIEW historian.rollup_6h WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
--@timescale SELECT
--@timescale     tag_id,
--@timescale     time_bucket(INTERVAL '6 hours', bucket) AS bucket,
--@timescale     sum(count)::int8 AS count,
--@timescale     sum(good_count)::int8 AS good_count,
--@timescale     sum(bad_count)::int8 AS bad_count,
--@timescale     max(scale) AS scale,
--@timescale     historian.sum_mantissa(
--@timescale         sum(historian.number(sum_mantissa, scale, sum_value)),
--@timescale         max(scale),
--@timescale         count(sum_value),
--@timescale         count(*) FILTER (WHERE step_area IS NULL)
--@timescale     ) AS sum_mantissa,
--@timescale     historian.sum_value(
--@timescale         sum(historian.number(sum_mantissa, scale, sum_value)),
--@timescale         max(scale),
--@timescale         count(sum_value),
--@timescale         count(*) FILTER (WHERE step_area IS NULL)
--@timescale     ) AS sum_value,
--@timescale     historian.decimal_mantissa(min(historian.number(min_mantissa, scale, min_value)), max(scale)) AS min_mantissa,
--@timescale     historian.undecimal(min(historian.number(min_mantissa, scale, min_value)), max(scale)) AS min_value,
--@timescale     historian.decimal_mantissa(max(historian.number(max_mantissa, scale, max_value)), max(scale)) AS max_mantissa,
--@timescale     historian.undecimal(max(historian.number(max_mantissa, scale, max_value)), max(scale)) AS max_value,
--@timescale     historian.decimal_mantissa(
--@timescale         historian.first_of(array_agg(historian.number(first_mantissa, scale, first_value) ORDER BY bucket)),
--@timescale         max(scale)
--@timescale     ) AS first_mantissa,
--@timescale     historian.undecimal(historian.first_of(array_agg(historian.number(first_mantissa, scale, first_value) ORDER BY bucket)), max(scale)) AS first_value,
--@timescale     historian.decimal_mantissa(historian.last_of(array_agg(historian.number(last_mantissa, scale, last_value) ORDER BY bucket)), max(scale)) AS last_mantissa,
--@timescale     historian.undecimal(historian.last_of(array_agg(historian.number(last_mantissa, scale, last_value) ORDER BY bucket)), max(scale)) AS last_value,
--@timescale     historian.time_of(
--@timescale         array_agg(min_ts ORDER BY bucket),
--@timescale         array_agg(historian.number(min_mantissa, scale, min_value) ORDER BY bucket),
--@timescale         min(historian.number(min_mantissa, scale, min_value))
--@timescale     ) AS min_ts,
--@timescale     historian.time_of(
--@timescale         array_agg(max_ts ORDER BY bucket),
--@timescale         array_agg(historian.number(max_mantissa, scale, max_value) ORDER BY bucket),
--@timescale         max(historian.number(max_mantissa, scale, max_value))
--@timescale     ) AS max_ts,
--@timescale     min(first_ts) AS first_ts,
--@timescale     max(last_ts) AS last_ts,
--@timescale     NULLIF(min(COALESCE(start_ts, first_ts)), min(first_ts)) AS start_ts,
--@timescale     NULLIF(max(COALESCE(end_ts, last_ts)), max(last_ts)) AS end_ts,
--@timescale     CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(step_area) + historian.area(
--@timescale         array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - time_bucket(INTERVAL '6 hours', bucket)) ORDER BY bucket),
--@timescale         array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - time_bucket(INTERVAL '6 hours', bucket)) ORDER BY bucket),
--@timescale         array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
--@timescale         array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), false) END AS step_area,
--@timescale     CASE WHEN count(*) FILTER (WHERE step_area IS NULL) = 0 THEN sum(linear_area) + historian.area(
--@timescale         array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - time_bucket(INTERVAL '6 hours', bucket)) ORDER BY bucket),
--@timescale         array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - time_bucket(INTERVAL '6 hours', bucket)) ORDER BY bucket),
--@timescale         array_agg(CASE WHEN start_ts IS NULL THEN historian.number(first_mantissa, scale, first_value) END ORDER BY bucket),
--@timescale         array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket), true) END AS linear_area,
--@timescale     CASE WHEN sum(bad_count) > 0 THEN
--@timescale         sum(COALESCE(known_s, date_part('epoch', COALESCE(end_ts, last_ts) - COALESCE(start_ts, first_ts)))) + historian.known_seconds(
--@timescale         array_agg(date_part('epoch', COALESCE(start_ts, first_ts) - time_bucket(INTERVAL '6 hours', bucket)) ORDER BY bucket),
--@timescale         array_agg(date_part('epoch', COALESCE(end_ts, last_ts) - time_bucket(INTERVAL '6 hours', bucket)) ORDER BY bucket),
--@timescale         array_agg(CASE WHEN end_ts IS NULL THEN historian.number(last_mantissa, scale, last_value) END ORDER BY bucket)) END AS known_s
--@timescale FROM historian.rollup_1h GROUP BY 1, 2
--@timescale WITH NO DATA;

--@timescale INSERT INTO historian.rollup_turn (level, job_id) VALUES
--@timescale     ('6h', add_continuous_aggregate_policy('historian.rollup_6h',
--@timescale         start_offset => NULL, end_offset => INTERVAL '6 hours', schedule_interval => INTERVAL '30 minutes',
--@timescale         buckets_per_batch => 120, refresh_newest_first => false));
--@timescale SELECT alter_job(job_id, scheduled => false) FROM historian.rollup_turn WHERE level = '6h';
--@timescale SELECT set_chunk_time_interval(format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)::regclass, INTERVAL '1440 days')
--@timescale FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'historian' AND view_name = 'rollup_6h';
--@timescale ALTER MATERIALIZED VIEW historian.rollup_6h SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'tag_id', timescaledb.orderby = 'bucket');
--@timescale CALL add_columnstore_policy('historian.rollup_6h', after => INTERVAL '14 days');

--@timescale DO $$
--@timescale BEGIN
--@timescale     EXECUTE (SELECT format('CREATE VIEW historian.rollup_6h_stored AS SELECT * FROM %I.%I', materialization_hypertable_schema, materialization_hypertable_name)
--@timescale         FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'historian' AND view_name = 'rollup_6h');
--@timescale END $$;

--@timescale CREATE OR REPLACE FUNCTION historian.rollup_stale(tags int4[], lo timestamptz, hi timestamptz)
--@timescale RETURNS TABLE (level text, tag_id int4, stale_from timestamptz, stale_to timestamptz)
--@timescale LANGUAGE plpgsql STABLE AS $$
--@timescale DECLARE
--@timescale     lo_us CONSTANT int8 := _timescaledb_functions.to_unix_microseconds(lo);
--@timescale     hi_us CONSTANT int8 := _timescaledb_functions.to_unix_microseconds(hi);
--@timescale     one   record;
--@timescale BEGIN
--@timescale     FOR one IN
--@timescale         SELECT substr(c.user_view_name, 8) AS level, c.mat_hypertable_id AS made, c.raw_hypertable_id AS source, COALESCE(w.watermark, lo_us) AS mark
--@timescale         FROM _timescaledb_catalog.continuous_agg c LEFT JOIN _timescaledb_catalog.continuous_aggs_watermark w USING (mat_hypertable_id)
--@timescale         WHERE c.user_view_schema = 'historian' AND c.user_view_name IN ('rollup_1m', 'rollup_10m', 'rollup_1h', 'rollup_6h', 'rollup_1d')
--@timescale     LOOP
--@timescale         level := one.level;
--@timescale         IF one.mark < hi_us THEN
--@timescale             stale_from := _timescaledb_functions.to_timestamp(greatest(one.mark, lo_us));
--@timescale             stale_to := hi;
--@timescale             RETURN NEXT;
--@timescale         END IF;
--@timescale         RETURN QUERY
--@timescale         SELECT one.level, NULL::int4, _timescaledb_functions.to_timestamp(greatest(l.lowest_modified_value, lo_us)),
--@timescale             _timescaledb_functions.to_timestamp(least(l.greatest_modified_value, hi_us - 1) + 1)
--@timescale         FROM (
--@timescale             SELECT h.lowest_modified_value, h.greatest_modified_value
--@timescale             FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log h WHERE h.hypertable_id = one.source
--@timescale             UNION ALL
--@timescale             SELECT m.lowest_modified_value, m.greatest_modified_value
--@timescale             FROM _timescaledb_catalog.continuous_aggs_materialization_invalidation_log m WHERE m.materialization_id = one.made
--@timescale         ) AS l
--@timescale         WHERE l.lowest_modified_value < least(hi_us, one.mark) AND l.greatest_modified_value >= lo_us;
--@timescale         IF to_regclass('_timescaledb_catalog.continuous_aggs_materialization_ranges') IS NOT NULL THEN
--@timescale             RETURN QUERY
--@timescale             SELECT one.level, NULL::int4, _timescaledb_functions.to_timestamp(greatest(l.lowest_modified_value, lo_us)),
--@timescale                 _timescaledb_functions.to_timestamp(least(l.greatest_modified_value, hi_us - 1) + 1)
--@timescale             FROM _timescaledb_catalog.continuous_aggs_materialization_ranges l
--@timescale             WHERE l.materialization_id = one.made AND l.lowest_modified_value < least(hi_us, one.mark) AND l.greatest_modified_value >= lo_us;
--@timescale         END IF;
--@timescale     END LOOP;
--@timescale END $$;

CREATE VIEW historian.rollups_6h AS
SELECT t.path AS tag, r.bucket, r.count, r.good_count, r.bad_count,
    historian.number(r.min_mantissa, r.scale, r.min_value) AS min, r.min_ts,
    historian.number(r.max_mantissa, r.scale, r.max_value) AS max, r.max_ts,
    historian.number(r.first_mantissa, r.scale, r.first_value) AS first, r.first_ts,
    historian.number(r.last_mantissa, r.scale, r.last_value) AS last, r.last_ts,
    historian.number(r.sum_mantissa, r.scale, r.sum_value) AS sum,
    historian.average(historian.number(r.sum_mantissa, r.scale, r.sum_value), r.count - r.bad_count) AS avg
FROM historian.rollup_6h r JOIN historian.tag t USING (tag_id);

COMMENT ON VIEW historian.rollups_6h IS 'buckets of 6 hours for people who come with SQL; min, max, first, last, sum and avg are of the samples that are not bad';

CREATE VIEW historian.trend_6h AS
SELECT bucket AS "time", tag AS metric, avg AS value, min, max, 100.0::float8 * good_count / count AS percent_good FROM historian.rollups_6h;

COMMENT ON VIEW historian.trend_6h IS 'buckets of 6 hours by time and metric; value is the average of the samples that are not bad';

ALTER TABLE historian.retention_group ADD days_6h int4 CHECK (days_6h >= 2);
ALTER TABLE historian.retention_lost ADD before_6h timestamptz NOT NULL DEFAULT '-infinity';
-- kept as long as hours, until it is said otherwise
UPDATE historian.retention_group SET days_6h = days_1h;
--@plain UPDATE historian.retention_lost SET before_6h = before_1h;
--@timescale -- Before the horizon they are made by the first refresh: until then, and where there are no hours any more, there are none.
--@timescale INSERT INTO historian.retention_lost AS l (tag_id, before_6h)
--@timescale     SELECT t.tag_id, s.horizon FROM historian.tag t, historian.retention_state s WHERE s.horizon IS NOT NULL
--@timescale     ON CONFLICT (tag_id) DO UPDATE SET before_6h = EXCLUDED.before_6h;

CREATE OR REPLACE FUNCTION historian.want_horizon() RETURNS timestamptz
LANGUAGE sql AS $$
UPDATE historian.retention_state SET
    since = CASE WHEN need.at IS NOT NULL THEN COALESCE(since, pg_current_xact_id()) ELSE since END,
    wanted = greatest(wanted, need.at)
FROM (SELECT max(greatest(historian.expired_before(raw_days), historian.expired_before(days_1m), historian.expired_before(days_10m),
        historian.expired_before(days_1h), historian.expired_before(days_6h), historian.expired_before(days_1d))) AS at FROM historian.retention_group) AS need
RETURNING need.at
$$;

CREATE OR REPLACE FUNCTION historian.remake_rollups(tag int4, lo timestamptz, hi timestamptz) RETURNS void
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
            (VALUES ('1m', INTERVAL '1 minute'), ('10m', INTERVAL '10 minutes'), ('1h', INTERVAL '1 hour'), ('6h', INTERVAL '6 hours'), ('1d', INTERVAL '1 day')) AS l (level, width)
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

CREATE OR REPLACE FUNCTION historian.expire_rollups(of_group text) RETURNS int8
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
        FROM historian.retention_group g CROSS JOIN LATERAL (VALUES ('1m', days_1m), ('10m', days_10m), ('1h', days_1h), ('6h', days_6h), ('1d', days_1d)) AS l (level, days),
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

--@plain CREATE OR REPLACE VIEW historian.removable_part AS
--@plain SELECT c.relname::text AS part, c.oid::regclass AS relation, p.relname::text AS parent,
--@plain     (regexp_match(b.bound, 'FROM \(''([^'']+)''\)'))[1]::timestamptz AS range_start,
--@plain     (regexp_match(b.bound, 'TO \(''([^'']+)''\)'))[1]::timestamptz AS range_end
--@plain FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
--@plain CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) AS b
--@plain WHERE p.relnamespace = 'historian'::regnamespace AND p.relname IN ('sample', 'rollup_1m_stored', 'rollup_10m_stored', 'rollup_1h_stored', 'rollup_6h_stored', 'rollup_1d_stored')
--@plain     AND (regexp_match(b.bound, 'TO \(''([^'']+)''\)'))[1]::timestamptz <= (SELECT horizon FROM historian.retention_state);

--@timescale -- The job: each level whose turn it is, the lowest first, from the horizon on; for the first time, from the beginning. Where a later horizon is wanted, all levels, and then it stands there: a level that was refreshed
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
--@timescale         SELECT j.job_id, j.config, t.refreshed_at INTO policy FROM historian.rollup_turn t JOIN timescaledb_information.jobs j ON j.job_id = t.job_id WHERE t.level = due;
--@timescale         IF state.horizon IS NOT NULL AND policy.refreshed_at IS NOT NULL THEN
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
