"""Metric sources: Prometheus, JSON over HTTP, and the Kubernetes API (spec: Rollback Triggers).

`sources` puts them together, and needs a Kubernetes client, which the command line does not.
"""

from activities.metrics.prometheus import Prometheus, PrometheusError, Sample

__all__ = ["Prometheus", "PrometheusError", "Sample"]
