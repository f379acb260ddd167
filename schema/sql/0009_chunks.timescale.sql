-- Chunks looked after: their interval follows the measured rate; old ones are converted to the columnstore; what bulk loads and late samples have left unordered, half
-- converted or in many small batches is put right. A job of the database does it, as the owner of the tables: it needs no server of ours, and no server of ours needs
-- its rights. In place of the columnstore policy, which knows neither small batches nor which chunks are being written, and makes batches of 1 000 rows.

-- One row. `by_hand`: the interval that somebody chose; NULL while it follows the rate.
CREATE TABLE historian.chunk_plan (
    single      boolean PRIMARY KEY DEFAULT true CHECK (single),
    by_hand     interval,
    rows_a_day  float8,
    tags        int8,
    measured_at timestamptz,
    -- in the chunks of that moment
    live_rows   int8
);
INSERT INTO historian.chunk_plan DEFAULT VALUES;

-- What the job has seen of a chunk. `writes` counts what has been written to it, as PostgreSQL's statistics have it: a chunk for which it stays the same is quiet.
CREATE TABLE historian.chunk_state (
    chunk_name  text PRIMARY KEY,
    writes      int8 NOT NULL,
    changed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    status      int NOT NULL,
    -- rows in all; of those in the columnstore the batches that they lie in, and the fewest that they could lie in
    rows        int8 NOT NULL,
    batches     int8 NOT NULL,
    fewest      int8,
    -- there has been something to do since, and what kept it from being done
    due_since   timestamptz,
    problem     text
);

-- Rows of a batch in the columnstore. 1 000 is TimescaleDB's own measure; of 2 000 a sample takes 5 to 20 % less, for what a batch costs whatever its size, and its
-- pages fill better. 4 000 would save 2 to 7 % more, and make reads of short times and corrections twice as dear again.
CREATE FUNCTION historian.batch_rows() RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 2000;

-- status: 1 there is a columnstore, 2 its batches overlap, 4 frozen, 8 there are rows beside it
CREATE VIEW historian.chunk AS
SELECT i.chunk_name::text AS chunk_name, c.relid AS chunk, s.compress_relid::regclass AS columnstore, i.range_start, i.range_end, i.chunk_creation_time AS created_at,
    _timescaledb_functions.chunk_status(c.relid) AS status
FROM timescaledb_information.chunks i
CROSS JOIN LATERAL (SELECT format('%I.%I', i.chunk_schema, i.chunk_name)::regclass AS relid) c
LEFT JOIN _timescaledb_catalog.compression_settings s ON s.relid = c.relid
WHERE i.hypertable_schema = 'historian' AND i.hypertable_name = 'sample';

CREATE FUNCTION historian.chunk_interval() RETURNS interval
LANGUAGE sql STABLE
RETURN (SELECT time_interval FROM timescaledb_information.dimensions WHERE hypertable_schema = 'historian' AND hypertable_name = 'sample');

-- A chunk is converted when it lies so far back: late samples are rare by then. Never much longer, whatever the interval.
CREATE FUNCTION historian.convert_after(chunk_interval interval) RETURNS interval
LANGUAGE sql IMMUTABLE
RETURN least(greatest(2 * chunk_interval, INTERVAL '2 hours'), INTERVAL '7 days');

-- The hours of a chunk for a rate: its indexes (40 bytes a row) take a quarter of the memory that PostgreSQL counts on, since those of the chunk being written and of
-- the two before it, which are not converted yet, are in use; 10 to 50 million rows. Longer, up to four times, where a tag would not fill half a batch in it.
CREATE FUNCTION historian.wanted_hours(rows_a_day float8, tags int8) RETURNS float8
LANGUAGE sql STABLE STRICT
RETURN (
    SELECT least(greatest(memory, least(filled, 4 * memory), 1), 720)
    FROM (SELECT least(greatest(pg_size_bytes(current_setting('effective_cache_size')) / 4 / 40, 10e6), 50e6) / greatest(rows_a_day, 1) * 24 AS memory,
                 0.5 * historian.batch_rows() * tags / greatest(rows_a_day, 1) * 24 AS filled) AS hours
);

