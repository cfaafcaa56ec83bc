"""Hot code upgrades of running nodes (spec: Core Principles, Zero-Downtime; design, section 8).

Each command looks at the node first: what is so already is done, and an attempt that was interrupted is
followed to its end before anything is tried again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import unquote, urlsplit

import aiohttp
from temporalio import activity

from activities.errors import INVALID_CONFIGURATION, INVALID_INPUT, NOT_FOUND, REFUSED, UNAVAILABLE, fail
from activities.kubernetes.api import KubernetesApi, Object, pods
from activities.kubernetes.connection import ClusterConnection
from activities.kubernetes.failures import StatusError, raise_typed
from activities.kubernetes.heartbeat import heartbeats
from activities.otp.hosts import Answer, LocalHost, ReleaseHost, digest_of
from activities.otp.pods import PodHost
from activities.otp.script import (
    INSTALLATION_FAILED,
    NO_INSTALLATION,
    PACKAGE_MISSING,
    Life,
    ReleaseScript,
    failure_in,
    has_no_path,
)
from activities.signatures import NodeSignatures
from domain.hot_upgrade import (
    NodeAccess,
    NodeCommand,
    NodeObservation,
    NodeQuery,
    NodeReport,
    NodeResult,
    NodeTarget,
    NodeVerb,
    ReleaseNode,
)

T = TypeVar("T")

_POLL_SECONDS: Final = 0.3
_CALM: Final = timedelta(seconds=2)
"""A node that has said that an installation failed restarts at once, or not at all."""


class NodeActivities(NodeSignatures):
    """Speaks to releases on this host, and to those in pods of the worker's cluster.

    Attributes:
        environment: of the worker, for ``${NAME}`` in the settings.
    """

    def __init__(
        self, connection: ClusterConnection | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._environment = dict(os.environ if environment is None else environment)
        self._connection = connection or ClusterConnection.from_environment(self._environment)
        self._api = KubernetesApi(self._connection)

    async def close(self) -> None:
        await self._api.close()

    @activity.defn
    async def find_nodes(self, query: NodeQuery) -> tuple[NodeTarget, ...]:
        """The configured nodes in their order, or the ready pods of the selector by name.

        Raises:
            ApplicationError: NotFound, if no pod is ready; Forbidden, Unavailable …
        """
        settings, namespace = query.settings, query.namespace
        if settings.pods is None:
            nodes = [
                node.model_copy(update={"namespace": node.namespace or namespace})
                if node.access is NodeAccess.POD
                else node
                for node in settings.nodes
            ]
        else:
            subject = f"pods {settings.pods} of {namespace}"
            try:
                listing = await self._api.list_all(pods(namespace), labelSelector=settings.pods)
            except (StatusError, aiohttp.ClientError, TimeoutError, OSError) as error:
                raise_typed(error, f"list {subject}")
            ready = sorted((p for p in listing.get("items") or [] if _is_ready(p)), key=_name)
            if not ready:
                fail(NOT_FOUND, f"none of the {subject} is ready: a hot upgrade needs nodes that run")
            nodes = [_node(pod, query) for pod in ready]
        return tuple(settings.target(node, query.application) for node in nodes)

    @activity.defn
    async def observe_node(self, target: NodeTarget) -> NodeObservation:
        """What runs on a node, and what it knows; a node that does not answer is an observation, too."""
        async with heartbeats(f"looking at {target.node.name}"):
            seen, _ = await self._script(target).observe()
            return seen

    @activity.defn
    async def command_node(self, command: NodeCommand) -> NodeReport:
        """Bring a node to a version. A command that the node works on already is not cancelled, but followed.

        Raises:
            ApplicationError: Unavailable, Forbidden, NotFound, Refused or InvalidConfiguration.
        """
        node = _Commanded(command, self._script(command.target))
        async with heartbeats(f"{command.verb} {command.version} on {command.target.node.name}"):
            return await node.carry_out()

    def _script(self, target: NodeTarget) -> ReleaseScript:
        host: ReleaseHost
        if target.node.access is NodeAccess.POD:
            host = PodHost(target, self._environment, self._connection)
        else:
            host = LocalHost(target, self._environment)
        return ReleaseScript(target, host)


class _Commanded:
    """One command on its way."""

    def __init__(self, command: NodeCommand, script: ReleaseScript) -> None:
        self._command = command
        self._script = script
        self._name = command.target.node.name

    async def carry_out(self) -> NodeReport:
        version, verb = self._command.version, self._command.verb
        seen, life = await self._settled()
        if life is None:
            return self._failed(
                f"{self._name} does not answer: start it, and check the cookie and the name", seen
            )
        if verb is NodeVerb.MAKE_PERMANENT:
            return await self._make_permanent(seen)
        if seen.version == version and (verb is NodeVerb.UPGRADE or seen.permanent == version):
            if verb is not NodeVerb.UPGRADE:
                await self._script.adopt(version)
            return self._done("it runs already", seen)
        if interrupted := await self._interrupted(life, seen):
            return interrupted
        if verb is NodeVerb.DOWNGRADE and version not in seen.versions:
            return self._failed(f"{self._name} does not know {version} any more", seen)
        # A way back is not held up by what has changed in the settings.
        if seen.permanent is not None and verb is not NodeVerb.DOWNGRADE:
            await self._script.check_environment(seen.permanent)
        if refusal := await self._provide(seen):
            return self._failed(refusal, seen)
        # From here on the node may be changed: cancelling would leave it to itself.
        return await _seen_through(self._change(life))

    async def _change(self, life: Life) -> NodeReport:
        version, verb = self._command.version, self._command.verb
        await self._script.configure(version, anew=verb is not NodeVerb.DOWNGRADE)
        await self._script.note(self._attempt, f"{self._command.key} {life.creation}")
        if verb is NodeVerb.RESTART:
            return await self._restart(life)
        upgrade = verb is NodeVerb.UPGRADE
        answer = await self._script.install(str(verb), version, permanent=not upgrade)
        return await self._judge(answer, life)

    async def _judge(self, answer: Answer, life: Life) -> NodeReport:
        """What the node shows decides, not what the script said."""
        untouched = has_no_path(answer)
        failed = answer.status == INSTALLATION_FAILED and not untouched
        seen, now = await self._settled(life if failed else None)
        version = self._command.version
        permanent = self._command.verb is NodeVerb.DOWNGRADE
        if seen.running and seen.version == version and (not permanent or seen.permanent == version):
            if permanent:
                await self._script.adopt(version)
            return self._done("" if answer.status == 0 else failure_in(answer), seen)
        if untouched:
            reason = f"the release has no relup between {seen.version} and {version}"
            return NodeReport(result=NodeResult.NO_PATH, reason=reason, observed=seen)
        if answer.status in (PACKAGE_MISSING, NO_INSTALLATION, INSTALLATION_FAILED):
            return self._failed(failure_in(answer), seen)
        if now is None:
            return self._failed(f"{self._name} does not answer since ({failure_in(answer)})", seen)
        if now.creation == life.creation:
            self._unclear(f"{self._command.verb} {version}", answer)
        return self._failed("the node restarted", seen)

    async def _restart(self, life: Life) -> NodeReport:
        version = self._command.version
        if not await self._script.restart(version):
            reason = (
                f"{version} brings another emulator, which a restart inside the running one cannot change"
            )
            return self._failed(reason, (await self._settled())[0])
        seen, _ = await self._settled(life)
        if not seen.running or seen.version != version:
            return self._failed(f"{self._name} restarted and {_state(seen)}", seen)
        await self._script.adopt(version)
        return self._done("", seen)

    async def _make_permanent(self, seen: NodeObservation) -> NodeReport:
        version = self._command.version
        if seen.version != version:
            return self._failed(f"{self._name} runs {seen.version}, so {version} is not made permanent", seen)
        if seen.permanent != version:
            answer = await _seen_through(self._script.install("upgrade", version, permanent=True))
            seen, _ = await self._settled()
            if seen.permanent != version:
                self._unclear(f"upgrade {version}", answer)
        await self._script.adopt(version)
        return self._done("", seen)

    @property
    def _attempt(self) -> str:
        return f"{self._command.version}.attempt"

    async def _interrupted(self, life: Life, seen: NodeObservation) -> NodeReport | None:
        """An earlier attempt of this very command, if the node has not survived it: it is not tried again."""
        key, _, creation = (await self._script.noted(self._attempt)).rpartition(" ")
        if key != self._command.key or creation == str(life.creation):
            return None
        verb, version = self._command.verb, self._command.version
        return self._failed(
            f"{self._name} restarted while an earlier attempt was made to {verb} {version}", seen
        )

    async def _provide(self, seen: NodeObservation) -> str | None:
        """Unpack the version on the node, if it does not have it; answers why that cannot be."""
        command, version = self._command, self._command.version
        known = version in seen.versions
        if command.artefact is None:
            return None if known else f"{self._name} does not know {version}, and there is no package of it"
        there = await self._script.digest(version)
        if known and there in (None, command.digest):
            return None
        if there != command.digest:
            await self._upload(command.artefact)
        if known:
            # Another package of the same version was unpacked, and files that exist are not replaced.
            answer = await self._script.forget(version)
            if answer.status != 0:
                return f"another package of {version} cannot be removed: {failure_in(answer)}"
        answer = await self._script.unpack(version)
        if answer.status not in (0, PACKAGE_MISSING):
            self._unclear(f"unpack {version}", answer)
        if answer.status == 0:
            return None
        return f"the package of {version} cannot be unpacked: {failure_in(answer)}"

    async def _upload(self, artefact: str) -> None:
        digest, version = self._command.digest, self._command.version
        if digest is None:
            fail(INVALID_INPUT, f"the release {artefact} comes without its digest")
        source = _file(artefact)
        if await asyncio.to_thread(digest_of, source) != digest:
            fail(
                REFUSED, f"the release {source.name} on this worker is not the one that was built ({digest})"
            )
        await self._script.host.put(source, self._script.package(version))
        arrived = await self._script.digest(version)
        if arrived != digest:
            fail(UNAVAILABLE, f"node {self._name}: {source.name} arrived with another digest ({arrived})")

    async def _settled(self, before: Life | None = None) -> tuple[NodeObservation, Life | None]:
        """The node when it has started, and its life; at most the target's timeout from now.

        Args:
            before: a life that is expected to end, if it does so soon.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._command.target.timeout.total_seconds()
        calm = clock() + _CALM.total_seconds()
        while True:
            seen, life = await self._script.observe()
            ended = before is None or life is None or life.creation != before.creation
            if seen.running and (ended or clock() > calm):
                return seen, life
            if clock() > deadline:
                return NodeObservation(running=False), None
            await asyncio.sleep(_POLL_SECONDS)

    def _done(self, reason: str, seen: NodeObservation) -> NodeReport:
        return NodeReport(result=NodeResult.DONE, reason=reason, observed=seen)

    def _failed(self, reason: str, seen: NodeObservation) -> NodeReport:
        return NodeReport(result=NodeResult.FAILED, reason=reason, observed=seen)

    def _unclear(self, what: str, answer: Answer) -> NoReturn:
        """The next attempt looks at the node again."""
        fail(UNAVAILABLE, f"node {self._name}: {what}: {failure_in(answer)}")


async def _seen_through(work: Coroutine[Any, Any, T]) -> T:
    """Do the work to its end; a cancellation in the meantime is obeyed then."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
        except Exception:
            break
    if cancelled and not task.cancelled() and task.exception() is None:
        raise asyncio.CancelledError
    return task.result()


def _file(artefact: str) -> Path:
    parts = urlsplit(artefact)
    if parts.scheme != "file":
        fail(INVALID_CONFIGURATION, f"the release {artefact} is no file of this worker (file://…)")
    return Path(unquote(parts.path))


def _state(seen: NodeObservation) -> str:
    return f"runs {seen.version}" if seen.running else "does not answer"


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def _is_ready(pod: Object) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod.get("status", {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _node(pod: Object, query: NodeQuery) -> ReleaseNode:
    settings, name = query.settings, _name(pod)
    address = str(pod.get("status", {}).get("podIP") or "")
    host = f"[{address}]" if ":" in address else address
    health = settings.health_url
    return ReleaseNode(
        name=name,
        access=NodeAccess.POD,
        path=settings.path,
        namespace=query.namespace,
        pod=name,
        container=settings.container,
        health_url=None if health is None else health.replace("{ip}", host).replace("{pod}", name),
    )
