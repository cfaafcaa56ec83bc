"""Traffic routers: what sends the canary its share (spec: Progressive Delivery)."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import model_validator

from domain.durations import Duration
from domain.model import Model


class RouterKind(StrEnum):
    """How traffic is shared between the stable version and the canary.

    ``replicas`` needs nothing but a Service over both tracks: the share is that of the pods.
    ``ingress_nginx`` sets the canary annotations of a second Ingress; ``gateway_api`` the weights of the
    backends of an HTTPRoute. Both leave the stable side all its pods.
    """

    REPLICAS = "replicas"
    INGRESS_NGINX = "ingress_nginx"
    GATEWAY_API = "gateway_api"


class RouterSettings(Model):
    """The router of a workload, and the names of its objects; names default to the Deployment's.

    Attributes:
        kind: how a weight is set: by the number of pods, by annotations of a second Ingress, or by the
            weights of an HTTPRoute.
        service: in front of the stable version (for `replicas`, of both).
        canary_service: in front of the canary alone; by default ``{service}-canary``, made by us.
        ingress: of ingress-nginx, whose rules the canary's Ingress repeats.
        http_route: of the Gateway API.
        drain: how long the canary's pods stay when a router with weights sends them nothing any more: proxies
            hear of it a little later, and say so to nobody.
    """

    kind: RouterKind = RouterKind.REPLICAS
    service: str | None = None
    canary_service: str | None = None
    ingress: str | None = None
    http_route: str | None = None
    drain: Duration = timedelta(seconds=5)

    @model_validator(mode="after")
    def _two_services(self) -> RouterSettings:
        if self.canary_service is not None and self.canary_service == self.service:
            raise ValueError(
                f"service and canary_service are both {self.service!r}; the canary needs a Service of its own"
            )
        return self

    @property
    def weighted(self) -> bool:
        """Whether weights are set in the router, and not by the number of pods."""
        return self.kind is not RouterKind.REPLICAS