CREATE FUNCTION historian.recommended_interval(rows_a_day float8, tags int8) RETURNS interval
LANGUAGE sql STABLE STRICT
RETURN (
    SELECT make_interval(hours => step) FROM unnest('{1,2,3,6,12,24,48,96,168,336,720}'::int[]) AS step
    ORDER BY abs(ln(step::float8) - ln(historian.wanted_hours(rows_a_day, tags))), step LIMIT 1
);

-- Look at a chunk that was written to since we last looked. `whole`: its batches are counted; else its rows are estimated from a part of them, if they are many.
CREATE FUNCTION historian.look_at_chunk(looked_at historian.chunk, whole boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counted int8;
    percent float8;
    n_rows  int8 := 0;
    loose   int8 := 0;
    n_batch int8 := 0;
    n_least int8 := 0;
BEGIN
    SELECT COALESCE(sum(pg_stat_get_tuples_inserted(oid) + pg_stat_get_tuples_updated(oid) + pg_stat_get_tuples_deleted(oid)), 0)::int8
        INTO counted FROM unnest(ARRAY[looked_at.chunk::oid, looked_at.columnstore::oid]) AS oid WHERE oid IS NOT NULL;
    PERFORM FROM historian.chunk_state s
        WHERE s.chunk_name = looked_at.chunk_name AND s.writes = counted AND s.status = looked_at.status AND (s.fewest IS NOT NULL OR NOT whole);
    IF FOUND THEN
        RETURN;
    END IF;
    IF looked_at.columnstore IS NOT NULL THEN
        percent := least(100, 100 * 64e6 / greatest(pg_relation_size(looked_at.columnstore), 1));
        IF whole OR percent = 100 THEN
            EXECUTE format('SELECT COALESCE(sum(n), 0), COALESCE(sum(b), 0), COALESCE(sum(ceil(n / %s.0)), 0)
                            FROM (SELECT sum(_ts_meta_count) AS n, count(*) AS b FROM %s GROUP BY tag_id) AS t', historian.batch_rows(), looked_at.columnstore)
                INTO n_rows, n_batch, n_least;
        ELSE
            EXECUTE format('SELECT COALESCE(sum(_ts_meta_count), 0) * 100 / $1, count(*) * 100 / $1 FROM %s TABLESAMPLE system ($1)', looked_at.columnstore)
                INTO n_rows, n_batch USING percent;
            n_least := NULL;
        END IF;
    END IF;
    IF looked_at.status <> 1 THEN
        -- statistics come late: until then by the size, of which a row takes 52 bytes
        SELECT COALESCE(NULLIF(greatest(pg_stat_get_live_tuples(oid), reltuples, 0), 0), pg_relation_size(oid) / 52)::int8 INTO loose FROM pg_class WHERE oid = looked_at.chunk;
    END IF;
    INSERT INTO historian.chunk_state AS s (chunk_name, writes, status, rows, batches, fewest)
        VALUES (looked_at.chunk_name, counted, looked_at.status, n_rows + loose, n_batch, n_least)
        ON CONFLICT (chunk_name) DO UPDATE SET
            writes = EXCLUDED.writes, status = EXCLUDED.status, rows = EXCLUDED.rows, batches = EXCLUDED.batches, fewest = EXCLUDED.fewest,
            changed_at = CASE WHEN s.writes = EXCLUDED.writes THEN s.changed_at ELSE EXCLUDED.changed_at END;
END $$;

-- Chunks with what we know of them. `due`: to be converted, or put right.
CREATE VIEW historian.chunk_work AS
SELECT c.*, s.changed_at, s.rows, s.batches, s.fewest, s.due_since, s.problem,
    c.range_end <= now() - (SELECT historian.convert_after(historian.chunk_interval()))
        AND c.status & 4 = 0 AND (c.status & 1 = 0 OR c.status & 10 <> 0 OR COALESCE(s.batches > 2 * s.fewest, false)) AS due
FROM historian.chunk c LEFT JOIN historian.chunk_state s USING (chunk_name);

-- Measure how many rows a day come, and let the interval follow. What is loaded into older chunks does not count, unless nothing else comes.
CREATE FUNCTION historian.follow_rate() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    plan     historian.chunk_plan;
    measured float8;
    live     int8;
    since    timestamptz;
    standing interval;
    wanted   interval;
    change   float8;
    schema   text := (SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'timescaledb');
BEGIN
    SELECT * INTO plan FROM historian.chunk_plan FOR UPDATE;
    SELECT COALESCE(sum(rows), 0), COALESCE(plan.measured_at, greatest(min(created_at), min(range_start))) INTO live, since
        FROM historian.chunk_work WHERE range_start <= now() AND range_end > COALESCE(plan.measured_at, now());
    -- an hour once there is a measure, to see more than a moment; ten minutes at first
    IF since <= now() - (CASE WHEN plan.rows_a_day IS NULL THEN INTERVAL '10 minutes' ELSE INTERVAL '1 hour' END) THEN
        measured := (live - COALESCE(plan.live_rows, 0)) / date_part('epoch', now() - since) * 86400;
    END IF;
    IF COALESCE(measured, 0) <= 0 AND (plan.rows_a_day IS NULL OR measured IS NOT NULL) THEN
        -- history alone: as dense as its newest chunks
        SELECT sum(rows) / (sum(date_part('epoch', range_end - range_start)) / 86400) INTO measured
            FROM (SELECT * FROM historian.chunk_work WHERE rows > 0 AND range_end <= now() ORDER BY range_start DESC LIMIT 3) AS newest;
    END IF;
    IF measured > 0 THEN
        -- a quarter of the new: a day's and a night's rates are one
        UPDATE historian.chunk_plan SET rows_a_day = COALESCE(0.75 * rows_a_day + 0.25 * measured, measured),
            tags = (SELECT count(*) FROM historian.snapshot s WHERE s.ts IS NOT NULL);
    END IF;
    IF measured > 0 OR plan.measured_at IS NULL OR plan.measured_at <= now() - INTERVAL '1 hour' THEN
        UPDATE historian.chunk_plan SET measured_at = now(),
            live_rows = COALESCE((SELECT sum(rows) FROM historian.chunk_work WHERE range_start <= now() AND range_end > now()), 0);
    END IF;
    SELECT * INTO plan FROM historian.chunk_plan;
    standing := historian.chunk_interval();
    wanted := COALESCE(plan.by_hand, historian.recommended_interval(plan.rows_a_day, plan.tags), standing);
    change := historian.wanted_hours(plan.rows_a_day, plan.tags) * 3600 / date_part('epoch', standing);
    -- a little more or less is not worth another grid
    IF wanted <> standing AND (plan.by_hand IS NOT NULL OR change >= 2 OR change <= 0.5) THEN
        EXECUTE format('SELECT %I.set_chunk_time_interval(''historian.sample'', $1)', schema) USING wanted;
    END IF;
END $$;

-- The job. Options: `quiet`, how long a chunk has not been written to before it is touched; `seconds`, after which no further chunk is begun.
CREATE PROCEDURE historian.tend_chunks(job_id int, config jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    quiet   interval := COALESCE(config ->> 'quiet', '10 minutes')::interval;
    until   timestamptz := clock_timestamp() + COALESCE(config ->> 'seconds', '300')::float8 * INTERVAL '1 second';
    schema  text := (SELECT extnamespace::regnamespace::text FROM pg_catalog.pg_extension WHERE extname = 'timescaledb');
    names   text[];
    name    text;
    failed  text;
    next    record;
    trouble text;
BEGIN
    IF NOT pg_try_advisory_lock(hashtext('historian.tend_chunks')) THEN
        RETURN;
    END IF;
    DELETE FROM historian.chunk_state WHERE chunk_name NOT IN (SELECT chunk_name FROM historian.chunk);
    PERFORM historian.look_at_chunk(c, c.range_end <= now() - (SELECT historian.convert_after(historian.chunk_interval()))) FROM historian.chunk c;
    COMMIT;
    PERFORM historian.follow_rate();
    COMMIT;
    UPDATE historian.chunk_state s SET due_since = CASE WHEN w.due THEN clock_timestamp() END, problem = CASE WHEN w.due THEN s.problem END
        FROM historian.chunk_work w WHERE w.chunk_name = s.chunk_name AND w.due = (s.due_since IS NULL);
    COMMIT;
    -- The oldest first; one that is never quiet is taken after a day. Those with rows beside the columnstore a second time, if need be: when they have gone into it, its
    -- batches may still be many.
    SELECT array_agg(n.chunk_name ORDER BY n.range_start, n.turn) INTO names FROM (
        SELECT w.chunk_name, w.range_start, turn FROM historian.chunk_work w, generate_series(1, CASE WHEN w.status & 8 = 8 THEN 2 ELSE 1 END) AS turn
        WHERE w.due AND (w.changed_at <= clock_timestamp() - quiet OR w.due_since <= clock_timestamp() - INTERVAL '1 day')) AS n;
    FOREACH name IN ARRAY COALESCE(names, '{}') LOOP
        EXIT WHEN clock_timestamp() >= until;
        SELECT w.* INTO next FROM historian.chunk_work w WHERE w.chunk_name = name AND w.due;
        CONTINUE WHEN next IS NULL OR name = failed;
        trouble := NULL;
        BEGIN
            -- who reads or writes it is waited for so long, and whoever comes later waits for us; else it is tried again at the next turn
            PERFORM set_config('lock_timeout', '3s', true), set_config('timescaledb.compression_batch_size_limit', historian.batch_rows()::text, true);
            EXECUTE format('SELECT %I.compress_chunk($1, true, $2)', schema) USING next.chunk, next.status & 1 = 1;
            UPDATE historian.chunk_state SET fewest = NULL WHERE chunk_name = next.chunk_name;
            PERFORM historian.look_at_chunk(c, true) FROM historian.chunk c WHERE c.chunk_name = next.chunk_name;
        EXCEPTION WHEN OTHERS THEN
            trouble := SQLERRM;
        END;
        UPDATE historian.chunk_state s SET problem = trouble, due_since = CASE WHEN w.due THEN s.due_since END
            FROM historian.chunk_work w WHERE w.chunk_name = next.chunk_name AND s.chunk_name = next.chunk_name;
        COMMIT;
        IF trouble IS NOT NULL THEN
            failed := name;
            RAISE LOG 'historian: chunk % is not converted: %', next.chunk_name, trouble;
        END IF;
    END LOOP;
    PERFORM pg_advisory_unlock(hashtext('historian.tend_chunks'));
END $$;

CALL remove_columnstore_policy('historian.sample', if_exists => true);
SELECT add_job('historian.tend_chunks', INTERVAL '10 minutes', config => '{"quiet": "10 minutes", "seconds": 300}', initial_start => now() + INTERVAL '1 minute',
    fixed_schedule => false);

-- For people who ask how data lie on disk: the parts of the samples table. `form`: rowstore, columnstore or both; `state`: what the job has to do.
CREATE VIEW historian.storage_part AS
SELECT w.chunk_name AS part, w.range_start, w.range_end,
    CASE WHEN w.status & 1 = 0 THEN 'rowstore' WHEN w.status & 8 = 8 THEN 'both' ELSE 'columnstore' END AS form,
    w.status & 2 = 2 AS unordered, COALESCE(w.batches > 2 * w.fewest, false) AS fragmented, w.due, w.problem, w.rows, w.batches,
    pg_total_relation_size(w.chunk) + COALESCE(pg_total_relation_size(w.columnstore), 0) AS bytes
FROM historian.chunk_work w;
