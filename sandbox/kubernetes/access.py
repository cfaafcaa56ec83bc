"""How a client reaches one API server: address, bearer token and certificate authority."""

from __future__ import annotations

import base64
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio import client


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """One administrator's way into a cluster of the sandbox.

    `certificate_authority` is the PEM text of the authority the server's certificate is checked by.
    """

    name: str
    server: str
    token: str
    certificate_authority: str

    @property
    def kubeconfig(self) -> dict[str, Any]:
        """The access as a kubeconfig document (`kubectl config view` of it is complete)."""
        authority = base64.b64encode(self.certificate_authority.encode()).decode()
        cluster = {"server": self.server, "certificate-authority-data": authority}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": self.name,
            "clusters": [{"name": self.name, "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self.token}}],
            "contexts": [{"name": self.name, "context": {"cluster": self.name, "user": "admin"}}],
        }

    def write_kubeconfig(self, path: Path) -> Path:
        """Write the kubeconfig, readable by its owner only as it holds a token, and return its path."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yaml.safe_dump(self.kubeconfig, file, sort_keys=False)
        return path

    def ssl_context(self) -> ssl.SSLContext:
        """Trust in this server and no other, for HTTP clients."""
        return ssl.create_default_context(cadata=self.certificate_authority)

    def client_configuration(self) -> client.Configuration:
        """A fresh `kubernetes.aio` configuration; nothing is shared with the library's global default."""
        return client.Configuration(
            host=self.server,
            api_key={"BearerToken": f"Bearer {self.token}"},
            ca_cert_data=self.certificate_authority,
        )
