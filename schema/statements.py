"""SQL scripts cut into their statements: for migrations that cannot run in one transaction, whose statements go to the server one by one."""

from __future__ import annotations

import re

# What may hold a semicolon that ends nothing, and the semicolon that does. Comments of the second form are nested in PostgreSQL, and not in our files.
_TOKEN = re.compile(
    r"""
      --[^\n]*
    | /\*.*?\*/
    | [eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | (?<![\w$])(\$(?:[A-Za-z_]\w*)?\$).*?\1
    | (?P<end>;)
    """,
    re.DOTALL | re.VERBOSE,
)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def split(script: str) -> list[str]:
    """The statements of a script, each with the comments before it and without its semicolon; what is only comment is left out.

    Bodies of functions stand in quotes (`AS $$…$$`): one that begins with BEGIN ATOMIC would be cut.
    """
    found, start = [], 0
    for token in _TOKEN.finditer(script):
        if token["end"]:
            found.append(script[start : token.start()])
            start = token.end()
    found.append(script[start:])
    return [statement.strip() for statement in found if _COMMENT.sub("", statement).strip()]
