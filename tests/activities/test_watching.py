"""Watching a release: what counts as healthy, and rounds that outlive their attempts."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiohttp import web
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from activities.errors import INVALID_CONFIGURATION
from activities.signatures import WatchSignatures
from activities.watching import STILL_WATCHING, WatchActivities
from domain.analysis import (
    HealthProbe,
    HealthReport,
    Metric,
    Watch,
    WatchOutcome,
    WatchPolicy,
    WatchTally,
    WatchVerdict,
)
from sandbox.temporal import TemporalServer

PATHS = ("/health", "/ready", "/live")


class Service:
    """A service and its Prometheus: answers what the test says, and counts the rounds."""

    def __init__(self) -> None:
        self.url = ""
        self.rounds = 0
        self.version = "1.0.0"
        self.answers: dict[str, web.Response] = {}
        self.values: dict[str, list[str]] = {}

    def says(self, path: str, body: Any, status: int = 200, content_type: str = "application/json") -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self.answers[path] = web.Response(status=status, text=text, content_type=content_type)

    def measures(self, query: str, *values: str) -> None:
        """The values of a query, one per round; the last one stays."""
        self.values[query] = list(values)

    async def health(self, request: web.Request) -> web.Response:
        self.rounds += request.path == "/health"
        if (said := self.answers.get(request.path)) is not None:
            return web.Response(status=said.status, text=said.text, content_type=said.content_type)
        return web.json_response(
            {"status": "Healthy", "ready": True, "alive": "true", "version": self.version}
        )

    async def query(self, request: web.Request) -> web.Response:
        values = self.values[str((await request.post())["query"])]
        value = values.pop(0) if len(values) > 1 else values[0]
        result = [{"metric": {}, "value": [1435781451.781, value]}]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    running = Service()
    application = web.Application()
    application.router.add_post("/api/v1/query", running.query)
    application.router.add_get("/{path:.*}", running.health)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    running.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield running
    await runner.cleanup()


@pytest.fixture
async def activities() -> AsyncIterator[WatchActivities]:
    async with httpx.AsyncClient() as http:
        yield WatchActivities(http)


async def check(activities: WatchActivities, probe: HealthProbe) -> HealthReport:
    return await ActivityEnvironment().run(activities.check_health, probe)


def probe_of(service: Service, **fields: Any) -> HealthProbe:
    return HealthProbe(base_url=service.url, **{"version": "1.0.0", **fields})


# Health


async def test_all_endpoints_that_say_yes_are_healthy(activities: WatchActivities, service: Service) -> None:
    report = await check(activities, probe_of(service))

    assert report == HealthReport(healthy=True, checks=dict.fromkeys(PATHS, "Healthy"))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (({"status": "unhealthy"}, 200, "application/json"), 'status is "unhealthy"'),
        (({"status": None}, 200, "application/json"), "status is null"),
        (({"status": "ok", "ready": False}, 200, "application/json"), "ready is false"),
        (({"alive": "false"}, 200, "application/json"), 'alive is "false"'),
        (({"status": "ok", "version": "0.9.0"}, 200, "application/json"), 'version is "0.9.0", not 1.0.0'),
        (({"status": "ok"}, 503, "application/json"), "HTTP 503"),
        (({"status": "ok"}, 302, "application/json"), "HTTP 302"),
        (({"status": "ok"}, 204, "application/json"), "HTTP 204"),
        (("{broken", 200, "application/json"), "cannot be read"),
        (("<html>log in</html>", 200, "text/html"), "HTML page"),
        (("x" * 300_000, 200, "text/plain"), "longer than 256 KiB"),
    ],
)
async def test_one_endpoint_that_says_no_makes_it_unhealthy(
    activities: WatchActivities, service: Service, answer: tuple[Any, int, str], reason: str
) -> None:
    service.says("/ready", *answer)

    report = await check(activities, probe_of(service))

    assert not report.healthy
    assert report.reason.startswith("/ready: ")
    assert reason in report.reason
    assert report.checks["/live"] == "Healthy"


@pytest.mark.parametrize(
    ("body", "content_type"), [("OK", "text/plain"), ("", "text/plain"), ("[1]", "application/json")]
)
async def test_an_endpoint_without_words_counts_by_its_status(
    activities: WatchActivities, service: Service, body: str, content_type: str
) -> None:
    service.says("/live", body, 200, content_type)

    assert (await check(activities, probe_of(service))).healthy


async def test_a_service_that_is_gone_is_unhealthy_and_no_error(activities: WatchActivities) -> None:
    report = await check(activities, HealthProbe(base_url="http://user:hunter2@127.0.0.1:9"))

    assert not report.healthy
    assert "/health: no connection to http://127.0.0.1:9" in report.reason
    assert "hunter2" not in report.reason


async def test_a_service_that_is_too_slow_is_unhealthy(activities: WatchActivities, service: Service) -> None:
    report = await check(activities, probe_of(service, timeout=timedelta(microseconds=1)))

    assert not report.healthy
    assert "no answer within" in report.reason


async def test_an_unusable_address_is_the_configurations_fault(activities: WatchActivities) -> None:
    with pytest.raises(ApplicationError, match=r"health\.url") as failed:
        await check(activities, HealthProbe(base_url="erlmcp:8080"))

    assert failed.value.type == INVALID_CONFIGURATION


# Rounds


class Attempt(ActivityEnvironment):
    """One attempt of a watch, with what the attempt before it has left."""

    def __init__(self, *, number: int = 1, tally: WatchTally | None = None) -> None:
        super().__init__()
        details = [] if tally is None else [tally.model_dump(mode="json")]
        self.info = dataclasses.replace(self.info, attempt=number, heartbeat_details=details)
        self.beats: list[WatchTally] = []
        self.on_heartbeat = self.beats.append


def watch_of(service: Service, **fields: Any) -> Watch:
    policy = {"subject": "monitoring of 1.0.0", "health": probe_of(service), "rounds": 3, **fields}
    return Watch(policy=WatchPolicy.model_validate(policy), prometheus_url=service.url)


async def test_an_attempt_measures_one_round_and_asks_for_the_next(
    activities: WatchActivities, service: Service
) -> None:
    attempt = Attempt()

    with pytest.raises(ApplicationError, match="1 of 3 rounds") as more:
        await attempt.run(activities.watch_release, watch_of(service))

    assert more.value.type == STILL_WATCHING
    assert not more.value.non_retryable
    assert more.value.next_retry_delay is not None
    assert timedelta(seconds=20) < more.value.next_retry_delay <= timedelta(seconds=30)
    assert attempt.beats[-1].rounds == 1


async def test_the_next_attempt_goes_on_with_what_was_counted(
    activities: WatchActivities, service: Service
) -> None:
    # given a watch with two of three rounds done
    attempt = Attempt(number=3, tally=WatchTally(rounds=2, health_streak=2, last_health="healthy"))

    # when the third goes well
    verdict = await attempt.run(activities.watch_release, watch_of(service))

    # then it is over
    assert verdict.outcome is WatchOutcome.PASSED
    assert verdict.tally.rounds == 3


@pytest.mark.parametrize("details", [[], [{"rounds": "many", "from": "another version"}]])
async def test_a_tally_that_was_lost_begins_anew(
    activities: WatchActivities, service: Service, details: list[Any]
) -> None:
    attempt = Attempt(number=3)
    attempt.info = dataclasses.replace(attempt.info, heartbeat_details=details)

    with pytest.raises(ApplicationError, match="1 of 3 rounds"):
        await attempt.run(activities.watch_release, watch_of(service))


async def test_nothing_is_measured_before_the_initial_delay(
    activities: WatchActivities, service: Service
) -> None:
    # given a watch that must not see the traffic from before the step
    watch = watch_of(service, initial_delay=timedelta(minutes=1), rounds=1)
    first = Attempt()

    # when it begins, then it only asks to be called again
    with pytest.raises(ApplicationError) as later:
        await first.run(activities.watch_release, watch)
    assert later.value.next_retry_delay == timedelta(minutes=1)
    assert service.rounds == 0

    # and the attempt after that measures
    verdict = await Attempt(number=2, tally=first.beats[-1]).run(activities.watch_release, watch)
    assert verdict.outcome is WatchOutcome.PASSED
    assert service.rounds == 1


async def test_rounds_close_together_need_one_attempt(activities: WatchActivities, service: Service) -> None:
    attempt = Attempt()
    watch = watch_of(service, interval=timedelta(milliseconds=20), initial_delay=timedelta(milliseconds=20))

    verdict = await attempt.run(activities.watch_release, watch)

    assert verdict.outcome is WatchOutcome.PASSED
    assert service.rounds == 3
    assert [tally.rounds for tally in attempt.beats][-1] == 2


async def test_the_third_failed_check_in_a_row_ends_the_watch_at_once(
    activities: WatchActivities, service: Service
) -> None:
    service.says("/health", {"status": "unhealthy"})

    verdict = await Attempt().run(
        activities.watch_release, watch_of(service, interval=timedelta(milliseconds=10), rounds=100)
    )

    assert verdict.outcome is WatchOutcome.FAILED
    assert verdict.trigger == "health_checks"
    assert service.rounds == 3


async def test_a_canary_is_held_against_the_stable_side(
    activities: WatchActivities, service: Service
) -> None:
    # given an error rate within its limit, but twice that of the stable side in the second round
    error_rate = Metric(
        name="error_rate", query="canary", baseline_query="stable", limit=5, max_increase=50, unit="%"
    )
    service.measures("canary", "1.0", "2.0")
    service.measures("stable", "1.0")

    verdict = await Attempt().run(
        activities.watch_release, watch_of(service, interval=timedelta(milliseconds=10), metrics=[error_rate])
    )

    assert verdict.outcome is WatchOutcome.FAILED
    assert verdict.trigger == "error_rate"
    assert verdict.reason == "error_rate is 2%, 100% above the baseline's 1% (at most 50%)"


async def test_a_baseline_that_cannot_be_measured_is_an_error(
    activities: WatchActivities, service: Service
) -> None:
    error_rate = Metric(
        name="error_rate", query="canary", baseline_query="stable", limit=5, max_increase=50, error_limit=0
    )
    service.measures("canary", "1.0")
    service.measures("stable", "+Inf")

    verdict = await Attempt().run(activities.watch_release, watch_of(service, metrics=[error_rate]))

    assert verdict.outcome is WatchOutcome.FAILED
    assert "could not be measured: its baseline: the query gives +Inf" in verdict.reason


async def test_metrics_without_a_server_are_the_configurations_fault(
    activities: WatchActivities, service: Service
) -> None:
    watch = watch_of(service, metrics=[Metric(name="error_rate", query="up", limit=5)])

    with pytest.raises(ApplicationError, match=r"metrics\.prometheus_url") as failed:
        await Attempt().run(activities.watch_release, watch.model_copy(update={"prometheus_url": None}))

    assert failed.value.type == INVALID_CONFIGURATION


# On a real server


@workflow.defn(sandboxed=False)
class Watching:
    @workflow.run
    async def run(self, watch: Watch) -> WatchVerdict:
        return await workflow.execute_activity_method(
            WatchSignatures.watch_release,
            watch,
            start_to_close_timeout=timedelta(minutes=1),
            heartbeat_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(hours=1), maximum_interval=timedelta(hours=1)
            ),
        )


async def test_what_was_counted_survives_attempts_and_workers(service: Service, tmp_path: Path) -> None:
    """The retry policy alone would wait an hour, and lost heartbeats would never come to a verdict."""
    async with TemporalServer.start(tmp_path, ui=False) as server, httpx.AsyncClient() as http:
        client = await server.client()
        activities = WatchActivities(http)
        queue = f"watching-{uuid4().hex}"

        def worker() -> Worker:
            return Worker(
                client,
                task_queue=queue,
                workflows=[Watching],
                activities=[activities.check_health, activities.watch_release],
                graceful_shutdown_timeout=timedelta(seconds=30),
            )

        # given a watch of two rounds at an interval that makes each an attempt of its own
        watch = watch_of(service, interval=timedelta(seconds=2), initial_delay=timedelta(seconds=2), rounds=2)
        async with worker():
            handle = await client.start_workflow(Watching.run, watch, id=queue, task_queue=queue)
            while service.rounds < 1:  # noqa: ASYNC110 - the rounds are counted by another process's requests
                await asyncio.sleep(0.05)

        # when the worker has gone and another one takes its place
        async with worker():
            verdict = await handle.result()

    # then the verdict stands on both rounds, and none was measured twice
    assert verdict.outcome is WatchOutcome.PASSED
    assert verdict.tally.rounds == 2
    assert service.rounds == 2
