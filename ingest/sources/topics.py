"""Rules that turn MQTT topics into tag paths, and say how their payloads are read: the `[[mqtt.rule]]` tables. docs/ingest/mqtt.md describes every key.

The first rule whose `topic` matches is taken. Everything that can be wrong with a rule is found when the configuration is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from historian.schema.catalogue import Kind, TagDefinition
from historian.schema.paths import path_fault
from historian.schema.samples import BAD, GOOD, MAX_QUALITY, UNCERTAIN

#: what payloads call a quality when they use words, in lower case
QUALITY_WORDS = {"good": GOOD, "uncertain": UNCERTAIN, "bad": BAD}

#: a selector's answer for what a document does not have
MISSING: Any = object()

Unit = Literal["auto", "iso", "s", "ms", "us", "ns"]
Selector = tuple[str | int, ...]

_STEP = re.compile(r"\.?([^.\[\]'\"]+)|\[(\d+)\]|\['([^']*)'\]|\[\"([^\"]*)\"\]")
_PLACE = re.compile(r"\{([^{}]*)\}")
#: topics whose rule and path are remembered
_REMEMBERED = 100_000


def selector(text: str) -> Selector:
    """The steps of `$.a.b[0]`, `a.b[0]` or `$['a.b']`; `$` is the whole. Raises ValueError."""
    steps: list[str | int] = []
    at = 1 if text.startswith("$") else 0
    if not text:
        raise ValueError("a selector is not empty; $ is the whole payload")
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or (text[at] != "." and text[at] != "[" and at > 0):
            raise ValueError(
                f"selector {text!r}: not understood from {text[at:]!r} on; one looks like $.motor.temperature, values[0] or $['a.b']"
            )
        name, index, single, double = match.groups()
        steps.append(int(index) if index is not None else name if name is not None else single if single is not None else double)
        at = match.end()
    return tuple(steps)


def select(document: Any, steps: Selector) -> Any:
    """What is there, or MISSING."""
    for step in steps:
        if isinstance(step, str):
            if not isinstance(document, dict) or step not in document:
                return MISSING
            document = document[step]
        else:
            if not isinstance(document, list) or step >= len(document):
                return MISSING
            document = document[step]
    return document


def filter_regex(pattern: str) -> re.Pattern[str]:
    """An MQTT topic filter (MQTT 5.0, section 4.7), with a group for each wildcard; for `fullmatch` on topics. Raises ValueError."""
    levels = pattern.split("/")
    if not pattern or "\x00" in pattern or len(pattern.encode()) > 65535:
        raise ValueError("a topic filter is text of 1 to 65535 bytes")
    parts: list[str] = []
    for n, level in enumerate(levels):
        # a wildcard as the first level is not for $SYS and its like
        guard = r"(?!\$)" if n == 0 else ""
        if level == "#":
            if n != len(levels) - 1:
                raise ValueError(f"topic filter {pattern!r}: # stands only at the end")
            return re.compile("/".join(parts) + ("(?:/(.*))?" if parts else guard + "(.*)"), re.DOTALL)
        if level == "+":
            parts.append(guard + "([^/]*)")
        elif "+" in level or "#" in level:
            raise ValueError(f"topic filter {pattern!r}: + and # stand for whole levels")
        else:
            parts.append(re.escape(level))
    return re.compile("/".join(parts), re.DOTALL)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TopicRule(_Table):
    """What becomes of the messages to some topics."""

    #: a topic filter; $share/group/… subscribes as one of a group
    topic: str
    #: {topic}, and {1}, {2}… for what the wildcards stood for
    tag: str = "{topic}"
    payload: Literal["auto", "value", "object", "array", "ignore"] = "auto"

    #: where the array is in a payload that is an object
    items: str | None = None
    #: of an object: the one value that is taken…
    value: str | None = None
    #: …or every leaf, each as a tag of its own below `tag`
    fields: Literal["all"] | None = None
    #: of the leaves, by their path below `tag`, with + and #
    include: tuple[str, ...] = ("#",)
    exclude: tuple[str, ...] = ()

    #: a selector, or "arrival"; by default timestamp, ts or time if the object has one, and else arrival
    timestamp: str | None = None
    timestamp_unit: Unit = "auto"
    #: between the plain values of an array, of which the last has the payload's time
    interval_s: Annotated[float, Field(gt=0, le=86400 * 366)] | None = None
    #: a selector; by default quality if the object has it
    quality: str | None = None
    quality_map: dict[str, Annotated[int, Field(ge=0, le=MAX_QUALITY)]] = Field(default_factory=dict)
    #: messages that the broker had kept from before we subscribed; by default taken if they carry a time
    retained: Literal["take", "skip"] | None = None

    kind: Kind | None = None
    unit: str | None = None
    description: str | None = None
    states: dict[str, str] | None = None

    @field_validator("topic")
    @classmethod
    def _topic(cls, pattern: str) -> str:
        filter_regex(_unshared(pattern))
        return pattern

    @field_validator("include", "exclude")
    @classmethod
    def _patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            filter_regex(pattern)
        return patterns

    @field_validator("value", "items", "quality", "timestamp")
    @classmethod
    def _selector(cls, text: str | None) -> str | None:
        if text is not None and text != "arrival":
            selector(text)
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wildcards = filter_regex(_unshared(self.topic)).groups
        places = _PLACE.findall(self.tag)
        for place in places:
            if place != "topic" and not (place.isascii() and place.isdigit() and 1 <= int(place) <= wildcards):
                raise ValueError(
                    f"tag {self.tag!r}: there is {{topic}}, and {{1}} to {{{wildcards}}} for the wildcards of {self.topic!r}; not {{{place}}}"
                )
        if set("{}") & set(_PLACE.sub("", self.tag)):
            raise ValueError(f"tag {self.tag!r} has a brace without its other one")
        if self.value is not None and self.fields is not None:
            raise ValueError("value takes one value of the payload, fields all of them: give one of the two")
        if self.payload == "value" and (self.value or self.fields or self.items or self.quality or self.timestamp not in (None, "arrival")):
            raise ValueError('payload = "value" is a bare value: it has no fields to select')
        if self.items is not None and self.payload in ("value", "object"):
            raise ValueError('items belongs to payload = "array"')
        if self.quality_map and self.quality is None:
            raise ValueError("quality_map without quality, the selector of what is mapped")
        if self.states is not None and self.kind != "digital":
            raise ValueError('states belong to kind = "digital"')
        try:
            self.definition("a")
        except ValidationError as error:
            raise ValueError(
                "; ".join(f"{fault['loc'][0] if fault['loc'] else 'states'}: {fault['msg']}" for fault in error.errors())
            ) from None
        return self

    def definition(self, path: str, kind: Kind | None = None) -> TagDefinition | None:
        """What is known of a tag of this rule; None if nothing is."""
        kind = self.kind or kind
        if kind is None and self.unit is None and self.description is None:
            return None
        known: dict[str, object] = {"kind": kind, "unit": self.unit, "description": self.description, "states": self.states}
        # what is not given keeps what stands
        return TagDefinition.model_validate({"path": path} | {name: value for name, value in known.items() if value is not None})

    @cached_property
    def regex(self) -> re.Pattern[str]:
        return filter_regex(_unshared(self.topic))

    @cached_property
    def value_at(self) -> Selector | None:
        return selector(self.value) if self.value is not None else None

    @cached_property
    def items_at(self) -> Selector | None:
        return selector(self.items) if self.items is not None else None

    @cached_property
    def time_at(self) -> Selector | None:
        return selector(self.timestamp) if self.timestamp not in (None, "arrival") else None

    @cached_property
    def quality_at(self) -> Selector | None:
        return selector(self.quality) if self.quality is not None else None

    @cached_property
    def quality_words(self) -> dict[str, int]:
        return QUALITY_WORDS | {word.lower(): quality for word, quality in self.quality_map.items()}

    @cached_property
    def codes(self) -> dict[str, float]:
        """The codes of a digital tag's states, by name."""
        return {name: float(code) for code, name in (self.states or {}).items()}

    @cached_property
    def wanted(self) -> tuple[re.Pattern[str], re.Pattern[str] | None] | None:
        """Expressions for `fullmatch` on the leaves' paths: included, excluded. None if all are wanted."""
        if "#" in self.include and not self.exclude:
            return None
        included, excluded = (
            re.compile("|".join(f"(?:{filter_regex(p).pattern})" for p in patterns), re.DOTALL) for patterns in (self.include, self.exclude)
        )
        return included, excluded if self.exclude else None


