"""Data at rest, looked after: retention, the archive of Parquet files, backups, and the move to another database."""
