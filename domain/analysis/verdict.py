"""The verdict over a watch: the states of its metrics, the most severe first, or their score."""

from __future__ import annotations

import math

from domain.analysis.metric import Metric, Phase
from domain.analysis.schedule import needed, track_of
from domain.analysis.watch import (
    MetricTally,
    ScorePolicy,
    WatchOutcome,
    WatchPolicy,
    WatchTally,
    WatchVerdict,
)

Fault = tuple[str, str]
"""What decides, and why."""

_SPOILT = (Phase.FAILED, Phase.ERROR)
_NOT_GOOD = (*_SPOILT, Phase.INCONCLUSIVE)
"""The most severe first."""


def verdict_on(policy: WatchPolicy, tally: WatchTally, *, counted: bool, guard: bool) -> WatchVerdict | None:
    """Whether the watch is over, and how.

    Args:
        counted: the last round was a good one.
        guard: only a failure ends it.
    """
    score = None if score_policy(policy) is None else _score(policy, tally, without=_SPOILT)

    def ended(outcome: WatchOutcome, reason: str, trigger: str | None = None) -> WatchVerdict:
        return WatchVerdict(outcome=outcome, trigger=trigger, reason=reason, tally=tally, score=score)

    failures = [
        *_health_failure(policy, tally),
        *_faults(policy, tally, _SPOILT, scored=False),
        *_hopeless_score(policy, tally),
    ]
    if failures:
        return ended(WatchOutcome.FAILED, _joined(failures), failures[0][0])
    if guard:
        return None
    if policy.settle and tally.health_streak >= policy.settle and counted:
        return ended(WatchOutcome.PASSED, _summary(policy, tally))
    if policy.settle and policy.health is not None and tally.rounds >= policy.rounds:
        reason = (
            f"not healthy {policy.settle} times in a row within {tally.rounds} checks, "
            f"the last one: {tally.last_health}"
        )
        return ended(WatchOutcome.FAILED, reason, "health_checks")
    if tally.rounds < policy.rounds or tally.health_failures or not _all_measured(policy, tally):
        doubts = _limited_doubts(policy, tally)
        return ended(WatchOutcome.INCONCLUSIVE, _joined(doubts), doubts[0][0]) if doubts else None
    doubts = _faults(policy, tally, (Phase.INCONCLUSIVE,), scored=False)
    outcome = WatchOutcome.INCONCLUSIVE if doubts else WatchOutcome.PASSED
    scored = score_policy(policy)
    if scored is not None:
        score = _score(policy, tally, without=_NOT_GOOD)
        if score < scored.passing:
            outcome = WatchOutcome.INCONCLUSIVE if score >= scored.marginal else WatchOutcome.FAILED
            (first, why), *others = [*_faults(policy, tally, _NOT_GOOD, scored=True), *doubts]
            doubts = [(first, f"{_score_text(scored, score)}: {why}"), *others]
    if doubts:
        return ended(outcome, _joined(doubts), doubts[0][0])
    return ended(outcome, _summary(policy, tally))


# The state of a metric


def has_effect(metric: Metric) -> bool:
    return not metric.dry_run and not metric.warn_only


def is_spoilt(metric: Metric, track: MetricTally) -> bool:
    """No measurement to come can make it good."""
    return track.failed > metric.failure_limit or track.consecutive_errors > metric.error_limit


def is_scored(policy: WatchPolicy, metric: Metric) -> bool:
    """Its weight speaks for it, instead of its own failure."""
    return score_policy(policy) is not None and has_effect(metric) and not metric.critical


def score_policy(policy: WatchPolicy) -> ScorePolicy | None:
    """The score, if there is anything to be scored by."""
    return policy.score if any(has_effect(m) and m.weight > 0 for m in policy.metrics) else None


