"""historian.ingest.spool: the on-disk queue of a worker whose upstream is away."""
