-- The limits of a tag, beside its range: where a value becomes a warning (low, high) and an alarm (low low, high high).

ALTER TABLE historian.tag
    ADD COLUMN low_low_limit   float8,
    ADD COLUMN low_limit       float8,
    ADD COLUMN high_limit      float8,
    ADD COLUMN high_high_limit float8,
    -- those that are given rise: least() leaves out what is NULL, and a comparison with NULL refuses nothing
    ADD CONSTRAINT tag_limits_rise CHECK (
        low_low_limit <= least(low_limit, high_limit, high_high_limit)
        AND low_limit <= least(high_limit, high_high_limit)
        AND high_limit <= high_high_limit
    );

CREATE OR REPLACE VIEW historian.tags AS
SELECT t.path AS tag, regexp_replace(t.path, '/?[^/]*$', '') AS parent, substring(t.path from '[^/]*$') AS name, t.kind, t.unit, t.description, t.low, t.high,
    t.low_low_limit, t.low_limit, t.high_limit, t.high_high_limit
FROM historian.tag t;

COMMENT ON VIEW historian.tags IS 'the tags: path, what it lies in, its last level, kind, unit, description, range, limits';

CREATE OR REPLACE VIEW historian.last_values AS
SELECT s.ts AS "time", t.path AS metric, CASE WHEN s.quality >= 64 THEN s.value END AS value,
    historian.state_name(t.kind, t.states, CASE WHEN s.quality >= 64 THEN s.value END, CASE WHEN s.quality >= 64 THEN s.text END) AS state,
    s.quality, CASE WHEN s.quality >= 192 THEN 'good' WHEN s.quality >= 64 THEN 'uncertain' ELSE 'bad' END AS quality_word,
    t.unit, t.low, t.high, t.description, t.low_low_limit, t.low_limit, t.high_limit, t.high_high_limit
FROM historian.snapshot s JOIN historian.tag t USING (tag_id) WHERE s.ts IS NOT NULL;

COMMENT ON VIEW historian.last_values IS 'the newest sample of every tag, with its range and limits, by metric';
