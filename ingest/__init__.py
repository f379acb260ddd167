"""historian.ingest: from what arrives to a committed batch: decoders, the writer, batching, files."""
