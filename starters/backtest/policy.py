"""What is backtested: a built-in watch of an environment, or a policy from a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from activities.configuration import VARIABLE, ConfigurationError, load_configuration
from domain.analysis import WatchPolicy
from domain.analysis.checks import problems
from domain.analysis.settings import AnalysisSettings, Occasion
from domain.deployment import DeploymentRequest
from domain.plan import DeploymentPlan, UnknownNameError, resolve_plan
from domain.watches import (
    canary_watch,
    flag_watch,
    monitoring_watch,
    node_watch,
    preview_watch,
    switched_watch,
    verification_watch,
)
from starters.configuration import configured_path
from starters.errors import invalid_input, usage_error
from starters.target import default_application
from workflows.conversion import explain

VERIFICATION = "verification"
WATCHES = (*(str(occasion) for occasion in Occasion), VERIFICATION)
"""The built-in watches by name."""

_RULES = ("limit", "success", "failure", "max_increase", "comparison")
_ANY_VERSIONS = ("0.0.1", "0.0.2")
"""Stand in for a version that was not given; a policy that tells them apart needs a real one."""

PolicyAt = Callable[[datetime], WatchPolicy]
"""The policy of a watch that starts at a moment."""
Build = Callable[[DeploymentPlan, str, datetime], WatchPolicy]
"""A policy made of a plan, a version and the start of the watch."""
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Frame:
    """How a policy is looked at.

    Attributes:
        watch: for an ``analysis`` block, the built-in watch its metrics are measured in.
        duration: how long the watch lasts, instead of what the policy says.
        start, end: all the time there is; a file's policy that does not say how long it lasts, lasts so long.
    """

    environment: str | None
    application: str | None
    version: str | None
    watch: str | None
    duration: timedelta | None
    start: datetime
    end: datetime


@dataclass(frozen=True)
class Subject:
    """What is backtested.

    Attributes:
        prometheus_url: of the configuration, if it names one.
        notes: what of the policy leaves no record in Prometheus, and how it is treated.
    """

    policy_at: PolicyAt
    prometheus_url: str | None
    notes: tuple[str, ...]


def find_subject(name: str, frame: Frame) -> Subject:
    """The policy a person means: a watch's name, or a file.

    Raises:
        CommandError: there is no such policy, or nothing of it can be replayed (exit code 2).
    """
    if name in WATCHES:
        if frame.watch is not None:
            raise usage_error("--watch is given beside the name of a watch", remedy="leave one of them out")
        return _of_environment(frame, partial(_built_in, name), name)
    document = _read(Path(name))
    if isinstance(document.get("metrics"), list):
        return _of_policy(document, name, frame)
    return _of_analysis(document.get("analysis", document), name, frame)


def _of_policy(document: dict[str, Any], name: str, frame: Frame) -> Subject:
    """A whole watch, as `WatchPolicy` has it."""
    policy = _validated(WatchPolicy, {"subject": Path(name).name, **document}, name)
    if policy.interval <= timedelta(0) or policy.rounds < 1:
        raise usage_error(
            f"{name}: interval and rounds must be more than nothing", remedy="write interval: 30s, rounds: 20"
        )
    for metric in policy.metrics:
        if all(getattr(metric, rule) is None for rule in _RULES):
            raise usage_error(
                f"{name}: {metric.name} has no condition, so it could never fail",
                remedy=f"add one of {', '.join(_RULES)}",
            )
    if "rounds" not in document and frame.duration is None:
        policy = _lasting(policy, frame.end - frame.start)
    url = None if frame.environment is None else _plan(frame, _ANY_VERSIONS[0]).metrics.prometheus_url
    return _subject(lambda start: policy, url, frame)


def _of_analysis(block: Any, name: str, frame: Frame) -> Subject:
    """The metrics of an ``analysis`` block, without the triggers that would be watched beside them."""
    settings = _validated(AnalysisSettings, block, name)
    if not settings.metrics:
        raise usage_error(f"{name} has no metrics", remedy="write analysis.metrics: {NAME: {query: …}}")
    _refuse_problems(settings, name)

    def build(plan: DeploymentPlan, version: str, start: datetime) -> WatchPolicy:
        watch = frame.watch or _usual_watch(plan)
        whole = _built_in(watch, plan.model_copy(update={"analysis": settings}), version, start)
        own = tuple(metric for metric in whole.metrics if metric.name in settings.metrics)
        if not own:
            raise usage_error(
                f"none of the metrics of {name} is watched in {watch}",
                remedy=f"add {watch} to their occasions, or give another --watch",
            )
        return whole.model_copy(update={"metrics": own})

    return _of_environment(frame, build, Path(name).name)


def _refuse_problems(settings: AnalysisSettings, name: str) -> None:
    """Refuse what could never be judged, or never fail."""
    for path, value, fault, remedy in problems(settings):
        shown = "" if value is None else f" is {value!r}: it"
        raise usage_error(f"{name}: {'.'.join(map(str, path))}{shown} {fault}", remedy=remedy)


def _of_environment(frame: Frame, build: Build, name: str) -> Subject:
    versions = _ANY_VERSIONS if frame.version is None else (frame.version,)
    plans = [(_plan(frame, version), version) for version in versions]
    made = [build(plan, version, frame.start).metrics for plan, version in plans]
    if any(metrics != made[0] for metrics in made):
        raise usage_error("version is missing: a query of this policy names it", remedy="give --version")
    plan, version = plans[0]
    named = {"subject": f"{name}, {plan.application} in {plan.environment}"}

    def policy_at(start: datetime) -> WatchPolicy:
        return build(plan, version, start).model_copy(update=named)

    return _subject(policy_at, plan.metrics.prometheus_url, frame)


def _subject(policy_at: PolicyAt, prometheus_url: str | None, frame: Frame) -> Subject:
    """Leave out what cannot be replayed, and say so."""
    first = policy_at(frame.start)
    lost = [metric.name for metric in first.metrics if not metric.query]
    if len(lost) == len(first.metrics):
        what = f"only {', '.join(lost)}" if lost else "health alone"
        raise usage_error(
            f"{first.subject} measures {what}, which leaves no record in Prometheus",
            remedy="backtest a policy with queries",
        )
    notes = [f"{name} is left out: only queries leave a record" for name in lost]
    if first.health is not None:
        notes.append("health checks leave no record: they count as healthy")

    def replayed(start: datetime) -> WatchPolicy:
        policy = policy_at(start)
        kept = tuple(metric for metric in policy.metrics if metric.query)
        policy = policy.model_copy(update={"metrics": kept})
        return policy if frame.duration is None else _lasting(policy, frame.duration)

    return Subject(replayed, prometheus_url, tuple(notes))


def _lasting(policy: WatchPolicy, duration: timedelta) -> WatchPolicy:
    rounds = max(1, math.ceil((duration - policy.initial_delay) / policy.interval))
    return policy.model_copy(update={"rounds": rounds})


def _built_in(watch: str, plan: DeploymentPlan, version: str, start: datetime) -> WatchPolicy:
    """One of the watches of an environment.

    Raises:
        CommandError: the environment has no such watch (exit code 2).
    """
    settings = plan.settings
    match watch:
        case Occasion.CANARY if settings.canary is not None:
            return canary_watch(plan, version)
        case Occasion.PREVIEW if settings.blue_green is not None:
            return preview_watch(plan, version)
        case Occasion.SWITCHED if settings.blue_green is not None:
            return switched_watch(plan, version, start)
        case Occasion.HOT_UPGRADE if settings.hot_upgrade is not None:
            return node_watch(plan, version, None)
        case Occasion.FEATURE_FLAG if settings.feature_flags:
            rollout = settings.feature_flags[0]
            return flag_watch(plan, version, rollout, rollout.steps[0])
        case Occasion.MONITORING:
            return monitoring_watch(plan, version)
        case _ if watch == VERIFICATION:
            return verification_watch(plan, version)
    raise usage_error(
        f"{plan.environment} of {plan.application} has no {watch}",
        remedy="name another environment with --environment, or another policy",
    )


def _usual_watch(plan: DeploymentPlan) -> str:
    if plan.settings.canary is not None:
        return Occasion.CANARY
    return Occasion.SWITCHED if plan.settings.blue_green is not None else Occasion.MONITORING


def _plan(frame: Frame, version: str) -> DeploymentPlan:
    try:
        configuration = load_configuration(configured_path(None))
    except ConfigurationError as error:
        raise usage_error(
            f"the watches of an environment come from deployment.yaml: {error.problems[0]}"
        ) from None
    environment = frame.environment
    if environment is None:
        if len(configuration.environments) != 1:
            raise usage_error(
                "environment is missing",
                remedy=f"give --environment, one of: {', '.join(configuration.environments)}",
            )
        environment = next(iter(configuration.environments))
    try:
        request = DeploymentRequest(
            application=default_application(frame.application),
            environment=environment,
            version=version,
            actor="backtest",
        )
        return resolve_plan(configuration, request)
    except ValidationError as error:
        raise invalid_input(error, DeploymentRequest) from None
    except UnknownNameError as error:
        raise usage_error(str(error)) from None


def _read(path: Path) -> dict[str, Any]:
    """A YAML document.

    Raises:
        CommandError: there is none, or it holds no settings (exit code 2).
    """
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise usage_error(
            f"policy is {str(path)!r}: there is neither such a file nor such a watch",
            remedy=f"name a YAML file, or one of: {', '.join(WATCHES)}",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise usage_error(f"{path} cannot be read: {error}") from None
    except YAMLError as error:
        raise usage_error(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or not document:
        raise usage_error(f"{path} holds no policy", remedy="write an analysis block, or a watch policy")
    if "applications" in document:
        raise usage_error(
            f"{path} is a whole configuration",
            remedy=f"set {VARIABLE}={path}, and name one of its watches: {', '.join(WATCHES)}",
        )
    return document


def _validated(model: type[M], document: Any, name: str) -> M:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise usage_error(f"{name}: {explain(error, model)}") from None
