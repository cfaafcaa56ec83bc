"""Judging: one moment of measurements folded into the tally, and the verdict at once (design, section 5)."""

from __future__ import annotations

import math

from domain.analysis.measuring import judge_reading
from domain.analysis.metric import Metric, MetricReading, Phase
from domain.analysis.schedule import due, follows_rounds, interval_of, next_clock, on_clock, track_of
from domain.analysis.verdict import has_effect, is_scored, is_spoilt, verdict_on
from domain.analysis.watch import HealthReport, MetricTally, Round, WatchPolicy, WatchTally, WatchVerdict


def judge(
    policy: WatchPolicy, before: WatchTally, observed: Round, guard: bool = False
) -> tuple[WatchTally, WatchVerdict | None]:
    """Fold what was due at ``before.clock`` into the tally, whose clock moves on; a verdict when it is over.

    A round in which a metric could not be measured counts for nothing but that metric's error streak.
    With `guard` only failures count: nothing counts towards the end, which never comes.
    """
    tally = on_clock(policy, before)
    wanted, in_round = due(policy, tally), tally.clock >= tally.health_at
    if wanted.health:
        tally = _fold_health(tally, observed.health, guard)
    metrics, recoveries, counted = dict(tally.metrics), tally.recoveries, in_round and not guard
    for metric in policy.metrics:
        if metric.name not in wanted.metrics:
            continue
        reading = observed.readings.get(metric.name, MetricReading(error="it was not read"))
        track = _fold_metric(metric, track_of(policy, tally, metric), reading, guard)
        warning = _warning(policy, metric, track, believed_after=None if guard else tally.recoveries)
        recoveries += bool(metric.warn_only and track.warning and not warning)
        if track.last_phase is Phase.ERROR and follows_rounds(metric) and has_effect(metric):
            counted = False
        over = _is_complete(metric, track) and not guard
        over = over or (is_scored(policy, metric) and is_spoilt(metric, track))
        next_at = None if over else tally.clock + interval_of(policy, metric)
        metrics[metric.name] = track.model_copy(update={"warning": warning, "next_at": next_at})
    changes = {"metrics": metrics, "recoveries": recoveries, "rounds": tally.rounds + counted}
    if in_round:
        changes["health_at"] = tally.clock + policy.interval
    tally = tally.model_copy(update=changes)
    tally = tally.model_copy(
        update={"clock": next_clock(policy, tally, guard=guard), "warnings": _warnings(policy, tally)}
    )
    return tally, verdict_on(policy, tally, counted=counted, guard=guard)


def worth_reporting(before: WatchTally, after: WatchTally) -> bool:
    """Whether the workflow must know: a failure more, or a change of the warnings.

    Bounded for the longest watch: failures by their limits, warnings as they take ever longer to go away, and
    inconclusive measurements are told each time they doubled, as what nobody told counts as good later.
    """
    if after.warnings != before.warnings:
        return True
    if after.health_failures > before.health_failures and after.recoveries == 0:
        return True
    for name, track in after.metrics.items():
        earlier = before.metrics.get(name, MetricTally())
        if not track.advisory and (
            track.failed > earlier.failed
            or track.inconclusive.bit_length() > earlier.inconclusive.bit_length()
        ):
            return True
    return False


def has_gone_on(policy: WatchPolicy, before: WatchTally, after: WatchTally) -> bool:
    """Whether another hundredth of the watch was counted; each round, for a watch of up to a hundred."""
    stride = max(1, policy.rounds // 100)
    return after.rounds // stride > before.rounds // stride


def _fold_health(tally: WatchTally, report: HealthReport | None, guard: bool) -> WatchTally:
    report = report or HealthReport(healthy=False, reason="it was not checked")
    if not report.healthy:
        return tally.model_copy(
            update={
                "health_failures": tally.health_failures + 1,
                "health_streak": 0,
                "last_health": report.reason,
                "health_warning": tally.health_warning or f"a health check failed: {report.reason}",
            }
        )
    streak = tally.health_streak if guard else tally.health_streak + 1
    changes = {"health_failures": 0, "health_streak": streak, "last_health": "healthy"}
    if tally.health_warning and not guard and streak > tally.recoveries:
        changes |= {"health_warning": "", "recoveries": tally.recoveries + 1}
    return tally.model_copy(update=changes)


def _fold_metric(metric: Metric, track: MetricTally, reading: MetricReading, guard: bool) -> MetricTally:
    phase, reason = judge_reading(metric, reading)
    one = 0 if guard else 1
    streak = track.consecutive_successes
    changes = {"consecutive_errors": 0, "measured": track.measured + one}
    match phase:
        case Phase.SUCCESSFUL:
            changes |= {"successful": track.successful + one, "consecutive_successes": streak + one}
        case Phase.FAILED:
            changes |= {"failed": track.failed + 1, "consecutive_successes": 0}
        case Phase.INCONCLUSIVE:
            changes |= {"inconclusive": track.inconclusive + one, "consecutive_successes": 0}
        case Phase.ERROR:
            changes = {"consecutive_errors": track.consecutive_errors + 1}
    last = reading.value if reading.value is None or math.isfinite(reading.value) else None
    about = {"last": last, "last_phase": phase, "last_reason": reason, "advisory": not has_effect(metric)}
    return track.model_copy(update={**changes, **about})


def _is_complete(metric: Metric, track: MetricTally) -> bool:
    """It was measured often enough, so that it is not measured any more."""
    if metric.count is not None and track.measured >= metric.count:
        return True
    return metric.success_limit is not None and track.consecutive_successes >= metric.success_limit


def _warning(policy: WatchPolicy, metric: Metric, track: MetricTally, *, believed_after: int | None) -> str:
    """What to warn of. Failures that have a limit come and go with each measurement, as the limit bounds
    them; those without go away after more than `believed_after` good measurements in a row, or not at all.
    """
    if metric.dry_run:
        return ""
    if track.last_phase is Phase.FAILED:
        if metric.warn_only:
            return track.warning or track.last_reason
        if is_scored(policy, metric) and is_spoilt(metric, track):
            return f"{track.last_reason} (lowers the score)"
        return f"{track.last_reason} (failure {track.failed}, {metric.failure_limit} tolerated)"
    if track.last_phase is Phase.SUCCESSFUL:
        sure = believed_after is not None and track.consecutive_successes > believed_after
        return "" if sure or not metric.warn_only else track.warning
    return track.warning


def _warnings(policy: WatchPolicy, tally: WatchTally) -> tuple[str, ...]:
    tracks = (track_of(policy, tally, metric) for metric in policy.metrics)
    return tuple(w for w in (tally.health_warning, *(track.warning for track in tracks)) if w)
