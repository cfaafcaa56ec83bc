"""Weights among the backends of an HTTPRoute's rules."""

from __future__ import annotations

from typing import Any

import pytest

from activities.kubernetes.routers.backends import Backends

BACKENDS = Backends(stable="web", canary="web-canary", namespace="shop")


def refs(**weights: int | None) -> list[dict[str, Any]]:
    """Backends by name (an underscore stands for a hyphen); none = no weight is written."""
    return [
        {"name": name.replace("_", "-"), "port": 80, **({} if weight is None else {"weight": weight})}
        for name, weight in weights.items()
    ]


@pytest.mark.parametrize(
    ("before", "weight", "after"),
    [
        (refs(web=None), 10, refs(web=90, web_canary=10)),
        (refs(web=100), 10, refs(web=90, web_canary=10)),
        (refs(web=None), 99, refs(web=1, web_canary=99)),
        (refs(web=90, web_canary=10), 100, refs(web=0, web_canary=100)),
        (refs(web=90, web_canary=10), 0, refs(web=None)),
        (refs(web=0, web_canary=100), 0, refs(web=None)),
        (refs(legacy=1, web=3), 50, refs(legacy=100, web=150, web_canary=150)),
        (refs(legacy=100, web=150, web_canary=150), 10, refs(legacy=100, web=270, web_canary=30)),
        (refs(legacy=100, web=270, web_canary=30), 0, refs(legacy=None, web=3)),
        (refs(legacy=500_000, web=500_000), 10, refs(legacy=500_000, web=450_000, web_canary=50_000)),
        (refs(web_canary=10), 20, refs(web=80, web_canary=20)),
        (refs(web_canary=10), 0, refs(web=None)),
        (refs(web=5, web_canary=3, legacy=10), 0, refs(web=8, legacy=10)),
        (refs(web=5, web_canary=3, legacy=10), 10, refs(web=720, web_canary=80, legacy=1000)),
        (refs(web=720, web_canary=80, legacy=1000), 0, refs(web=8, legacy=10)),
        (refs(web=0), 50, refs(web=0)),
        (refs(web=0, web_canary=0), 0, refs(web=0)),
        (refs(payments=None), 50, refs(payments=None)),
        (refs(web=7), 0, refs(web=7)),
    ],
)
def test_a_rule_is_divided_by_percent_and_restored(
    before: list[dict[str, Any]], weight: int, after: list[dict[str, Any]]
) -> None:
    assert BACKENDS.steered([{"backendRefs": before}], weight) == [{"backendRefs": after}]


def test_filters_and_other_rules_stay() -> None:
    # given a backend with its own filter, and a rule that redirects and leads nowhere
    ref = {"name": "web", "port": 80, "kind": "Service", "filters": [{"type": "RequestHeaderModifier"}]}
    redirect = {"filters": [{"type": "RequestRedirect"}]}
    rules: list[dict[str, Any]] = [{"matches": [{"path": {"value": "/"}}], "backendRefs": [ref]}, redirect]

    steered = BACKENDS.steered(rules, 25)

    assert steered[1] == redirect
    assert steered[0]["matches"] == rules[0]["matches"]
    assert steered[0]["backendRefs"] == [{**ref, "weight": 75}, {**ref, "name": "web-canary", "weight": 25}]
    assert BACKENDS.steered(steered, 0) == rules
    assert BACKENDS.shares(steered) == [25.0]

    # and what somebody gives the canary's backend alone stays with it
    marked = {"name": "web-canary", "port": 80, "weight": 25, "filters": [{"type": "RequestMirror"}]}
    edited = [{"backendRefs": [{**ref, "weight": 75}, marked]}]
    assert BACKENDS.steered(edited, 50)[0]["backendRefs"][1] == {**marked, "weight": 50}


@pytest.mark.parametrize(
    "ref",
    [
        {"name": "web", "namespace": "other"},
        {"name": "web", "kind": "ServiceImport", "group": "multicluster.x-k8s.io"},
    ],
)
def test_a_backend_that_only_has_the_services_name_is_another(ref: dict[str, Any]) -> None:
    rules = [{"backendRefs": [ref]}]

    assert BACKENDS.steered(rules, 50) == rules
    assert BACKENDS.shares(rules) == []
    assert BACKENDS.mentions(rules[0]) == 0
