"""The Kubernetes API of the sandbox: the real control plane where it is installed, else an emulator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kubernetes.aio import client, config

from sandbox.kubernetes.control_plane import (
    KUBERNETES_VERSION,
    ControlPlane,
    ControlPlaneMissingError,
    ControlPlanePrograms,
)
from sandbox.kubernetes.emulator import Emulator
from sandbox.processes import ProcessFailedError

__all__ = ["Kubernetes", "start_kubernetes"]


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """A Kubernetes API to use: where it is and what it is.

    `external` is a cluster of the user's own; the other two live as long as the context that made them.
    """

    kind: Literal["real", "emulator", "external"]
    kubeconfig_path: Path
    description: str

    def describe(self) -> str:
        """One sentence: what is used and, for the emulator, why and how to get the real one."""
        return self.description

    async def client_configuration(self) -> client.Configuration:
        """A fresh `kubernetes.aio` configuration read from the kubeconfig."""
        configuration = client.Configuration()
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            str(self.kubeconfig_path), client_configuration=configuration, persist_config=False
        )
        return configuration


@asynccontextmanager
async def start_kubernetes(
    data_dir: Path, prefer: Literal["real", "emulator"] = "real", kubeconfig: Path | None = None
) -> AsyncIterator[Kubernetes]:
    """A Kubernetes API for the time of the context.

    With `kubeconfig` the cluster it names is used and nothing is started. Otherwise the real control plane
    runs if it is installed and starts, else the emulator, and `describe()` says why; nothing is ever built or
    downloaded here. `data_dir` gets logs and kubeconfig. Raises `FileNotFoundError` when `kubeconfig` names
    no file.
    """
    if kubeconfig is not None:
        if not kubeconfig.is_file():
            raise FileNotFoundError(
                f"kubeconfig {kubeconfig} does not exist: give the path of a kubeconfig file"
            )
        yield Kubernetes("external", kubeconfig, f"Kubernetes: the cluster of {kubeconfig}.")
        return
    async with AsyncExitStack() as stack:
        reason = "it was asked for"
        if prefer == "real":
            try:
                running = await _real(data_dir, stack)
            except ControlPlaneMissingError as missing:
                reason = str(missing)
            except ProcessFailedError as failed:
                reason = f"the installed one does not start: {failed}"
            else:
                yield running
                return
        yield await _emulated(data_dir, stack, reason)


async def _real(data_dir: Path, stack: AsyncExitStack) -> Kubernetes:
    programs = ControlPlanePrograms.find()
    control_plane = await stack.enter_async_context(ControlPlane.start(data_dir, programs=programs))
    return Kubernetes(
        "real",
        control_plane.kubeconfig_path,
        f"Kubernetes: the real control plane {KUBERNETES_VERSION} with a hollow kubelet "
        f"(probes are sent, nothing runs in pods), from {programs.apiserver.parent}.",
    )


async def _emulated(data_dir: Path, stack: AsyncExitStack, reason: str) -> Kubernetes:
    emulator = await stack.enter_async_context(Emulator.start(data_dir))
    return Kubernetes(
        "emulator",
        emulator.kubeconfig_path,
        "Kubernetes: an emulator of the API (probes are sent, nothing runs in pods), "
        f"not the real control plane: {reason}.",
    )
