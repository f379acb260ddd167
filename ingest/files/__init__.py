"""historian.ingest.files: CSV, Parquet and Arrow files as samples, after all of a file has been checked.

`examine` looks through a file and gives a `Plan`: what is in it, who it is as a producer, and its samples in numbered chunks. A module each sees to how files are
read (`csv.py`, `columnar.py`), to the roles of columns (`layout.py`), to times (`times.py`, `zones.py`) and to values (`cells.py`); `plan.py` puts them together.
"""

from __future__ import annotations

from historian.ingest.files.options import FileOptions, Layout
from historian.ingest.files.plan import CHUNK_SAMPLES, Chunk, Plan, examine

__all__ = ["CHUNK_SAMPLES", "Chunk", "FileOptions", "Layout", "Plan", "examine"]
