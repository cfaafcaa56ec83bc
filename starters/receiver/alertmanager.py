"""Alerts of Alertmanager: each one that fires stops what is being rolled out where it fires."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from pydantic import ValidationError
from temporalio.client import Client, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.service import RPCError, RPCStatusCode

from domain.canary import Alert
from domain.configuration import Configuration
from domain.environment import EnvironmentRecord
from domain.model import Message
from starters.connection import TRANSIENT
from starters.following import decode
from starters.receiver.answer import Answer, refused
from starters.receiver.body import require_json
from starters.receiver.configuration import ConfigurationFile
from starters.receiver.temporal import Temporal, unreadable
from starters.receiver.webhook import Received
from starters.rendering import clean

APPLICATION_LABELS = ("application", "app", "service")
ENVIRONMENT_LABELS = ("environment", "env")
NAMESPACE_LABEL = "namespace"
QUERY_LIMIT = timedelta(seconds=1)
"""A worker that is away is not waited for: there is another way to find what runs."""
_NAMES = 5
_NAME_LENGTH = 200


class FiringAlert(Message):
    """One alert of a notification; what is not looked at is left out."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str] = {}


class AlertGroup(Message):
    """Alertmanager's webhook, version 4."""

    version: Literal["4"]
    alerts: tuple[FiringAlert, ...]


@dataclass(frozen=True, order=True)
class Place:
    """One environment of one application."""

    application: str
    environment: str


@dataclass(frozen=True)
class Told:
    """Who was told of an alert, or why nobody was."""

    workflow_ids: tuple[str, ...]
    reason: str


class AlertmanagerEndpoint:
    """Signals who has the turn of an environment."""

    name = "alertmanager"

    def __init__(self, temporal: Temporal, configuration: ConfigurationFile) -> None:
        self._temporal = temporal
        self._configuration = configuration

    async def take(self, received: Received) -> Answer:
        payload = require_json(received.headers, received.body)
        try:
            group = AlertGroup.model_validate(payload)
        except ValidationError as error:
            fields = sorted({".".join(str(part) for part in e["loc"]) for e in error.errors()})
            raise refused(
                422, f"no webhook of Alertmanager, version 4: look at {', '.join(fields[:_NAMES])}"
            ) from None
        firing = [alert.labels for alert in group.alerts if alert.status == "firing"]
        if not firing:
            return Answer(200, "ignored", "nothing fires")
        configuration = await self._configuration.refresh()
        alerts, unplaced = alerts_by_place(firing, configuration)
        if not alerts:
            return Answer(200, "ignored", "; ".join(unplaced))
        told = await self._temporal.ask(lambda client: _tell_all(client, alerts, self._temporal))
        signalled = [workflow_id for one in told for workflow_id in one.workflow_ids]
        reason = "; ".join([*(one.reason for one in told), *unplaced])
        if not signalled:
            return Answer(200, "ignored", reason)
        return Answer(202, "signalled", reason, workflow_id=signalled[0])


def application_of_alert(labels: Mapping[str, str], configuration: Configuration) -> Place | str:
    """Which application and environment an alert is about; or why that cannot be known.

    Labels that name a configured application and environment say it; the namespace says what they leave out.
    """
    application = _named(labels, APPLICATION_LABELS, configuration.applications)
    environment = _named(labels, ENVIRONMENT_LABELS, configuration.environments)
    if application is not None and environment is not None:
        return Place(application, environment)
    namespace = labels.get(NAMESPACE_LABEL)
    if not namespace:
        missing = "application" if application is None else "environment"
        return f"none of its labels says which {missing} it is about, and it names no namespace"
    possible = [
        place
        for place in _places_of(namespace, configuration)
        if application in (None, place.application) and environment in (None, place.environment)
    ]
    if len(possible) == 1:
        return possible[0]
    if not possible:
        return f"nothing that is configured runs in its namespace {clean(namespace)[:80]}"
    there = ", ".join(f"{p.application} ({p.environment})" for p in possible[:_NAMES])
    return f"several run in its namespace {clean(namespace)[:80]}: {there}; add a label application"


def _named(labels: Mapping[str, str], names: tuple[str, ...], known: Mapping[str, Any]) -> str | None:
    # Exporters set labels such as service too: a name that nobody knows says nothing.
    return next((labels[name] for name in names if labels.get(name) in known), None)


