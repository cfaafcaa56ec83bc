"""Durations: read with their unit, written as the specification writes them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from domain.durations import Duration, Interval, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("10m", 600),
        ("72h", 259_200),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("7y", 7 * 365 * 86_400),
        ("1h30m", 5_400),
        ("1.5h", 5_400),
        ("500ms", 0.5),
        ("1m500ms", 60.5),
        (" 5M ", 300),
        ("0s", 0),
    ],
)
def test_read(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "m", "5 m", "-5m", "5x", "5m!", "1h 30m", "five minutes", "9" * 30 + "y"]
)
def test_what_is_no_duration_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(ValueError, match=r"write"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(minutes=5), "5m"),
        (timedelta(hours=24), "24h"),
        (timedelta(hours=72), "72h"),
        (timedelta(days=7), "7d"),
        (timedelta(minutes=8, seconds=32), "8m32s"),
        (timedelta(milliseconds=1500), "1s500ms"),
        (timedelta(0), "0s"),
        (timedelta(minutes=-5), "-5m"),
    ],
)
def test_write(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@given(st.integers(min_value=0, max_value=10**13))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)

    assert parse_duration(format_duration(duration)) == duration


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=4000)))
def test_json_keeps_a_model_s_duration_to_the_millisecond(duration: timedelta) -> None:
    adapter = TypeAdapter[timedelta](Duration)

    again = adapter.validate_json(adapter.dump_json(duration))

    assert abs(again - duration) < timedelta(milliseconds=1)


@pytest.mark.parametrize("value", [5, 1.5, True, "-PT5M", "5", None])
def test_a_number_without_a_unit_is_no_duration(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[timedelta](Duration).validate_python(value, strict=True)


def test_an_interval_is_never_nothing() -> None:
    with pytest.raises(ValidationError, match="greater than"):
        TypeAdapter[timedelta](Interval).validate_python("0s")
