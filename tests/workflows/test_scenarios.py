"""The scenario table: what is measured, what people do meanwhile, and how it ends by that.

Production's own times hold: steps of 10 minutes, an hour of monitoring, a round every 30 seconds. The error
rate and latencies look back 5 minutes, so they are judged from the tenth round of a step on; a metric of the
application's own is told here to look back 30 seconds, and judged at once. Scripts are those of `scenarios`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client

from domain.canary import CanaryStatus
from domain.deployment import DeploymentStatus
from domain.notification import NotificationType
from tests.workflows.scenarios import NEW, OLD, STEPS, End, Play, Row, Stage, Theatre, at, theatre


def failed(stage: Stage, rounds: int | None, trigger: str, because: str = "") -> End:
    return End("Failed", stage, trigger, rounds, because)


def aborted(stage: Stage, rounds: int | None = None, because: str = "aborted by eve@example.com") -> End:
    return End("Aborted", stage, None, rounds, because)


def alerted(stage: Stage, rounds: int | None = None) -> End:
    return End("Aborted", stage, "alert", rounds, "alert HighErrorRate (critical)")


def own(**fields: Any) -> dict[str, Any]:
    """A metric of the application's own."""
    return {"window": "30s", **fields}


GOOD = End("Succeeded")
FULL = {"monitoring": "full"}
ASK_PEOPLE = {"canary": {"on_inconclusive": "pause"}}
SHY = own(success="< 10", failure="> 100")
"""Between the two it can tell nothing."""
NOBODY = {"metrics": {"prometheus_url": "http://127.0.0.1:9"}}

