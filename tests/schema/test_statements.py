"""Scripts cut into statements."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from historian.schema.engine import Engine
from historian.schema.migrate import migrations
from historian.schema.statements import split

#: each is one statement, or part of one, however many semicolons it has
PIECES = [
    "SELECT 1",
    "'a;b''c;'",
    'SELECT "x;y"',
    "$$ BEGIN; END; $$",
    "$body$ $$;$$ ; $body$",
    "E'\\';'",
    "-- no; end\n",
    "/* no; end\n ; */",
    "a$b$c",
    "::text",
]


@given(st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=5), max_size=5))
def test_a_semicolon_ends_a_statement_only_where_it_is_one(statements: list[list[str]]) -> None:
    scripts = [" ".join(["SELECT", *pieces]) for pieces in statements]
    # a comment may end a statement, but not hide the semicolon after it
    found = split("\n;\n".join(scripts) + "\n;\n")
    assert found == [script.strip() for script in scripts]


def test_what_is_only_comment_is_no_statement() -> None:
    assert split("-- one;\n;\n/* two */ ;\n\n;") == []
    assert split("") == []
    assert split("SELECT 1") == ["SELECT 1"]


def test_the_migrations_are_cut_where_their_lines_end() -> None:
    engines: tuple[Engine, ...] = ("plain", "timescale")
    for engine in engines:
        for migration in migrations(engine):
            for statement in split(migration.sql):
                words = [line for line in statement.splitlines() if line and not line.startswith("--")]
                assert words[0].split()[0] in {
                    "CREATE",
                    "ALTER",
                    "COMMENT",
                    "SELECT",
                    "CALL",
                    "DO",
                    "INSERT",
                    "DROP",
                    "GRANT",
                    "REVOKE",
                    "UPDATE",
                    "DELETE",
                }
