"""Which tags are filtered, and how: the `[[filter]]` tables of a worker's configuration.

    [[filter]]
    match = "acme/+/boiler/#"       # a path, a UNS wildcard, or a list of them
    method = "swinging-door"        # or "deadband", or "none" to leave tags out of the rules below
    deviation = 0.5                 # in the tag's unit
    max_interval_s = 600

    [[filter]]
    match = "acme/springfield/#"
    range = [0, 150]
    exception_deviation_percent = 0.1
    exception_max_s = 60
    compression_deviation_percent = 0.5
    compression_max_s = 3600

The first rule that matches a tag is its rule; a tag without one is not filtered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from historian.schema.errors import BadInput
from historian.schema.paths import check_path, is_wildcard, wildcard_regex

#: where a rule says no maximum: what is held back is never held for good
DEFAULT_MAX_S = 600.0
_LONGEST_S = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A deviation in the tag's unit, and the longest time between two samples that are kept, in microseconds."""

    deviation: float
    max_us: int


class FilterRule(BaseModel):
    """One `[[filter]]` table. `method`, `deviation` and `max_interval_s` are short for one of the two stages; both may be set by their full names."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    match: str | list[str]
    method: Literal["deadband", "swinging-door", "none"] | None = None
    deviation: float | None = Field(None, ge=0)
    deviation_percent: float | None = Field(None, ge=0, le=100)
    max_interval_s: float | None = Field(None, gt=0, le=_LONGEST_S)
    exception_deviation: float | None = Field(None, ge=0)
    exception_deviation_percent: float | None = Field(None, ge=0, le=100)
    exception_max_s: float | None = Field(None, gt=0, le=_LONGEST_S)
    compression_deviation: float | None = Field(None, ge=0)
    compression_deviation_percent: float | None = Field(None, ge=0, le=100)
    compression_max_s: float | None = Field(None, gt=0, le=_LONGEST_S)
    #: lowest and highest value of the tag, in its unit: what a percentage is of
    range: tuple[float, float] | None = None

    _exception: Stage | None = PrivateAttr(None)
    _compression: Stage | None = PrivateAttr(None)

    @property
    def patterns(self) -> list[str]:
        return [self.match] if isinstance(self.match, str) else list(self.match)

    @property
    def exception(self) -> Stage | None:
        """Exception reporting, the first stage; None if it is off."""
        return self._exception

    @property
    def compression(self) -> Stage | None:
        """The swinging door, the second stage; None if it is off."""
        return self._compression

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            if not self.patterns:
                raise ValueError("match names no tag")
            for pattern in self.patterns:
                if is_wildcard(pattern):
                    wildcard_regex(pattern)
                else:
                    check_path(pattern)
        except BadInput as error:
            raise ValueError(f"match: {error}") from None
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError("range is [lowest, highest], the second above the first")
        given = (self.deviation, self.deviation_percent, self.max_interval_s)
        full = {
            "exception": (self.exception_deviation, self.exception_deviation_percent, self.exception_max_s),
            "compression": (self.compression_deviation, self.compression_deviation_percent, self.compression_max_s),
        }
        named = {stage: values for stage, values in full.items() if any(value is not None for value in values)}
        if self.method is None:
            if any(value is not None for value in given):
                raise ValueError('deviation, deviation_percent and max_interval_s need a method: "deadband" or "swinging-door"')
            if not named:
                raise ValueError("has neither a method nor a deviation")
        elif named:
            raise ValueError(f"has a method, and {next(iter(named))}_… as well: say one or the other")
        elif self.method == "none":
            if any(value is not None for value in given):
                raise ValueError('method "none" has no deviation and no interval')
        else:
            named = {"exception" if self.method == "deadband" else "compression": given}
        stages = {stage: self._stage("" if self.method else f"{stage}_", *values) for stage, values in named.items()}
        self._exception, self._compression = stages.get("exception"), stages.get("compression")
        return self

    def _stage(self, prefix: str, absolute: float | None, percent: float | None, max_s: float | None) -> Stage:
        if (absolute is None) == (percent is None):
            raise ValueError(f"needs {prefix}deviation or {prefix}deviation_percent, and not both")
        if absolute is None:
            if self.range is None:
                raise ValueError(f"{prefix}deviation_percent needs range = [lowest, highest]")
            assert percent is not None
            absolute = (self.range[1] - self.range[0]) * percent / 100
        return Stage(absolute, round((DEFAULT_MAX_S if max_s is None else max_s) * 1e6))


class FilterRules:
    """All rules of a worker, in their order."""

    def __init__(self, rules: Sequence[FilterRule] = ()) -> None:
        self.rules = tuple(rules)
        # paths are found without asking every pattern
        self._paths: dict[str, int] = {}
        self._wildcards: list[tuple[int, re.Pattern[str]]] = []
        for n, rule in enumerate(self.rules):
            for pattern in rule.patterns:
                if is_wildcard(pattern):
                    self._wildcards.append((n, wildcard_regex(pattern)))
                else:
                    self._paths.setdefault(pattern, n)

    @classmethod
    def from_toml(cls, tables: Sequence[Mapping[str, Any]]) -> Self:
        """From the `[[filter]]` tables as they were read. Raises BadInput, which says which table and which key."""
        rules = []
        for n, table in enumerate(tables, 1):
            try:
                rules.append(FilterRule.model_validate(table))
            except ValidationError as error:
                fault = error.errors(include_url=False, include_context=False)[0]
                key = ".".join(str(part) for part in fault["loc"])
                said = fault["msg"].removeprefix("Value error, ")
                raise BadInput(f"[[filter]] {n}: {f'{key}: ' if key else ''}{said}") from None
        return cls(rules)

    def __bool__(self) -> bool:
        return bool(self.rules)

    def of(self, path: str) -> FilterRule | None:
        """The rule of a tag; None if it is not filtered."""
        found = self._paths.get(path, len(self.rules))
        for n, pattern in self._wildcards:
            if n >= found:
                break
            if pattern.fullmatch(path):
                found = n
                break
        if found == len(self.rules):
            return None
        rule = self.rules[found]
        return rule if rule.exception is not None or rule.compression is not None else None
