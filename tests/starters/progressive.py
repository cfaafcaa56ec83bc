"""Pictures of progressive deliveries as their workflows tell them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from domain.analysis import MetricTally, Phase, WatchOutcome, WatchTally, WatchVerdict
from domain.blue_green import BlueGreenPhase
from domain.canary import CanaryPhase, CanaryStatus, StepVerdict
from domain.delivery import DeliveryKind, DeliveryStatus, DeliveryStep, StepState
from domain.deployment import Built, DeploymentState, DeploymentStatus, Transition
from domain.handover import HandoverPhase, HandoverReading

NOON = datetime(2026, 2, 2, 12, tzinfo=UTC)
S = DeploymentState


def after(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def deploying(**changes: object) -> DeploymentStatus:
    """3.0.0 is on its way into production."""
    states = (S.PENDING, S.VALIDATION, S.BUILDING, S.TESTING, S.APPROVAL, S.DEPLOYING)
    status = DeploymentStatus(
        deployment_id="deployment:erlmcp:production:3.0.0",
        application="erlmcp",
        environment="production",
        version="3.0.0",
        actor="ada@example.com",
        state=S.DEPLOYING,
        since=after(5),
        started_at=NOON,
        history=[Transition(state=s, at=after(i)) for i, s in enumerate(states)],
        built=Built(commit="1a2b3c4d5e6f"),
        previous_version="2.9.1",
    )
    return status.model_copy(update=changes)


def _good(name: str, value: float, unit: str, times: int = 20) -> MetricTally:
    return MetricTally(
        successful=times,
        measured=times,
        last=value,
        last_phase=Phase.SUCCESSFUL,
        last_reason=f"{name} is {value:.4g}{unit}",
    )


def verdict(outcome: WatchOutcome, **changes: object) -> WatchVerdict:
    """A judged step: three metrics, one of them only tried out."""
    metrics = {
        "error_rate": _good("error_rate", 0.21, "%"),
        "latency_p95": _good("latency_p95", 0.34, "s"),
        "queue_depth": MetricTally(
            failed=20,
            measured=20,
            last=311,
            last_phase=Phase.FAILED,
            last_reason="queue_depth is 311, which is > 100",
            advisory=True,
        ),
    }
    found = WatchVerdict(
        outcome=outcome,
        reason="20 round(s), healthy, error_rate is 0.21%, latency_p95 is 0.34s",
        tally=WatchTally(rounds=20, metrics=metrics),
    )
    return found.model_copy(update=changes)


def failed_verdict() -> WatchVerdict:
    """Three good measurements, then one too many that was bad."""
    passed = verdict(WatchOutcome.FAILED, trigger="error_rate", reason="error_rate is 8.967%, limit 5%")
    bad = MetricTally(
        successful=3,
        failed=1,
        last=8.967,
        last_phase=Phase.FAILED,
        last_reason="error_rate is 8.967%, limit 5%",
    )
    metrics = {**passed.tally.metrics, "error_rate": bad}
    return passed.model_copy(update={"tally": passed.tally.model_copy(update={"metrics": metrics})})


WARNING = "error_rate is 4.2%, limit 4% (failure 1, 2 tolerated)"


def warned_canary() -> DeploymentStatus:
    """The canary is at its second weight, and its error rate is not what it should be."""
    passed = StepVerdict(
        weight=10,
        observed_weight=25,
        note="1 of 4 pods is the smallest share",
        started_at=after(5),
        finished_at=after(15),
        verdict=verdict(WatchOutcome.PASSED, score=100.0),
    )
    running = StepVerdict(weight=50, observed_weight=50, started_at=after(15))
    canary = CanaryStatus(
        id="canary:erlmcp:production:3.0.0",
        phase=CanaryPhase.ANALYSING,
        weight=50,
        steps=(passed, running),
        warnings=(WARNING,),
    )
    return deploying(canary=canary, warnings=(WARNING,))


def failed_canary() -> DeploymentStatus:
    """The canary failed at its first weight."""
    step = StepVerdict(
        weight=10, observed_weight=10, started_at=after(5), finished_at=after(7), verdict=failed_verdict()
    )
    canary = CanaryStatus(
        id="canary:erlmcp:production:3.0.0",
        phase=CanaryPhase.FAILED,
        reason="canary at 10%: error_rate is 8.967%, limit 5%",
        trigger="error_rate",
        steps=(step,),
        warnings=(WARNING,),
    )
    before = deploying()
    return deploying(
        canary=canary,
        state=S.ROLLING_BACK,
        since=after(7),
        reason="canary at 10%: error_rate is 8.967%, limit 5%",
        history=[*before.history, Transition(state=S.ROLLING_BACK, at=after(7))],
    )


def doubtful_canary() -> DeploymentStatus:
    """The analysis could not tell, and a person must."""
    unclear = verdict(
        WatchOutcome.INCONCLUSIVE,
        trigger="error_rate",
        reason="15 of 20 measurements were inconclusive: error_rate: no data",
    )
    step = StepVerdict(
        weight=10, observed_weight=10, started_at=after(5), finished_at=after(15), verdict=unclear
    )
    canary = CanaryStatus(
        id="canary:erlmcp:production:3.0.0",
        phase=CanaryPhase.PAUSED,
        weight=10,
        paused=True,
        reason="the analysis cannot tell",
        steps=(step,),
    )
    return deploying(canary=canary)


def handed_over() -> DeploymentStatus:
    """Flagger steers."""
    reading = HandoverReading(
        phase=HandoverPhase.PROGRESSING, weight=30, said="Progressing", reason="advance weight 30"
    )
    canary = CanaryStatus(
        id="canary:erlmcp:production:3.0.0", phase=CanaryPhase.ANALYSING, weight=30, handover=reading
    )
    return deploying(canary=canary)


def blue_green(*, waiting: bool) -> DeploymentStatus:
    """Both sides are there; the new one is checked, or waits for the switch."""
    up = DeliveryStep(
        name="bring up green",
        state=StepState.PASSED,
        started_at=after(5),
        finished_at=after(6),
        detail="3 pods ready",
    )
    checked = DeliveryStep(name=BlueGreenPhase.PREVIEW, started_at=after(6))
    steps: tuple[DeliveryStep, ...] = (up, checked)
    if waiting:
        passed = checked.model_copy(update={"state": StepState.PASSED, "finished_at": after(7)})
        steps = (up, passed, DeliveryStep(name=BlueGreenPhase.WAITING, started_at=after(7)))
    phase = BlueGreenPhase.WAITING if waiting else BlueGreenPhase.PREVIEW
    return deploying(delivery=DeliveryStatus(kind=DeliveryKind.BLUE_GREEN, phase=phase, steps=steps))
