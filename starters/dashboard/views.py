"""What is shown of the answers: plain functions from the processes' own models to the overview's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from domain.approval import ApprovalStatus, identity
from domain.approval_settings import Requirement
from domain.configuration import Configuration
from domain.delivery import StepState
from domain.deployment import DeploymentState, DeploymentStatus
from domain.environment import EnvironmentRecord, Hold, TurnRequest
from domain.gates import GateResult
from domain.rollback import RollbackStatus
from domain.validation import ValidationStatus
from starters.dashboard.overview import (
    Approval,
    Canary,
    Deciders,
    End,
    Gate,
    Running,
    Soak,
    Stage,
    Stop,
    Turn,
    Validated,
)
from starters.rendering.delivery import warnings_of
from starters.rendering.text import target_words
from workflows.presentation import DELIVERIES, STAGES

PageOf = Callable[[str], str | None]
"""The page of a workflow in Temporal's UI."""


def stage(
    record: EnvironmentRecord, configuration: Configuration | None, now: datetime, page_of: PageOf
) -> Stage:
    """One environment as its own workflow describes it."""
    return Stage(
        environment=record.environment,
        production=_is_production(configuration, record.environment),
        used=True,
        version=record.current_version,
        commit=record.current_commit,
        since=record.current_since,
        last_good=record.last_good_version,
        soak=_soak(record, configuration, now),
        turn=None if record.holder is None else _turn(record.holder, page_of),
        queue=tuple(_turn(waiting, page_of) for waiting in record.queue),
        freeze=_stop(record.freeze, now),
        hold=_stop(record.hold, now),
        held_versions={
            version: stop
            for version, hold in record.held_versions.items()
            if (stop := _stop(hold, now)) is not None
        },
        url=page_of(f"environment:{record.application}:{record.environment}"),
    )


def _is_production(configuration: Configuration | None, environment: str) -> bool:
    settings = None if configuration is None else configuration.environments.get(environment)
    return settings is not None and settings.production


def empty_stage(
    environment: str, configuration: Configuration | None, *, unknown: str | None = None
) -> Stage:
    """An environment that was never used, or does not answer."""
    production = _is_production(configuration, environment)
    return Stage(environment=environment, production=production, unknown=unknown)


def _soak(record: EnvironmentRecord, configuration: Configuration | None, now: datetime) -> Soak | None:
    if configuration is None or record.current_version is None or record.current_since is None:
        return None
    for criteria in configuration.promotions:
        if criteria.from_env == record.environment and criteria.minimum_soak:
            done = max(now - record.current_since, timedelta())
            return Soak(towards=criteria.to_env, required=criteria.minimum_soak, done=done)
    return None


def _stop(hold: Hold | None, now: datetime) -> Stop | None:
    if hold is None or (hold.until is not None and hold.until <= now):
        return None
    return Stop(reason=hold.reason, actor=hold.actor, since=hold.since, until=hold.until)


def _turn(request: TurnRequest, page_of: PageOf) -> Turn:
    return Turn(
        workflow_id=request.holder,
        version=request.version,
        actor=request.actor,
        since=request.at,
        url=page_of(request.holder),
    )


def deployment(status: DeploymentStatus, configuration: Configuration | None, page_of: PageOf) -> Running:
    """A deployment that runs."""
    canary = status.canary
    return Running(
        workflow_id=status.deployment_id,
        application=status.application,
        environment=status.environment,
        version=status.version,
        state=str(status.state),
        actor=status.actor,
        started_at=status.started_at,
        since=status.since,
        ends_at=_ends_at(status, configuration),
        paused=status.paused,
        previous_version=status.previous_version,
        waiting_for=status.waiting_for,
        stages=_stages(status),
        gates=_gates(status.gates),
        canary=None
        if canary is None or canary.ended
        else Canary(
            weight=canary.weight,
            phase=str(canary.phase),
            steps=_weights(status, configuration),
            paused=canary.paused,
        ),
        delivery=_delivery(status),
        warnings=warnings_of(status),
        reason=status.history[-1].reason,
        url=page_of(status.deployment_id),
    )


def _stages(status: DeploymentStatus) -> tuple[tuple[str, str], ...]:
    """How far it is; a roll-back stands after what it came to."""
    reached = {t.state for t in status.history}
    rolling_back = status.state is DeploymentState.ROLLING_BACK
    stages = [s for s in STAGES if s in reached or not rolling_back]
    if rolling_back:
        stages.append(DeploymentState.ROLLING_BACK)
    return tuple(
        (str(s), "now" if s is status.state else "done" if s in reached else "ahead") for s in stages
    )


