-- TimescaleDB: a hypertable with a columnstore by tag. A chunk a day: some 86 M rows at 1 000 samples/s, whose newest index pages stay in memory.

SELECT create_hypertable('historian.sample', by_range('ts', INTERVAL '1 day'), create_default_indexes => false);

ALTER TABLE historian.sample SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'tag_id', timescaledb.orderby = 'ts');

-- A day is converted once it lies two days back: what comes later than that is rare enough to be written into the columnstore.
CALL add_columnstore_policy('historian.sample', after => INTERVAL '2 days', if_not_exists => true);
