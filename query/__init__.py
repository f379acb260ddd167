"""historian.query: from a question to samples as Arrow: range queries, downsampling, the snapshot, formats."""
