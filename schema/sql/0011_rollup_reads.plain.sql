-- For readers that want rollups exact in their snapshot: where the stored buckets of a level do not hold (yet) what their samples give, from `stale_from` up to
-- `stale_to`, of one tag, or of all where `tag_id` is NULL. Behind its watermark a level has no buckets. What is stale in a level is so in all levels above it.
CREATE FUNCTION historian.rollup_stale(tags int4[], lo timestamptz, hi timestamptz)
RETURNS TABLE (level text, tag_id int4, stale_from timestamptz, stale_to timestamptz)
LANGUAGE sql STABLE AS $$
SELECT l.level, NULL::int4, greatest(l.watermark, lo), hi FROM historian.rollup_level l WHERE l.watermark < hi
UNION ALL
SELECT s.level, s.tag_id, lower(s.r), upper(s.r)
FROM (
    -- what came late to minutes before the horizon waits under a name of its own
    SELECT l.level, t.tag_id, unnest(range_agg(tstzrange(c.lo, c.hi + make_interval(secs => l.seconds)))) AS r
    FROM historian.rollup_change c JOIN historian.rollup_level l ON l.level = CASE c.level WHEN 'late' THEN '1m' ELSE c.level END AND c.lo < l.watermark, unnest(c.tag_ids) AS t (tag_id)
    WHERE c.lo < rollup_stale.hi AND c.hi + make_interval(secs => l.seconds) > rollup_stale.lo AND t.tag_id = ANY (tags)
    GROUP BY 1, 2
) AS s
$$;
