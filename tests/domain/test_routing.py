"""Router settings that cannot work are refused with the reason."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from domain.routing import RouterKind, RouterSettings


def test_the_canary_needs_a_service_of_its_own() -> None:
    with pytest.raises(ValidationError, match="service and canary_service are both 'web'"):
        RouterSettings(kind=RouterKind.GATEWAY_API, service="web", canary_service="web")


@pytest.mark.parametrize(
    ("kind", "weighted"),
    [
        (RouterKind.REPLICAS, False),
        (RouterKind.INGRESS_NGINX, True),
        (RouterKind.GATEWAY_API, True),
    ],
)
def test_only_sharing_by_replicas_has_no_weights(kind: RouterKind, weighted: bool) -> None:
    assert RouterSettings(kind=kind).weighted is weighted
