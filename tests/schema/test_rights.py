"""Rights: a server's role can do all that a server does, and neither drop, alter, truncate nor create; a reader's can read."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest
from databases import as_role, make_role
from psycopg import sql

from historian.schema.engine import Engine
from historian.schema.errors import BadInput, SchemaError
from historian.schema.migrate import status, upgrade
from historian.schema.rights import Rights, grant, rights

_numbers = itertools.count()

NewRole = Callable[[], str]


@pytest.fixture
def new_role(postgres: str) -> Iterator[NewRole]:
    """Makes roles that may log in. To be asked for before databases, so that these are gone when the roles are dropped."""
    made: list[str] = []

    def make() -> str:
        # a name that has to be quoted
        made.append(f"Historian-test {os.getpid()} {next(_numbers)}")
        make_role(postgres, made[-1])
        return made[-1]

    yield make
    with psycopg.connect(postgres, autocommit=True) as conn:
        for name in made:
            conn.execute(sql.SQL("DROP OWNED BY {0}").format(sql.Identifier(name)))
            conn.execute(sql.SQL("DROP ROLE {0}").format(sql.Identifier(name)))


@dataclass(frozen=True, slots=True)
class Plant:
    """A database as an administrator makes it: its DSNs for a superuser, the owner of database and schema, a server and a reader; and the names of the latter three."""

    superuser: str
    owner: str
    server: str
    reader: str
    roles: tuple[str, str, str]


@pytest.fixture
def plant(new_role: NewRole, empty_database: str) -> Plant:
    owner, server, reader = new_role(), new_role(), new_role()
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(conn.info.dbname), sql.Identifier(owner)))
    dsns = [as_role(empty_database, role) for role in (owner, server, reader)]
    upgrade(dsns[0])
    grant(dsns[0], server)
    grant(dsns[0], reader, read_only=True)
    with psycopg.connect(dsns[1]) as conn:
        fill(conn)
    return Plant(empty_database, dsns[0], dsns[1], dsns[2], (owner, server, reader))


def fill(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    """A tag with a sample in June 2026, and a batch; by a server."""
    conn.execute("INSERT INTO historian.tag (path, kind, step) VALUES ('a/b', 'float', false)")
    conn.execute("INSERT INTO historian.snapshot (tag_id, ts, value, quality) SELECT tag_id, '2026-06-01Z', 1.5, 192 FROM historian.tag")
    # 677 months after January 1970; on TimescaleDB there is no such function
    if conn.execute("SELECT to_regprocedure('historian.make_partitions(int[])')").fetchone() != (None,):
        conn.execute("SELECT historian.make_partitions('{677}')")
    conn.execute(
        "INSERT INTO historian.sample (tag_id, scale, quality, ts, mantissa) SELECT tag_id, 1, 192, '2026-06-01Z', 15 FROM historian.tag"
    )
    conn.execute("INSERT INTO historian.ledger (producer, seq, digest, samples) VALUES ('p', 1, '', 1)")
    conn.execute("INSERT INTO historian.ledger_content (position, content) VALUES (nextval('historian.write_position'), '')")


def parts(dsn: str) -> list[str]:
    """The tables that hold samples: partitions or chunks."""
    with psycopg.connect(dsn) as conn:
        return [
            str(row[0])
            for row in conn.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'historian.sample'::regclass")
        ]


def refused(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement)  # type: ignore[arg-type]


def test_both_have_exactly_the_rights_that_they_are_meant_to_have(plant: Plant) -> None:
    _, server, reader = plant.roles
    assert rights(plant.owner, server) == Rights((), ())
    assert rights(plant.owner, reader, read_only=True) == Rights((), ())
    # and they differ
    assert rights(plant.owner, reader).missing
    assert rights(plant.owner, server, read_only=True).beyond


def test_every_object_of_the_schema_has_the_rights_that_a_server_needs(plant: Plant) -> None:
    """Without our own rules, as the server finds it: what a migration brings must be covered here."""
    with psycopg.connect(plant.server) as conn:
        tables = conn.execute(
            "SELECT relname, relkind::text, has_table_privilege(oid, 'SELECT'), has_table_privilege(oid, 'INSERT'), has_table_privilege(oid, 'UPDATE'),"
            " has_table_privilege(oid, 'DELETE') FROM pg_class WHERE relnamespace = 'historian'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')"
        ).fetchall()
        assert len(tables) > 7
        for name, kind, *can in tables:
            assert can == ([True, False, False, False] if kind in "vm" or name == "migration" else [True] * 4), name
        for (name,) in conn.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'historian'::regnamespace AND relkind = 'S'"
        ).fetchall():
            assert conn.execute("SELECT has_sequence_privilege(%s, 'USAGE')", [name]).fetchone() == (True,), name
        for name, short, can in conn.execute(
            "SELECT oid::regprocedure::text, proname, has_function_privilege(oid, 'EXECUTE') FROM pg_proc WHERE pronamespace = 'historian'::regnamespace"
        ).fetchall():
            assert can == (short != "apply_rights"), name


def test_functions_that_run_as_their_owner_are_for_the_server_alone_and_find_nothing_of_the_callers(plant: Plant) -> None:
    with psycopg.connect(plant.owner) as conn:
        rows = conn.execute(
            "SELECT oid::regprocedure::text, proconfig, has_function_privilege('public', oid, 'EXECUTE'), has_function_privilege(%s, oid, 'EXECUTE')"
            " FROM pg_proc WHERE pronamespace = 'historian'::regnamespace AND prosecdef",
            [plant.roles[2]],
        ).fetchall()
    for name, config, everybody, reader in rows:
        assert "search_path=pg_catalog, pg_temp" in config, name  # type: ignore[operator]
        assert not everybody, name
        assert not reader, name


def test_a_server_can_neither_drop_alter_truncate_nor_create(plant: Plant) -> None:
    with psycopg.connect(plant.owner) as conn:
        tables = [
            row[0]
            for row in conn.execute(
                "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'historian'::regnamespace AND relkind IN ('r', 'p')"
            )
        ]
        functions = [
            row[0] for row in conn.execute("SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'historian'::regnamespace")
        ]
    for table in {*map(str, tables), *parts(plant.owner)}:
        refused(plant.server, f"DROP TABLE {table} CASCADE")
        refused(plant.server, f"TRUNCATE {table} CASCADE")
        refused(plant.server, f"ALTER TABLE {table} ADD COLUMN more int")
        refused(plant.server, f"ALTER TABLE {table} DISABLE TRIGGER USER")
        refused(plant.server, f"CREATE INDEX ON {table} ((1))")
        refused(plant.server, f"CREATE TRIGGER more BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION historian.tag_changed()")
        refused(plant.server, f"ALTER TABLE {table} RENAME TO other")
    for function in functions:
        refused(plant.server, f"DROP ROUTINE {function} CASCADE")
        refused(plant.server, f"ALTER ROUTINE {function} RENAME TO other")
    for statement in (
        "DROP SCHEMA historian CASCADE",
        "ALTER SCHEMA historian RENAME TO other",
        "DROP VIEW historian.samples",
        "DROP SEQUENCE historian.write_position",
        "ALTER SEQUENCE historian.write_position RESTART",
        "SELECT setval('historian.write_position', 1)",
        "CREATE TABLE historian.more (n int)",
        "CREATE VIEW historian.more AS SELECT 1",
        "CREATE FUNCTION historian.more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA more",
        "INSERT INTO historian.migration (number, name, engine) VALUES (9999, 'x', 'plain')",
        "DELETE FROM historian.migration",
        "SELECT historian.apply_rights()",
        "SET SESSION AUTHORIZATION DEFAULT; SET ROLE " + '"' + plant.roles[0] + '"',
    ):
        refused(plant.server, statement)
    # without a grant option there is nothing to hand on: the server says so in a warning
    with psycopg.connect(plant.server) as conn:
        conn.execute(sql.SQL("GRANT INSERT ON historian.sample TO {}").format(sql.Identifier(plant.roles[2])))
    assert rights(plant.owner, plant.roles[2], read_only=True) == Rights((), ())


def test_nor_by_what_timescaledb_offers(plant: Plant, engine: Engine) -> None:
    if engine != "timescale":
        pytest.skip("plain PostgreSQL has no such functions")
    with psycopg.connect(plant.owner) as conn:
        job = conn.execute("SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_schema = 'historian'").fetchone()
        assert job is not None
    (chunk,) = parts(plant.owner)
    for statement in (
        "SELECT drop_chunks('historian.sample', older_than => timestamptz '2100-01-01')",
        f"SELECT compress_chunk('{chunk}')",
        "SELECT set_chunk_time_interval('historian.sample', interval '1 hour')",
        "CALL remove_columnstore_policy('historian.rollup_1m')",
        "SELECT remove_continuous_aggregate_policy('historian.rollup_1m')",
        "SELECT add_retention_policy('historian.sample', interval '1 day')",
        f"SELECT alter_job({job[0]}, scheduled => false)",
        f"SELECT delete_job({job[0]})",
    ):
        refused(plant.server, statement)


def test_an_ambush_in_the_search_path_catches_nobody(plant: Plant, engine: Engine) -> None:
    """A role that may create schemas of its own, and puts there what the functions that run as their owner call."""
    if engine != "plain":
        pytest.skip("TimescaleDB makes its chunks itself")
    _, server, _ = plant.roles
    with psycopg.connect(plant.superuser) as conn:
        conn.execute(sql.SQL("CREATE SCHEMA ambush AUTHORIZATION {}").format(sql.Identifier(server)))
    with psycopg.connect(plant.server, autocommit=True) as conn:
        conn.execute("CREATE TABLE ambush.caught (who text)")
        for schema in ("ambush", "pg_temp"):
            for function in (
                "format(text, text)",
                "format(text, text, timestamptz, timestamptz)",
                "to_regclass(text)",
                "to_char(timestamptz, text)",
                "hashtext(text)",
            ):
                conn.execute(
                    f"CREATE FUNCTION {schema}.{function} RETURNS text LANGUAGE plpgsql AS $$ BEGIN"  # type: ignore[arg-type]
                    " INSERT INTO ambush.caught VALUES (current_user); RETURN 'DROP TABLE historian.ledger'; END $$"
                )
        conn.execute("CREATE TEMP TABLE sample (ts timestamptz)")
        conn.execute("SET search_path = ambush, pg_temp, historian, pg_catalog")
        assert conn.execute("SELECT historian.make_partitions('{700, 701}')").fetchone() == (2,)
        assert conn.execute("SELECT count(*) FROM ambush.caught").fetchone() == (0,)
        assert conn.execute("SELECT count(*) FROM historian.ledger").fetchone() == (1,)
    assert {"historian.sample_2028_05", "historian.sample_2028_06"} <= set(parts(plant.owner))
    # what the call made is the owner's
    for part in parts(plant.owner):
        refused(plant.server, f"DROP TABLE {part}")


def test_a_reader_reads_and_does_nothing_else(plant: Plant) -> None:
    with psycopg.connect(plant.reader) as conn:
        assert conn.execute("SELECT tag, value FROM historian.samples").fetchall() == [("a/b", 1.5)]
        assert conn.execute("SELECT tag, value FROM historian.current").fetchall() == [("a/b", 1.5)]
        assert conn.execute("SELECT count(*) FROM historian.ledger").fetchone() == (1,)
    for statement in (
        "INSERT INTO historian.tag (path, kind, step) VALUES ('c', 'float', false)",
        "UPDATE historian.snapshot SET value = 0",
        "DELETE FROM historian.sample",
        "TRUNCATE historian.sample",
        "SELECT nextval('historian.write_position')",
        "SELECT FROM historian.tag FOR UPDATE",
        "LOCK TABLE historian.sample IN SHARE MODE",
        "CREATE TABLE historian.more (n int)",
        "DROP TABLE historian.sample",
    ):
        refused(plant.reader, statement)


def test_granting_again_changes_nothing(plant: Plant) -> None:
    query = (
        "SELECT xmin::text, oid::regclass::text FROM pg_class WHERE relnamespace = 'historian'::regnamespace"
        " UNION ALL SELECT xmin::text, oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'historian'::regnamespace"
        " UNION ALL SELECT xmin::text, 'default ' || oid FROM pg_default_acl ORDER BY 2"
    )
    with psycopg.connect(plant.owner, autocommit=True) as conn:
        before = conn.execute(query).fetchall()
        assert grant(plant.owner, plant.roles[1]) == Rights((), ())
        assert grant(plant.superuser, plant.roles[2], read_only=True) == Rights((), ())
        assert conn.execute(query).fetchall() == before


def test_a_server_that_becomes_a_reader_and_back(plant: Plant) -> None:
    _, server, _ = plant.roles
    grant(plant.owner, server, read_only=True)
    assert rights(plant.owner, server, read_only=True) == Rights((), ())
    refused(plant.server, "DELETE FROM historian.sample")
    grant(plant.owner, server)
    assert rights(plant.owner, server) == Rights((), ())


def test_what_was_granted_beyond_or_revoked_is_put_right(plant: Plant) -> None:
    _, server, _ = plant.roles
    name = sql.Identifier(server)
    with psycopg.connect(plant.owner) as conn:
        conn.execute(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA historian TO {}").format(name))
        conn.execute(sql.SQL("GRANT CREATE ON SCHEMA historian TO {}").format(name))
        conn.execute(sql.SQL("REVOKE UPDATE ON historian.snapshot FROM {}").format(name))
        conn.execute(sql.SQL("REVOKE USAGE ON SEQUENCE historian.write_position FROM {}").format(name))
    found = rights(plant.owner, server)
    assert found.missing == ("UPDATE on historian.snapshot", "USAGE on historian.write_position")
    assert "CREATE on schema historian" in found.beyond
    assert any(right.startswith("REFERENCES, TRIGGER, TRUNCATE") or "TRUNCATE on historian.sample" in right for right in found.beyond)
    assert grant(plant.owner, server) == Rights((), ())


def test_rights_that_come_from_everybody_or_a_membership_are_told(new_role: NewRole, plant: Plant) -> None:
    _, server, _ = plant.roles
    group = new_role()
    with psycopg.connect(plant.superuser) as conn:
        conn.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(server)))
        conn.execute(sql.SQL("GRANT TRUNCATE ON historian.ledger TO {}").format(sql.Identifier(group)))
        conn.execute("GRANT CREATE ON SCHEMA historian TO PUBLIC")
    assert grant(plant.owner, server).beyond == ("CREATE on schema historian", "TRUNCATE on historian.ledger")


def test_what_comes_later_is_covered_whoever_makes_it(plant: Plant) -> None:
    _, server, reader = plant.roles
    make = "CREATE TABLE historian.{0} (n int); CREATE SEQUENCE historian.{0}_seq; CREATE VIEW historian.{0}_view AS SELECT n FROM historian.{0};"
    with psycopg.connect(plant.owner) as conn:
        conn.execute(make.format("by_owner"))  # type: ignore[arg-type]
    with psycopg.connect(plant.server) as conn:
        conn.execute("INSERT INTO historian.by_owner SELECT nextval('historian.by_owner_seq')")
    # a migration that a superuser runs: its objects are that one's
    with psycopg.connect(plant.superuser) as conn:
        conn.execute(make.format("by_superuser"))  # type: ignore[arg-type]
        conn.execute(
            "CREATE FUNCTION historian.definer() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT 1'"
        )
        conn.execute("SELECT historian.apply_rights()")
    assert rights(plant.owner, server) == Rights((), ())
    assert rights(plant.owner, reader, read_only=True) == Rights((), ())
    with psycopg.connect(plant.server) as conn:
        conn.execute("INSERT INTO historian.by_superuser SELECT nextval('historian.by_superuser_seq')")
        assert conn.execute("SELECT historian.definer()").fetchone() == (1,)
    refused(plant.reader, "SELECT historian.definer()")


def test_a_function_that_runs_as_its_owner_with_an_open_search_path_is_refused(plant: Plant) -> None:
    with psycopg.connect(plant.owner) as conn:
        conn.execute("CREATE FUNCTION historian.open() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'")
        with pytest.raises(psycopg.errors.RaiseException, match="SECURITY DEFINER without SET search_path"):
            conn.execute("SELECT historian.apply_rights()")


def test_roles_that_no_rights_hold_back_are_refused(new_role: NewRole, plant: Plant) -> None:
    owner, _, _ = plant.roles
    superuser, member, deputy = new_role(), new_role(), new_role()
    with psycopg.connect(plant.superuser) as conn:
        conn.execute(sql.SQL("ALTER ROLE {} SUPERUSER").format(sql.Identifier(superuser)))
        conn.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(owner), sql.Identifier(member)))
        # who does not inherit may still become it
        conn.execute(sql.SQL("GRANT {} TO {} WITH INHERIT FALSE").format(sql.Identifier(superuser), sql.Identifier(deputy)))
    for role, why in (
        (superuser, "is a superuser"),
        (owner, "owns the schema"),
        (member, "is a member of .* who owns the schema"),
        (deputy, "is a member of .* a superuser"),
    ):
        with pytest.raises(BadInput, match=f"{why}.*protects nothing"):
            grant(plant.superuser, role)


def test_the_owner_of_the_database_is_refused_too(new_role: NewRole, empty_database: str) -> None:
    role = new_role()
    upgrade(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(conn.info.dbname), sql.Identifier(role)))
    with pytest.raises(BadInput, match="owns the database"):
        grant(empty_database, role)


def test_a_role_that_is_not_there(plant: Plant) -> None:
    for refuse in (grant, rights):
        with pytest.raises(BadInput, match=r"no role 'nobody; DROP'.*CREATE ROLE"):
            refuse(plant.owner, "nobody; DROP")


def test_who_does_not_own_the_schema_can_grant_nothing(new_role: NewRole, plant: Plant) -> None:
    with pytest.raises(SchemaError, match="run this as the owner"):
        grant(plant.server, new_role())


def test_a_role_that_everybody_was_kept_from_connecting(new_role: NewRole, plant: Plant) -> None:
    with psycopg.connect(plant.owner) as conn:
        conn.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(conn.info.dbname)))
    role = new_role()
    grant(plant.owner, role)
    with psycopg.connect(as_role(plant.owner, role)) as conn:
        assert conn.execute("SELECT count(*) FROM historian.tag").fetchone() == (1,)


def test_a_database_without_these_rules_is_told(new_role: NewRole, empty_database: str) -> None:
    role = new_role()
    with pytest.raises(SchemaError, match="no schema; run: historian db init"):
        grant(empty_database, role)
    upgrade(empty_database, to=5)
    with pytest.raises(SchemaError, match="too old; run: historian db upgrade"):
        grant(empty_database, role)


def test_a_server_sees_whether_its_schema_is_current_and_cannot_upgrade_it(new_role: NewRole, plant: Plant) -> None:
    assert status(plant.server).pending == ()
    assert upgrade(plant.server) == []
    with psycopg.connect(plant.owner) as conn:
        conn.execute("DELETE FROM historian.migration WHERE number = (SELECT max(number) FROM historian.migration)")
    with pytest.raises(SchemaError, match="as the owner of the schema"):
        upgrade(plant.server)
    with pytest.raises(SchemaError, match="let its owner run: historian db grant"):
        status(as_role(plant.server, new_role()))


def test_a_role_can_be_dropped_again(plant: Plant) -> None:
    _, server, _ = plant.roles
    with psycopg.connect(plant.superuser, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(server)))
        conn.execute("SELECT historian.apply_rights()")
    refused(plant.server, "SELECT FROM historian.tag")
    assert upgrade(plant.owner) == []
