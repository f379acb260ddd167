"""What a host knows of Sparkplug's edge nodes and devices: births, aliases, sequence numbers. Messages in; samples, tag definitions and requests for rebirth out.

Promise. No sample is given the name of another metric. A name or an alias counts only within the birth that announced it. When messages may be missing (the worker or
its connection was away, or there is a gap in the sequence numbers) a birth may be missing too: then data are held back and a rebirth is asked for, and they are decoded
only if the birth that follows is of the same session (bdSeq) and gives the aliases they use the same meaning as before. What cannot be attributed is refused, never
guessed. (What a broker drops from a standing connection is told by the numbers alone, which begin again at 256: one such gap in 256 is not seen.)

Pure: no clock but the arrival times of messages, no connection.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from historian.ingest.decode.checks import EARLIEST_US, LATEST_US
from historian.ingest.sources.sparkplug_b_pb2 import Payload
from historian.ingest.sources.sparkplug_types import NAMES, STALE, kind_of, quality_of, value_of
from historian.schema.catalogue import MAX_DESCRIPTION, MAX_UNIT, TagDefinition
from historian.schema.paths import path_fault

NAMESPACE = "spBv1.0"
_NODE_TYPES = frozenset({"NBIRTH", "NDATA", "NDEATH"})
_DEVICE_TYPES = frozenset({"DBIRTH", "DDATA", "DDEATH"})

#: messages that wait for a birth, of all nodes; beyond them the oldest is refused
MAX_HELD = 5000
MAX_HELD_BYTES = 32 << 20
#: further nodes and metrics are refused
MAX_NODES = 10_000
MAX_METRICS = 1_000_000
#: between two requests for rebirth to a node; doubled each time, as long as they do not help
_ASK_AGAIN_US = 10_000_000
_ASK_SELDOM_US = 640_000_000
#: a node's clock that is ahead of ours by less is believed when the time of its death is set
_AHEAD_US = 3_600_000_000
_MS = 1000
_ILLEGAL = re.compile("[+#\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NO_BIRTH = "no birth came for it, though one was waited for"
_CONTROLS = ("Node Control/", "Device Control/")

Token = TypeVar("Token")


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `token` is whatever the caller wants to find it by."""

    topic: str
    payload: bytes
    arrival_us: int
    dup: bool = False
    token: Any = None


@dataclass(slots=True)
class Outcome:
    """What came of a message: `rows` as PathSamples.of_rows takes them; `faults` say what of it could not be taken."""

    message: Message
    rows: list[dict[str, Any]] = field(default_factory=list)
    definitions: list[TagDefinition] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Metric:
    name: str
    datatype: int
    #: None: no tag holds it
    path: str | None


@dataclass(frozen=True, slots=True)
class Addressed:
    """A metric that is alive, as a command names it. `device` None: of the node itself."""

    group: str
    node: str
    device: str | None
    name: str
    datatype: int


@dataclass(slots=True, eq=False)
class _Birth:
    """The metrics of a node, or of one of its devices."""

    by_name: dict[str, _Metric] = field(default_factory=dict)
    #: None: two metrics have it
    by_alias: dict[int, _Metric | None] = field(default_factory=dict)
    newest_us: int = 0


@dataclass(slots=True, eq=False)
class _Node:
    group: str
    name: str
    #: of the session that is known; None: none
    bd_seq: int | None = None
    births: dict[str | None, _Birth] = field(default_factory=dict)
    #: those before the last birth of the node, for what was held
    former: dict[str | None, _Birth] = field(default_factory=dict)
    #: births whose tags are not marked as dead
    live: dict[str | None, _Birth] = field(default_factory=dict)
    died_us: dict[str | None, int] = field(default_factory=dict)
    same_session: bool = False
    #: the first birth of the session: the time in it, and of its arrival
    session_ms: int = 0
    session_us: int = 0
    #: seconds that messages have waited for a birth; True: no more are held
    waited_s: float = 0.0
    given_up: bool = False
    seq: int | None = None
    trusted: bool = False
    asked_us: int | None = None
    pause_us: int = _ASK_AGAIN_US
    held: deque[Message] = field(default_factory=deque)