def _gates(gates: Iterable[GateResult]) -> tuple[Gate, ...]:
    return tuple(Gate(name=g.name, outcome=str(g.outcome), reason=g.reason) for g in gates)


def _weights(status: DeploymentStatus, configuration: Configuration | None) -> tuple[int, ...]:
    settings = None if configuration is None else configuration.environments.get(status.environment)
    return () if settings is None or settings.canary is None else settings.canary.weights


def _delivery(status: DeploymentStatus) -> str | None:
    """The step of a delivery that runs now."""
    delivery = status.delivery
    if delivery is None:
        return None
    step = next((s for s in reversed(delivery.steps) if s.state is StepState.RUNNING), None)
    if step is None:
        return None
    detail = f": {step.detail}" if step.detail else ""
    return f"{DELIVERIES[delivery.kind]}, {step.name}{detail}"


def _ends_at(status: DeploymentStatus, configuration: Configuration | None) -> datetime | None:
    """When what it waits for now should be over, as the settings are now; it may go on with older ones."""
    settings = None if configuration is None else configuration.environments.get(status.environment)
    if status.paused:
        return None
    if status.state is DeploymentState.APPROVAL and status.approval is not None:
        return status.approval.expires_at
    if settings is None:
        return None
    if status.state is DeploymentState.MONITORING:
        return status.since + settings.soak_duration
    canary = status.canary
    if settings.canary is not None and canary is not None and not canary.ended and canary.steps:
        left = sum(1 for weight in settings.canary.weights if weight > canary.weight)
        return canary.steps[-1].started_at + settings.canary.step_duration * (left + 1)
    return None


def rollback(status: RollbackStatus, page_of: PageOf) -> Running:
    """A roll-back that runs."""
    _, application, environment, version = status.id.split(":", 3)
    return Running(
        workflow_id=status.id,
        application=application,
        environment=environment,
        version=version,
        state=f"Roll-back, {str(status.state).lower()}",
        actor=status.actor,
        started_at=status.started_at,
        previous_version=status.to_version,
        reason=status.reason,
        url=page_of(status.id),
    )


def approval(
    status: ApprovalStatus, requester: str | None, configuration: Configuration | None, page_of: PageOf
) -> Approval:
    """A gate that waits, with who may decide as the directory is now."""
    _, application, environment, version = status.deployment_id.split(":", 3)
    target = " ".join(target_words(application, environment, version))
    barred = {identity(d.actor) for d in status.received_approvals}
    settings = None if configuration is None else configuration.environments.get(environment)
    if requester is not None and (settings is None or "requester" in settings.approvals.exclude):
        barred.add(identity(requester))

    def people(roles: Iterable[str]) -> tuple[str, ...]:
        known = {} if configuration is None else configuration.directory.roles
        named = {person: None for role in roles for person in known.get(role, ())}
        return tuple(person for person in named if identity(person) not in barred)

    rules = tuple(
        Deciders(roles=r.roles, people=people(r.roles), given=len(r.counted), needed=r.needed)
        for r in status.progress
    ) or (
        Deciders(
            roles=status.required_approvers,
            people=people(status.required_approvers),
            given=len(status.approvals),
            needed=status.min_approvals,
        ),
    )
    return Approval(
        workflow_id=status.id,
        application=application,
        environment=environment,
        version=version,
        gate=status.gate_name,
        rules=rules,
        any_rule=status.require is Requirement.ANY,
        approved_by=tuple(d.actor for d in status.received_approvals),
        requester=requester,
        since=status.created_at,
        expires_at=status.expires_at,
        escalated=status.escalated_at is not None,
        commands=tuple(f'erlmcp-deploy {verb} {target} --comment "…"' for verb in ("approve", "reject")),
        url=page_of(status.id),
    )


def end(status: DeploymentStatus, finished_at: datetime, url: str | None) -> End:
    """A deployment that ended in one of its own states."""
    return End(
        workflow_id=status.deployment_id,
        application=status.application,
        environment=status.environment,
        version=status.version,
        state=str(status.state),
        finished_at=finished_at,
        took=finished_at - status.started_at,
        actor=status.actor,
        reason=status.reason,
        url=url,
    )


def validated(status: ValidationStatus, url: str | None) -> Validated:
    """A validation, as it says itself."""
    return Validated(
        workflow_id=status.validation_id,
        application=status.application,
        commit=status.commit,
        kind=str(status.kind),
        state=str(status.state),
        running=not status.state.final,
        at=status.finished_at or status.started_at,
        ref=status.ref,
        pull_request=status.pull_request,
        gates=_gates(status.gates),
        reason=status.reason,
        url=url,
    )
