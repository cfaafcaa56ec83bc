"""The workload on Kubernetes: server-side apply, roll-outs, traffic routers, and roll-backs."""

from activities.kubernetes.connection import ClusterConnection
from activities.kubernetes.workloads import KubernetesActivities

__all__ = ["ClusterConnection", "KubernetesActivities"]
