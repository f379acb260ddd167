"""A worker's configuration: one TOML file with `[worker]`, the table of its source, and `[[filter]]` rules."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from historian.ingest.filters.rules import FilterRules
from historian.schema.errors import BadInput
from historian.schema.ledger import check_producer

_MB = 1 << 20

# in microseconds it still is a time
Seconds = Annotated[float, Field(gt=0, le=1e11)]
Positive = Annotated[int, Field(gt=0)]


class WorkerConfig(BaseModel):
    """The `[worker]` table. Sizes are in bytes, times in seconds. `url` and `dsn` exclude each other; without either the local server is meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: the name under which batches are numbered: one worker at a time has it
    producer: str
    url: str | None = None
    dsn: SecretStr | None = None
    token: SecretStr | None = None
    token_file: Path | None = None

    #: the worker's directory: spool, dead letters, and what its source has to remember
    directory: Path | None = None
    spool_max_bytes: Positive | None = 1000 * _MB
    spool_max_age_s: Seconds | None = None
    dead_letters_max_bytes: Positive = 256 * _MB
    #: how long upstream may be away before batches go to the spool
    spool_after_s: Seconds = 2.0

    batch_samples: Annotated[int, Field(gt=0, le=200_000)] = 10_000
    batch_ms: Annotated[float, Field(ge=0, le=60_000)] = 100.0
    #: batches on their way at a time
    in_flight: Annotated[int, Field(gt=0, le=64)] = 8
    #: taken from the source and not yet safe; beyond it the source waits
    max_unsettled_samples: Positive = 200_000
    max_unsettled_messages: Positive = 20_000

    #: samples further from this machine's clock are refused; none: no limit
    max_past_s: Seconds | None = None
    max_future_s: Seconds | None = None

    #: where /healthz, /readyz and /metrics are served, on loopback; none: nowhere
    status_port: Annotated[int, Field(ge=0, le=65535)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.url is not None and self.dsn is not None:
            raise ValueError("url (a server) and dsn (a database) exclude each other")
        if self.token is not None and self.token_file is not None:
            raise ValueError("give either token or token_file")
        try:
            check_producer(self.producer)
        except BadInput as error:
            raise ValueError(str(error)) from None
        return self


@dataclass(frozen=True, slots=True)
class Configuration:
    """One file, checked: `source` is the table of the source, as it stands there."""

    path: Path
    worker: WorkerConfig
    source: Mapping[str, Any]
    filters: FilterRules


def load(path: Path, kind: str, given: Mapping[str, Any]) -> Configuration:
    """Read a file for a source of a kind (mqtt, sparkplug, opcua, folder); `given` goes before its `[worker]` table.

    Raises BadInput, naming the file and the key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no TOML: {error}") from None
    unknown = sorted(set(document) - {"worker", "filter", kind})
    if unknown:
        raise BadInput(f"{path}: unknown table [{unknown[0]}]; there are [worker], [{kind}] and [[filter]]")
    if kind not in document:
        raise BadInput(f"{path}: there is no table [{kind}]")
    table = document.get("worker", {})
    if not isinstance(table, dict):
        raise BadInput(f"{path}: worker is a table")
    if given.get("url") is not None or given.get("dsn") is not None:
        # said on the command line: what the file says of either is overruled
        table = {name: value for name, value in table.items() if name not in ("url", "dsn")}
    worker = checked(WorkerConfig, {**table, **{name: value for name, value in given.items() if value is not None}}, f"{path}: worker")
    tables = document.get("filter", [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise BadInput(f"{path}: filter is a list of tables, [[filter]]")
    try:
        filters = FilterRules.from_toml(tables)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    return Configuration(path, worker, document[kind], filters)


Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], table: Any, where: str) -> Model:
    """A table as its model. Raises BadInput, naming the keys at fault, and no value: it may be a secret."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False, include_input=False, include_context=False):
            key = ".".join(str(part) for part in (where, *fault["loc"]))
            faults.append(f"{key}: {fault['msg'].removeprefix('Value error, ')}")
        raise BadInput("; ".join(faults)) from None
