-- For tools that speak SQL and know nothing of tags, such as Grafana: a time, a metric and a value. docs/grafana.md has the queries.

-- The regular expression of a UNS wildcard pattern: + stands for one level, # at the end for the level before it and everything below. As in schema/paths.py.
-- The planner makes a constant of it, and of the beginning without wildcards a range of the index.
CREATE FUNCTION historian.wildcard_regex(pattern text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    levels text[] := string_to_array(pattern, '/');
    level  text;
    parts  text[] := '{}';
BEGIN
    IF pattern = '#' THEN
        RETURN '^';
    END IF;
    FOR i IN 1 .. cardinality(levels) LOOP
        level := levels[i];
        IF level = '#' AND i = cardinality(levels) THEN
            RETURN '^' || array_to_string(parts, '/') || '(/|$)';
        ELSIF level = '+' THEN
            parts := parts || '[^/]+'::text;
        ELSIF level ~ '[+#]' THEN
            RAISE EXCEPTION 'wildcard pattern %: + and # stand for whole levels, # only at the end', quote_literal(left(pattern, 80))
                USING ERRCODE = 'invalid_parameter_value';
        ELSE
            parts := parts || regexp_replace(level, '([^[:alnum:]_ ])', '\\\1', 'g');
        END IF;
    END LOOP;
    RETURN '^' || array_to_string(parts, '/') || '$';
END $$;

CREATE FUNCTION historian.matches(path text, pattern text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN path ~ historian.wildcard_regex(pattern);

COMMENT ON FUNCTION historian.matches(text, text) IS 'whether a tag has this path, or one that this UNS wildcard (site/+/line1/#) names';

CREATE VIEW historian.tags AS
SELECT t.path AS tag, regexp_replace(t.path, '/?[^/]*$', '') AS parent, substring(t.path from '[^/]*$') AS name, t.kind, t.unit, t.description, t.low, t.high
FROM historian.tag t;

COMMENT ON VIEW historian.tags IS 'the tags: path, what it lies in, its last level, kind, unit, description, range';

-- The name of a digital tag's state, true and false, or the text itself.
CREATE FUNCTION historian.state_name(kind text, states jsonb, value float8, text text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE kind
    WHEN 'text' THEN text
    WHEN 'digital' THEN COALESCE(states ->> value::text, value::text)
    WHEN 'bool' THEN (value <> 0)::text
END;

-- A bad sample has no value here, whatever it carries: a line that is drawn over it breaks.
CREATE VIEW historian.trend_raw AS
SELECT s.ts AS "time", t.path AS metric, historian.known(s.mantissa, s.scale, s.value, s.quality) AS value,
    historian.state_name(t.kind, t.states, historian.known(s.mantissa, s.scale, s.value, s.quality), CASE WHEN s.quality >= 64 THEN s.text END) AS state,
    s.quality, t.unit
FROM historian.sample s JOIN historian.tag t USING (tag_id);

COMMENT ON VIEW historian.trend_raw IS 'samples by time and metric (the tag''s path); value and state are NULL where the sample is bad';

CREATE VIEW historian.trend_1m AS
SELECT bucket AS "time", tag AS metric, avg AS value, min, max, 100.0::float8 * good_count / count AS percent_good FROM historian.rollups_1m;

CREATE VIEW historian.trend_10m AS
SELECT bucket AS "time", tag AS metric, avg AS value, min, max, 100.0::float8 * good_count / count AS percent_good FROM historian.rollups_10m;

CREATE VIEW historian.trend_1h AS
SELECT bucket AS "time", tag AS metric, avg AS value, min, max, 100.0::float8 * good_count / count AS percent_good FROM historian.rollups_1h;

CREATE VIEW historian.trend_1d AS
SELECT bucket AS "time", tag AS metric, avg AS value, min, max, 100.0::float8 * good_count / count AS percent_good FROM historian.rollups_1d;

COMMENT ON VIEW historian.trend_1m IS 'buckets of 1 minute by time and metric; value is the average of the samples that are not bad';
COMMENT ON VIEW historian.trend_10m IS 'buckets of 10 minutes by time and metric; value is the average of the samples that are not bad';
COMMENT ON VIEW historian.trend_1h IS 'buckets of 1 hour by time and metric; value is the average of the samples that are not bad';
COMMENT ON VIEW historian.trend_1d IS 'buckets of 1 day (UTC) by time and metric; value is the average of the samples that are not bad';

CREATE VIEW historian.last_values AS
SELECT s.ts AS "time", t.path AS metric, CASE WHEN s.quality >= 64 THEN s.value END AS value,
    historian.state_name(t.kind, t.states, CASE WHEN s.quality >= 64 THEN s.value END, CASE WHEN s.quality >= 64 THEN s.text END) AS state,
    s.quality, CASE WHEN s.quality >= 192 THEN 'good' WHEN s.quality >= 64 THEN 'uncertain' ELSE 'bad' END AS quality_word,
    t.unit, t.low, t.high, t.description
FROM historian.snapshot s JOIN historian.tag t USING (tag_id) WHERE s.ts IS NOT NULL;

COMMENT ON VIEW historian.last_values IS 'the newest sample of every tag, with its range, by metric';

-- A trend of any span in about as many rows: buckets of `every`, which begin at multiples of it since 1970 UTC, from the greatest rollup level that they are made of, and
-- from the samples themselves where there is none. Without `every` the samples as they are. Tags are paths and UNS wildcards; those of texts are left out.
--
-- Tag by tag (a lateral join), as query/raw.py has it: each is one walk along the index.
CREATE FUNCTION historian.trend(tags text[], start timestamptz, stop timestamptz, every interval DEFAULT NULL)
RETURNS TABLE ("time" timestamptz, metric text, value float8, min float8, max float8, percent_good float8, unit text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    epoch CONSTANT timestamptz := '1970-01-01 00:00:00+00';
    -- a year and a month as long as they are on average: date_bin knows neither
    width numeric := extract(epoch FROM every);
    step  interval := make_interval(secs => width::float8);
    level text := CASE
        WHEN every IS NULL THEN NULL
        WHEN width % 86400 = 0 THEN 'rollup_1d'
        WHEN width % 3600 = 0 THEN 'rollup_1h'
        WHEN width % 600 = 0 THEN 'rollup_10m'
        WHEN width % 60 = 0 THEN 'rollup_1m'
    END;
    source text;
BEGIN
    IF width <= 0 THEN
        RAISE EXCEPTION 'every is an interval of more than nothing, not %', every USING ERRCODE = 'invalid_parameter_value';
    END IF;
    source := CASE
        WHEN every IS NULL THEN
            'SELECT s.ts AS time, historian.known(s.mantissa, s.scale, s.value, s.quality) AS value,'
            ' historian.known(s.mantissa, s.scale, s.value, s.quality) AS min, historian.known(s.mantissa, s.scale, s.value, s.quality) AS max,'
            ' CASE WHEN s.quality >= 192 THEN 100 ELSE 0 END::float8 AS percent_good'
            ' FROM historian.sample s WHERE s.tag_id = t.tag_id AND s.ts >= $2 AND s.ts < $3 ORDER BY 1'
        WHEN level IS NULL THEN
            'SELECT date_bin($4, s.ts, $5) AS time,'
            ' historian.average(sum(historian.known(s.mantissa, s.scale, s.value, s.quality)), count(*) FILTER (WHERE s.quality >= 64)) AS value,'
            ' min(historian.known(s.mantissa, s.scale, s.value, s.quality)) AS min, max(historian.known(s.mantissa, s.scale, s.value, s.quality)) AS max,'
            ' 100.0::float8 * count(*) FILTER (WHERE s.quality >= 192) / count(*) AS percent_good'
            ' FROM historian.sample s WHERE s.tag_id = t.tag_id AND s.ts >= date_bin($4, $2, $5) AND s.ts < $3 GROUP BY 1 ORDER BY 1'
        ELSE
            'SELECT date_bin($4, r.bucket, $5) AS time,'
            ' historian.average(sum(historian.number(r.sum_mantissa, r.scale, r.sum_value)), sum(r.count - r.bad_count)::int8) AS value,'
            ' min(historian.number(r.min_mantissa, r.scale, r.min_value)) AS min, max(historian.number(r.max_mantissa, r.scale, r.max_value)) AS max,'
            ' 100.0::float8 * sum(r.good_count)::float8 / sum(r.count)::float8 AS percent_good'
            ' FROM historian.' || quote_ident(level) || ' r WHERE r.tag_id = t.tag_id AND r.bucket >= date_bin($4, $2, $5) AND r.bucket < $3 GROUP BY 1 ORDER BY 1'
    END;
    RETURN QUERY EXECUTE
        'SELECT x.time, t.path, x.value, x.min, x.max, x.percent_good, t.unit FROM ('
        ' SELECT g.tag_id, g.path, g.unit FROM historian.tag g WHERE g.path = ANY ($1) AND g.kind <> ''text'''
        ' UNION SELECT g.tag_id, g.path, g.unit FROM unnest($1) AS p (pattern) JOIN historian.tag g ON historian.matches(g.path, p.pattern)'
        ' WHERE p.pattern ~ ''[+#]'' AND g.kind <> ''text'''
        ' ) AS t CROSS JOIN LATERAL (' || source || ') AS x ORDER BY t.path COLLATE "C", x.time'
        USING tags, start, stop, step, epoch;
END $$;

COMMENT ON FUNCTION historian.trend(text[], timestamptz, timestamptz, interval) IS
    'averages, extremes and quality of tags (paths, UNS wildcards) in buckets of an interval, from the rollups where they serve; without an interval the samples';
