"""Traffic routers: how the canary gets its share (spec: Progressive Delivery)."""

from __future__ import annotations

from collections.abc import Mapping

from activities.kubernetes.api import KubernetesApi
from activities.kubernetes.routers.gateway_api import GatewayApiRouter
from activities.kubernetes.routers.ingress_nginx import IngressNginxRouter
from activities.kubernetes.routers.port import Router
from activities.kubernetes.routers.replicas import ReplicasRouter
from activities.kubernetes.routers.services import Services
from activities.kubernetes.tracks import Tracks
from domain.routing import RouterKind

__all__ = ["Router", "Services", "routers"]


def routers(api: KubernetesApi, tracks: Tracks, services: Services) -> Mapping[RouterKind, Router]:
    """Every kind of router, for one cluster."""
    return {
        RouterKind.REPLICAS: ReplicasRouter(tracks, services),
        RouterKind.INGRESS_NGINX: IngressNginxRouter(tracks, services, api),
        RouterKind.GATEWAY_API: GatewayApiRouter(tracks, services, api),
    }
