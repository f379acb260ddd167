"""The limits of a tag: in order, of numbers only, kept and changed one by one; what the program says of their order is what the database says."""

from __future__ import annotations

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from historian.schema.catalogue import Catalogue, TagDefinition
from historian.schema.connection import Pool
from historian.schema.errors import BadInput
from historian.schema.limits import LIMITS, Limits

limits_of_any_order = st.builds(Limits, *[st.none() | st.sampled_from([-1.5, 0.0, 1.0, 2.0, 1e300])] * 4)


def rises(limits: Limits) -> bool:
    given = [limit for limit in limits if limit is not None]
    return given == sorted(given)


@given(limits_of_any_order)
def test_limits_that_are_given_rise(limits: Limits) -> None:
    fault = limits.fault()
    assert (fault is None) == rises(limits)
    assert fault is None or "limits rise" in fault


def test_what_is_wrong_is_said_by_name() -> None:
    assert Limits(1, None, 0.5).fault() == "low_low 1 is above high 0.5: limits rise from low_low over low and high to high_high"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limits_of_any_order)
async def test_the_database_refuses_what_the_program_refuses(catalogue: Catalogue, pool: Pool, limits: Limits) -> None:
    await catalogue.ensure({"a/t": "float"})
    statement = f"UPDATE historian.tag SET ({', '.join(LIMITS)}) = ($1, $2, $3, $4) WHERE path = 'a/t'"
    if rises(limits):
        await pool.execute(statement, *limits)
        (tag,) = await catalogue.define([TagDefinition(path="a/t")])
        assert tag.limits == limits
        row = await pool.fetchrow(f"SELECT {', '.join(LIMITS)} FROM historian.tags WHERE tag = 'a/t'")
        assert tuple(row) == limits
    else:
        with pytest.raises(asyncpg.CheckViolationError):
            await pool.execute(statement, *limits)


async def test_limits_are_changed_one_by_one_and_belong_to_numbers(catalogue: Catalogue) -> None:
    (tag,) = await catalogue.define([TagDefinition(path="a/t", low_limit=2.0, high_limit=8.0)])
    assert tag.limits == Limits(None, 2.0, 8.0, None)
    (tag,) = await catalogue.define([TagDefinition(path="a/t", high_limit=None, high_high_limit=9.0)])
    assert tag.limits == Limits(None, 2.0, None, 9.0)
    with pytest.raises(BadInput, match="'a/t': low_low 3 is above low 2"):
        await catalogue.define([TagDefinition(path="a/t", low_low_limit=3.0)])
    # it has no samples yet, and so may become what has no limits
    (tag,) = await catalogue.define([TagDefinition(path="a/t", kind="digital")])
    assert tag.limits == Limits()
    with pytest.raises(BadInput, match="of kind digital; only a float or int tag has limits"):
        await catalogue.define([TagDefinition(path="a/t", high_limit=1.0)])
