"""Who may write to tags: a file of names, each with the hash of a token. Nobody may where there is no file.

    [operator-line1]
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    tags = ["acme/springfield/+/line1/#"]        # the tags that it may write; default: all that are writable

    [mqtt-worker]
    sha256 = "…"
    may = "deliver"                              # an ingest worker on another host: takes commands to the plant, makes none

A change counts from the next command on, without a restart: a name that is taken out has lost its right then, on connections that stand too. A file that cannot be
read, or is wrong, gives nobody the right until it is mended.
"""

from __future__ import annotations

import hashlib
import logging
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from historian.schema.errors import BadInput, HistorianError
from historian.schema.paths import wildcard_regex

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}", re.ASCII)
_MAX_BYTES = 4 << 20


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    tags: Annotated[list[str], Field(min_length=1, max_length=1000)] = ["#"]
    may: Literal["command", "deliver"] = "command"


@dataclass(frozen=True, slots=True)
class Commander:
    """One name and its right."""

    name: str
    may: Literal["command", "deliver"]
    tags: tuple[re.Pattern[str], ...]

    def has(self, path: str) -> bool:
        """Whether its right is for this tag."""
        return any(pattern.fullmatch(path) for pattern in self.tags)


def check_name(name: str) -> str:
    """The name itself. Raises BadInput."""
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"a commander's name has 1 to 100 letters, digits, '.', '_', '@' and '-', and begins with a letter or digit, unlike {name[:40]!r}"
        )
    return name


def hash_of(token: str) -> str:
    """As the file has it. Tokens are random and long, so that a plain hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class Commanders:
    """Those of one file, as it stands at each question. `path` None: nobody."""

    def __init__(self, path: Path | None) -> None:
        """Raises BadInput for a file that is wrong."""
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._by_hash: Mapping[str, Commander] = {}
        self._told = ""
        if path is not None:
            self._stamp, self._by_hash = _stamp(path), read_commanders(path)

    @property
    def closed(self) -> bool:
        """Whether commands are not for anybody here."""
        return self._path is None

    def find(self, token: str | None) -> Commander | None:
        """Whose token this is."""
        if self._path is None or not token:
            return None
        self._refresh(self._path)
        return self._by_hash.get(hash_of(token))

    def _refresh(self, path: Path) -> None:
        try:
            stamp = _stamp(path)
            if stamp == self._stamp:
                return
            # before it is read: one that changes meanwhile is read again
            self._stamp = stamp
            self._by_hash = read_commanders(path)
            log.info("%s is read: %d may write or deliver", path, len(self._by_hash))
            self._told = ""
        except HistorianError as error:
            self._by_hash = {}
            if str(error) != self._told:
                self._told = str(error)
                log.error("%s; until it is mended nobody may write to tags", error)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise BadInput(f"the file of commanders {path}: {error.strerror or error}") from None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_commanders(path: Path) -> dict[str, Commander]:
    """The commanders of a file by the hash of their token. Raises BadInput."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"the file of commanders {path}: {error.strerror or error}") from None
    if len(data) > _MAX_BYTES:
        raise BadInput(f"the file of commanders {path} has more than {_MAX_BYTES >> 20} MB")
    try:
        document = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no TOML: {error}") from None
    found: dict[str, Commander] = {}
    for name, table in document.items():
        entry = _entry(path, name, table)
        if entry.sha256 in found:
            raise BadInput(f"{path}: {name} and {found[entry.sha256].name} have the same token: the audit could not tell them apart")
        try:
            found[entry.sha256] = Commander(check_name(name), entry.may, tuple(map(wildcard_regex, entry.tags)))
        except BadInput as error:
            raise BadInput(f"{path}: {name}: {error}") from None
    return found


def _entry(path: Path, name: str, table: Any) -> _Entry:
    if not isinstance(table, dict):
        raise BadInput(f"{path}: {name[:40]!r} stands outside the tables; there is one for each name, as [operator-line1]")
    try:
        return _Entry.model_validate(table)
    except ValidationError as error:
        # no values: one may be a token that was put there by mistake
        faults = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False, include_input=False)
        )
        raise BadInput(f"{path}: {name}: {faults}; historian commands grant makes such entries") from None
