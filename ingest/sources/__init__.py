"""historian.ingest.sources: where samples come from. A module a source; `source.py` is what they have in common."""