# fmt: off
CANARIES = [
    # Errors of the new version, against the limit of 5 %
    Row("steady and good", GOOD),
    Row("a breach, judged as soon as the window fits", failed(10, 10, "error_rate", "9%, limit 5%"),
        rate="9"),
    Row("a breach at 50 %", failed(50, 12, "error_rate"), rate={50: "1*11 9"}, watched=(50,)),
    Row("a breach at 100 %", failed(100, 13, "error_rate"), rate={100: "1*12 9"}, watched=(100,)),
    Row("a late breach, in the last round at 100 %", failed(100, 20, "error_rate"), rate={100: "1*19 9"},
        watched=(100,)),
    Row("what was before the step is not judged", GOOD, rate={10: "9*9 1"}, watched=(10,)),
    Row("up to the limit and back", GOOD, rate={10: "1*9 2 3 4 5 4 3 2 1"}, stable="4", watched=(10,)),
    Row("a hair above the limit", failed(10, 10, "error_rate", "5.001%, limit 5%"), rate="5.001", stable="4"),
    Row("flapping around the limit", failed(10, 11, "error_rate"), rate="1*9 4.9 5.1 4.9", stable="4"),

    # … and against the stable side: 50 % above it is too much
    Row("49 % above the stable side", GOOD, rate={10: "1.49"}, watched=(10,)),
    Row("51 % above the stable side", failed(10, 10, "error_rate", "51% above the baseline's 1%"),
        rate="1.51"),
    Row("high, but the stable side is worse", GOOD, rate={10: "4"}, stable="8", watched=(10,)),
    Row("too high, and the stable side is worse", failed(10, 10, "error_rate", "limit 5%"), rate="9",
        stable="12"),
    Row("few errors beside none at all", GOOD, rate={10: "0.5"}, stable="0", watched=(10,)),
    Row("no traffic on the stable side", GOOD, stable="none", watched=(10,)),
    Row("a stable side that cannot be measured", failed(10, 14, "error_rate", "its baseline"),
        stable="fault"),
    Row("not to be compared", failed(50, 10, "error_rate", "limit 5%"), rate={10: "4.9", 50: "9"},
        stable="0.1", triggers={"error_rate": {"comparison": "absolute"}}),

    # No data is never success; half of the measurements may be without
    Row("no data at the start", GOOD, rate={10: "none*13 1"}, watched=(10,)),
    Row("no data in the middle", GOOD, rate={10: "1*11 none*5 1"}, watched=(10,)),
    Row("no data for most of the step", failed(10, 20, "error_rate", "6 of 11"), rate="1*9 none*6 1"),
    Row("no data throughout", failed(10, 20, "error_rate", "11 of 11"), rate="none"),
    Row("no data where that is a failure", failed(10, 10, "error_rate", "no data"), rate="none",
        application={"metrics": {"no_data": "fail"}}),
    Row("no data where that is fine", GOOD, rate={10: "none"}, application={"metrics": {"no_data": "ignore"}},
        watched=(10,)),

    # What cannot be measured uses up no round; four times in a row are tolerated
    Row("NaN once", GOOD, rate={10: "1*11 nan 1"}, watched=(10,)),
    Row("nothing but NaN", failed(10, 14, "error_rate", "the answer is NaN"), rate="nan"),
    Row("errors four times in a row, twice", GOOD, rate={10: "1*10 fault*4 1 hangup*4 1"}, watched=(10,)),
    Row("errors five times in a row", failed(10, 15, "error_rate", "HTTP 500"), rate="1*10 fault*5 1"),
    Row("errors, and then a breach", failed(10, 14, "error_rate", "limit 5%"), rate="1*9 nan*4 9"),
    Row("infinity", failed(10, 14, "error_rate", "Inf"), rate="inf"),
    Row("several series instead of one", failed(10, 14, "error_rate", "2 series"), rate="2|3"),
    Row("a query that cannot be read", failed(10, 14, "error_rate", "bad_data"), rate="badquery"),
    Row("connections that break", failed(10, 14, "error_rate"), rate="hangup"),
    Row("nobody listens", failed(10, 14, "error_rate", "no connection"), application=NOBODY),

    # Health: three checks in a row
    Row("health flaps, never three in a row", GOOD, health={10: "bad*2 ok bad*2 ok bad*2 ok bad*2 ok"},
        watched=(10,)),
    Row("bad health three times in a row", failed(10, 8, "health_checks", "3 consecutive"),
        health="ok*5 bad*3"),
    Row("bad health only at 100 %", failed(100, 3, "health_checks"), health={100: "bad"}, watched=(100,)),
    Row("a step does not end on bad health", GOOD, health={10: "ok*18 bad*2 ok"}, watched=(10,)),
    Row("bad health beyond the end of a step", failed(10, 21, "health_checks"), health="ok*18 bad*3"),
    Row("bad health and a breach at once", failed(10, 10, "health_checks", "limit 5%"), rate="9",
        health="ok*7 bad*3"),

    # Latency and crashes, where everything is watched
    Row("p95, p99 and crashes on their limits", GOOD, production=FULL, watched=(10,),
        other={"latency_p95": {10: "10"}, "latency_p99": {10: "30"}, "crash_rate": {10: "1"}}),
    Row("p95 above 10 s", failed(10, 11, "latency_p95", "limit 10s"), other={"latency_p95": "1*10 11"},
        production=FULL),
    Row("p99 above 30 s", failed(10, 10, "latency_p99", "limit 30s"), other={"latency_p99": "31"},
        production=FULL),
    Row("more than a crash a minute, over two", failed(10, 4, "crash_rate"), other={"crash_rate": "1.5"},
        production=FULL),

    # The application's own metrics
    Row("one failure tolerated, one failure", GOOD, other={"own": {10: "1 9 1", 50: "1 9 1"}},
        watched=(10, 50), metrics={"own": own(success="<= 5", failure_limit=1)}),
    Row("one failure tolerated, two failures", failed(10, 6, "own", "1 tolerated"),
        other={"own": "1 9 1*3 9 1"}, metrics={"own": own(success="<= 5", failure_limit=1)}),
    Row("flapping within what is tolerated", GOOD, other={"own": {10: "4 6 4 6 4 6 4"}}, watched=(10,),
        metrics={"own": own(success="<= 5", failure_limit=3)}),
    Row("flapping beyond what is tolerated", failed(10, 6, "own", "2 tolerated"),
        other={"own": "4 6 4 6 4 6 4"}, metrics={"own": own(success="<= 5", failure_limit=2)}),
    Row("neither good nor bad, half of the time", GOOD, other={"own": {10: "50*10 1"}}, metrics={"own": SHY},
        watched=(10,)),
    Row("neither good nor bad, too often", failed(10, 20, "own", "11 of 20"), other={"own": "50*11 1"},
        metrics={"own": SHY}),
    Row("neither good nor bad, beyond its own limit", failed(10, 3, "own"), other={"own": "50"},
        metrics={"own": {**SHY, "inconclusive_limit": 2}}),
    Row("bad after neither good nor bad", failed(10, 3, "own", "> 100"), other={"own": "50*2 101"},
        metrics={"own": SHY}),
    Row("bad in a dry run, and where it only warns", GOOD, other={"dry": "9", "soft": "9"}, watched=(10,),
        metrics={"dry": own(success="< 1", dry_run=True), "soft": own(success="< 1", warn_only=True)}),
    Row("measured every five minutes", failed(10, 11, "own"), other={"own": "1 9"},
        metrics={"own": own(success="< 5", interval="5m")}),
    Row("a score that passes", GOOD, other={"own": {10: "9"}}, score={"passing": 80, "marginal": 50},
        watched=(10,), metrics={"own": own(success="< 5"), "more": own(success="< 5", weight=4)}),
    Row("a score that is marginal", failed(10, 20, "own", "score 67%"), other={"own": "9"},
        score={"passing": 80, "marginal": 50},
        metrics={"own": own(success="< 5"), "more": own(success="< 5", weight=2)}),
    Row("a score that is lost", failed(10, 2, "own", "score 50%"), other={"own": "1 9"},
        score={"passing": 90, "marginal": 60},
        metrics={"own": own(success="< 5"), "more": own(success="< 5")}),
    Row("a critical metric, whatever the score", failed(10, 1, "own"), other={"own": "9"},
        score={"passing": 80, "marginal": 50},
        metrics={"own": own(success="< 5", critical=True), "more": own(success="< 5", weight=9)}),

    # Where the analysis cannot tell, and people are to say
    Row("no data, and a person promotes", GOOD, rate={10: "none"}, production=ASK_PEOPLE, watched=(),
        people=(at(10, 21, "promote"),)),
    Row("no data, a person resumes, and there is data", GOOD, rate={10: "none*21 1"}, production=ASK_PEOPLE,
        people=(at(10, 21, "resume"),), watched=(10,)),
    Row("no data, and a person aborts", aborted(10, 21), rate="none", production=ASK_PEOPLE,
        people=(at(10, 21, "abort"),)),

    # People and alerts
    Row("a pause for longer than the step", GOOD, people=(at(10, 5, "pause"), at(10, 26, "resume")),
        watched=(10,)),
    Row("a breach while it is paused", failed(10, 15, "error_rate", "paused"), rate="1*14 9",
        people=(at(10, 5, "pause"),)),
    Row("bad health while it is paused", failed(10, 12, "health_checks", "paused"), health="ok*9 bad",
        people=(at(10, 5, "pause"),)),
    Row("no data while it is paused", GOOD, rate={10: "1*14 none*8 1"}, watched=(10,),
        people=(at(10, 14, "pause"), at(10, 22, "resume"))),
    Row("resumed, and then a breach", failed(10, 23, "error_rate", "limit 5%"), rate="1*22 9",
        people=(at(10, 12, "pause"), at(10, 18, "resume"))),
    Row("what failed before a pause still counts", failed(10, 12, "own", "2 failures"),
        other={"own": "1*2 9 1*8 9"}, metrics={"own": own(success="<= 5", failure_limit=1)},
        people=(at(10, 5, "pause"), at(10, 9, "resume"))),
    Row("promoted over bad readings", GOOD, other={"own": {10: "1 9"}}, watched=(),
        metrics={"own": own(success="<= 5", failure_limit=5)}, people=(at(10, 5, "promote"),)),
    Row("promoted while it is paused", GOOD, people=(at(50, 2, "pause"), at(50, 6, "promote")), watched=()),
    Row("aborted", aborted(50, 7), people=(at(50, 7, "abort"),), watched=(50,)),
    Row("aborted while it is paused", aborted(10), people=(at(10, 2, "pause"), at(10, 4, "abort"))),
    Row("an alert at 10 %", alerted(10, 1), people=(at(10, 1, "alert"),)),
    Row("an alert at 50 %", alerted(50, 3), people=(at(50, 3, "alert"),), watched=(50,)),
    Row("an alert at 100 %", alerted(100, 2), people=(at(100, 2, "alert"),), watched=(100,)),
    Row("an alert while it is paused", alerted(10), people=(at(10, 2, "pause"), at(10, 3, "alert"))),
    Row("an alert while it is promoted", alerted(100), people=(at("promoting", 1, "alert"),), watched=()),
    Row("an alert that does not count here", GOOD, production={"abort_on_alerts": ["critical"]}, watched=(),
        people=(at(10, 3, "alert", severity="warning"), at(10, 6, "promote"))),
]

