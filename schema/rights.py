"""Rights of roles that do not own the schema: a server's role, which reads and writes data and can neither drop, alter, truncate nor create, and a reader's.

Rights follow rules, which stand in historian.apply_rights() (the migration `roles`): each migration applies them to what it makes. Here a role is put under these
rules, and it is looked at whether that protects anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from historian.schema.administration import Conn, administering
from historian.schema.errors import BadInput, SchemaError

_OWNERS = """
SELECT DISTINCT owner::regrole::text FROM (
    SELECT nspowner AS owner FROM pg_namespace WHERE nspname = 'historian'
    UNION ALL SELECT relowner FROM pg_class WHERE relnamespace = 'historian'::regnamespace
    UNION ALL SELECT proowner FROM pg_proc WHERE pronamespace = 'historian'::regnamespace
) AS owners ORDER BY 1
"""

# what makes rights meaningless: a superuser has all, an owner may drop, and so may whoever can become one of them
_MIGHT = """
SELECT r.rolsuper,
    (SELECT string_agg(o.rolname, ', ' ORDER BY o.rolname) FROM pg_roles o WHERE o.rolsuper AND o.oid <> r.oid AND pg_has_role(r.oid, o.oid, 'MEMBER')),
    (SELECT string_agg(DISTINCT o.rolname, ', ') FROM pg_roles o WHERE pg_has_role(r.oid, o.oid, 'MEMBER') AND o.oid IN (
        SELECT nspowner FROM pg_namespace WHERE nspname = 'historian'
        UNION SELECT relowner FROM pg_class WHERE relnamespace = 'historian'::regnamespace
        UNION SELECT proowner FROM pg_proc WHERE pronamespace = 'historian'::regnamespace)),
    (SELECT pg_has_role(r.oid, d.datdba, 'MEMBER') FROM pg_database d WHERE d.datname = current_database()),
    has_database_privilege(r.oid, current_database(), 'CONNECT')
FROM pg_roles r WHERE r.rolname = %s
"""

# Effective rights, whoever gave them: the role itself, PUBLIC, or a role that it is a member of.
_TABLE_RIGHTS = """
SELECT c.oid::regclass::text, c.relkind IN ('v', 'm') OR c.relname = 'migration',
    ARRAY(SELECT p FROM unnest(%(possible)s::text[]) p WHERE has_table_privilege(%(role)s, c.oid, p))