class SparkplugState:
    """Of one source. `tag` is the template of tag paths, of {group}, {node}, {device} and {metric}; a level that is empty is left out."""

    def __init__(self, tag: str = "{group}/{node}/{device}/{metric}") -> None:
        self._tag = tag
        self._nodes: dict[tuple[str, str], _Node] = {}
        self._held = 0
        self._held_bytes = 0
        self._owners: dict[str, tuple[str, str, str | None, str]] = {}
        #: nodes to ask for a rebirth: taken by the caller
        self.rebirths: list[tuple[str, str]] = []
        #: nodes whose births changed: to be kept over a restart
        self.changed: set[tuple[str, str]] = set()
        self.counts = {
            "births": 0,
            "deaths": 0,
            "rebirth_requests": 0,
            "seq_gaps": 0,
            "stale": 0,
            "unsupported": 0,
            "transient": 0,
            "held": 0,
        }

    # -- messages

    def feed(self, message: Message) -> list[Outcome]:
        """What comes of it, and of messages that waited for it. Never raises for what a message is."""
        parts = message.topic.split("/")
        kind = parts[2] if len(parts) > 2 else ""
        if (
            parts[0] != NAMESPACE
            or len(parts) not in (4, 5)
            or kind not in _NODE_TYPES | _DEVICE_TYPES
            or (len(parts) == 5) != (kind in _DEVICE_TYPES)
            or not all(parts)
        ):
            return [Outcome(message, faults=["this is no topic of an edge node or a device"])]
        payload = Payload()
        try:
            payload.ParseFromString(message.payload)
        except (DecodeError, UnicodeDecodeError, ValueError) as error:
            return [Outcome(message, faults=[f"the payload is none of Sparkplug B: {str(error)[:200]}"])]
        key = (parts[1], parts[3])
        node = self._nodes.get(key)
        if node is None:
            if len(self._nodes) >= MAX_NODES:
                return [Outcome(message, faults=[f"{MAX_NODES} edge nodes are known; no more can be"])]
            node = self._nodes[key] = _Node(*key)
        device = parts[4] if len(parts) == 5 else None
        if kind == "NBIRTH":
            return self._node_birth(node, message, payload)
        if kind == "NDEATH":
            return self._node_death(node, message, payload)
        self._check_seq(node, message, payload)
        if kind == "DBIRTH":
            return self._device_birth(node, device, message, payload)
        if kind == "DDEATH":
            return self._device_death(node, device, message, payload)
        if not node.trusted or device not in node.births:
            self._ask(node, message.arrival_us)
            if node.given_up:
                return [Outcome(message, faults=[_NO_BIRTH])]
            return self._hold(node, message)
        return [self._data(node, node.births[device], message, payload)]

    def distrust(self) -> None:
        """The connection was lost: births may have been missed meanwhile."""
        for node in self._nodes.values():
            node.trusted, node.asked_us, node.pause_us = False, None, _ASK_AGAIN_US
            node.waited_s, node.given_up = 0.0, False

    def wait(self, seconds: float, longest_s: float) -> list[Outcome]:
        """So much time went by in which a birth could have come. What has waited longer than `longest_s` is refused, and what comes before the next birth with it:
        a broker sends only so much that is not acknowledged, and the births of all nodes queue behind it."""
        refused = []
        for node in self._nodes.values():
            node.waited_s = node.waited_s + seconds if node.held else 0.0
            if node.waited_s > longest_s:
                node.given_up = True
                while node.held:
                    refused.append(self._refused(node.held.popleft(), _NO_BIRTH))
        return refused

    def _check_seq(self, node: _Node, message: Message, payload: Payload) -> None:
        if not payload.HasField("seq"):
            return
        seq = int(payload.seq)
        # delivered a second time: the numbers go on from there
        if node.trusted and node.seq is not None and not message.dup and seq != (node.seq + 1) % 256:
            self.counts["seq_gaps"] += 1
            node.trusted = False
            self._ask(node, message.arrival_us)
        node.seq = seq

    def _ask(self, node: _Node, now_us: int) -> None:
        if node.asked_us is not None:
            since = now_us - node.asked_us
            if 0 <= since < node.pause_us:
                return
            # also where births come and do not help: a node that sends what it never announces is not to be kept at being born
            node.pause_us = _ASK_AGAIN_US if since > 2 * _ASK_SELDOM_US else min(node.pause_us * 2, _ASK_SELDOM_US)
        node.asked_us = now_us
        self.counts["rebirth_requests"] += 1
        self.rebirths.append((node.group, node.name))

    def _node_birth(self, node: _Node, message: Message, payload: Payload) -> list[Outcome]:
        self.counts["births"] += 1
        bd_seq = _bd_seq(payload)
        node.same_session = bool(node.births or node.former) and node.bd_seq == bd_seq
        if not node.same_session:
            node.session_ms, node.session_us = int(payload.timestamp), message.arrival_us
        node.waited_s, node.given_up = 0.0, False
        # what was born with the session before counts only for what is held from it
        node.former = node.former | node.births
        node.bd_seq, node.births, node.trusted = bd_seq, {}, True
        node.seq = int(payload.seq) if payload.HasField("seq") else None
        outcome = self._birth(node, None, message, payload)
        # Also one that is delivered a second time: a node whose births come again sends them with QoS 1, and then none since is missing.
        return [*self._release(node, None), outcome]

    def _device_birth(self, node: _Node, device: str | None, message: Message, payload: Payload) -> list[Outcome]:
        if not node.trusted:
            # of which session? the rebirth brings it again
            self._ask(node, message.arrival_us)
            return [Outcome(message)]
        self.counts["births"] += 1
        node.waited_s, node.given_up = 0.0, False
        if device in node.births:
            node.former = node.former | {device: node.births[device]}
        outcome = self._birth(node, device, message, payload)
        return [*self._release(node, device), outcome]

    def _birth(self, node: _Node, device: str | None, message: Message, payload: Payload) -> Outcome:
        outcome, birth = Outcome(message), _Birth()
        lived = node.live.get(device)
        gone = self._gone(node, device, payload)
        node.births[device] = node.live[device] = birth
        self.changed.add((node.group, node.name))
        # what was dead, or is not known to have lived, is good from the birth on, however old its value is
        back_us = max(_time(payload.timestamp) or message.arrival_us, node.died_us.pop(device, -1) + 1)
        for metric in payload.metrics:
            if not isinstance(metric.name, str):
                outcome.faults.append(f"metric {metric.name[:200]!r}: its name is not UTF-8")
                continue
            if not metric.name or metric.name == "bdSeq":
                continue
            kind = kind_of(metric.datatype)
            path: str | None = self._path(node, device, metric.name)
            fault = None
            if kind is None:
                fault = f"a {NAMES.get(metric.datatype, f'data type {metric.datatype}')} is nothing that a tag can hold"
            else:
                fault = path_fault(path) or self._collision(str(path), (node.group, node.name, device, metric.name))
            if fault is not None:
                self.counts["unsupported"] += 1
                outcome.faults.append(f"metric {metric.name[:200]!r}: {fault}")
                path = None
            known = _Metric(metric.name, metric.datatype, path)
            birth.by_name[metric.name] = known
            if metric.HasField("alias") and birth.by_alias.setdefault(metric.alias, known) != known:
                birth.by_alias[metric.alias] = None
                outcome.faults.append(
                    f"metric {metric.name[:200]!r}: its alias {metric.alias} is another metric's too, and counts for none"
                )
            if path is not None and not metric.name.startswith(_CONTROLS):
                outcome.definitions.append(_definition(path, metric))
                row = self._sample(outcome, birth, known, metric, payload, message)
                if (
                    row is not None
                    and row["ts"] < back_us
                    and not metric.is_historical
                    and (lived is None or metric.name not in lived.by_name)
                ):
                    outcome.rows.append(row | {"ts": back_us})
                    birth.newest_us = max(birth.newest_us, back_us)
        if lived is not None and gone:
            paths = {known.path for known in birth.by_name.values()}
            ts = self._after(lived, _time(payload.timestamp) or message.arrival_us, message.arrival_us)
            for known in gone:
                if known.path not in paths:
                    self._stale_metric(known, ts, outcome)
        return outcome

    def _data(self, node: _Node, birth: _Birth, message: Message, payload: Payload) -> Outcome:
        outcome = Outcome(message)
        for metric in payload.metrics:
            known = birth.by_name.get(metric.name) if metric.name else birth.by_alias.get(metric.alias)
            if known is None and not metric.name and metric.alias in birth.by_alias:
                outcome.faults.append(f"alias {metric.alias} is that of two metrics")
                continue
            if known is None:
                what = f"{metric.name[:200]!r}" if metric.name else f"alias {metric.alias}"
                outcome.faults.append(f"metric {what} is none of the birth")
                self._ask(node, message.arrival_us)
                continue
            if known.path is None:
                # told at the birth
                self.counts["unsupported"] += 1
            elif not known.name.startswith(_CONTROLS):
                self._sample(outcome, birth, known, metric, payload, message)
        return outcome

    def _sample(
        self, outcome: Outcome, birth: _Birth, known: _Metric, metric: Payload.Metric, payload: Payload, message: Message
    ) -> dict[str, Any] | None:
        if metric.is_transient:
            # published to be seen, and not to be kept
            self.counts["transient"] += 1
            return None
        ms = metric.timestamp or payload.timestamp
        ts = _time(ms) if ms else message.arrival_us
        if ts is None:
            outcome.faults.append(f"metric {known.name[:200]!r}: its time, {ms} ms, lies outside 1970 to 2100")
            return None
        try:
            value = value_of(metric, known.datatype)
        except ValueError as error:
            outcome.faults.append(f"metric {known.name[:200]!r}: {error}")
            value = None
        row: dict[str, Any] = {
            "tag": known.path,
            "ts": ts,
            "quality": quality_of(metric, value),
            "value": value,
        }
        if isinstance(value, str):
            row["value"], row["text"] = None, value
        outcome.rows.append(row)
        if ts > birth.newest_us:
            birth.newest_us = ts
        return row

    # -- deaths

    def _node_death(self, node: _Node, message: Message, payload: Payload) -> list[Outcome]:
        bd_seq = _bd_seq(payload)
        if not node.live or (bd_seq is not None and node.bd_seq is not None and bd_seq != node.bd_seq):
            # the will of an earlier session comes late: the node has been born since
            return [Outcome(message)]
        self.counts["deaths"] += 1
        outcome = Outcome(message)
        for device in list(node.live):
            # the time in a will is that of the connection's beginning
            self._stale(node, device, message.arrival_us, outcome, message.arrival_us)
        node.former, node.births, node.trusted, node.seq = node.former | node.births, {}, False, None
        return [outcome]

    def _device_death(self, node: _Node, device: str | None, message: Message, payload: Payload) -> list[Outcome]:
        if device not in node.live:
            return [Outcome(message)]
        self.counts["deaths"] += 1
        outcome = Outcome(message)
        self._stale(node, device, _time(payload.timestamp) or message.arrival_us, outcome, message.arrival_us)
        if device in node.births:
            node.former = node.former | {device: node.births.pop(device)}
        return [outcome]

    def _stale(self, node: _Node, device: str | None, ts: int, outcome: Outcome, arrival_us: int) -> None:
        birth = node.live.pop(device)
        node.died_us[device] = ts = self._after(birth, ts, arrival_us)
        self.changed.add((node.group, node.name))
        for known in birth.by_name.values():
            self._stale_metric(known, ts, outcome)

    def _gone(self, node: _Node, device: str | None, payload: Payload) -> list[_Metric]:
        """The metrics that lived, and that a new birth does not have; the paths of what it does not have may be others' from now on."""
        names = {metric.name for metric in payload.metrics}
        lived = node.live.get(device)
        for birth in (node.births.get(device) or node.former.get(device), lived):
            for known in birth.by_name.values() if birth is not None else ():
                owner = (node.group, node.name, device, known.name)
                if known.name not in names and known.path is not None and self._owners.get(known.path) == owner:
                    del self._owners[known.path]
        return [known for known in lived.by_name.values() if known.name not in names] if lived is not None else []

    def _stale_metric(self, known: _Metric, ts: int, outcome: Outcome) -> None:
        if known.path is not None and not known.name.startswith(_CONTROLS):
            self.counts["stale"] += 1
            outcome.rows.append({"tag": known.path, "ts": ts, "value": None, "quality": STALE})

    @staticmethod
    def _after(birth: _Birth, ts: int, arrival_us: int) -> int:
        """Later than its samples: a death before the last of them would leave that one standing."""
        return max(ts, birth.newest_us + 1) if birth.newest_us < arrival_us + _AHEAD_US else ts

    # -- what waits for a birth

    def _hold(self, node: _Node, message: Message) -> list[Outcome]:
        node.held.append(message)
        self._held += 1
        self._held_bytes += len(message.payload)
        refused = []
        while self._held > MAX_HELD or (self._held_bytes > MAX_HELD_BYTES and self._held > 1):
            longest = max(self._nodes.values(), key=lambda other: len(other.held))
            refused.append(self._refused(longest.held.popleft(), "no birth came for it, and more wait than can be held"))
        self.counts["held"] = self._held
        return refused

    def _refused(self, message: Message, reason: str) -> Outcome:
        self._held -= 1
        self._held_bytes -= len(message.payload)
        self.counts["held"] = self._held
        return Outcome(message, faults=[reason])

    def _release(self, node: _Node, device: str | None) -> list[Outcome]:
        """After a birth: what was held of it, in its order."""
        outcomes, left = [], deque[Message]()
        former, birth = node.former.get(device), node.births[device]
        for message in node.held:
            parts = message.topic.split("/")
            if (parts[4] if len(parts) == 5 else None) != device:
                left.append(message)
                continue
            payload = Payload.FromString(message.payload)
            reason = None if node.same_session else "the node was born anew since, and what its metrics were then is not known"
            # what the broker sends again may have been sent, and read, in the session before
            if reason is None and message.dup and (message.arrival_us < node.session_us or payload.timestamp < max(node.session_ms, 1)):
                reason = "it comes again, and may be of the session before"
            if reason is None and any(not _agree(metric, former, birth) for metric in payload.metrics):
                reason = "its aliases mean something else in the birth that followed"
            if reason is not None:
                outcomes.append(self._refused(message, reason))
                continue
            self._held -= 1
            self._held_bytes -= len(message.payload)
            outcomes.append(self._data(node, birth, message, payload))
        node.held = left
        self.counts["held"] = self._held
        return outcomes

    # -- names

    def _path(self, node: _Node, device: str | None, metric: str) -> str:
        """Characters that no path has become `_`, empty levels go."""
        filled = self._tag.format(group=node.group, node=node.name, device=device or "", metric=metric)
        return "/".join(level for level in _ILLEGAL.sub("_", filled).split("/") if level)

    def _collision(self, path: str, owner: tuple[str, str, str | None, str]) -> str | None:
        if len(self._owners) >= MAX_METRICS and path not in self._owners:
            return f"{MAX_METRICS} metrics are known; no more can be"
        known = self._owners.setdefault(path, owner)
        return None if known == owner else f"its tag {path!r} is that of metric {known[3]!r} of {known[0]}/{known[1]}/{known[2] or ''}"

    def metric_of(self, path: str, now_us: int) -> Addressed | str:
        """Where a command to a tag goes; or, in words, why there is no such place now. A node of which it is not known is to be asked for a rebirth then."""
        owner = self._owners.get(path)
        if owner is None:
            return "no birth was seen of a metric with this tag"
        group, name, device, metric = owner
        node = self._nodes[group, name]
        where = f"{group}/{name}" + (f"/{device}" if device is not None else "")
        # a birth from before the connection was lost, or the worker restarted, says nothing of now
        if device in node.died_us or None in node.died_us:
            return f"{where} is dead"
        if not node.trusted:
            self._ask(node, now_us)
            return f"whether {where} lives is not known since this worker connected; it is asked for a birth: try again"
        birth = node.births.get(device)
        if birth is None:
            return f"{where} was not born with its node"
        known = birth.by_name.get(metric)
        if known is None:
            return f"{where} has no metric {metric!r} any more"
        return Addressed(group, name, device, metric, known.datatype)

    # -- over restarts

    def keep(self, key: tuple[str, str]) -> dict[str, Any]:
        """What is to be known of a node in the next life, as JSON."""
        node = self._nodes[key]
        return {
            "group": node.group,
            "node": node.name,
            "bd_seq": node.bd_seq,
            "session": [node.session_ms, node.session_us],
            "births": [
                {"device": device, "metrics": [[m.name, m.datatype, m.path, alias_of.get(m.name)] for m in birth.by_name.values()]}
                for device, birth in node.live.items()
                for alias_of in [{known.name: alias for alias, known in birth.by_alias.items() if known is not None}]
            ],
        }

    def restore(self, kept: dict[str, Any]) -> None:
        """A node as it was in an earlier life: it has to be born again before its data count. Raises KeyError, TypeError, ValueError for what `keep` did not make."""
        node = _Node(str(kept["group"]), str(kept["node"]), bd_seq=kept["bd_seq"])
        node.session_ms, node.session_us = kept.get("session", (0, 0))
        for found in kept["births"]:
            birth = _Birth()
            for name, datatype, path, alias in found["metrics"]:
                birth.by_name[name] = known = _Metric(name, datatype, path)
                if alias is not None:
                    birth.by_alias[alias] = known
                if path is not None:
                    self._owners.setdefault(path, (node.group, node.name, found["device"], name))
            node.former[found["device"]] = node.live[found["device"]] = birth
        self._nodes[node.group, node.name] = node


