"""Which variables of an OPC UA server are taken, and what their tags are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

pytest.importorskip("asyncua")
from asyncua import Server, ua
from opcua_servers import PlantServer

from historian.ingest.sources.opcua import OpcuaConfig, browse
from historian.ingest.sources.opcua_config import node_id, pattern_regex
from historian.ingest.sources.opcua_connection import connected
from historian.ingest.sources.opcua_nodes import select
from historian.schema.errors import Unavailable
from historian.schema.limits import LIMITS


async def _furnish(plant: PlantServer, server: Server) -> None:
    """Variables with properties, and with data types of the plant's own."""
    colour = await server.nodes.enum_data_type.add_data_type(ua.NodeId("Colour", plant.index), ua.QualifiedName("Colour", plant.index))
    await colour.add_property(
        ua.NodeId("Colour.EnumStrings", plant.index),
        ua.QualifiedName("EnumStrings", 0),
        ua.Variant([ua.LocalizedText("red"), ua.LocalizedText(""), ua.LocalizedText("green")], ua.VariantType.LocalizedText),
    )
    mode = await server.nodes.enum_data_type.add_data_type(ua.NodeId("Mode", plant.index), ua.QualifiedName("Mode", plant.index))
    await mode.add_property(
        ua.NodeId("Mode.EnumValues", plant.index),
        ua.QualifiedName("EnumValues", 0),
        ua.Variant(
            [ua.EnumValueType(-1, ua.LocalizedText("fault")), ua.EnumValueType(10, ua.LocalizedText("auto"))],
            ua.VariantType.ExtensionObject,
        ),
    )
    folder = plant.folders[""]
    for name, kind in (("colour", colour), ("mode", mode)):
        await folder.add_variable(
            ua.NodeId(name, plant.index), ua.QualifiedName(name, plant.index), ua.Variant(0, ua.VariantType.Int32), datatype=kind.nodeid
        )
    temp = plant.nodes["line1/oven/temp"]
    await temp.write_attribute(ua.AttributeIds.Description, ua.DataValue(ua.LocalizedText("Chamber temperature")))
    await temp.add_property(
        ua.NodeId("temp.Units", plant.index),
        ua.QualifiedName("EngineeringUnits", 0),
        ua.Variant(
            ua.EUInformation("", 4408652, ua.LocalizedText("°C"), ua.LocalizedText("degree Celsius")), ua.VariantType.ExtensionObject
        ),
    )
    await temp.add_property(
        ua.NodeId("temp.Range", plant.index),
        ua.QualifiedName("EURange", 0),
        ua.Variant(ua.Range(-20.0, 300.0), ua.VariantType.ExtensionObject),
    )
    for name, limit in (("HighLimit", 250.0), ("HighHighLimit", 280.0)):
        await temp.add_property(ua.NodeId(f"temp.{name}", plant.index), ua.QualifiedName(name, 0), ua.Variant(limit, ua.VariantType.Double))
    state = plant.nodes["line1/state"]
    await state.add_property(
        ua.NodeId("state.Strings", plant.index),
        ua.QualifiedName("EnumStrings", 0),
        ua.Variant([ua.LocalizedText("off"), ua.LocalizedText("on")], ua.VariantType.LocalizedText),
    )
    await folder.add_variable(
        ua.NodeId("pressure", plant.index),
        ua.QualifiedName("p+1/#2", plant.index),
        ua.Variant(1.0, ua.VariantType.Double),
        datatype=ua.NodeId(ua.ObjectIds.Duration),
    )
    # a cycle, as servers have them
    await plant.folders["line1"].add_reference(folder, ua.ObjectIds.Organizes)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server() -> AsyncIterator[PlantServer]:
    made = PlantServer()
    made.declare("line1/oven/temp", 20.0, ua.VariantType.Double, historize=True)
    made.declare("line1/oven/temp_setpoint", 21.0, ua.VariantType.Float)
    made.declare("line1/state", 1, ua.VariantType.UInt32)
    made.declare("line2/count", 5, ua.VariantType.UInt64)
    made.declare("line2/list", [1.0, 2.0], ua.VariantType.Double)
    made.declare("line2/any", "x", ua.VariantType.String)
    made.furnish = _furnish
    await made.start()
    yield made
    await made.stop()