@dataclass(frozen=True, slots=True)
class Mapped:
    """Whose the messages to a topic are: `fault` says why they can be nobody's."""

    rule: TopicRule | None
    path: str
    fault: str | None = None


class Topics:
    """The rules in their order, and what each topic came to."""

    def __init__(self, rules: Sequence[TopicRule]) -> None:
        self._rules = tuple(rules)
        self._known: dict[str, Mapped] = {}

    @property
    def subscriptions(self) -> list[str]:
        """What to ask the broker for. A rule that ignores what others would take needs no subscription."""
        return [rule.topic for rule in self._rules if rule.payload != "ignore"]

    def map(self, topic: str) -> Mapped:
        known = self._known.get(topic)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                # whoever invents topics without end costs time, not memory
                self._known.clear()
            known = self._known[topic] = self._map(topic)
        return known

    def _map(self, topic: str) -> Mapped:
        for rule in self._rules:
            match = rule.regex.fullmatch(topic)
            if match is None:
                continue
            if rule.payload == "ignore":
                return Mapped(rule, "")
            stands = {"topic": topic} | {str(n): level or "" for n, level in enumerate(match.groups(), 1)}
            path = _PLACE.sub(lambda place, stands=stands: stands[place[1].lstrip("0")], rule.tag)  # type: ignore[misc]
            # `a/#` is for `a` too, where {1} is nothing
            path = path.strip("/") if rule.tag != "{topic}" else path
            return Mapped(rule, path, path_fault(path))
        return Mapped(None, "", "no rule is for this topic: it was subscribed to by an earlier configuration")


def _unshared(pattern: str) -> str:
    if not pattern.startswith("$share/"):
        return pattern
    _, group, rest = (*pattern.split("/", 2), "", "")[:3]
    if not group or not rest:
        raise ValueError(f"{pattern!r}: a shared subscription is $share/GROUP/FILTER")
    return rest