FROM pg_class c WHERE c.relnamespace = 'historian'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') ORDER BY 1
"""
_SEQUENCE_RIGHTS = """
SELECT c.oid::regclass::text, ARRAY(SELECT p FROM unnest(ARRAY['SELECT', 'USAGE', 'UPDATE']) p WHERE has_sequence_privilege(%(role)s, c.oid, p))
FROM pg_class c WHERE c.relnamespace = 'historian'::regnamespace AND c.relkind = 'S' ORDER BY 1
"""
_ROUTINE_RIGHTS = """
SELECT p.oid::regprocedure::text, p.proname = 'apply_rights', p.prosecdef, has_function_privilege(%(role)s, p.oid, 'EXECUTE')
FROM pg_proc p WHERE p.pronamespace = 'historian'::regnamespace AND p.prokind IN ('f', 'p') ORDER BY 1
"""
_SCHEMA_RIGHTS = "SELECT ARRAY(SELECT p FROM unnest(ARRAY['USAGE', 'CREATE']) p WHERE has_schema_privilege(%(role)s, 'historian', p))"

_POSSIBLE = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]
_WRITES = {"SELECT", "INSERT", "UPDATE", "DELETE"}


@dataclass(frozen=True, slots=True)
class Rights:
    """What a role can do, against what it is meant to: `RIGHT on object` in words. Both empty: exactly that."""

    missing: tuple[str, ...]
    beyond: tuple[str, ...]


def grant(dsn: str, role: str, *, read_only: bool = False) -> Rights:
    """Give a role the rights of a server, or of a reader, on all that stands in the schema and all that will; takes back what else it was given there.

    Run as the owner of the schema or a superuser; a second time it changes nothing. Returns what the role can do for other reasons too: PUBLIC, memberships.
    Raises BadInput if there is no such role, or if it is one that no rights can hold back; SchemaError if the schema is too old or this role may not grant; Unavailable.
    """
    with _connected(dsn) as conn, conn.transaction():
        _require_rules(conn)
        connects = _check_role(conn, role)
        name = sql.Identifier(role)
        if not connects:
            database = sql.Identifier(conn.info.dbname)
            conn.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, name))
        if not _stands(conn, role, read_only=read_only):
            _set_default_privileges(conn, name, read_only=read_only)
        conn.execute("SELECT historian.apply_rights()")
        found = _rights(conn, role, read_only=read_only)
        if found.missing:
            raise SchemaError(f"role {role!r} still lacks {found.missing[0]}; run this as the owner of the schema or as a superuser")
        return found


def rights(dsn: str, role: str, *, read_only: bool = False) -> Rights:
    """What a role can do in the schema, against what a server, or a reader, needs. Changes nothing. Raises BadInput, SchemaError, Unavailable."""
    with _connected(dsn) as conn:
        _require_rules(conn)
        if conn.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is None:
            raise BadInput(_no_role(role))
        return _rights(conn, role, read_only=read_only)


@contextmanager
def _connected(dsn: str) -> Iterator[Conn]:
    with administering(dsn, name="historian db grant", denied="run this as the owner of the schema or as a superuser") as conn:
        # names are told, and given back, in full
        conn.execute("SET search_path = pg_catalog, pg_temp")
        yield conn


def _require_rules(conn: Conn) -> None:
    row = conn.execute(
        "SELECT to_regnamespace('historian') IS NOT NULL, to_regprocedure('historian.apply_rights()') IS NOT NULL"
    ).fetchone()
    assert row is not None
    if not all(row):
        raise SchemaError(
            f"the database has {'a schema that is too old' if row[0] else 'no schema'}; run: historian db {'upgrade' if row[0] else 'init'}"
        )


def _no_role(role: str) -> str:
    return f"there is no role {role!r} on this server; make it first, as: CREATE ROLE {role if role.isidentifier() else '…'} LOGIN PASSWORD '…'"


def _check_role(conn: Conn, role: str) -> bool:
    """Whether the role may connect to this database. Raises BadInput if rights cannot hold it back."""
    row = conn.execute(_MIGHT, [role]).fetchone()
    if row is None:
        raise BadInput(_no_role(role))
    superuser, superusers, owners, owns_database, connects = row
    why = None
    if superuser:
        why = "is a superuser, whom no right holds back"
    elif superusers:
        why = f"is a member of {superusers}, a superuser"
    elif owners == role:
        why = "owns the schema or objects in it, and may drop them"
    elif owners:
        why = f"is a member of {owners}, who owns the schema or objects in it, and may drop them"
    elif owns_database:
        why = "owns the database, and may drop it"
    if why is not None:
        raise BadInput(f"role {role!r} {why}: running a server with it protects nothing. Make a role of its own for that, and grant to it")
    return bool(connects)


def _stands(conn: Conn, role: str, *, read_only: bool) -> bool:
    """Whether the role has these default privileges from every owner, and no others."""
    rows = conn.execute(
        "SELECT d.defaclrole::regrole::text, d.defaclobjtype::text, array_agg(a.privilege_type ORDER BY a.privilege_type)"
        " FROM pg_default_acl d, aclexplode(d.defaclacl) a"
        " WHERE d.defaclnamespace = 'historian'::regnamespace AND a.grantee = (SELECT oid FROM pg_roles WHERE rolname = %s) GROUP BY 1, 2",
        [role],
    )
    standing = {(row[0], row[1]): row[2] for row in rows}
    wanted = {(owner[0], kind): sorted(given) for owner in conn.execute(_OWNERS) for kind, given in _defaults(read_only=read_only).items()}
    return standing == wanted


def _defaults(*, read_only: bool) -> dict[str, list[str]]:
    """Default privileges by the letter that pg_default_acl has for the kind."""
    if read_only:
        return {"r": ["SELECT"], "S": ["SELECT"]}
    return {"r": sorted(_WRITES), "S": ["SELECT", "USAGE"], "f": ["EXECUTE"]}


_KINDS = {"r": sql.SQL("TABLES"), "S": sql.SQL("SEQUENCES"), "f": sql.SQL("ROUTINES")}


def _set_default_privileges(conn: Conn, role: sql.Identifier, *, read_only: bool) -> None:
    for (owner,) in conn.execute(_OWNERS).fetchall():
        begin = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA historian").format(sql.SQL(str(owner)))
        for kind in _KINDS.values():
            conn.execute(begin + sql.SQL(" REVOKE ALL ON {} FROM {}").format(kind, role))
        for letter, given in _defaults(read_only=read_only).items():
            what = sql.SQL(", ").join(map(sql.SQL, given))
            conn.execute(begin + sql.SQL(" GRANT {} ON {} TO {}").format(what, _KINDS[letter], role))


def _rights(conn: Conn, role: str, *, read_only: bool) -> Rights:
    possible = [*_POSSIBLE, *(["MAINTAIN"] if conn.info.server_version >= 170000 else [])]
    given = {"role": role, "possible": possible}
    missing: list[str] = []
    beyond: list[str] = []

    def compare(name: str, has: set[str], wanted: set[str], allowed: set[str] | None = None) -> None:
        if lacks := wanted - has:
            missing.append(f"{', '.join(sorted(lacks))} on {name}")
        if more := has - wanted - (allowed or set()):
            beyond.append(f"{', '.join(sorted(more))} on {name}")

    for (has,) in conn.execute(_SCHEMA_RIGHTS, given).fetchall():
        compare("schema historian", _set(has), {"USAGE"})
    for name, only_read, has in conn.execute(_TABLE_RIGHTS, given).fetchall():
        compare(str(name), _set(has), {"SELECT"} if only_read or read_only else _WRITES)
    for name, has in conn.execute(_SEQUENCE_RIGHTS, given).fetchall():
        compare(str(name), _set(has), {"SELECT"} if read_only else {"SELECT", "USAGE"})
    for name, owners_alone, definer, can in conn.execute(_ROUTINE_RIGHTS, given).fetchall():
        wants = not owners_alone and not (definer and read_only)
        compare(str(name), {"EXECUTE"} if can else set(), {"EXECUTE"} if wants else set())
    return Rights(tuple(missing), tuple(beyond))


def _set(rights: object) -> set[str]:
    assert isinstance(rights, list)
    return set(rights)
