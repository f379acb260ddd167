"""historian.ingest.filters: exception reporting (deadband) and compression (swinging door), which leave out samples that others stand for."""
