"""Repositories whose dependencies can be updated, and the pull requests of that, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from temporalio import activity

from activities.errors import REFUSED, fail
from activities.signatures import DependencySignatures, PullRequestSignatures, ScheduleSignatures
from domain.configuration import Configuration
from domain.dependency_update import (
    BranchHead,
    BranchQuery,
    DependencyChange,
    DependencyUpdateRun,
    PackageChange,
)
from domain.pull_requests import PullRequestDraft, PullRequestQuery, PullRequestReceipt
from domain.schedules import ScheduledEvent, ScheduledOccurrence, ScheduledRule, route_of, rule_of
from domain.triggers import Route

HEAD = BranchHead(branch="main", commit="c0ffee" + "0" * 34)
UPDATE = "decade" + "0" * 34


class Schedules(ScheduleSignatures):
    """What the configuration of an application says."""

    def __init__(self, configuration: Callable[[str], Configuration]) -> None:
        self._configuration = configuration

    @activity.defn
    async def read_scheduled_rule(self, event: ScheduledEvent) -> ScheduledRule:
        configuration = self._configuration(event.application)
        nightly = rule_of(configuration, event).action == "nightly_validation"
        repository = configuration.applications[event.application].repository
        return ScheduledRule(repository=repository, needs_commit=nightly)

    @activity.defn
    async def route_scheduled_event(self, occurrence: ScheduledOccurrence) -> Route:
        return route_of(self._configuration(occurrence.event.application), occurrence)


class Updates(DependencySignatures, PullRequestSignatures):
    """Every application has one outdated package, but those in `current`; those in `held` take their time.

    Commands of those in `broken` fail.
    """

    def __init__(self) -> None:
        self.current: set[str] = set()
        self.held: set[str] = set()
        self.broken: set[str] = set()
        self.pull_requests: dict[str, PullRequestDraft] = {}

    @activity.defn
    async def find_branch_head(self, query: BranchQuery) -> BranchHead:
        return HEAD

    @activity.defn
    async def update_dependencies(self, run: DependencyUpdateRun) -> DependencyChange:
        while run.application in self.held:
            activity.heartbeat()
            await asyncio.sleep(0.02)
        if run.application in self.broken:
            fail(REFUSED, "make update ended with status 2")
        change = DependencyChange(base="main", base_commit=HEAD.commit, branch=run.settings.branch)
        if run.application in self.current:
            return change
        packages = (PackageChange(name="cowboy", before="2.9.0", after="2.10.0"),)
        return change.model_copy(
            update={"commit": UPDATE, "files": ("rebar.lock",), "packages": packages, "pushed": True}
        )

    @activity.defn
    async def find_pull_request(self, query: PullRequestQuery) -> PullRequestReceipt:
        return PullRequestReceipt(number=7 if query.application in self.pull_requests else None)

    @activity.defn
    async def open_pull_request(self, draft: PullRequestDraft) -> PullRequestReceipt:
        created = draft.application not in self.pull_requests
        self.pull_requests[draft.application] = draft
        return PullRequestReceipt(number=7, url="http://git.example.com/pull/7", created=created)
