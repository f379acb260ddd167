-- For people who come with SQL: samples by path, as numbers.

-- 10^n as float8 is exact up to n = 22, and dividing by it gives the float64 that was written
CREATE FUNCTION historian.decimal_value(mantissa int8, scale int2) RETURNS float8
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN mantissa::float8 / ('{1,1e1,1e2,1e3,1e4,1e5,1e6,1e7,1e8,1e9,1e10,1e11,1e12,1e13,1e14,1e15,1e16,1e17,1e18,1e19,1e20,1e21,1e22}'::float8[])[scale + 1];

CREATE VIEW historian.samples AS
SELECT t.path AS tag, s.ts, COALESCE(historian.decimal_value(s.mantissa, s.scale), s.value) AS value, s.quality, s.text
FROM historian.sample s JOIN historian.tag t USING (tag_id);

COMMENT ON VIEW historian.samples IS 'tag, ts, value, quality (192 good, 64..191 uncertain, 0..63 bad), text (of text tags)';

CREATE VIEW historian.current AS
SELECT t.path AS tag, s.ts, s.value, s.quality, s.text, t.unit, t.description
FROM historian.snapshot s JOIN historian.tag t USING (tag_id) WHERE s.ts IS NOT NULL;

COMMENT ON VIEW historian.current IS 'the newest sample of every tag';
