"""Which variables of a server are taken, and what their tags are: explicit nodes, and those that browsing finds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds
from pydantic import ValidationError

from historian.ingest.sources.opcua_config import BrowseRule, OpcuaConfig, node_id, pattern_regex
from historian.ingest.sources.opcua_connection import Connection, connected
from historian.ingest.sources.opcua_kinds import Described, describe
from historian.schema.catalogue import Kind, TagDefinition
from historian.schema.paths import path_fault

#: what one server may make a worker hold
MAX_NODES = 200_000

_OBJECT, _VARIABLE = int(ua.NodeClass.Object), int(ua.NodeClass.Variable)
_NOT_IN_TAGS = re.compile("[/+#\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class FoundNode:
    """One variable of a server.

    path         the path of its tag
    browse_path  its browse names below the root of the rule that found it; None if the configuration names the node itself
    node         its node id, as on this connection
    data_type    the name of its data type
    kind         the tag's kind; None if its values are nothing that a tag can hold
    access       what this user may do with it, of "read", "write" and "history", in this order
    historizing  whether the server collects its history
    definition   what is known of the tag
    """

    path: str
    browse_path: str | None
    node: ua.NodeId
    data_type: str
    kind: Kind | None
    access: tuple[str, ...]
    historizing: bool
    definition: TagDefinition

    @property
    def node_id(self) -> str:
        """Its node id as text, for a configuration."""
        return str(self.node.to_string())

    @property
    def has_history(self) -> bool:
        return "history" in self.access


@dataclass(frozen=True, slots=True)
class Selection:
    """The nodes to take, each tag once, and what had to be left out, in words."""

    nodes: tuple[FoundNode, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    tag: str
    browse_path: str | None
    node: ua.NodeId
    kind: Kind | None


async def browse(config: OpcuaConfig) -> list[FoundNode]:
    """What this configuration takes from its server now, and the variables that it finds but no tag can hold (their kind is None). Prints nothing.

    Raises Unavailable, Unauthorized, Forbidden, NotFound, BadInput.
    """
    async with connected(config) as connection:
        selection = await select(connection, config, unholdable=True)
    return sorted(selection.nodes, key=lambda node: node.path)


async def select(connection: Connection, config: OpcuaConfig, *, unholdable: bool = False) -> Selection:
    """Find the nodes. With `unholdable`, also those browsed ones whose values no tag can hold; a node that the configuration names is always among them."""
    left_out: list[str] = []
    candidates: dict[str, _Candidate] = {}
    namespaces = await connection.namespaces()
    for named in config.nodes:
        node = node_id(named.id, namespaces)
        if node is None:
            left_out.append(f"{named.id}: the server has no such namespace")
        else:
            candidates[named.tag] = _Candidate(named.tag, None, node, named.kind)
    taken = {candidate.node for candidate in candidates.values()}
    for rule in config.browse:
        root = node_id(rule.root, namespaces)
        if root is None:
            left_out.append(f"browse from {rule.root}: the server has no such namespace")
            continue
        found = await _browse(connection, root, rule, left_out)
        if not found:
            left_out.append(f"browse from {rule.root}: no variable there that the rule includes")
        for node, browse_path in found:
            tag = _tag(rule.tag, browse_path, node)
            fault = path_fault(tag)
            if fault is not None:
                left_out.append(f"{node.to_string()} ({browse_path}): {fault}")
            elif node in taken:
                # named, or found by an earlier rule
                continue
            elif tag in candidates:
                left_out.append(f"{node.to_string()} ({browse_path}): tag {tag!r} is that of {candidates[tag].node.to_string()} already")
            else:
                taken.add(node)
                candidates[tag] = _Candidate(tag, browse_path, node, None)
    described = await describe(connection, [candidate.node for candidate in candidates.values()])
    nodes = []
    for candidate, facts in zip(candidates.values(), described, strict=True):
        if facts is None:
            left_out.append(f"{candidate.node.to_string()}: no such variable on the server, or it may not be seen by this user")
            continue
        found_node = _found(candidate, facts)
        if found_node.kind is None and not unholdable and candidate.browse_path is not None:
            left_out.append(f"{found_node.node_id} ({candidate.browse_path}): {facts.data_type} is nothing that a tag can hold")
        else:
            nodes.append(found_node)
    return Selection(tuple(nodes), tuple(left_out))


async def _browse(connection: Connection, root: ua.NodeId, rule: BrowseRule, left_out: list[str]) -> list[tuple[ua.NodeId, str]]:
    """The variables below a node, breadth first, each once, by the path on which it was found first."""
    include = [pattern_regex(pattern) for pattern in rule.include]
    exclude = [pattern_regex(pattern) for pattern in rule.exclude]
    found: list[tuple[ua.NodeId, str]] = []
    # what a server says of itself is taken only by those who ask for it
    seen = {root, ua.NodeId(ObjectIds.Server)}
    level: list[tuple[ua.NodeId, str]] = [(root, "")]
    for _ in range(rule.depth):
        below: list[tuple[ua.NodeId, str]] = []
        results = await connection.references([node for node, _ in level], ObjectIds.HierarchicalReferences, classes=_OBJECT | _VARIABLE)
        for (_, above), references in zip(level, results, strict=True):
            for reference in references:
                if reference.ReferenceTypeId == ua.NodeId(ObjectIds.HasProperty):
                    continue
                node = ua.NodeId(reference.NodeId.Identifier, reference.NodeId.NamespaceIndex, reference.NodeId.NodeIdType)
                if node in seen:
                    continue
                seen.add(node)
                name = _NOT_IN_TAGS.sub("_", reference.BrowseName.Name or "") or "_"
                path = f"{above}/{name}" if above else name
                if any(pattern.fullmatch(path) for pattern in exclude):
                    # and nothing below it: a large branch that nobody wants is not even looked at
                    continue
                below.append((node, path))
                if int(reference.NodeClass) == _VARIABLE and any(pattern.fullmatch(path) for pattern in include):
                    found.append((node, path))
        if len(seen) > MAX_NODES:
            left_out.append(f"browse from {rule.root}: more than {MAX_NODES} nodes; the rest was not looked at")
            break
        level = below
        if not level:
            break
    return found


def _tag(template: str, path: str, node: ua.NodeId) -> str:
    identifier = _NOT_IN_TAGS.sub("_", str(node.Identifier))
    return template.format_map({"path": path, "name": path.rpartition("/")[2], "id": identifier})


def _found(candidate: _Candidate, facts: Described) -> FoundNode:
    kind = candidate.kind or facts.kind
    states: Mapping[str, str] | None = facts.states if kind == "digital" else None
    try:
        definition = TagDefinition(
            path=candidate.tag,
            kind=kind,
            unit=facts.unit,
            description=facts.description,
            low=facts.low,
            high=facts.high,
            states=dict(states) if states is not None else None,
            # all four or none: none that stands is left between those of the server
            **(facts.limits._asdict() if facts.limits is not None else {}),
        )
    except ValidationError:
        # what a server says of a node must not keep its samples away
        definition = TagDefinition(path=candidate.tag, kind=kind)
    return FoundNode(
        candidate.tag, candidate.browse_path, candidate.node, facts.data_type, kind, facts.access, facts.historizing, definition
    )
