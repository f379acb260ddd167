"""The migrations of this installation, read from the numbered SQL files under sql/, and the statements that each becomes.

`NNNN_name.sql` is for both engines; `NNNN_name.plain.sql` and `NNNN_name.timescale.sql` for one. In a file for both, what follows `--@plain ` or
`--@timescale ` on a line is for that engine alone. A file that has been released is never changed.

Each migration is a transaction, which also records it. A file whose first line is `--@no-transaction` is for what the server does not do within one: its statements are
run one by one, each committed by itself, and recorded when all are done. Interrupted, they are run again from the first: each must bear to be repeated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from psycopg import sql

from historian.schema.engine import EXTENSION, Engine
from historian.schema.errors import SchemaError
from historian.schema.statements import split

_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)(?:\.(plain|timescale))?\.sql")
_NO_TRANSACTION = "--@no-transaction"
#: the migration that brings historian.apply_rights; it and all after it end with a call of that
_RIGHTS = "roles"

#: taken by whoever upgrades, so that others wait
LOCK = "SELECT pg_advisory_lock(hashtext('historian.migrate'))"
UNLOCK = "SELECT pg_advisory_unlock(hashtext('historian.migrate'))"
_SCHEMA = "CREATE SCHEMA IF NOT EXISTS historian"
_TABLE = (
    "CREATE TABLE IF NOT EXISTS historian.migration ("
    "number int PRIMARY KEY, name text NOT NULL, engine text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: `sql` is for the engine that it was read for. Not `whole`: it has no transaction around it."""

    number: int
    name: str
    sql: str
    whole: bool = True

    @property
    def title(self) -> str:
        return f"{self.number:04d}_{self.name}"

    def statements(self) -> list[str]:
        """What is sent to the server, one after the other; of a whole one the script as it is."""
        return [self.sql] if self.whole else split(self.sql)


def migrations(engine: Engine) -> list[Migration]:
    """The migrations for an engine, in order. Raises SchemaError if the files have a gap or a number twice: the installation is damaged."""
    found: list[Migration] = []
    for file in resources.files("historian.schema").joinpath("sql").iterdir():
        match = _NAME.fullmatch(file.name)
        if match is None or match[3] not in (None, engine):
            continue
        text = file.read_text(encoding="utf-8").replace(f"--@{engine} ", "")
        found.append(Migration(int(match[1]), match[2], text, whole=text.split("\n", 1)[0].strip() != _NO_TRANSACTION))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise SchemaError("the migrations of this installation have a gap; install the package again")
    return found


def foundation(*, extension: bool, schema: bool) -> list[str]:
    """What stands before the first migration: the extension and the schema, where they are missing, and the table of migrations."""
    # IF NOT EXISTS alone would ask for the right to make a schema even where an administrator has made it
    return [*([EXTENSION] if extension else []), *([_SCHEMA] if schema else []), _TABLE]


def closing(migration: Migration, engine: Engine) -> list[str]:
    """What ends the step: rights on what it made, and its record. In its transaction, or in one of their own."""
    settle = ["SELECT historian.apply_rights()"] if migration.number >= _rights_since(engine) else []
    record = sql.SQL("INSERT INTO historian.migration (number, name, engine) VALUES ({}, {}, {})").format(
        sql.Literal(migration.number), sql.Literal(migration.name), sql.Literal(engine)
    )
    return [*settle, record.as_string(None)]


def _rights_since(engine: Engine) -> int:
    return next(migration.number for migration in migrations(engine) if migration.name == _RIGHTS)


def script(plan: Sequence[Migration], engine: Engine, *, first: Sequence[str], session: Sequence[str], standing: str) -> str:
    """The whole upgrade as a script for psql: statement by statement what `upgrade` would send, and a look whether the database is still the one that was asked.

    `standing` is the SQL condition for that.
    """
    versions = f"{plan[0].number - 1} to {plan[-1].number}" if plan[0].number > 1 else f"nothing to {plan[-1].number}"
    lines = [
        f"-- The historian's schema, engine {engine}, from version {versions}. Run it as the schema's owner: psql --no-psqlrc --file FILE DSN",
        "-- Stops at the first error: the step that failed is undone (one without a transaction bears to be repeated), the steps before it stand.",
        "-- Then, or when the database was changed meanwhile, print the rest anew.",
        "\\set ON_ERROR_STOP on",
        "",
        f"{LOCK};",
        *(f"{statement};" for statement in session),
        f"DO $$ BEGIN IF NOT ({standing}) THEN RAISE 'the schema is not what it was when this script was printed; print it anew'; END IF; END $$;",
        *(f"{statement};" for statement in first),
    ]
    for migration in plan:
        body = [f"{migration.sql.strip()}\n"] if migration.whole else [_ended(statement) for statement in migration.statements()]
        end = [f"{statement};" for statement in closing(migration, engine)]
        lines += ["", f"-- {migration.title}"]
        lines += ["BEGIN;", *body, *end, "COMMIT;"] if migration.whole else [*body, "BEGIN;", *end, "COMMIT;"]
    return "\n".join([*lines, "", f"{UNLOCK};", ""])


def _ended(statement: str) -> str:
    # a semicolon in a comment ends nothing
    return f"{statement}\n;" if "--" in statement.rsplit("\n", 1)[-1] else f"{statement};"