DEPLOYMENTS = [
    Row("its canary fails", failed(10, 10, "error_rate"), rate="9", whole=True),
    Row("an alert while its canary is at 10 %", failed(10, None, "alert"), people=(at(10, 2, "alert"),),
        whole=True),
    Row("an alert while its canary is promoted", failed("promoting", None, "alert"),
        people=(at("promoting", 1, "alert"),), watched=(), whole=True),
    Row("it never verifies", failed("verifying", 3, "health_checks"), health={"verifying": "bad"}, watched=(),
        whole=True),
    Row("an alert while it is verified", failed("verifying", 2, "alert"),
        people=(at("verifying", 2, "alert"),), watched=(), whole=True),
    Row("an alert while it is monitored", failed("monitoring", 8, "alert"),
        people=(at("monitoring", 8, "alert"),), watched=(), whole=True),
    Row("an hour without traffic, and a warning that goes away", End("Completed", "monitoring", rounds=120),
        rate={"monitoring": "none"}, health={"monitoring": "ok*6 bad*2 ok"},
        people=(at("monitoring", 9, "look"),), watched=(), whole=True),
    Row("a warning that does not go away", failed("monitoring", 9, "health_checks", "3 consecutive"),
        health={"monitoring": "ok*6 bad"}, people=(at("monitoring", 9, "look"),), watched=(), whole=True),
    Row("worse than before is a warning, a breach in the last round is more",
        failed("monitoring", 120, "error_rate", "limit 5%"), rate={"monitoring": "1*20 2*99 9"},
        people=(at("monitoring", 22, "look"),), watched=(), whole=True),
    Row("Prometheus is gone while it is monitored", failed("monitoring", 14, "error_rate", "HTTP 500"),
        rate={"monitoring": "fault"}, watched=(), whole=True),
    Row("a pause does not blind Monitoring", failed("monitoring", 11, "error_rate"),
        rate={"monitoring": "1*10 9"}, people=(at("monitoring", 5, "pause"),), watched=(), whole=True),
]
# fmt: on


