-- For readers that want rollups exact in their snapshot: where the stored buckets of a level do not hold (yet) what their samples give, from `stale_from` up to
-- `stale_to`, of one tag, or of all where `tag_id` is NULL. Behind its watermark a level has no buckets. What is stale in a level is so in all levels above it.
--
-- TimescaleDB logs what was changed by time: a transaction leaves its span for a hypertable, a refresh moves that to each aggregate, and takes it away from there in the
-- transaction in which it makes the buckets; some versions move it to a third table in between. Whatever it has not made stands in one of them.
CREATE FUNCTION historian.rollup_stale(tags int4[], lo timestamptz, hi timestamptz)
RETURNS TABLE (level text, tag_id int4, stale_from timestamptz, stale_to timestamptz)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    lo_us CONSTANT int8 := _timescaledb_functions.to_unix_microseconds(lo);
    hi_us CONSTANT int8 := _timescaledb_functions.to_unix_microseconds(hi);
    one   record;
BEGIN
    FOR one IN
        SELECT substr(c.user_view_name, 8) AS level, c.mat_hypertable_id AS made, c.raw_hypertable_id AS source, COALESCE(w.watermark, lo_us) AS mark
        FROM _timescaledb_catalog.continuous_agg c LEFT JOIN _timescaledb_catalog.continuous_aggs_watermark w USING (mat_hypertable_id)
        WHERE c.user_view_schema = 'historian' AND c.user_view_name IN ('rollup_1m', 'rollup_10m', 'rollup_1h', 'rollup_1d')
    LOOP
        level := one.level;
        IF one.mark < hi_us THEN
            stale_from := _timescaledb_functions.to_timestamp(greatest(one.mark, lo_us));
            stale_to := hi;
            RETURN NEXT;
        END IF;
        RETURN QUERY
        SELECT one.level, NULL::int4, _timescaledb_functions.to_timestamp(greatest(l.lowest_modified_value, lo_us)),
            _timescaledb_functions.to_timestamp(least(l.greatest_modified_value, hi_us - 1) + 1)
        FROM (
            SELECT h.lowest_modified_value, h.greatest_modified_value
            FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log h WHERE h.hypertable_id = one.source
            UNION ALL
            SELECT m.lowest_modified_value, m.greatest_modified_value
            FROM _timescaledb_catalog.continuous_aggs_materialization_invalidation_log m WHERE m.materialization_id = one.made
        ) AS l
        WHERE l.lowest_modified_value < least(hi_us, one.mark) AND l.greatest_modified_value >= lo_us;
        IF to_regclass('_timescaledb_catalog.continuous_aggs_materialization_ranges') IS NOT NULL THEN
            RETURN QUERY
            SELECT one.level, NULL::int4, _timescaledb_functions.to_timestamp(greatest(l.lowest_modified_value, lo_us)),
                _timescaledb_functions.to_timestamp(least(l.greatest_modified_value, hi_us - 1) + 1)
            FROM _timescaledb_catalog.continuous_aggs_materialization_ranges l
            WHERE l.materialization_id = one.made AND l.lowest_modified_value < least(hi_us, one.mark) AND l.greatest_modified_value >= lo_us;
        END IF;
    END LOOP;
END $$;

-- The stored buckets themselves, by the names that they have on plain PostgreSQL: what is newer is aggregated by the reader.
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT c.view_name, format('%I.%I', c.materialization_hypertable_schema, c.materialization_hypertable_name) AS stored
        FROM timescaledb_information.continuous_aggregates c WHERE c.view_schema = 'historian' AND c.view_name LIKE 'rollup\_%'
    LOOP
        EXECUTE format('CREATE VIEW historian.%I AS SELECT * FROM %s', one.view_name || '_stored', one.stored);
    END LOOP;
END $$;
