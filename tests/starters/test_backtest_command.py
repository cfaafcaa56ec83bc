"""``erlmcp-deploy backtest``: policies held against what a real Prometheus has recorded."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from defusedxml import ElementTree
from typer.testing import CliRunner, Result

from domain.durations import parse_duration
from sandbox.metrics.prometheus import run_prometheus
from starters.backtest.moments import parse_moment
from starters.cli import app
from starters.errors import CommandError
from tests.starters.recorded import beginning, require_promtool, write_blocks

NOON = datetime(2026, 2, 2, 12, tzinfo=UTC)
DEPLOYMENT_YAML = """
applications:
  shop:
    repository: https://git.example.com/shop.git
    image: registry.example.com/shop:{version}
    health: {url: "http://shop.example.com", canary_url: "http://canary.example.com"}
    metrics:
      prometheus_url: PROMETHEUS
      error_rate: >-
        100 * sum(rate(shop_requests_total{{{selector},status="500"}}[{window}]))
        / sum(rate(shop_requests_total{{{selector}}}[{window}]))
      latency_p95: >-
        histogram_quantile(0.95, sum by (le)(rate(shop_duration_bucket_total{{{selector}}}[{window}])))
      latency_p99: >-
        histogram_quantile(0.99, sum by (le)(rate(shop_duration_bucket_total{{{selector}}}[{window}])))
      crash_rate: vector(0)
    build: {steps: {compile: {command: [make]}, check: {command: [make, check]}}}
gates:
  compile: {steps: [compile]}
  test: {steps: [check]}
  security: {steps: [check]}
  performance: {steps: [check]}
environments: {production: {compliance: "off"}, staging: {compliance: "off"}}
directory:
  roles:
    tech_lead: [tara@example.com]
    devops_engineer: [dana@example.com]
    change_board: [carla@example.com, chris@example.com]
