"""What is decided from a look at all sides."""

from __future__ import annotations

import pytest

from domain.blue_green import Colours
from domain.workload import Side, WorkloadObservation

BLUE, GREEN = Side.BLUE, Side.GREEN


def seen(name: str, version: str | None = None, ready: int = 0) -> WorkloadObservation:
    return WorkloadObservation(
        exists=version is not None, name=name, version=version, replicas=ready, ready=ready
    )


def colours(
    active: Side | None, plain: str | None = None, blue: str | None = None, green: str | None = None
) -> Colours:
    """Sides by their version; the active one has pods."""
    made = {
        side: seen(name, version, 2 if side is active else 0)
        for side, name, version in (
            (None, "app", plain),
            (BLUE, "app-blue", blue),
            (GREEN, "app-green", green),
        )
    }
    return Colours(active=active, plain=made[None], blue=made[BLUE], green=made[GREEN])


@pytest.mark.parametrize(("active", "following"), [(None, BLUE), (BLUE, GREEN), (GREEN, BLUE)])
def test_the_next_version_never_goes_to_the_side_that_serves(active: Side | None, following: Side) -> None:
    found = colours(active, "1.0.0", "1.1.0", "1.2.0")

    assert found.next_side is following
    assert active not in found.others
    assert len(found.others) == 2
    assert found.serving.version == {None: "1.0.0", BLUE: "1.1.0", GREEN: "1.2.0"}[active]


def test_a_version_is_found_on_the_side_that_is_best_for_it() -> None:
    # most ready pods first
    twice = colours(GREEN, "1.0.0", "1.0.0", "1.0.0")
    assert next(twice.running("1.0.0")) is GREEN
    # but before that, where it was seen
    assert next(twice.running("1.0.0", "app-blue")) is BLUE
    # one that nobody runs, or that is only a name, is nowhere
    assert list(twice.running("2.0.0")) == []
    assert list(colours(BLUE, None, "1.1.0").running("1.0.0")) == []