def _config(server: PlantServer, rules: list[dict[str, Any]], nodes: list[dict[str, Any]] | None = None) -> OpcuaConfig:
    return OpcuaConfig.model_validate({"url": server.url, "browse": rules, "nodes": nodes or []})


@pytest.mark.asyncio(loop_scope="module")
async def test_browsing_finds_variables_with_what_the_server_says_of_them(server: PlantServer) -> None:
    rows = {row.path: row for row in await browse(_config(server, [{"root": "nsu=urn:test:plant;s=Plant", "tag": "acme/{path}"}]))}
    assert list(rows) == sorted(rows)
    assert {path: (row.data_type, row.kind) for path, row in rows.items()} == {
        "acme/colour": ("Colour", "digital"),
        "acme/mode": ("Mode", "digital"),
        "acme/p_1__2": ("Duration", "float"),
        "acme/line1/oven/temp": ("Double", "float"),
        "acme/line1/oven/temp_setpoint": ("Float", "float"),
        "acme/line1/state": ("UInt32", "digital"),
        "acme/line2/count": ("UInt64", "int"),
        "acme/line2/list": ("Double", None),
        "acme/line2/any": ("String", "text"),
    }
    temp = rows["acme/line1/oven/temp"]
    assert (temp.node_id, temp.browse_path, temp.access, temp.historizing) == (
        "ns=2;s=line1/oven/temp",
        "line1/oven/temp",
        ("read", "history"),
        True,
    )
    known = temp.definition
    assert (known.unit, known.low, known.high, known.description) == ("°C", -20.0, 300.0, "Chamber temperature")
    assert known.limits == (None, None, 250.0, 280.0)
    assert rows["acme/line2/count"].definition.model_fields_set.isdisjoint(LIMITS)
    assert rows["acme/line2/count"].access == ("read",)
    assert rows["acme/colour"].definition.states == {"0": "red", "1": "1", "2": "green"}
    assert rows["acme/mode"].definition.states == {"-1": "fault", "10": "auto"}
    assert rows["acme/line1/state"].definition.states == {"0": "off", "1": "on"}


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ({"include": ["line1/#"]}, ["line1/oven/temp", "line1/oven/temp_setpoint", "line1/state"]),
        ({"include": ["line1/#"], "exclude": ["#/oven"]}, None),
        ({"include": ["line1/#"], "exclude": ["line1/oven"]}, ["line1/state"]),
        ({"include": ["+/+/temp*"], "exclude": ["+/+/*_setpoint"]}, ["line1/oven/temp"]),
        ({"include": ["line?/count", "line1/oven/temp"]}, ["line1/oven/temp", "line2/count"]),
        ({"include": ["line*"]}, []),
        ({"depth": 1}, ["colour", "mode", "p_1__2"]),
        ({"depth": 2, "exclude": ["line2/#"]}, ["colour", "line1/state", "mode", "p_1__2"]),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_include_exclude_and_depth_pick_nodes(server: PlantServer, rule: dict[str, Any], found: list[str] | None) -> None:
    rules = [{"root": "ns=2;s=Plant"} | rule]
    if found is None:
        with pytest.raises(ValidationError, match="stands only at the end"):
            _config(server, rules)
        return
    assert [row.browse_path for row in await browse(_config(server, rules))] == found