"""
ERRORS = (
    '100 * sum(rate(shop_requests_total{track="canary",status="500"}[1m]))'
    ' / sum(rate(shop_requests_total{track="canary"}[1m]))'
)


@dataclass
class Past:
    """What was recorded, and how it is asked for."""

    prometheus: str
    start: datetime
    configuration: Path

    def at(self, minute: float) -> str:
        return (self.start + timedelta(minutes=minute)).isoformat()

    async def backtest(self, policy: str | Path, begin: float, end: float, *options: str) -> Result:
        source = () if "-e" in options else ("--prometheus", self.prometheus)
        arguments = [str(policy), "--from", self.at(begin), "--to", self.at(end), *source, *options]
        return await run(*arguments, ERLMCP_DEPLOY_CONFIG=str(self.configuration))

    async def canary(self, begin: float, end: float, *options: str) -> Result:
        return await self.backtest("canary", begin, end, "-e", "production", *options)

    async def answer(self, policy: str | Path, begin: float, end: float, *options: str) -> dict[str, Any]:
        result = await self.backtest(policy, begin, end, "--json", *options)
        assert result.exit_code in (0, 1, 3), result.output
        document: dict[str, Any] = json.loads(result.stdout)
        return {**document, "exit_code": result.exit_code}


async def run(*arguments: str, **environment: str) -> Result:
    variables = {"COLUMNS": "120", "TZ": "UTC", **environment}
    return await asyncio.to_thread(CliRunner().invoke, app, ["backtest", *arguments], env=variables)


@pytest.fixture(scope="module")
async def past(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Past]:
    require_promtool()
    directory, start = tmp_path_factory.mktemp("prometheus"), beginning()
    write_blocks(directory, start)
    async with run_prometheus([], directory) as url:
        configuration = directory / "deployment.yaml"
        configuration.write_text(DEPLOYMENT_YAML.replace("PROMETHEUS", url))
        yield Past(url, start, configuration)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return tmp_path / "policy.yaml"


# Verdicts


async def test_a_time_without_errors_would_have_passed(past: Past) -> None:
    answer = await past.answer("canary", 60, 80, "-e", "production")

    assert answer["exit_code"] == 0
    assert answer["outcome"] == "passed"
    # a step lasts ten minutes, and its first measurement comes after the first interval
    assert answer["decided_at"] == past.at(70)
    assert answer["metrics"]["error_rate"]["counts"] == {
        "successful": 11, "failed": 0, "inconclusive": 0, "error": 0
    }  # fmt: skip
    assert answer["metrics"]["error_rate"]["last"] == 0
    assert answer["notes"] == ["health checks leave no record: they count as healthy"]


async def test_the_verdict_comes_with_its_reason_and_how_long_it_took_to_see(past: Past) -> None:
    # when the canary begins to fail while its first window is not over yet
    answer = await past.answer("canary", 139, 160, "-e", "production")

    # then the first measurement decides, and the record shows since when it was bad
    assert answer["exit_code"] == 1
    assert answer["trigger"] == "error_rate"
    assert ", limit 5%" in answer["reason"]
    decided, bad = (datetime.fromisoformat(answer[name]) for name in ("decided_at", "bad_since"))
    assert decided == past.start + timedelta(minutes=144)
    assert past.start + timedelta(minutes=140) < bad < past.start + timedelta(minutes=142)
    assert parse_duration(answer["detection_delay"]) == decided - bad
    assert answer["metrics"]["error_rate"]["counts"]["failed"] == 1
    assert answer["metrics"]["latency_p95"]["last_phase"] == "successful"


async def test_a_person_reads_the_verdict_first_then_the_metrics_then_the_plot(past: Past) -> None:
    shown = (await past.canary(139, 160)).stdout.splitlines()

    assert shown[0] == "✘ would have FAILED canary, shop in production"
    assert any("it had been bad for" in line for line in shown[:5])
    table = next(line for line in shown if "✘ error_rate" in line)
    assert "limit 5%" in table
    plotted = shown[next(n for n, line in enumerate(shown) if line.startswith("error_rate [%]")) :]
    assert "-- 5" in plotted[0]
    assert "│ failed" in plotted[0]
    assert any("-----" in line for line in plotted[:16])
    assert all(len(line) <= 120 for line in shown)
    # what did not decide is not drawn
    assert not any(line.startswith("latency_p95 [s]") for line in shown)


async def test_metrics_that_nobody_recorded_are_named(past: Past, policy: Path) -> None:
    orders = "{name: orders, query: shop_orders_total, limit: 5}"
    policy.write_text(f"{{interval: 30s, inconclusive_limit: 0, metrics: [{orders}]}}")

    result = await past.backtest(policy, 60, 70)

    assert result.exit_code == 3
    assert "INCONCLUSIVE" in result.stdout
    assert "nothing was recorded of orders" in result.stdout


async def test_a_record_that_ends_too_early_gives_no_verdict(past: Past) -> None:
    answer = await past.answer("canary", 60, 65, "-e", "production")

    assert answer["exit_code"] == 3
    assert not answer["complete"]
    assert answer["reason"] == "the recording ends before the watch does"


async def test_not_a_number_infinity_and_gaps_are_told_apart(past: Past, policy: Path) -> None:
    # given a metric that is there, then missing, then NaN, then infinite
    depth = "{name: depth, query: shop_queue_depth, limit: 20, error_limit: 99}"
    policy.write_text(f"{{interval: 30s, rounds: 20, metrics: [{depth}]}}")

    async def counts(begin: float) -> dict[str, int]:
        found: dict[str, int] = (await past.answer(policy, begin, begin + 9))["metrics"]["depth"]["counts"]
        return {phase: count for phase, count in found.items() if count}

    assert await counts(10) == {"successful": 19}
    assert await counts(70) == {"inconclusive": 19}
    assert await counts(90.5) == {"error": 19}
    assert await counts(110) == {"error": 19}


# Many starts


async def test_starting_every_ten_minutes_shows_the_false_alarms(past: Past) -> None:
    answer = await past.answer("canary", 0, 180, "-e", "production", "--every", "10m")

    totals = answer["totals"]
    failed = [start["start"] for start in answer["starts"] if start["outcome"] == "failed"]
    assert answer["exit_code"] == 1
    # the last start is the last one whose whole watch was recorded
    assert totals["starts"] == 18
    assert failed == [past.at(140), past.at(150)]
    assert totals["failed_by"] == {"error_rate": 2}
    assert totals["passed"] + totals["inconclusive"] == 16

    shown = (await past.canary(20, 180, "--every", "10m", "--no-plot")).stdout
    assert "16 starts: 14 passed (87.5%), 2 failed (12.5%)" in shown
    assert "failed by error_rate 2x" in shown


async def test_a_quiet_history_has_no_false_alarm(past: Past) -> None:
    assert (await past.canary(20, 130, "--every", "5m", "--no-plot")).exit_code == 0


# Policies from files


async def test_an_analysis_block_is_judged_on_its_own_metrics(past: Past, policy: Path) -> None:
    # given a metric that tolerates two failures, and one that is only tried out
    policy.write_text(
        """
