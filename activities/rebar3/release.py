"""Releases by ``rebar3 tar``."""

from __future__ import annotations

import re

from activities.errors import INVALID_CONFIGURATION, REFUSED, UNAVAILABLE, fail
from activities.measurement import Workbench
from activities.rebar3.profiles import profile_locks
from activities.rebar3.tools import NotMeasuredError, OutOfTimeError, rebar3
from domain.version import commit_prefix

_PROFILE = re.compile(r"[a-z0-9_]+(?:,[a-z0-9_]+)*")


async def build_tarball(bench: Workbench, profile: str, version: str) -> None:
    """Assemble the release and its tarball; a commit without a tag is released under the version given.

    Raises:
        ApplicationError: Refused, if the sources do not build; InvalidConfiguration, if the worker cannot.
    """
    if not _PROFILE.fullmatch(profile):
        fail(INVALID_CONFIGURATION, f"`profile` {profile!r} of the release is no rebar3 profile")
    variables = {} if commit_prefix(version) is None else {"ERLMCP_DEPLOY_RELEASE_VERSION": version}
    async with profile_locks(bench, profile.split(",")):
        try:
            result = await rebar3(bench, "as", profile, "tar", **variables)
        except OutOfTimeError as error:
            fail(UNAVAILABLE, f"the release of {version} cannot be built: {error}", cause=error)
        except NotMeasuredError as error:
            fail(INVALID_CONFIGURATION, f"the release of {version} cannot be built: {error}", cause=error)
    if result.status != 0:
        # Killed from outside, for example for want of memory: that may go better next time.
        kind = REFUSED if (result.status or 0) > 0 else UNAVAILABLE
        fail(
            kind,
            f"the release of {version} does not build: rebar3 {result.ending()}; log: {bench.log.as_uri()}",
        )
