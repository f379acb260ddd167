-- Every (tag_id, ts) is there once: looking for duplicates before each page split finds none, and takes a twentieth of a COPY.
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'historian.sample_tag_ts'::regclass LOOP
        EXECUTE format('ALTER INDEX %s SET (deduplicate_items = off)', part);
    END LOOP;
END $$;

-- The options of a partitioned index cannot be altered, nor are they handed down: each part has its own.
-- Months are counted from January 1970 = 0. Returns how many partitions were made. SECURITY DEFINER: the server's role needs no right to create tables.
CREATE OR REPLACE FUNCTION historian.make_partitions(months int[]) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    m    int;
    lo   timestamptz;
    hi   timestamptz;
    name text;
    made int := 0;
BEGIN
    -- writers that find the same month missing at the same time wait for each other here
    PERFORM pg_advisory_xact_lock(hashtext('historian.make_partitions'));
    FOREACH m IN ARRAY months LOOP
        -- months before 1970 are negative
        lo := timestamptz '1970-01-01 00:00:00+00' + make_interval(months => m);
        hi := timestamptz '1970-01-01 00:00:00+00' + make_interval(months => m + 1);
        name := format('sample_%s', to_char(lo, 'YYYY_MM'));
        IF to_regclass(format('historian.%I', name)) IS NULL THEN
            -- ATTACH locks the parent less than CREATE … PARTITION OF does: writers and readers go on
            EXECUTE format('CREATE TABLE historian.%I (LIKE historian.sample INCLUDING DEFAULTS INCLUDING CONSTRAINTS, CHECK (ts >= %L AND ts < %L)) WITH (autovacuum_vacuum_insert_scale_factor = 0.1)', name, lo, hi);
            -- ATTACH takes it for its part of sample_tag_ts
            EXECUTE format('CREATE INDEX ON historian.%I (tag_id, ts) WITH (deduplicate_items = off)', name);
            EXECUTE format('ALTER TABLE historian.sample ATTACH PARTITION historian.%I FOR VALUES FROM (%L) TO (%L)', name, lo, hi);
            EXECUTE format('ALTER TABLE historian.%I DROP CONSTRAINT %I', name, name || '_ts_check');
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END $$;
