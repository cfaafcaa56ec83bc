"""What people want to know before they decide: the diff, the soak, the page of the deployment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from temporalio import activity
from temporalio.client import Client, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.service import RPCError, RPCStatusCode

from activities.configuration import ConfigurationError, load_configuration
from activities.signatures import FactsSignatures
from domain import temporal_ui
from domain.approval_facts import FactsQuery, LookedUp
from domain.configuration import Configuration
from domain.environment import EnvironmentRecord
from domain.projects import comparison_url
from domain.soak import describe_soak

_ANSWER_TIMEOUT = timedelta(seconds=3)


class FactsActivities(FactsSignatures):
    """Looks around; what cannot be found out in a moment is left out, as nobody waits for it.

    Args:
        client: connected to the namespace of the workflows.
        configuration: path of deployment.yaml.
        environment: of the worker; ``TEMPORAL_UI_URL`` names Temporal's UI.
    """

    def __init__(
        self, client: Client, configuration: str | Path, *, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._client = client
        self._path = Path(configuration)
        self._environment = environment

    @activity.defn
    async def look_up_facts(self, query: FactsQuery) -> LookedUp:
        """Diff, soak and address of a deployment."""
        page = temporal_ui.workflow_page(
            self._environment.get(temporal_ui.VARIABLE),
            self._client.service_client.config.target_host,
            self._client.namespace,
            query.deployment_id,
            query.run_id,
        )
        try:
            configuration = await asyncio.to_thread(load_configuration, self._path)
        except ConfigurationError as error:
            # The plan was made when it could be read; an edit since then must not stop the deployment.
            activity.logger.warning("no diff and no soak: %s", error)
            return LookedUp(deployment_url=page)
        return LookedUp(
            diff_url=_diff_url(configuration, query),
            soak=await self._soak(configuration, query),
            deployment_url=page,
        )

    async def _soak(self, configuration: Configuration, query: FactsQuery) -> str | None:
        """The version's stay in every environment that promotes to this one."""
        places = dict.fromkeys(p.from_env for p in configuration.promotions if p.to_env == query.environment)
        # The server's clock, which the records were made by as well.
        now = activity.info().current_attempt_scheduled_time
        told = await asyncio.gather(*(self._stay(query, place, now) for place in places))
        return "; ".join(stay for stay in told if stay is not None) or None

    async def _stay(self, query: FactsQuery, place: str, now: datetime) -> str | None:
        handle = self._client.get_workflow_handle(f"environment:{query.application}:{place}")
        try:
            record = await handle.query("status", result_type=EnvironmentRecord, rpc_timeout=_ANSWER_TIMEOUT)
        except RPCError as error:
            missing = error.status is RPCStatusCode.NOT_FOUND
            return f"nothing was ever deployed to {place}" if missing else None
        except (WorkflowQueryFailedError, WorkflowQueryRejectedError, ValueError):
            # ValueError: the record of another version of this program, or a paused workflow.
            return None
        return describe_soak(record, query.version, query.commit, now)


def _diff_url(configuration: Configuration, query: FactsQuery) -> str | None:
    settings = configuration.applications.get(query.application)
    if settings is None or query.previous_ref is None:
        return None
    github = configuration.git_hosts.github.url
    return comparison_url(settings.repository, github, settings.project, query.previous_ref, query.commit)
