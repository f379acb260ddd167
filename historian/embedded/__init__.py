"""historian.embedded: a PostgreSQL server of one's own, from a wheel: the default where no other database is named.

`database.py` starts, watches over and stops it; `postmaster.py` knows its process, `tuning.py` its settings, `wheel.py` where its programs are,
`system_user.py` as whom it runs.
"""

from historian.embedded.database import EmbeddedDatabase, default_data_dir, running_dsn

__all__ = ["EmbeddedDatabase", "default_data_dir", "running_dsn"]
