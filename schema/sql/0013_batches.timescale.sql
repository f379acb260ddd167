-- Rows of a batch in the columnstore: 2 000 where TimescaleDB takes so many. Older ones take 1 000 at most (2.23 does), and refuse to convert anything if asked for more:
-- there the job has converted no chunk, and said so as the chunks' problem; its next turn converts them.
CREATE OR REPLACE FUNCTION historian.batch_rows() RETURNS int LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT least(2000, COALESCE(max(max_val::int), 1000)) FROM pg_catalog.pg_settings WHERE name = 'timescaledb.compression_batch_size_limit');
