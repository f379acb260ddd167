"""Tag paths and MQTT wildcards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from historian.schema.errors import BadInput
from historian.schema.paths import MAX_BYTES, MAX_LEVELS, check_path, is_wildcard, path_fault, wildcard_regex

LEVEL = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="/+#"), min_size=1, max_size=6)
PATH = st.lists(LEVEL, min_size=1, max_size=MAX_LEVELS).map("/".join).filter(lambda path: len(path.encode()) <= MAX_BYTES)


@given(PATH)
def test_good_paths_pass_as_they_are(path: str) -> None:
    assert check_path(path) == path
    assert not is_wildcard(path)


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("", "not empty"),
        (None, "text"),
        (b"a/b", "text"),
        ("a//b", "empty level"),
        ("/a", "empty level"),
        ("a/", "empty level"),
        ("a/+/b", "for wildcards"),
        ("a#", "for wildcards"),
        ("a\x00b", "control character"),
        ("a\nb", "control character"),
        ("a\x7fb", "control character"),
        ("a\x85b", "control character"),
        ("a\u2028b", "control character"),
        ("a\ud800", "control character"),
        ("/".join("abcdefghijklmnopq"), "17 levels"),
        ("a" * (MAX_BYTES + 1), "512 bytes"),
        ("é" * 257, "514 bytes"),
        ("x" * 10_000, "10000 characters"),
    ],
)
def test_bad_paths_are_told_what_is_wrong(path: object, fault: str) -> None:
    with pytest.raises(BadInput, match=fault):
        check_path(path)
    found = path_fault(path)
    # what goes back to the sender stays short, and can be encoded
    assert found is not None
    assert len(found) < 600
    found.encode()


@pytest.mark.parametrize("path", ["a" * MAX_BYTES, "é" * 256, "/".join("abcdefghijklmnop"), "site 1/Größe/$x.y-z_0", "温度"])
def test_limits_are_inclusive(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("a/b", ["a/b"], ["a", "a/b/c", "A/b"]),
        ("a/+", ["a/b", "a/ "], ["a", "a/b/c"]),
        ("+", ["a"], ["a/b"]),
        ("+/+", ["a/b"], ["a", "a/b/c"]),
        ("#", ["a", "a/b/c"], []),
        ("a/#", ["a", "a/b", "a/b/c"], ["ab", "b/a"]),
        ("+/b/#", ["a/b", "x/b/c/d"], ["b", "a/c/b"]),
        ("a.c/+", ["a.c/d"], ["abc/d"]),
        ("a(b/#", ["a(b/c"], ["ab/c"]),
    ],
)
def test_wildcards_mean_what_they_mean_in_mqtt(pattern: str, matches: list[str], others: list[str]) -> None:
    fullmatch = wildcard_regex(pattern).fullmatch
    assert [path for path in matches + others if fullmatch(path)] == matches


@pytest.mark.parametrize("pattern", ["", "#/a", "a/#/b", "a/b#", "a+", "+a/b", "a//b", "a/", "a\x00/+", "+/" * 16 + "+", "a" * 600 + "/#"])
def test_wildcards_that_mqtt_refuses(pattern: str) -> None:
    with pytest.raises(BadInput):
        wildcard_regex(pattern)


def by_the_book(levels: list[str], pattern: list[str]) -> bool:
    """MQTT 5.0, section 4.7, level by level."""
    if pattern and pattern[0] == "#":
        return True
    if not levels or not pattern:
        return not levels and (not pattern or pattern == ["#"])
    return pattern[0] in ("+", levels[0]) and by_the_book(levels[1:], pattern[1:])


_few = st.sampled_from(["a", "b", "."])


@given(st.lists(_few, min_size=1, max_size=4), st.lists(st.one_of(_few, st.just("+")), max_size=4), st.booleans())
def test_wildcards_agree_with_a_walk_through_the_levels(levels: list[str], pattern: list[str], rest: bool) -> None:
    pattern = [*pattern, "#"] if rest or not pattern else pattern
    assert bool(wildcard_regex("/".join(pattern)).fullmatch("/".join(levels))) == by_the_book(levels, pattern)
