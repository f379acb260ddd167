"""historian.ingest.worker: a long-running process between one source and a historian: filters, batches, delivers, spools when upstream is away."""
