"""How the worker reaches its cluster (spec: Environment Variables, ``KUBE_CONFIG``)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio import client, config
from kubernetes.aio.config.config_exception import ConfigException

from activities.errors import INVALID_CONFIGURATION, fail

_REMEDY = (
    "set KUBE_CONFIG to a base64 encoded kubeconfig or KUBECONFIG to the path of one, "
    "or run the worker inside the cluster with a service account"
)


class ClusterConnection:
    """Where the API server is and who we are there.

    The first of these that is set wins: `kube_config` (a base64 encoded kubeconfig), `kubeconfig_path`,
    the service account of the pod the worker runs in. ``~/.kube/config`` is never used: a worker on an
    engineer's machine must not deploy to whatever cluster was looked at last.

    Nothing of it is ever shown: errors name the source and the fault, not the content.
    """

    def __init__(self, *, kube_config: str | None = None, kubeconfig_path: Path | None = None) -> None:
        self._kube_config = kube_config
        self._kubeconfig_path = kubeconfig_path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ClusterConnection:
        """The connection that ``KUBE_CONFIG`` or ``KUBECONFIG`` names, else that of the pod."""
        path = environment.get("KUBECONFIG")
        return cls(
            kube_config=environment.get("KUBE_CONFIG") or None, kubeconfig_path=Path(path) if path else None
        )

    def __repr__(self) -> str:
        return f"ClusterConnection({self.source})"

    @property
    def source(self) -> str:
        """Where the connection comes from, fit for logs."""
        if self._kube_config is not None:
            return "KUBE_CONFIG"
        if self._kubeconfig_path is not None:
            return f"kubeconfig {self._kubeconfig_path}"
        return "service account of the pod"

    async def load(self) -> client.Configuration:
        """Read the configuration afresh: tokens may have been renewed since the last time.

        Raises:
            ApplicationError: InvalidConfiguration; it cannot be read, or there is none.
        """
        configuration = client.Configuration()
        fault = None
        try:
            if self._kube_config is not None:
                await config.load_kube_config_from_dict(  # type: ignore[no-untyped-call]
                    _decoded(self._kube_config), client_configuration=configuration
                )
            elif self._kubeconfig_path is not None:
                if not self._kubeconfig_path.is_file():
                    fail(INVALID_CONFIGURATION, f"{self.source} does not exist; {_REMEDY}")
                await config.load_kube_config(  # type: ignore[no-untyped-call]
                    str(self._kubeconfig_path), client_configuration=configuration, persist_config=False
                )
            else:
                config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        except (ConfigException, ValueError, TypeError, KeyError, OSError, yaml.YAMLError) as error:
            # The library's messages can contain whole entries of the file, tokens and all: they end here.
            fault = type(error).__name__
        if fault is not None and self._kube_config is None and self._kubeconfig_path is None:
            fail(INVALID_CONFIGURATION, f"no access to a Kubernetes cluster is configured: {_REMEDY}")
        if fault is not None:
            fail(INVALID_CONFIGURATION, f"{self.source} is no usable kubeconfig ({fault}); {_REMEDY}")
        return configuration

    async def open(self) -> client.ApiClient:
        """A client; the caller closes it.

        Raises:
            ApplicationError: InvalidConfiguration, also for certificates that cannot be read.
        """
        configuration = await self.load()
        try:
            opened = client.ApiClient(configuration)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            kind = type(error).__name__
            fail(
                INVALID_CONFIGURATION,
                f"{self.source} holds certificates that cannot be read ({kind}); {_REMEDY}",
            )
        opened.user_agent = "erlmcp-deploy"
        return opened


def _decoded(encoded: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(base64.b64decode(encoded, validate=False))
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("not base64") from None
    if not isinstance(document, dict):
        raise ValueError("no mapping")
    return document