analysis:
  metrics:
    failures:
      query: >-
        100 * sum(rate(shop_requests_total{{{selector},status="500"}}[{window}]))
        / sum(rate(shop_requests_total{{{selector}}}[{window}]))
      failure: "> 10"
      unit: "%"
      window: 1m
      failure_limit: 2
    tried:
      query: sum(rate(shop_requests_total{{{selector}}}[{window}]))
      failure: "> 0"
      window: 1m
      dry_run: true
"""
    )

    answer = await past.answer(policy, 138, 160, "-e", "production")
    shown = (await past.backtest(policy, 138, 160, "-e", "production")).stdout

    # then the third failure decides, and the one that is tried out never does
    assert answer["trigger"] == "failures"
    assert set(answer["metrics"]) == {"failures", "tried"}
    assert answer["metrics"]["failures"]["counts"]["failed"] == 3
    assert answer["metrics"]["tried"]["counts"]["successful"] == 0
    assert "(3 failures, 2 tolerated)" in answer["reason"]
    assert "tried (dry run)" in shown

    # and it passes where only that one complains
    assert (await past.answer(policy, 60, 80, "-e", "production"))["outcome"] == "passed"


async def test_a_watch_policy_can_compare_samples_of_both_sides(past: Past, policy: Path) -> None:
    policy.write_text(
        f"""
interval: 30s
metrics:
- name: failures
  query: {ERRORS}
  baseline_query: {ERRORS.replace("canary", "stable")}
  comparison: {{window: 3m, step: 15s}}
"""
    )

    assert (await past.answer(policy, 60, 70))["outcome"] == "passed"
    answer = await past.answer(policy, 136, 150)
    assert answer["trigger"] == "failures"
    assert "p = " in answer["reason"]


async def test_what_leaves_no_record_is_left_out_and_said(past: Past, policy: Path) -> None:
    policy.write_text(
        f"""