def _places_of(namespace: str, configuration: Configuration) -> list[Place]:
    return [
        Place(name, environment)
        for name, settings in configuration.applications.items()
        for environment in configuration.environments
        if namespace
        == (
            settings.namespaces.get(environment)
            # Its version is not known here, and no namespace should depend on one.
            or settings.namespace.format(application=name, environment=environment, version="")
        )
    ]


def alerts_by_place(
    firing: list[dict[str, str]], configuration: Configuration
) -> tuple[dict[Place, tuple[Alert, ...]], list[str]]:
    """What to tell where, and why some alerts are told to nobody.

    Whether an alert aborts is a matter of its severity alone, so a storm of them becomes one signal of each.
    """
    names: dict[tuple[Place, str], list[str]] = {}
    unplaced: dict[str, None] = {}
    for labels in firing:
        name = clean(labels.get("alertname", ""))[:_NAME_LENGTH] or "alert without a name"
        place = application_of_alert(labels, configuration)
        if isinstance(place, str):
            unplaced[f"{name}: {place}"] = None
            continue
        severity = clean(labels.get("severity", ""))[:_NAME_LENGTH]
        told = names.setdefault((place, severity), [])
        if name not in told:
            told.append(name)
    found: dict[Place, tuple[Alert, ...]] = {}
    for (place, severity), told in names.items():
        more = len(told) - _NAMES
        name = ", ".join(told[:_NAMES]) + (f" and {more} more" if more > 0 else "")
        found[place] = (*found.get(place, ()), Alert(name=name, severity=severity))
    shown = list(unplaced)[:_NAMES]
    hidden = len(unplaced) - len(shown)
    return found, [*shown, *([f"and {hidden} more"] if hidden > 0 else [])]


async def _tell_all(client: Client, alerts: dict[Place, tuple[Alert, ...]], temporal: Temporal) -> list[Told]:
    """May be done again: an alert that comes twice stops what is stopped already."""
    return await asyncio.gather(
        *(_tell(client, place, told, temporal) for place, told in sorted(alerts.items()))
    )


async def _tell(client: Client, place: Place, alerts: tuple[Alert, ...], temporal: Temporal) -> Told:
    where = f"{place.application} in {place.environment}"
    holders = await _deploying(client, place, temporal)
    told = []
    for workflow_id in holders:
        if await _signal(client, workflow_id, alerts):
            told.append(workflow_id)
    names = ", ".join(f"{alert.name} ({alert.severity or 'no severity'})" for alert in alerts)
    if told:
        return Told(tuple(told), f"{names}: told to {', '.join(told)}")
    return Told((), f"{names}: no deployment of {where} runs")


async def _deploying(client: Client, place: Place, temporal: Temporal) -> tuple[str, ...]:
    """The deployment that has the turn there; without anybody to ask, all that run there."""
    handle = client.get_workflow_handle(f"environment:{place.application}:{place.environment}")
    try:
        record = decode(EnvironmentRecord, await handle.query("status", rpc_timeout=QUERY_LIMIT))
    except (WorkflowQueryFailedError, WorkflowQueryRejectedError, ValueError):
        return await _running(client, place)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND and "namespace" not in error.message.lower():
            return ()  # nothing was ever deployed there
        if error.status not in TRANSIENT:
            raise
        return await _running(client, place)
    except Exception as error:
        if (payload := unreadable(error)) is None:
            raise
        # What the list tells is never encrypted, and to signal needs only a key that the workers have.
        temporal.could_not_read(payload)
        return await _running(client, place)
    holder = record.holder.holder if record.holder is not None else ""
    # A roll-back that has the turn is what an alert would ask for.
    return (holder,) if holder.startswith("deployment:") else ()


async def _running(client: Client, place: Place) -> tuple[str, ...]:
    """Deployments that are not there yet are told in vain: an alert counts where something serves."""
    query = (
        "WorkflowType = 'DeploymentWorkflow' AND ExecutionStatus = 'Running'"
        f" AND Application = '{place.application}' AND Environment = '{place.environment}'"
    )
    return tuple([execution.id async for execution in client.list_workflows(query)])


async def _signal(client: Client, workflow_id: str, alerts: tuple[Alert, ...]) -> bool:
    handle = client.get_workflow_handle(workflow_id)
    try:
        for alert in alerts:
            await handle.signal("alert", alert)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND and "namespace" not in error.message.lower():
            return False  # it ended meanwhile
        raise
    return True
