"""The tag catalogue: made, changed, found, and the same in every process."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import ValidationError

from historian.schema.catalogue import Catalogue, Tag, TagDefinition
from historian.schema.connection import Pool
from historian.schema.errors import BadInput, Conflict, UnknownTag


def define(path: str, **fields: object) -> TagDefinition:
    return TagDefinition.model_validate({"path": path, **fields})


async def paths(catalogue: Catalogue, *names: str) -> list[str]:
    return [tag.path for tag in await catalogue.resolve(names)]


async def test_tags_are_made_once_with_their_kind(catalogue: Catalogue, pool: Pool) -> None:
    await catalogue.ensure({"a/t": "float", "a/run": "bool", "a/phase": "text"})
    await catalogue.ensure({"a/t": "text", "a/n": "int"})
    assert {tag.path: (tag.kind, tag.step) for tag in catalogue.all()} == {
        "a/n": ("int", False),
        "a/phase": ("text", True),
        "a/run": ("bool", True),
        "a/t": ("float", False),
    }
    # every tag has its row in the snapshot, for writers to lock
    assert await pool.fetchval("SELECT count(*) FROM historian.snapshot") == 4


async def test_another_process_finds_a_new_tag_at_its_first_look(catalogue: Catalogue, pool: Pool) -> None:
    other = Catalogue(pool)
    await other.refresh()
    await catalogue.ensure({"a/t": "float"})
    assert other.get("a/t") is None
    (tag,) = await other.resolve(["a/t"])
    assert tag == catalogue.get("a/t")
    assert other.by_id(tag.tag_id) == tag


async def test_another_process_sees_a_change(catalogue: Catalogue, pool: Pool) -> None:
    await catalogue.ensure({"a/t": "float"})
    other = Catalogue(pool)
    await other.refresh()
    await catalogue.define([define("a/t", unit="°C")])
    revision = other.revision
    await other.refresh()
    found = other.get("a/t")
    assert found is not None
    assert found.unit == "°C"
    assert other.revision > revision
    # and nothing new is nothing new
    revision = other.revision
    await other.refresh()
    assert other.revision == revision


async def test_a_change_that_commits_late_is_not_missed(catalogue: Catalogue, pool: Pool) -> None:
    """A transaction that began before others and commits after a refresh has a lower xid than what was seen."""
    await catalogue.ensure({"a/slow": "float", "a/quick": "float"})
    async with pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("UPDATE historian.tag SET unit = 'bar' WHERE path = 'a/slow'")
        await pool.execute("UPDATE historian.tag SET unit = 'K' WHERE path = 'a/quick'")
        await catalogue.refresh()
        quick = catalogue.get("a/quick")
        assert quick is not None
        assert quick.unit == "K"
        await transaction.commit()
    await catalogue.refresh()
    found = catalogue.get("a/slow")
    assert found is not None
    assert found.unit == "bar"


async def test_processes_that_make_the_same_tags_at_once_agree(pool: Pool) -> None:
    catalogues = [Catalogue(pool) for _ in range(4)]
    names = [f"a/{n}" for n in range(200)]
    # in different orders: a circle of waits would be a deadlock
    await asyncio.gather(*(c.ensure(dict.fromkeys(names if n % 2 else names[::-1], "float")) for n, c in enumerate(catalogues)))
    ids = [{tag.path: tag.tag_id for tag in c.all()} for c in catalogues]
    assert len(ids[0]) == 200
    assert all(found == ids[0] for found in ids)


async def test_resolve_keeps_the_order_asked_for_and_each_tag_once(catalogue: Catalogue) -> None:
    await catalogue.ensure(dict.fromkeys(["s/l1/a", "s/l1/b", "s/l2/a"], "float"))
    assert await paths(catalogue, "s/l2/a", "s/+/a", "s/#") == ["s/l2/a", "s/l1/a", "s/l1/b"]
    assert await paths(catalogue, "none/#") == []
    with pytest.raises(UnknownTag) as caught:
        await catalogue.resolve(["s/l1/a", "s/l9/a", "x"])
    assert caught.value.tags == ("s/l9/a", "x")
    with pytest.raises(BadInput):
        await catalogue.resolve(["s//a"])


async def test_match_lists_in_the_order_of_the_paths(catalogue: Catalogue) -> None:
    await catalogue.ensure(dict.fromkeys(["b", "a/b", "a", "a/a"], "float"))
    assert [tag.path for tag in catalogue.match("#")] == ["a", "a/a", "a/b", "b"]
    assert [tag.path for tag in catalogue.match("a/b")] == ["a/b"]
    assert catalogue.match("c") == []


async def test_a_definition_says_what_it_says_and_leaves_the_rest(catalogue: Catalogue) -> None:
    (made,) = await catalogue.define([define("a/t", unit="°C", description="Vorlauf", low=0.0, high=90.0)])
    assert made == Tag(made.tag_id, "a/t", "float", "°C", "Vorlauf", 0.0, 90.0, False, None)
    (changed,) = await catalogue.define([define("a/t", unit=None, high=120.0)])
    assert changed == Tag(made.tag_id, "a/t", "float", None, "Vorlauf", 0.0, 120.0, False, None)
    assert changed.row()["high"] == 120.0


async def test_definitions_are_answered_in_their_order(catalogue: Catalogue) -> None:
    tags = await catalogue.define([define("b", kind="int"), define("a", kind="bool"), define("b", unit="t")])
    assert [tag.path for tag in tags] == ["b", "a", "b"]
    # the last of a path wins, whole
    assert {(tag.kind, tag.unit) for tag in tags if tag.path == "b"} == {("float", "t")}


async def test_states_of_a_digital_tag(catalogue: Catalogue) -> None:
    (tag,) = await catalogue.define([define("pump", states={"0": "stopped", "1": "läuft", "-1": "fault"})])
    assert tag.kind == "digital"
    assert tag.step
    assert tag.states == {"0": "stopped", "1": "läuft", "-1": "fault"}
    assert (tag.state_code("läuft"), tag.state_code("none")) == (1, None)
    await catalogue.ensure({"a/t": "float"})
    with pytest.raises(BadInput, match="only a digital tag has states"):
        await catalogue.define([define("a/t", states={"0": "off"})])


async def test_all_definitions_or_none(catalogue: Catalogue, pool: Pool) -> None:
    await catalogue.ensure({"a/t": "float"})
    with pytest.raises(BadInput):
        await catalogue.define([define("a/new"), define("a/t", states={"0": "off"})])
    assert await pool.fetchval("SELECT count(*) FROM historian.tag") == 1
    with pytest.raises(UnknownTag):
        await catalogue.resolve(["a/new"])


async def test_the_kind_of_a_tag_with_samples_stays(catalogue: Catalogue, pool: Pool) -> None:
    (tag,) = await catalogue.define([define("a/t")])
    (tag,) = await catalogue.define([define("a/t", kind="int")])
    assert tag.kind == "int"
    await pool.execute("UPDATE historian.snapshot SET ts = now(), value = 1, quality = 192 WHERE tag_id = $1", tag.tag_id)
    with pytest.raises(Conflict, match="kind int and has samples"):
        await catalogue.define([define("a/t", kind="text")])
    assert (await catalogue.define([define("a/t", kind="int", unit="t")]))[0].unit == "t"


async def test_a_range_that_is_upside_down_only_with_what_stands(catalogue: Catalogue) -> None:
    await catalogue.define([define("a/t", low=0.0, high=10.0)])
    with pytest.raises(BadInput, match="above high"):
        await catalogue.define([define("a/t", low=20.0)])


@pytest.mark.parametrize(
    "fields",
    [
        {"path": "a/+"},
        {"path": ""},
        {"path": "a", "kind": "double"},
        {"path": "a", "colour": "red"},
        {"path": "a", "low": float("inf")},
        {"path": "a", "high": float("nan")},
        {"path": "a", "low": 2.0, "high": 1.0},
        {"path": "a", "low": "0"},
        {"path": "a", "unit": "x" * 65},
        {"path": "a", "unit": "\x00"},
        {"path": "a", "description": "\x00"},
        {"path": "a", "low_limit": float("nan")},
        {"path": "a", "low_low_limit": 2.0, "high_high_limit": 1.0},
        {"path": "a", "kind": "bool", "high_limit": 1.0},
        {"path": "a", "states": {"one": "on"}},
        {"path": "a", "states": {"01": "on"}},
        {"path": "a", "states": {"1": ""}},
        {"path": "a", "states": {str(2**31): "on"}},
        {"path": "a", "kind": "float", "states": {"1": "on"}},
        {"path": "a", "states": {str(n): "x" for n in range(4097)}},
    ],
)
def test_definitions_that_make_no_sense(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TagDefinition.model_validate(fields)