interval: 30s
metrics:
- {{name: failures, query: '{ERRORS}', limit: 5}}
- {{name: orders, web: {{url: "https://shop.example.com/stats", json_path: "$.orders"}}, success: "> 0"}}
"""
    )

    result = await past.backtest(policy, 60, 70, "--duration", "5m", "--no-plot")

    assert result.exit_code == 0
    assert "orders is left out: only queries leave a record" in result.stdout


# Files


async def test_plots_are_drawn_into_files(past: Past, tmp_path: Path) -> None:
    svg, png = tmp_path / "plot.svg", tmp_path / "plot.png"

    result = await past.canary(136, 160, "--svg", str(svg), "--png", str(png), "--no-plot")

    assert result.exit_code == 1
    drawn = ElementTree.fromstring(svg.read_text())
    assert drawn.tag.endswith("svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert f"drawn into {svg}" in result.stderr


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['matplotlib.figure'] = None"
    program = f"{hidden}; from starters.__main__ import main; main()"
    arguments = ["backtest", "canary", "--from=-1h", "--svg", str(tmp_path / "plot.svg")]
    answer = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )

    assert answer.returncode == 2
    assert "pip install 'erlmcp-deploy[plots]'" in answer.stderr


# What cannot be meant


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("canry", "--from", "-1h"), "neither such a file nor such a watch"),
        (("canary", "--from", "-1h"), "environment is missing"),
        (("canary", "--from", "-1h", "-e", "staging"), "staging of shop has no canary"),
        (("canary", "--from", "-1h", "-e", "moon"), "'moon' is not in deployment.yaml"),
        (("verification", "--from", "-1h", "-e", "production"), "health alone"),
        (("canary", "--from", "-1h", "-e", "production", "--watch", "canary"), "leave one of them out"),
        (("canary", "--from", "yesterday", "-e", "production"), "that is no time"),
        (("canary", "--from", "-1h", "--to", "-2h", "-e", "production"), "is not before --to"),
        (
            ("canary", "--from", "-1h", "-e", "production", "--every", "soon"),
            "--every: 'soon' is no duration",
        ),
        (("canary", "--from", "-5m", "-e", "production", "--every", "1m"), "longer than from --from to --to"),
        (("canary", "--from", "-9d", "-e", "production", "--every", "1s"), "starts are too many"),
        (("canary", "--from", "-1h", "-e", "production", "--step", "1ms"), "are too many"),
        (("canary", "--from", "-1h", "-e", "production", "--svg", "/nowhere/a.svg"), "no directory /nowhere"),
        (
            ("canary", "--from", "-1h", "-e", "production", "--prometheus", "http://127.0.0.1:1"),
            "cannot be read: http://127.0.0.1:1",
        ),
    ],
)
async def test_bad_input_is_one_clear_error(past: Past, arguments: tuple[str, ...], said: str) -> None:
    result = await run(*arguments, ERLMCP_DEPLOY_CONFIG=str(past.configuration))

    assert result.exit_code == 2, result.output
    assert said in " ".join(result.stderr.split())
    assert result.stderr.count("error ") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "holds no policy"),
        ("applications: {}", "is a whole configuration"),
        ("a: [", "is no YAML"),
        ("analysis: {}", "has no metrics"),
        ("analysis: {metrics: {a: {query: up, wenn: 3}}}", "wenn"),
        (
            "analysis: {metrics: {a: {query: 'up', occasions: [monitoring], failure: '> 1'}}}",
            "watched in canary",
        ),
        ("analysis: {metrics: {a: {query: up}}}", "metrics.a has no condition"),
        ("metrics: [{name: a, query: up}]", "a has no condition"),
        ("metrics: [{name: a, query: up, success: soon}]", "'soon' is no comparison"),
        ("{interval: 0s, metrics: [{name: a, query: up, limit: 1}]}", "interval and rounds"),
        ("metrics: [{name: a, query: 'sum(', limit: 1}]", "a cannot be read"),
        ("metrics: [{name: a, query: 'shop_requests_total', limit: 1}]", "not one; aggregate it"),
        ("metrics: [{name: a, query: up, limit: 1}, {name: a, query: up, limit: 1}]", "two metrics"),
    ],
)
async def test_a_policy_that_cannot_be_used_is_refused(
    past: Past, policy: Path, written: str, said: str
) -> None:
    policy.write_text(written)

    result = await past.backtest(policy, 60, 80, "-e", "production", "--prometheus", past.prometheus)

    assert result.exit_code == 2, result.output
    assert said in " ".join(result.stderr.split())


async def test_a_query_that_names_the_version_needs_one(past: Past, policy: Path) -> None:
    named = """vector(1) unless on() shop{{version="{version}"}}"""
    policy.write_text(f"analysis: {{metrics: {{a: {{query: '{named}', failure: '> 1'}}}}}}")

    missing = await past.backtest(policy, 60, 80, "-e", "production")
    given = await past.backtest(policy, 60, 80, "-e", "production", "-v", "3.0.0")

    assert missing.exit_code == 2
    assert "version is missing" in missing.stderr
    assert given.exit_code == 0, given.output


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOON),
        ("2h ago", NOON - timedelta(hours=2)),
        ("-90m", NOON - timedelta(minutes=90)),
        ("2026-02-02T10:00:00Z", NOON - timedelta(hours=2)),
        ("2026-02-02T10:00:00.500+01:00", NOON - timedelta(hours=3) + timedelta(milliseconds=500)),
    ],
)
def test_moments_are_absolute_or_relative(text: str, moment: datetime) -> None:
    assert parse_moment("--from", text, NOON) == moment


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2h", "no time"),
        ("-2", "no duration"),
        ("long ago", "no duration"),
        ("2026-02-02T10:00", "no time zone"),
        ("2026-02-02T12:01Z", "future"),
        ("-9999999y", "no duration"),
    ],
)
def test_moments_that_cannot_be_meant_are_refused(text: str, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        parse_moment("--from", text, NOON)