def _agree(metric: Payload.Metric, former: _Birth | None, birth: _Birth) -> bool:
    """Whether a metric of a held message meant before what it means now."""
    if former is None:
        return False
    if metric.name:
        old, new = former.by_name.get(metric.name), birth.by_name.get(metric.name)
    else:
        old, new = former.by_alias.get(metric.alias), birth.by_alias.get(metric.alias)
    return old is not None and old == new


def _bd_seq(payload: Payload) -> int | None:
    for metric in payload.metrics:
        if metric.name == "bdSeq":
            return int(metric.long_value or metric.int_value)
    return None


def _definition(path: str, metric: Payload.Metric) -> TagDefinition:
    """What a birth says of a metric."""
    known: dict[str, Any] = {"path": path, "kind": kind_of(metric.datatype)}
    if metric.HasField("properties"):
        for key, found in zip(metric.properties.keys, metric.properties.values, strict=False):
            form = found.WhichOneof("value")
            if not isinstance(key, str):
                continue
            if form == "string_value" and isinstance(found.string_value, str) and "\x00" not in found.string_value:
                if key.lower() in ("engunit", "engunits", "units", "unit"):
                    known["unit"] = found.string_value[:MAX_UNIT]
                elif key.lower() in ("description", "documentation", "tooltip"):
                    known["description"] = found.string_value[:MAX_DESCRIPTION]
            elif form in ("float_value", "double_value", "int_value", "long_value"):
                number = float(getattr(found, form))
                if number - number == 0:
                    if key.lower() == "englow":
                        known["low"] = number
                    elif key.lower() == "enghigh":
                        known["high"] = number
    if "low" in known and "high" in known and known["low"] > known["high"]:
        del known["low"], known["high"]
    return TagDefinition(**known)


def _time(ms: int) -> int | None:
    """µs of a payload's ms; None where they are none, or out of the time that a sample can have."""
    return ms * _MS if ms and EARLIEST_US <= ms * _MS < LATEST_US else None
