"""Ways of delivering and of rolling back that contradict each other, or would judge by nothing."""

from __future__ import annotations

from collections.abc import Iterator

from domain.configuration import EnvironmentSettings
from domain.findings import Finding
from domain.secrets import Path
from domain.strategy import RollbackStrategy


def deliveries(path: Path, settings: EnvironmentSettings) -> Iterator[Finding]:
    """What one environment says of its deliveries."""
    ways = [name for name in ("canary", "blue_green", "hot_upgrade") if getattr(settings, name) is not None]
    if len(ways) > 1:
        *others, last = ways
        yield Finding(
            (*path, last), None, f"is a second way of delivering beside {' and '.join(others)}",
            f"keep one; write for example {others[0]}: null (an environment of the defaults may bring it)",
        )  # fmt: skip
    yield from _strategy(path, settings)
    yield from _flags(path, settings)
    for moment in ("before", "after"):
        names = [hook.name for hook in getattr(settings.rollback, moment)]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Finding(
                    (*path, "rollback", moment, index, "name"), name, "is named twice",
                    "give each hook a name of its own",
                )  # fmt: skip


def _strategy(path: Path, settings: EnvironmentSettings) -> Iterator[Finding]:
    strategy, where = settings.rollback.strategy, (*path, "rollback", "strategy")
    if strategy is RollbackStrategy.BLUE_GREEN and settings.blue_green is None:
        yield Finding(
            where, strategy, "there is no other side to switch back to",
            "add blue_green to the environment, or write strategy: immediate",
        )  # fmt: skip
    gradual = strategy is RollbackStrategy.GRADUAL
    handed_over = settings.canary is not None and settings.canary.handover is not None
    if gradual and (settings.blue_green is not None or settings.hot_upgrade is not None or handed_over):
        yield Finding(
            where, strategy, "gives traffic back by weights, and this environment has none of ours",
            "write strategy: immediate",
        )  # fmt: skip


def _flags(path: Path, settings: EnvironmentSettings) -> Iterator[Finding]:
    known: set[tuple[str, str, str]] = set()
    for index, flag in enumerate(settings.feature_flags):
        place = (flag.config_map, flag.document, flag.flag)
        if place in known:
            yield Finding(
                (*path, "feature_flags", index, "flag"),
                flag.flag,
                "is rolled out twice",
                "name each flag once",
            )
        known.add(place)
        if flag.analysis_interval > flag.step_duration:
            yield Finding(
                (*path, "feature_flags", index, "analysis_interval"), flag.analysis_interval,
                "is longer than step_duration; a step would end unmeasured",
                "write a shorter one, such as 30s",
            )  # fmt: skip
