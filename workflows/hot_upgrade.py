"""Hot code upgrades: the running nodes of a release, one after the other (spec: Zero-Downtime).

Each node is upgraded so that a reboot would undo it, watched, and only then the upgrade is made permanent. If
one fails, it and all before it go back to what they ran.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import FailureError, is_cancelled_exception
from temporalio.workflow import ActivityCancellationType

from activities.signatures import NodeSignatures
from domain.delivery import DeliveryKind
from domain.hot_upgrade import (
    HotUpgradeSettings,
    NodeCommand,
    NodeObservation,
    NodeQuery,
    NodeReport,
    NodeResult,
    NodeTarget,
    NodeVerb,
    NoUpgradePath,
    survey,
)
from domain.plan import DeploymentPlan
from domain.watches import node_watch
from domain.workload import WorkloadObservation
from workflows.delivering import Delivering, Steps
from workflows.effects import Options
from workflows.failures import ProcessError, reason_of, see_through

TRIGGER = "hot_upgrade"
_PARTS = 4
"""A command waits for a node, hands a package over, waits for the script and for the node again."""


class HotUpgrade:
    """Brings the nodes of one environment to one version."""

    def __init__(self, course: Delivering) -> None:
        self._course = course
        self._steps = Steps(DeliveryKind.HOT_UPGRADE, course.show)
        self._settings = _settings(course.plan)
        self._version = course.request.version
        self._touched: list[tuple[NodeTarget, str]] = []
        """Nodes that may run the version now, with what they ran before."""

    async def deliver(self) -> None:
        """Node by node: upgrade, watch, make permanent.

        Raises:
            ProcessError: a node failed; those that were changed run again what they ran before, or it says
                which do not.
        """
        course = self._course
        nodes = await course.obey(look(course.plan))
        silent = [target.node.name for target, seen in nodes if not seen.running]
        if silent:
            raise ProcessError(
                f"{', '.join(silent)} does not answer: a hot upgrade needs nodes that run", trigger=TRIGGER
            )
        try:
            for target, seen in nodes:
                await course.unpaused()
                await self._bring_forward(target, seen)
        except ProcessError as error:
            await see_through(self._go_back(str(error), error.trigger))
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
            await see_through(self._go_back(reason_of(error), TRIGGER))

    async def _bring_forward(self, target: NodeTarget, seen: NodeObservation) -> None:
        course, version, node = self._course, self._version, target.node
        if seen.version != version:
            self._touched.append((target, seen.version or ""))
            upgrade = self._command(target, NodeVerb.UPGRADE)
            report = await self._steps.take(f"upgrade {node.name}", upgrade, _detail)
            if report.result is NodeResult.NO_PATH:
                restart = self._command(target, NodeVerb.RESTART)
                report = await self._steps.take(f"restart {node.name}", restart, _detail)
            seen = report.observed
        watch = course.watch(node_watch(course.plan, version, node.health_url))
        await self._steps.take(f"watch {node.name}", watch)
        if seen.permanent != version:
            make_permanent = self._command(target, NodeVerb.MAKE_PERMANENT)
            await self._steps.take(f"make {node.name} permanent", make_permanent, _detail)

    async def _command(self, target: NodeTarget, verb: NodeVerb) -> NodeReport:
        """Carry one command out; its report is audited before it counts.

        Raises:
            ProcessError: it failed, or there is no way and the settings know no other.
        """
        course, name = self._course, target.node.name
        report = await course.obey(_send(self._order(target, verb)))
        lost = report.result is NodeResult.NO_PATH and self._settings.no_upgrade_path is NoUpgradePath.FAIL
        failed = report.result is NodeResult.FAILED or lost
        await course.obey(
            course.journal.record(
                f"node.{verb}",
                str(verb),
                "failed" if failed else "success",
                reason=report.reason,
                node=name,
                result=str(report.result),
                running=report.observed.version,
                permanent=report.observed.permanent,
            )
        )
        if lost:
            # The node is untouched: there is nothing to take back from it.
            self._touched.pop()
            raise ProcessError(
                f"{name} cannot be upgraded to {self._version} without a restart: {report.reason}; "
                "write an appup, or no_upgrade_path: restart",
                trigger=TRIGGER,
            )
        if failed:
            raise ProcessError(f"{name}: {verb} {self._version} failed: {report.reason}", trigger=TRIGGER)
        return report

    def _order(self, target: NodeTarget, verb: NodeVerb) -> NodeCommand:
        release = self._course.release
        return NodeCommand(
            key=f"{workflow.info().run_id}/{target.node.name}/{verb}",
            target=target,
            verb=verb,
            version=self._version,
            artefact=release.uri,
            digest=release.digest,
        )

    async def _go_back(self, reason: str, trigger: str | None) -> None:
        """Take back what was changed, the last node first."""
        failures = []
        for target, before in reversed(self._touched):
            name = target.node.name
            try:
                await self._steps.take(f"return {name} to {before}", self._return(target, before), _detail)
            except ProcessError as error:
                failures.append(str(error))
        if failures:
            reason = f"{reason}; and {'; '.join(failures)}"
        raise ProcessError(reason, trigger=trigger)

    async def _return(self, target: NodeTarget, version: str) -> NodeReport:
        report = await _bring_node_back(
            self._settings, target, version, f"{workflow.info().run_id}/{target.node.name}/return"
        )
        self._course.journal.note(
            "node.returned",
            "downgrade",
            "success" if report.result is NodeResult.DONE else "failed",
            reason=report.reason,
            node=target.node.name,
            running=report.observed.version,
        )
        if report.result is not NodeResult.DONE:
            raise ProcessError(f"{target.node.name} did not return to {version}: {report.reason}")
        return report


async def observe(plan: DeploymentPlan) -> WorkloadObservation:
    """What the nodes run now, in the words of a workload; nodes that differ are named in its note."""
    return survey(plan.target.deployment, await look(plan))


async def bring_back(plan: DeploymentPlan, previous: WorkloadObservation, *, run_key: str) -> None:
    """Bring all nodes to the earlier version, those that run it already excepted; the last node first.

    Raises:
        ProcessError: some node does not run it now; the others do.
    """
    if previous.version is None:
        raise ProcessError("it is not known which version the nodes ran; name one with to_version")
    settings, failures = _settings(plan), []
    for target in reversed(await _find(plan)):
        name = target.node.name
        try:
            report = await _bring_node_back(settings, target, previous.version, f"{run_key}/{name}/return")
        except ProcessError as error:
            failures.append(str(error))
            continue
        if report.result is not NodeResult.DONE:
            failures.append(f"{name} did not return to {previous.version}: {report.reason}")
    if failures:
        raise ProcessError("; ".join(failures), trigger=TRIGGER)


async def look(plan: DeploymentPlan) -> Sequence[tuple[NodeTarget, NodeObservation]]:
    """The nodes, and what each says of itself."""
    targets = await _find(plan)
    seen = await asyncio.gather(*(_observe(target) for target in targets))
    return list(zip(targets, seen, strict=True))


async def _bring_node_back(
    settings: HotUpgradeSettings, target: NodeTarget, version: str, key: str
) -> NodeReport:
    """Downgrade a node; restart it in the version where there is no way down and the settings allow that.

    A node that has restarted itself is waited for.
    """
    report = await _send_home(target, NodeVerb.DOWNGRADE, version, key)
    if report.result is NodeResult.DONE or not report.observed.running:
        return report
    if settings.no_upgrade_path is NoUpgradePath.FAIL:
        return report
    return await _send_home(target, NodeVerb.RESTART, version, key)


async def _send_home(target: NodeTarget, verb: NodeVerb, version: str, key: str) -> NodeReport:
    try:
        return await _send(NodeCommand(key=f"{key}/{verb}", target=target, verb=verb, version=version))
    except FailureError as error:
        if is_cancelled_exception(error):
            raise
        raise ProcessError(f"{target.node.name}: {reason_of(error)}") from error


async def _find(plan: DeploymentPlan) -> tuple[NodeTarget, ...]:
    settings = _settings(plan)
    return await workflow.execute_activity_method(
        NodeSignatures.find_nodes,
        NodeQuery(settings=settings, application=plan.application, namespace=plan.target.namespace),
        summary="find the nodes",
        **_limits(timedelta(seconds=30)),
    )


async def _observe(target: NodeTarget) -> NodeObservation:
    return await workflow.execute_activity_method(
        NodeSignatures.observe_node, target, summary=f"look at {target.node.name}", **_limits(target.timeout)
    )


async def _send(command: NodeCommand) -> NodeReport:
    return await workflow.execute_activity_method(
        NodeSignatures.command_node,
        command,
        summary=f"{command.verb} {command.version} on {command.target.node.name}",
        **_limits(command.target.timeout * _PARTS),
    )


def _limits(limit: timedelta) -> Options:
    """Whoever cancels waits until the node is left alone, before anything else is done to it."""
    attempt = limit + timedelta(minutes=1)
    return Options(
        start_to_close_timeout=attempt,
        schedule_to_close_timeout=attempt * 3,
        heartbeat_timeout=timedelta(seconds=30),
        retry_policy=RetryPolicy(
            initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=15)
        ),
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def _settings(plan: DeploymentPlan) -> HotUpgradeSettings:
    settings = plan.settings.hot_upgrade
    if settings is None:
        raise ProcessError(f"{plan.environment} has no hot_upgrade", trigger=TRIGGER)
    return settings


def _detail(report: NodeReport) -> str:
    seen = report.observed
    state = f"runs {seen.version}, boots {seen.permanent}" if seen.running else "does not answer"
    return f"{state}: {report.reason}" if report.reason else state