@pytest.fixture(scope="module")
async def world(client: Client, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Theatre]:
    async with theatre(client, tmp_path_factory.mktemp("theatre")) as running:
        yield running


@pytest.fixture(scope="module")
async def plays(
    request: pytest.FixtureRequest, world: Theatre
) -> AsyncIterator[dict[str, asyncio.Task[Play]]]:
    """All rows that were asked for, played at once."""
    items = [i for i in request.session.items if isinstance(i, pytest.Function) and i.path == request.path]
    rows: Iterable[Any] = (item.callspec.params["row"] for item in items)
    playing = {row.name: asyncio.create_task(world.play(row)) for row in rows}
    yield playing
    for task in playing.values():
        task.cancel()
    await asyncio.gather(*playing.values(), return_exceptions=True)


def name_of(row: Row) -> str:
    return row.name


@pytest.mark.parametrize("row", CANARIES, ids=name_of)
async def test_canary(row: Row, plays: dict[str, asyncio.Task[Play]]) -> None:
    play, end = await plays[row.name], row.end
    status = play.status
    assert isinstance(status, CanaryStatus)
    assert (str(status.phase), status.steps[-1].weight) == (end.state, end.stage), status.reason
    assert status.trigger == end.trigger, status.reason
    assert end.because in (status.reason or "")
    assert end.rounds in (None, play.rounds[end.stage])
    if status.succeeded:
        assert [e for e in play.effects if e[0] == "weight"] == [("weight", step) for step in STEPS]
        assert play.effects[-2:] == [("apply stable", NEW), ("remove", "canary")]
    else:
        traffic_went_first(play)
    for step in status.steps:
        if step.verdict is not None and step.verdict.outcome == "passed":
            assert step.finished_at is not None
            assert step.finished_at - step.started_at >= timedelta(minutes=10)


@pytest.mark.parametrize("row", DEPLOYMENTS, ids=name_of)
async def test_deployment(row: Row, world: Theatre, plays: dict[str, asyncio.Task[Play]]) -> None:
    play, end = await plays[row.name], row.end
    status = play.status
    assert isinstance(status, DeploymentStatus)
    assert str(status.state) == end.state, status.reason
    assert end.because in (status.reason or "")
    assert end.rounds in (None, play.rounds[end.stage])
    if any(act.signal == "look" for act in row.people):
        # What was a warning is none any more: it has gone away, or something has followed from it.
        assert play.seen["warnings"]
        assert not status.warnings
    passed = [str(t.state) for t in status.history]
    if end.state == "Completed":
        assert passed[-3:] == ["Verifying", "Monitoring", "Completed"]
        assert ("restore", OLD) not in play.effects
        return
    last = {"verifying": "Verifying", "monitoring": "Monitoring"}.get(str(end.stage), "Deploying")
    assert passed[-3:] == [last, "RollingBack", "Failed"]
    assert status.rollback is not None
    assert (status.rollback.succeeded, status.rollback.to_version) == (True, OLD)
    assert ("restore", OLD) in play.effects
    if last == "Deploying":
        traffic_went_first(play)
    (told,) = [
        notice.fields
        for notice in world.notices.sent
        if notice.type is NotificationType.DEPLOYMENT_FAILED and f":{play.application}:" in notice.key
    ]
    assert told["trigger"] == end.trigger


def traffic_went_first(play: Play) -> None:
    """What was done to a canary after its last weight began with taking its traffic away."""
    last = max(n for n, (effect, value) in enumerate(play.effects) if effect == "weight" and value > 0)
    after = [effect for effect in play.effects[last + 1 :] if effect != ("apply stable", NEW)]
    assert after[:2] == [("weight", 0), ("remove", "canary")], play.effects
