"""What the configuration says when a schedule fires."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from temporalio import activity

from activities.configuration import ConfigurationError, load_configuration
from activities.errors import INVALID_CONFIGURATION, INVALID_INPUT, fail
from activities.signatures import ScheduleSignatures
from domain.configuration import Configuration
from domain.schedules import (
    ScheduledEvent,
    ScheduledOccurrence,
    ScheduledRule,
    ScheduleGoneError,
    route_of,
    rule_of,
)
from domain.triggers import Route

T = TypeVar("T")


class ScheduleActivities(ScheduleSignatures):
    """Reads deployment.yaml each time, so that a schedule obeys an edit of its rule at once.

    Args:
        configuration: path of deployment.yaml.
    """

    def __init__(self, configuration: str | Path) -> None:
        self._path = Path(configuration)

    @activity.defn
    async def read_scheduled_rule(self, event: ScheduledEvent) -> ScheduledRule:
        """The rule that has fired.

        Raises:
            ApplicationError: InvalidInput, if it is gone; InvalidConfiguration.
        """

        def read(configuration: Configuration) -> ScheduledRule:
            rule = rule_of(configuration, event)
            return ScheduledRule(
                repository=configuration.applications[event.application].repository,
                needs_commit=rule.action == "nightly_validation",
            )

        return await self._asked(read)

    @activity.defn
    async def route_scheduled_event(self, occurrence: ScheduledOccurrence) -> Route:
        """What the rule starts.

        Raises:
            ApplicationError: InvalidInput, if it is gone; InvalidConfiguration.
        """
        return await self._asked(lambda configuration: route_of(configuration, occurrence))

    async def _asked(self, read: Callable[[Configuration], T]) -> T:
        try:
            return read(await asyncio.to_thread(load_configuration, self._path))
        except ConfigurationError as error:
            fail(INVALID_CONFIGURATION, str(error))
        except ScheduleGoneError as error:
            fail(INVALID_INPUT, str(error))
