-- For people who ask how data lie on disk: the parts of the samples table, which are months here. All is rowstore.
CREATE VIEW historian.storage_part AS
SELECT c.relname::text AS part,
    (regexp_match(b.bound, 'FROM \(''([^'']+)''\)'))[1]::timestamptz AS range_start,
    (regexp_match(b.bound, 'TO \(''([^'']+)''\)'))[1]::timestamptz AS range_end,
    'rowstore'::text AS form, false AS unordered, false AS fragmented, false AS due, NULL::text AS problem,
    greatest(pg_stat_get_live_tuples(c.oid), c.reltuples::int8, 0) AS rows, 0::int8 AS batches,
    pg_total_relation_size(c.oid) AS bytes
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) AS b
WHERE i.inhparent = 'historian.sample'::regclass;
