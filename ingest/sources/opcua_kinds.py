"""What a variable's data type and properties say of its tag: kind, unit, range, limits, states, description."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from historian.ingest.sources.opcua_connection import Connection, good_value
from historian.schema.catalogue import MAX_DESCRIPTION, MAX_STATES, MAX_UNIT, Kind
from historian.schema.limits import LIMITED, Limits

_NUMBER, _INTEGER, _UINTEGER, _ENUMERATION, _ANY = 26, 27, 28, 29, 24
#: data types of OPC UA's own namespace at which the way up from a server's own types ends. A structure (22) and the rest are nothing that a tag can hold
_KINDS: Mapping[int, Kind] = {
    1: "bool",
    **dict.fromkeys(range(2, 10), "int"),
    10: "float",
    11: "float",
    **dict.fromkeys((12, 13, 14, 16, 20, 21), "text"),
    _NUMBER: "float",
    _INTEGER: "int",
    _UINTEGER: "int",
    _ENUMERATION: "digital",
}
_BASE = frozenset({*_KINDS, *range(1, 30)})
#: no chain of types is longer
_MAX_STEPS = 32

_UNITS, _RANGE, _STRINGS, _VALUES = "EngineeringUnits", "EURange", "EnumStrings", "EnumValues"
#: of an alarm these are properties (OPC UA part 9, LimitAlarmType); servers that have no alarms have them of the variable
_LIMITS = ("LowLowLimit", "LowLimit", "HighLimit", "HighHighLimit")
_PROPERTIES = frozenset({_UNITS, _RANGE, _STRINGS, _VALUES, *_LIMITS})
_ACCESS = ((1, "read"), (2, "write"), (4, "history"))


@dataclass(frozen=True, slots=True)
class Described:
    """What a server says of one variable. `kind` is None if its values are arrays, structures or other things that no tag can hold."""

    data_type: str
    kind: Kind | None
    access: tuple[str, ...]
    historizing: bool
    unit: str | None
    low: float | None
    high: float | None
    description: str | None
    states: Mapping[str, str] | None
    limits: Limits | None


async def describe(connection: Connection, nodes: Sequence[ua.NodeId]) -> list[Described | None]:
    """What the server says of each variable; None for what is no variable or cannot be seen."""
    attributes = (
        ua.AttributeIds.DataType,
        ua.AttributeIds.ValueRank,
        ua.AttributeIds.UserAccessLevel,
        ua.AttributeIds.Historizing,
        ua.AttributeIds.Description,
    )
    columns = [[good_value(found) for found in await connection.read([(node, attribute) for node in nodes])] for attribute in attributes]
    variables = [n for n, data_type in enumerate(columns[0]) if data_type is not None]
    types = await _Types.read(connection, {columns[0][n] for n in variables})
    properties = dict(zip(variables, await _properties(connection, [nodes[n] for n in variables]), strict=True))
    abstract = [n for n in variables if types.base.get(columns[0][n]) in (_ANY, None)]
    values = await connection.read([(nodes[n], ua.AttributeIds.Value) for n in abstract])
    came_as = {n: value.Value.VariantType.value for n, value in zip(abstract, values, strict=True) if value.Value is not None}

    described: list[Described | None] = [None] * len(nodes)
    for n in variables:
        data_type, rank, access, historizing, description = (column[n] for column in columns)
        base = types.base.get(data_type)
        if base in (_ANY, None):
            base = came_as.get(n, base)
        kind = _KINDS.get(base or 0)
        own = properties[n]
        states = _states(own.get(_VALUES)) or _states(own.get(_STRINGS)) or (types.states.get(data_type) if kind == "digital" else None)
        if kind == "int" and states:
            kind = "digital"
        if isinstance(rank, int) and rank >= 0:
            kind = None
        low, high = _range(own.get(_RANGE)) if kind in ("float", "int") else (None, None)
        described[n] = Described(
            types.names.get(data_type, str(data_type.to_string())),
            kind,
            tuple(name for bit, name in _ACCESS if isinstance(access, int) and access & bit),
            historizing is True,
            _text(getattr(getattr(own.get(_UNITS), "DisplayName", None), "Text", None), MAX_UNIT),
            low,
            high,
            _text(getattr(description, "Text", None), MAX_DESCRIPTION),
            states if kind == "digital" else None,
            _limits(own) if kind in LIMITED else None,
        )
    return described


async def _properties(connection: Connection, nodes: Sequence[ua.NodeId]) -> list[dict[str, Any]]:
    """The values of the properties that matter here, by name, of each node."""
    wanted: list[tuple[int, str, ua.NodeId]] = []
    for n, references in enumerate(await connection.references(nodes, ObjectIds.HasProperty)):
        wanted += [(n, reference.BrowseName.Name, reference.NodeId) for reference in references if reference.BrowseName.Name in _PROPERTIES]
    values = await connection.read([(_plain(node), ua.AttributeIds.Value) for _, _, node in wanted])
    found: list[dict[str, Any]] = [{} for _ in nodes]
    for (n, name, _), value in zip(wanted, values, strict=True):
        found[n][name] = good_value(value)
    return found


@dataclass(frozen=True, slots=True)
class _Types:
    """By data type: the type of OPC UA's own that it comes from, its name, the states of an enumeration."""

    base: dict[ua.NodeId, int]
    names: dict[ua.NodeId, str]
    states: dict[ua.NodeId, Mapping[str, str]]

    @classmethod
    async def read(cls, connection: Connection, types: set[ua.NodeId]) -> _Types:
        base: dict[ua.NodeId, int] = {}
        # each type and where its way up has come to
        way = {each: each for each in types}
        for _ in range(_MAX_STEPS):
            for each, at in list(way.items()):
                if at.NamespaceIndex == 0 and at.Identifier in _BASE:
                    base[each] = at.Identifier
                    del way[each]
            if not way:
                break
            above = await connection.references(list(way.values()), ObjectIds.HasSubtype, inverse=True)
            way = {each: _plain(references[0].NodeId) for each, references in zip(way, above, strict=True) if references}
        ordered = list(types)
        names = await connection.read([(each, ua.AttributeIds.BrowseName) for each in ordered])
        named = {each: getattr(good_value(name), "Name", None) or str(each.to_string()) for each, name in zip(ordered, names, strict=True)}
        enumerations = [each for each in ordered if base.get(each) == _ENUMERATION]
        states: dict[ua.NodeId, Mapping[str, str]] = {}
        definitions = await connection.read([(each, ua.AttributeIds.DataTypeDefinition) for each in enumerations])
        for each, definition, own in zip(enumerations, definitions, await _properties(connection, enumerations), strict=True):
            found = _states(getattr(good_value(definition), "Fields", None)) or _states(own.get(_VALUES)) or _states(own.get(_STRINGS))
            if found:
                states[each] = found
        return cls(base, named, states)


