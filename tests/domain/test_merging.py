"""Laying settings over settings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.merging import merge, overlay

_SETTINGS = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), st.integers(0, 3) | inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("base", "changes", "merged", "overlaid"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}, {"a": 1, "b": 2}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}}, {"a": {"x": 1, "y": 3}}, {"a": {"x": 1, "y": 3}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"x": 1}}, {"a": 5}, {"a": 5}, {"a": 5}),
        ({"a": 5}, {"a": {"x": 1}}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        # null removes, or stays to switch off
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}, {"a": None, "b": 2}),
        ({}, {"a": {"x": None}}, {"a": {}}, {"a": {"x": None}}),
    ],
)
def test_tables(
    base: dict[str, Any], changes: dict[str, Any], merged: dict[str, Any], overlaid: dict[str, Any]
) -> None:
    assert merge(base, changes) == merged
    assert overlay(base, changes) == overlaid


@given(_SETTINGS, _SETTINGS)
def test_what_the_changes_say_holds_and_neither_side_is_altered(
    base: dict[str, Any], changes: dict[str, Any]
) -> None:
    before = repr((base, changes))

    result = overlay(base, changes)

    assert repr((base, changes)) == before
    assert overlay(result, changes) == result
    assert result == merge(base, changes), "they differ in null alone"
    assert set(result) == set(base) | set(changes)
