"""Canary weights, and how pods are split between the tracks."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.canary import CanarySettings, split_replicas


@example(total=10, weight=99)
@example(total=1, weight=1)
@given(total=st.integers(1, 1000), weight=st.integers(0, 100))
def test_pods_follow_the_weight(total: int, weight: int) -> None:
    stable, canary = split_replicas(total, weight)

    assert stable >= 0
    assert canary >= 0
    if weight == 0:
        assert (stable, canary) == (total, 0)
    elif weight == 100:
        assert (stable, canary) == (0, total)
    else:
        assert stable >= 1
        assert canary >= 1, "while both serve, neither is without a pod"
        assert stable + canary == max(total, 2)
        assert abs(canary - total * weight / 100) <= 1


@given(total=st.integers(2, 200))
def test_more_weight_never_means_fewer_pods(total: int) -> None:
    canaries = [split_replicas(total, weight)[1] for weight in range(101)]

    assert canaries == sorted(canaries)


@pytest.mark.parametrize(("total", "weight"), [(3, -1), (3, 101), (0, 10)])
def test_what_cannot_be_split_is_refused(total: int, weight: int) -> None:
    with pytest.raises(ValueError, match=r"percentage|replica"):
        split_replicas(total, weight)


@pytest.mark.parametrize(
    ("initial", "steps", "weights"),
    [
        (10, (10, 50, 100), (10, 50, 100)),
        (5, (10, 50, 100), (5, 10, 50, 100)),
        (20, (10, 50, 100), (20, 50, 100)),
        (10, (100,), (10, 100)),
    ],
)
def test_weights_begin_with_the_initial_percentage(
    initial: int, steps: tuple[int, ...], weights: tuple[int, ...]
) -> None:
    assert CanarySettings(initial_percentage=initial, increment_steps=steps).weights == weights


@pytest.mark.parametrize("steps", [(), (50, 10), (10, 10, 100), (10, 50), (0, 100), (10, 200)])
def test_steps_that_do_not_lead_to_all_are_refused(steps: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="ascend"):
        CanarySettings(increment_steps=steps)


@pytest.mark.parametrize("interval", ["11m", "0s"])
def test_every_step_is_measured(interval: str) -> None:
    with pytest.raises(ValidationError):
        CanarySettings.model_validate({"step_duration": "10m", "analysis_interval": interval})
