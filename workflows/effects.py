"""How activities are called: time limits, retries and heartbeats by kind of effect."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TypedDict

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType

BUILDS_QUEUE = "builds"
DEPLOYMENTS_QUEUE = "deployments"


class Options(TypedDict, total=False):
    start_to_close_timeout: timedelta
    schedule_to_close_timeout: timedelta
    schedule_to_start_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy
    cancellation_type: ActivityCancellationType


SHORT = Options(
    start_to_close_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=20)
    ),
)
"""Reads, signals and audit events: small, and needed, so retried until they succeed."""

NOTICE = Options(
    start_to_close_timeout=timedelta(seconds=60),
    schedule_to_close_timeout=timedelta(minutes=10),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1)),
)
"""Notifications: worth some tries, but no reason to hold a deployment up for ever."""

VERIFICATION = Options(
    start_to_close_timeout=timedelta(seconds=10),
    schedule_to_close_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_attempts=5),
)
"""Reading who may sign: decisions wait for it, but not for ever."""

LOOK_UP = Options(
    start_to_close_timeout=timedelta(seconds=30),
    schedule_to_close_timeout=timedelta(minutes=2),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=20)),
)
"""What helps people to decide, or saves them from it: good to have, and nothing to wait long for."""

CARD = Options(
    start_to_close_timeout=timedelta(seconds=20),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1)),
)
"""What people decide by: tried until it is shown, or until it is over."""

ANSWER = Options(
    start_to_close_timeout=timedelta(seconds=20),
    schedule_to_close_timeout=timedelta(minutes=10),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1)),
)
"""A word to one person, and the last word on an approval: people do not wait for it for ever."""

RESERVATION = Options(
    start_to_close_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=30)),
)


def build(limit: timedelta) -> Options:
    """Work on a build worker's own queue. It streams output as heartbeats; silence means it died.

    If nobody takes the task in time, the worker that has the checkout is gone.
    """
    return Options(
        start_to_close_timeout=limit + timedelta(minutes=1),
        schedule_to_start_timeout=timedelta(minutes=2) + limit,
        heartbeat_timeout=timedelta(seconds=30),
        retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=5),
        cancellation_type=ActivityCancellationType.TRY_CANCEL,
    )


_LONGEST_BACKOFF = timedelta(seconds=15)
_FIRST_TRIES = 5
"""Before the back-off is at its longest."""


def cluster_write(limit: timedelta) -> Options:
    """A change of the cluster: waits out an API server that refuses for a while, about `limit`.

    Tries are counted, and not time: while no worker is there to try, nothing is given up. Whoever cancels it
    waits until it has really stopped: a late write would undo the roll-back after it.
    """
    return Options(
        start_to_close_timeout=max(limit, timedelta(minutes=1)),
        heartbeat_timeout=timedelta(seconds=30),
        retry_policy=RetryPolicy(
            initial_interval=timedelta(milliseconds=500),
            backoff_coefficient=2,
            maximum_interval=_LONGEST_BACKOFF,
            maximum_attempts=_FIRST_TRIES + math.ceil(limit / _LONGEST_BACKOFF),
        ),
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def rollout(limit: timedelta) -> Options:
    """Waiting for pods: the cluster's own progress deadline decides; ours only catches a lost watch."""
    return Options(
        start_to_close_timeout=limit * 2 + timedelta(minutes=1),
        schedule_to_close_timeout=limit * 2 + timedelta(minutes=2),
        heartbeat_timeout=timedelta(seconds=30),
        retry_policy=RetryPolicy(
            initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=15)
        ),
    )


def hook(limit: timedelta) -> Options:
    """A step of the service itself: it must bear being run again, but not for ever."""
    return Options(
        start_to_close_timeout=limit + timedelta(minutes=1),
        heartbeat_timeout=timedelta(seconds=30),
        retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=5),
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def watch(interval: timedelta) -> Options:
    """A watch: one short attempt per round; the next attempt is the next round."""
    return Options(
        start_to_close_timeout=timedelta(minutes=2),
        heartbeat_timeout=timedelta(seconds=30),
        retry_policy=RetryPolicy(initial_interval=interval, backoff_coefficient=1, maximum_interval=interval),
    )
