"""Tag paths and wildcards of the Unified Namespace (UNS).

A path is `enterprise/site/area/line/cell/name`: 1 to 16 levels, at most 512 bytes of UTF-8, no empty level, no `+` or `#`,
no control character. A wildcard pattern has MQTT's meaning: `+` stands for one whole level, `#`, at the end, for the level
before it and everything below (MQTT 5.0, section 4.7.1).
"""

from __future__ import annotations

import re

from historian.schema.errors import BadInput

MAX_LEVELS = 16
MAX_BYTES = 512

# C0, DEL and C1 controls, the line and paragraph separators, and lone surrogates, which have no UTF-8 form
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def path_fault(path: object) -> str | None:
    """What is wrong with a tag path, in words, or None if it is a good one."""
    if not isinstance(path, str):
        return f"a tag path is text, not {type(path).__name__}"
    if not path:
        return "a tag path is not empty"
    if len(path) > MAX_BYTES:
        return f"tag path {path[:40]!r}… has {len(path)} characters; at most {MAX_BYTES} bytes"
    if _FORBIDDEN.search(path):
        return f"tag path {path[:80]!r} has a control character"
    size = len(path.encode())
    if size > MAX_BYTES:
        return f"tag path {path[:40]!r}… has {size} bytes; at most {MAX_BYTES}"
    if "+" in path or "#" in path:
        return f"tag path {path[:80]!r} has a + or #, which are for wildcards"
    levels = path.split("/")
    if len(levels) > MAX_LEVELS:
        return f"tag path {path[:80]!r} has {len(levels)} levels; at most {MAX_LEVELS}"
    if not all(levels):
        return f"tag path {path[:80]!r} has an empty level"
    return None


def check_path(path: object) -> str:
    """The path itself. Raises BadInput if it is none."""
    fault = path_fault(path)
    if fault is not None:
        raise BadInput(fault)
    assert isinstance(path, str)
    return path


def is_wildcard(pattern: str) -> bool:
    """Whether the text is a wildcard pattern rather than a path."""
    return "+" in pattern or "#" in pattern


def wildcard_regex(pattern: str) -> re.Pattern[str]:
    """A compiled expression for `fullmatch` on paths. Raises BadInput for a pattern that MQTT would refuse."""
    if not isinstance(pattern, str) or not pattern:
        raise BadInput("a wildcard pattern is text and not empty")
    if len(pattern) > MAX_BYTES or _FORBIDDEN.search(pattern):
        raise BadInput(f"wildcard pattern {pattern[:40]!r} is too long or has a control character")
    levels = pattern.split("/")
    if len(levels) > MAX_LEVELS:
        raise BadInput(f"wildcard pattern {pattern[:80]!r} has {len(levels)} levels; at most {MAX_LEVELS}")
    parts: list[str] = []
    for n, level in enumerate(levels):
        if level == "#":
            if n != len(levels) - 1:
                raise BadInput(f"wildcard pattern {pattern[:80]!r}: # stands only at the end")
            # `a/#` matches `a` too; `#` alone matches all
            return re.compile("/".join(parts) + ("(?:/.*)?" if parts else ".*"), re.DOTALL)
        if level == "+":
            parts.append("[^/]+")
        elif "+" in level or "#" in level:
            raise BadInput(f"wildcard pattern {pattern[:80]!r}: + and # stand for whole levels")
        elif not level:
            raise BadInput(f"wildcard pattern {pattern[:80]!r} has an empty level")
        else:
            parts.append(re.escape(level))
    return re.compile("/".join(parts))
