"""Hot upgrades: which settings make sense, and what several nodes run together."""

from typing import Any

import pytest
from pydantic import ValidationError

from domain.hot_upgrade import HotUpgradeSettings, NodeObservation, NodeTarget, ReleaseNode, survey


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({}, "name either `nodes` or `pods`"),
        ({"pods": "app=shop", "nodes": [{"name": "a", "path": "/a"}]}, "name either `nodes` or `pods`"),
        ({"nodes": [{"name": "a", "path": "/a"}, {"name": "a", "path": "/b"}]}, "two nodes are called 'a'"),
        ({"nodes": [{"name": "a", "path": "opt/a"}]}, "no absolute path"),
        ({"nodes": [{"name": "a", "path": "/opt/../a"}]}, "no absolute path"),
        ({"nodes": [{"name": "a", "path": "/a", "access": "pod"}]}, "name it with `pod`"),
        ({"pods": "app=shop", "release": "shop; rm"}, "release"),
        ({"pods": "app=shop", "environment": {"A B": "c"}}, "environment"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_the_remedy(settings: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValidationError, match=remedy):
        HotUpgradeSettings.model_validate(settings)


def test_a_node_has_the_variables_of_all_and_its_own() -> None:
    node = ReleaseNode(name="a", path="/srv/{application}", environment={"PORT": "2"})
    settings = HotUpgradeSettings(nodes=(node,), environment={"PORT": "1", "COOKIE": "${COOKIE}"})
    target = settings.target(node, "shop")
    assert (target.release, target.node.path) == ("shop", "/srv/shop")
    assert target.environment == {"PORT": "2", "COOKIE": "${COOKIE}"}


def nodes(**running: str | None) -> list[tuple[NodeTarget, NodeObservation]]:
    return [
        (
            NodeTarget(node=ReleaseNode(name=name, path="/a"), release="shop"),
            NodeObservation(running=version is not None, version=version),
        )
        for name, version in running.items()
    ]


@pytest.mark.parametrize(
    ("running", "version", "note"),
    [
        ({"a": "1.0.0", "b": "1.0.0"}, "1.0.0", ""),
        ({"a": "1.0.0", "b": "1.1.0", "c": "1.1.0"}, "1.1.0", "a runs 1.0.0"),
        ({"a": "1.10.0", "b": "1.9.0"}, "1.9.0", "a runs 1.10.0"),
        ({"a": "2024", "b": "1.0.0"}, "2024", "b runs 1.0.0"),
        ({"a": None, "b": "1.0.0"}, "1.0.0", "a does not answer"),
        ({"a": None}, None, "a does not answer"),
        ({}, None, ""),
    ],
)
def test_nodes_run_what_most_of_them_run(
    running: dict[str, str | None], version: str | None, note: str
) -> None:
    seen = survey("shop", nodes(**running))
    assert (seen.version, seen.note) == (version, note)
    assert seen.exists is (version is not None)
    assert (seen.replicas, seen.ready) == (len(running), sum(v is not None for v in running.values()))