def _states(listed: Any) -> Mapping[str, str] | None:
    """State names by code, of an EnumStrings, an EnumValues or the fields of an EnumDefinition."""
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_STATES:
        return None
    states: dict[str, str] = {}
    for n, each in enumerate(listed):
        code = getattr(each, "Value", n)
        name = getattr(each, "Text", None) or getattr(getattr(each, "DisplayName", None), "Text", None) or getattr(each, "Name", None)
        if isinstance(code, int) and abs(code) < 2**31:
            states[str(int(code))] = _text(name, 256) or str(int(code))
    return states or None


def _range(found: Any) -> tuple[float | None, float | None]:
    low, high = getattr(found, "Low", None), getattr(found, "High", None)
    if isinstance(low, float | int) and isinstance(high, float | int) and math.isfinite(low) and math.isfinite(high) and low < high:
        return float(low), float(high)
    return None, None


def _limits(properties: Mapping[str, Any]) -> Limits | None:
    """Those that are numbers; None where there are none, or they do not rise."""
    found = [properties.get(name) for name in _LIMITS]
    limits = Limits(*(float(limit) if isinstance(limit, float | int) and math.isfinite(limit) else None for limit in found))
    return limits if limits != Limits() and limits.fault() is None else None


def _text(text: Any, longest: int) -> str | None:
    return text.replace("\0", "")[:longest] or None if isinstance(text, str) else None


def _plain(node: Any) -> ua.NodeId:
    """A node id of an expanded one."""
    return ua.NodeId(node.Identifier, node.NamespaceIndex, node.NodeIdType)