def _state(policy: WatchPolicy, tally: WatchTally, metric: Metric) -> tuple[Phase, str]:
    """What the metric comes to with what was measured so far, and why."""
    track = track_of(policy, tally, metric)
    if track.failed > metric.failure_limit:
        tolerated = f" ({track.failed} failures, {metric.failure_limit} tolerated)"
        return Phase.FAILED, track.last_reason + (tolerated if metric.failure_limit else "")
    if track.consecutive_errors > metric.error_limit:
        return Phase.ERROR, f"{track.last_reason} ({track.consecutive_errors} times in a row)"
    measured = track.successful + track.failed + track.inconclusive
    tolerated_doubts: float = policy.inconclusive_limit * measured
    if metric.inconclusive_limit is not None:
        tolerated_doubts = metric.inconclusive_limit
    if measured == 0:
        return Phase.INCONCLUSIVE, track.last_reason or f"{metric.name} was never judged"
    if track.inconclusive > tolerated_doubts:
        said = f"{track.inconclusive} of {measured} measurements were inconclusive: {track.last_reason}"
        return Phase.INCONCLUSIVE, said
    return Phase.SUCCESSFUL, track.last_reason


# The state of the watch


def _joined(faults: list[Fault]) -> str:
    return "; ".join(reason for _, reason in faults)


def _health_failure(policy: WatchPolicy, tally: WatchTally) -> list[Fault]:
    failures = tally.health_failures
    if policy.health is None or failures < policy.consecutive_failures:
        return []
    return [("health_checks", f"{failures} consecutive health checks failed: {tally.last_health}")]


def _faults(
    policy: WatchPolicy, tally: WatchTally, phases: tuple[Phase, ...], *, scored: bool
) -> list[Fault]:
    """Metrics in one of these states, the most severe first: those the score is made of, or the others."""
    states = [
        (metric.name, *_state(policy, tally, metric))
        for metric in policy.metrics
        if has_effect(metric) and is_scored(policy, metric) is scored and (metric.weight or not scored)
    ]
    return [(name, reason) for wanted in phases for name, phase, reason in states if phase is wanted]


def _limited_doubts(policy: WatchPolicy, tally: WatchTally) -> list[Fault]:
    """Metrics that were inconclusive more often than their own limit allows: nothing to come mends it."""
    beyond = {
        metric.name
        for metric in policy.metrics
        if metric.inconclusive_limit is not None
        and track_of(policy, tally, metric).inconclusive > metric.inconclusive_limit
    }
    doubts = _faults(policy, tally, (Phase.INCONCLUSIVE,), scored=False)
    return [doubt for doubt in doubts if doubt[0] in beyond]


def _all_measured(policy: WatchPolicy, tally: WatchTally) -> bool:
    """Whether no metric that matters has a measurement to come without which the watch does not end."""
    for metric in policy.metrics:
        track = track_of(policy, tally, metric)
        if has_effect(metric) and track.next_at is not None and track.measured < needed(policy, metric):
            return False
    return True


def _hopeless_score(policy: WatchPolicy, tally: WatchTally) -> list[Fault]:
    """What failed for good, if the score cannot even be marginal any more."""
    scored, faults = score_policy(policy), _faults(policy, tally, _SPOILT, scored=True)
    if scored is None or not faults:
        return []
    reachable = _score(policy, tally, without=_SPOILT)
    if reachable >= scored.marginal:
        return []
    return [(faults[0][0], f"{_score_text(scored, reachable)} at best: {faults[0][1]}"), *faults[1:]]


def _score_text(policy: ScorePolicy, score: float) -> str:
    return f"score {score:.0f}% (passing {policy.passing:g}%, marginal {policy.marginal:g}%)"


def _score(policy: WatchPolicy, tally: WatchTally, *, without: tuple[Phase, ...]) -> float:
    """Percent of the weights that are in none of these states."""
    counted = [metric for metric in policy.metrics if has_effect(metric)]
    good = [metric for metric in counted if _state(policy, tally, metric)[0] not in without]
    return 100 * math.fsum(m.weight for m in good) / math.fsum(m.weight for m in counted)


def _summary(policy: WatchPolicy, tally: WatchTally) -> str:
    parts = [f"{tally.rounds} round(s)"]
    if policy.health is not None:
        parts.append(tally.last_health)
    parts += [tally.metrics[m.name].last_reason for m in policy.metrics if m.name in tally.metrics]
    return ", ".join(p for p in parts if p)
