"""An emulator of the Kubernetes API for machines without the real programs.

It honours the same tests as the real control plane (`tests/sandbox/kubernetes`) for what the product uses;
everything is in memory.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from kubernetes.aio import client

from sandbox.kubernetes.access import ClusterAccess
from sandbox.kubernetes.certificates import create_server_certificate
from sandbox.processes import SupervisedProcess, free_port

START_TIMEOUT_SECONDS: Final = 60.0
TOKEN_VARIABLE: Final = "KUBERNETES_EMULATOR_TOKEN"
REPOSITORY: Final = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator; made by `Emulator.start`."""

    access: ClusterAccess
    kubeconfig_path: Path
    data_dir: Path

    @classmethod
    @asynccontextmanager
    async def start(cls, data_dir: Path) -> AsyncIterator[Emulator]:
        """Run the emulator as a process of its own for the time of the context.

        `data_dir` gets its log and its kubeconfig. `ProcessFailedError`, with the tail of the log, is raised
        when it does not come up.
        """
        data_dir.mkdir(parents=True, exist_ok=True)
        port = free_port()
        certificate = create_server_certificate(data_dir / "pki")
        access = ClusterAccess(
            name="emulator",
            server=f"https://127.0.0.1:{port}",
            token=secrets.token_hex(16),
            certificate_authority=certificate.authority,
        )
        process = await SupervisedProcess.start(
            [
                *(sys.executable, "-m", "sandbox.kubernetes.emulator", "--port", str(port)),
                *("--certificate", certificate.certificate, "--private-key", certificate.private_key),
            ],
            name="kubernetes-emulator",
            log_file=data_dir / "emulator.log",
            env={**os.environ, TOKEN_VARIABLE: access.token, "PYTHONPATH": str(REPOSITORY)},
        )
        try:
            async with httpx.AsyncClient(
                base_url=access.server, verify=access.ssl_context(), trust_env=False
            ) as http:

                async def serves() -> bool:
                    try:
                        return (await http.get("/readyz")).is_success
                    except httpx.TransportError:
                        return False

                await process.wait_until(serves, timeout=START_TIMEOUT_SECONDS)
            yield cls(access, access.write_kubeconfig(data_dir / "kubeconfig"), data_dir)
        finally:
            await process.kill()

    @property
    def kubeconfig(self) -> dict[str, Any]:
        """The administrator's kubeconfig as a document."""
        return self.access.kubeconfig

    def client_configuration(self) -> client.Configuration:
        """A fresh `kubernetes.aio` configuration of the administrator."""
        return self.access.client_configuration()