@pytest.mark.asyncio(loop_scope="module")
async def test_a_template_makes_the_tag_and_what_has_no_good_tag_or_is_not_there_is_left_out_by_name(server: PlantServer) -> None:
    config = _config(
        server,
        [
            {"root": "ns=2;s=Plant", "include": ["line1/#"], "tag": "a/{name}"},
            {"root": "ns=2;s=line2", "tag": "b/{id}"},
            {"root": "ns=2;s=Plant", "include": ["colour"], "tag": "{path}/" + "x/" * 16 + "y"},
            {"root": "ns=2;s=Plant", "include": ["mode"], "tag": "{path}/temp"},
            {"root": "ns=2;s=nowhere"},
            {"root": "nsu=urn:other;s=Plant"},
        ],
        [
            {"id": "nsu=urn:test:plant;s=line1/state", "tag": "mine/state"},
            {"id": "ns=2;s=nothing", "tag": "mine/nothing"},
            {"id": "nsu=urn:other;i=1", "tag": "mine/other"},
            {"id": "ns=2;s=mode", "tag": "a/temp_setpoint"},
        ],
    )
    async with connected(config) as connection:
        selection = await select(connection, config)
    # a node that the configuration names is not found again, and its tag is its own
    assert {node.path: node.node_id for node in selection.nodes} == {
        "mine/state": "ns=2;s=line1/state",
        "a/temp_setpoint": "ns=2;s=mode",
        "a/temp": "ns=2;s=line1/oven/temp",
        "b/line2_count": "ns=2;s=line2/count",
        "b/line2_any": "ns=2;s=line2/any",
    }
    left_out = "\n".join(sorted(selection.left_out))
    for said in (
        "nsu=urn:other;i=1: the server has no such namespace",
        "browse from nsu=urn:other;s=Plant: the server has no such namespace",
        "ns=2;s=nothing: no such variable",
        "browse from ns=2;s=nowhere: no variable there",
        "ns=2;s=line1/oven/temp_setpoint (line1/oven/temp_setpoint): tag 'a/temp_setpoint' is that of ns=2;s=mode already",
        "18 levels; at most 16",
        "ns=2;s=line2/list (list): Double is nothing that a tag can hold",
    ):
        assert said in left_out
    assert len(selection.left_out) == 7


async def test_browsing_a_server_that_is_away_says_so() -> None:
    server = PlantServer()
    with pytest.raises(Unavailable, match="cannot be reached"):
        await browse(_config(server, [{}]))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "it takes nothing"),
        ({"nodes": [{"id": "ns=2;Plant", "tag": "a"}]}, "is no node id"),
        ({"nodes": [{"id": "i=1", "tag": "a//b"}]}, "empty level"),
        ({"nodes": [{"id": "i=1", "tag": "a"}, {"id": "i=2", "tag": "a"}]}, "two nodes have the tag 'a'"),
        ({"browse": [{"tag": "{pth}"}]}, "there are {path}"),
        ({"browse": [{"tag": "all"}]}, "the same tag"),
        ({"browse": [{}], "url": "http://plant:4840"}, "opc.tcp://HOST"),
        ({"browse": [{}], "url": "opc.tcp://me:secret@plant:4840"}, "give the user as username"),
        ({"browse": [{}], "history": "a day"}, "say P1D"),
        ({"browse": [{}], "password": "x"}, "without a username"),
        ({"browse": [{}], "security": {"mode": "Sign"}}, "takes a certificate and a key"),
        ({"browse": [{}], "security": {"mode": "None", "trust": "pinned"}}, "go together"),
        ({"browse": [{}], "sampling": 1}, "Extra inputs"),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_is_wrong(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        OpcuaConfig.model_validate({"url": "opc.tcp://plant:4840"} | wrong)
    assert said in str(raised.value)


@given(st.lists(st.text(st.characters(exclude_characters="/*?+#"), min_size=1, max_size=4), min_size=1, max_size=5))
def test_patterns_without_wildcards_match_their_own_path_only_and_wildcards_what_they_say(levels: list[str]) -> None:
    path = "/".join(levels)
    assert pattern_regex(path).fullmatch(path)
    assert not pattern_regex(path).fullmatch(path + "/x")
    assert not pattern_regex(path).fullmatch("x" + path)
    assert pattern_regex("/".join("+" for _ in levels)).fullmatch(path)
    assert not pattern_regex("/".join("+" for _ in [*levels, ""])).fullmatch(path)
    assert pattern_regex("/".join(level[0] + "*" for level in levels)).fullmatch(path)
    assert pattern_regex(levels[0] + "/#").fullmatch(path)
    assert pattern_regex("#").fullmatch(path)


@given(st.text(min_size=1), st.integers(0, 65535))
def test_node_ids_of_any_text_are_taken_by_number_and_by_name_of_their_namespace(identifier: str, index: int) -> None:
    assert node_id(f"ns={index};s={identifier}", []) == ua.NodeId(identifier, index)
    assert node_id(f"nsu=urn:x;s={identifier}", ["", "urn:y", "urn:x"]) == ua.NodeId(identifier, 2)
    assert node_id(f"nsu=urn:x;s={identifier}", [""]) is None
