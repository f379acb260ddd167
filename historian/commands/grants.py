"""New entries of a file of commanders: each with a fresh token, of which the file keeps the hash."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from historian.commands.commanders import check_name, hash_of, read_commanders
from historian.schema.errors import BadInput, Conflict
from historian.schema.paths import wildcard_regex


def grant(path: Path, name: str, tags: Sequence[str], *, deliver: bool = False) -> str:
    """Add an entry, and return its token. The file is replaced in one step, readable by its owner alone where it is made.

    Raises BadInput for a name, a tag or a file that is wrong, Conflict if the name has an entry.
    """
    check_name(name)
    for tag in tags:
        wildcard_regex(tag)
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        standing = path.read_text(encoding="utf-8") if path.exists() else ""
        if path.exists() and name in {one.name for one in read_commanders(path).values()}:
            raise Conflict(f"{name} has an entry in {path}; take that out first, or take another name: the audit tells them apart by it")
        token = secrets.token_urlsafe(32)
        lines = [f"[{json.dumps(name)}]", f'sha256 = "{hash_of(token)}"', f"tags = {json.dumps(list(tags), ensure_ascii=False)}"]
        if deliver:
            lines.append('may = "deliver"')
        entry = "\n".join(lines) + "\n"
        part = path.with_name(path.name + ".part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as out:
            out.write(f"{standing.rstrip()}\n\n{entry}" if standing.strip() else entry)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    return token
