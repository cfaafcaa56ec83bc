from datetime import timedelta

from domain.analysis import WatchPolicy, WatchTally


def resumed(policy: WatchPolicy, reported: WatchTally | None, watched: timedelta) -> WatchTally:
    tally = reported or WatchTally()
    rounds = max(0, min(policy.rounds - 1, int(watched / policy.interval)))
    return tally.model_copy(update={"rounds": rounds, "clock": watched})


def after_guard(
    policy: WatchPolicy, before: WatchTally | None, reported: WatchTally | None
) -> WatchTally | None:
    return before
