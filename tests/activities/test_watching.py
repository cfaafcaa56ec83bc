"""Watching a release: what counts as healthy, and rounds that outlive their attempts."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiohttp import web
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
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
    Round,
    Watch,
    WatchOutcome,
    WatchPolicy,
    WatchProgress,
    WatchTally,
    WatchVerdict,
    WebSource,
    WorkloadSource,
    begin,
    judge,
    resumed,
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
        self.asked: Counter[str] = Counter()
        self.answering = asyncio.Event()
        self.answering.set()

    def says(self, path: str, body: Any, status: int = 200, content_type: str = "application/json") -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self.answers[path] = web.Response(status=status, text=text, content_type=content_type)

    def measures(self, query: str, *values: str) -> None:
        """The values of a query, one per round; the last one stays."""
        self.values[query] = list(values)

    async def health(self, request: web.Request) -> web.Response:
        self.rounds += request.path == "/health"
        await self.answering.wait()
        if (said := self.answers.get(request.path)) is not None:
            return web.Response(status=said.status, text=said.text, content_type=said.content_type)
        return web.json_response(
            {"status": "Healthy", "ready": True, "alive": "true", "version": self.version}
        )

    async def query(self, request: web.Request) -> web.Response:
        query = str((await request.post())["query"])
        self.asked[query] += 1
        values = self.values[query]
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

    def __init__(
        self,
        *,
        number: int = 1,
        tally: WatchTally | None = None,
        unreported: bool = False,
        client: Client | None = None,
    ) -> None:
        super().__init__(client)
        self.unreported = unreported
        details = [] if tally is None else [tally.model_dump(mode="json"), unreported]
        self.info = dataclasses.replace(self.info, attempt=number, heartbeat_details=details)
        self.beats: list[WatchTally] = []
        self.on_heartbeat = self._beat

    def _beat(self, tally: WatchTally, unreported: bool) -> None:
        self.beats.append(tally)
        self.unreported = unreported


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


def web_metric(service: Service, url: str = "") -> Metric:
    source = WebSource(url=f"{service.url}/stats{url}", json_path="$.orders")
    return Metric(name="orders", web=source, success="> 10")


async def test_a_metric_can_come_from_anywhere(activities: WatchActivities, service: Service) -> None:
    service.says("/stats", {"orders": 3})

    verdict = await Attempt().run(
        activities.watch_release, watch_of(service, metrics=[web_metric(service)], rounds=1)
    )

    assert verdict.outcome is WatchOutcome.FAILED
    assert verdict.trigger == "orders"


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (lambda service: Metric(name="errors", query="up", limit=5), "metrics.prometheus_url is not set"),
        (lambda service: web_metric(service, "?key=${KEY}"), "the variable KEY is not set"),
        (
            lambda service: Metric(
                name="ready",
                workload=WorkloadSource(measure="ready_pods", namespace="prod", deployment="erlmcp"),
                success=">= 100",
            ),
            "this worker has no access to a cluster",
        ),
    ],
)
async def test_a_metric_without_its_source_is_the_configurations_fault(
    service: Service, metric: Callable[[Service], Metric], reason: str
) -> None:
    wanted = metric(service)
    watch = watch_of(service, metrics=[wanted]).model_copy(update={"prometheus_url": None})

    async with httpx.AsyncClient() as http:
        with pytest.raises(ApplicationError, match=f"metric {wanted.name}") as failed:
            await Attempt().run(WatchActivities(http, environment={}).watch_release, watch)

    assert failed.value.type == INVALID_CONFIGURATION
    assert reason in failed.value.message
    assert service.rounds == 0


async def test_each_metric_is_measured_when_it_is_due(activities: WatchActivities, service: Service) -> None:
    # given a metric of every third round, and one that begins late and is measured twice
    service.measures("slow", "1")
    service.measures("late", "1")
    interval = timedelta(milliseconds=10)
    metrics = [
        Metric(name="slow", query="slow", limit=5, interval=3 * interval),
        Metric(name="late", query="late", limit=5, initial_delay=2 * interval, count=2),
    ]

    verdict = await Attempt().run(
        activities.watch_release, watch_of(service, interval=interval, rounds=7, metrics=metrics)
    )

    assert verdict.outcome is WatchOutcome.PASSED
    assert service.rounds == 7
    assert service.asked == {"slow": 3, "late": 2}


async def test_a_slow_measurement_is_not_taken_for_a_lost_one(
    activities: WatchActivities, service: Service
) -> None:
    # given a service that takes longer than the time between two heartbeats
    service.answering.clear()
    attempt = Attempt()
    attempt.info = dataclasses.replace(attempt.info, heartbeat_timeout=timedelta(milliseconds=30))
    watching = asyncio.create_task(attempt.run(activities.watch_release, watch_of(service, rounds=1)))

    # when it is asked, then there are heartbeats all the time
    while len(attempt.beats) < 5:  # noqa: ASYNC110 - the beats are the test's clock
        await asyncio.sleep(0.01)
    service.answering.set()

    # and its answer counts
    assert (await watching).outcome is WatchOutcome.PASSED
    assert service.rounds == 1


# Interrupted watches


async def test_a_watch_goes_on_from_what_its_input_counted(
    activities: WatchActivities, service: Service
) -> None:
    # given a watch of three rounds that was interrupted 45 s after it began
    watch = watch_of(service)
    seen = begin(watch.policy)
    for _ in range(2):
        seen, _verdict = judge(watch.policy, seen, Round(health=HealthReport(healthy=True)))
    watch = watch.model_copy(update={"tally": resumed(watch.policy, seen, timedelta(seconds=45))})
    first = Attempt()

    # when it goes on, then nothing is due before the next round would have been
    with pytest.raises(ApplicationError) as later:
        await first.run(activities.watch_release, watch)
    assert later.value.next_retry_delay is not None
    assert timedelta(seconds=10) < later.value.next_retry_delay <= timedelta(seconds=15)
    assert service.rounds == 0

    # and that round is the last one
    verdict = await Attempt(number=2, tally=first.beats[-1]).run(activities.watch_release, watch)
    assert verdict.outcome is WatchOutcome.PASSED
    assert service.rounds == 1


async def test_a_guard_never_passes_but_fails(activities: WatchActivities, service: Service) -> None:
    watch = watch_of(service, interval=timedelta(minutes=1), rounds=1).model_copy(update={"guard": True})

    # given a guard that has seen more than enough good rounds
    attempt = Attempt()
    for number in (2, 3):
        with pytest.raises(ApplicationError, match="on guard"):
            await attempt.run(activities.watch_release, watch)
        attempt = Attempt(number=number, tally=attempt.beats[-1])

    # when the service breaks
    service.says("/health", {"status": "unhealthy"})
    for number in (4, 5):
        with pytest.raises(ApplicationError, match="on guard"):
            await attempt.run(activities.watch_release, watch)
        attempt = Attempt(number=number, tally=attempt.beats[-1])

    # then the third failure in a row ends it
    verdict = await attempt.run(activities.watch_release, watch)
    assert verdict.outcome is WatchOutcome.FAILED
    assert verdict.trigger == "health_checks"


# On a real server


@workflow.defn(sandboxed=False)
class Watching:
    """Watches, and keeps what it is told of it."""

    def __init__(self) -> None:
        self.told: list[WatchProgress] = []

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

    @workflow.signal
    async def watch_changed(self, progress: WatchProgress) -> None:
        self.told.append(progress)

    @workflow.query
    def what_it_was_told(self) -> list[WatchProgress]:
        return self.told


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    async with TemporalServer.start(tmp_path_factory.mktemp("temporal"), ui=False) as server:
        yield await server.client()


class Stage:
    """A queue of its own, and workers that come and go."""

    def __init__(self, client: Client, activities: WatchActivities) -> None:
        self.queue = f"watching-{uuid4().hex}"
        self._client = client
        self._activities = activities

    def worker(self) -> Worker:
        return Worker(
            self._client,
            task_queue=self.queue,
            workflows=[Watching],
            activities=[self._activities.check_health, self._activities.watch_release],
            graceful_shutdown_timeout=timedelta(seconds=30),
        )

    async def start(self, watch: Watch) -> WorkflowHandle[Watching, WatchVerdict]:
        return await self._client.start_workflow(Watching.run, watch, id=self.queue, task_queue=self.queue)


@pytest.fixture
def stage(client: Client, activities: WatchActivities) -> Stage:
    return Stage(client, activities)


async def test_what_was_counted_survives_attempts_and_workers(service: Service, stage: Stage) -> None:
    """The retry policy alone would wait an hour, and lost heartbeats would never come to a verdict."""
    # given a watch of two rounds at an interval that makes each an attempt of its own
    watch = watch_of(service, interval=timedelta(seconds=2), initial_delay=timedelta(seconds=2), rounds=2)
    async with stage.worker():
        handle = await stage.start(watch)
        while service.rounds < 1:  # noqa: ASYNC110 - the rounds are counted by another process's requests
            await asyncio.sleep(0.05)

    # when the worker has gone and another one takes its place
    async with stage.worker():
        verdict = await handle.result()

    # then the verdict stands on both rounds, and none was measured twice
    assert verdict.outcome is WatchOutcome.PASSED
    assert verdict.tally.rounds == 2
    assert service.rounds == 2


async def test_the_workflow_is_told_of_what_is_not_well(service: Service, stage: Stage) -> None:
    # given a service that is unhealthy for a while, but not for long enough to fail
    service.says("/health", {"status": "unhealthy"})
    watch = watch_of(service, interval=timedelta(milliseconds=50), consecutive_failures=1000, rounds=60)
    async with stage.worker():
        handle = await stage.start(watch.model_copy(update={"report": True}))
        while len(await handle.query(Watching.what_it_was_told)) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

        # when it is well again
        del service.answers["/health"]
        verdict = await handle.result()
        told = await handle.query(Watching.what_it_was_told)

    # then the workflow knows of each failure and of their end, and of nothing else
    assert verdict.outcome is WatchOutcome.PASSED
    assert {progress.subject for progress in told} == {"monitoring of 1.0.0"}
    failures = [progress.tally.health_failures for progress in told]
    assert failures == [*range(1, len(told)), 0]
    assert "unhealthy" in told[0].tally.warnings[0]
    assert told[-1].tally.warnings == ()


async def test_a_report_that_failed_is_made_up_for_by_the_next_round(
    activities: WatchActivities,
    service: Service,
    stage: Stage,
    client: Client,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # given a failure that a workflow cannot be told of
    watch = watch_of(service).model_copy(update={"report": True})
    handle = await stage.start(watch)
    service.says("/health", {"status": "unhealthy"})
    unheard = Attempt(client=client)
    unheard.info = dataclasses.replace(unheard.info, workflow_id="gone", workflow_run_id=str(uuid4()))
    with pytest.raises(ApplicationError) as more:
        await unheard.run(activities.watch_release, watch)
    assert more.value.type == STILL_WATCHING
    assert unheard.unreported
    assert "the workflow could not be told" in caplog.text

    # when the next round has nothing new to tell
    service.says("/health", {"status": "healthy"})
    told = Attempt(number=2, tally=unheard.beats[-1], unreported=unheard.unreported, client=client)
    told.info = dataclasses.replace(
        told.info, workflow_id=handle.id, workflow_run_id=handle.first_execution_run_id
    )
    with pytest.raises(ApplicationError):
        await told.run(activities.watch_release, watch)

    # then the workflow hears it all the same
    assert not told.unreported
    signals = [
        event.workflow_execution_signaled_event_attributes.signal_name
        async for event in handle.fetch_history_events()
        if event.HasField("workflow_execution_signaled_event_attributes")
    ]
    assert signals == ["watch_changed"]
    await handle.terminate()
