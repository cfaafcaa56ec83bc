"""Releases by ``rebar3 tar``, with or without a relup."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from activities.errors import INVALID_CONFIGURATION, REFUSED, UNAVAILABLE, fail
from activities.measurement import Workbench
from activities.processes import ProcessResult
from activities.rebar3.profiles import profile_locks
from activities.rebar3.tools import NotMeasuredError, OutOfTimeError, rebar3
from domain.version import commit_prefix

_PROFILE = re.compile(r"[a-z0-9_]+(?:,[a-z0-9_]+)*")


async def build_tarball(bench: Workbench, profile: str, version: str) -> None:
    """Assemble the release and its tarball; a commit without a tag is released under the version given.

    Raises:
        ApplicationError: Refused, if the sources do not build; InvalidConfiguration, if the worker cannot.
    """
    _check_profile(profile)
    async with profile_locks(bench, profile.split(",")):
        await _make(bench, profile, version, "tar")


async def build_upgrade(
    bench: Workbench, profile: str, version: str, old: str, switch: Callable[[], Awaitable[None]]
) -> str:
    """The tarball of a release, with a relup from an older one; answers why it has none.

    Both releases are assembled in one tree, as a relup needs it. The tree holds the sources of the older
    one; `switch` brings in those of the new one.

    Raises:
        ApplicationError: as `build_tarball`; Refused also for code that changed and kept its version: nodes
            would keep the old code, even after a restart.
    """
    _check_profile(profile)
    async with profile_locks(bench, profile.split(",")):
        known, reason = await _assemble_older(bench, profile, old)
        await switch()
        # rebar3 compares times by the second: sources that have just changed may pass for compiled.
        for compiled in _compiled(bench.tree, profile):
            shutil.rmtree(compiled)
        await _make(bench, profile, version, "release")
        if known is None:
            await _make(bench, profile, version, "tar")
            return reason
        changed = known.changed()
        if changed:
            fail(
                REFUSED,
                f"the code of {', '.join(changed)} is another one in {version} than in {old}, under the same "
                "version: raise vsn in its .app.src",
            )
        arguments = ("-n", known.name, "-v", version)
        result = await _run(bench, profile, version, "relup", *arguments, "-u", old)
        if result.status != 0:
            reason = f"there is no relup from {old}: rebar3 {result.ending()}"
            # Half a relup would be packed as a whole one.
            (known.path / "releases" / version / "relup").unlink(missing_ok=True)
        await _make(bench, profile, version, "tar", *arguments)
        return reason


@dataclass(frozen=True)
class _Assembled:
    """A release in the build tree, with its modules as they were.

    Attributes:
        modules: file under ``lib`` → digest.
    """

    path: Path
    modules: dict[Path, str]

    @property
    def name(self) -> str:
        return self.path.name

    @classmethod
    def at(cls, path: Path) -> _Assembled:
        return cls(path, _modules(path))

    def changed(self) -> list[str]:
        """Directories of applications whose modules are others now: the directory names the version."""
        now = _modules(self.path)
        return sorted(
            {file.parts[0] for file, digest in self.modules.items() if now.get(file, digest) != digest}
        )


def _modules(release: Path) -> dict[Path, str]:
    libraries = release / "lib"
    return {
        file.relative_to(libraries): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in libraries.glob("*/ebin/*.beam")
    }


def _compiled(tree: Path, profile: str) -> list[Path]:
    """Where the profile's applications are compiled; what all profiles share are the dependencies."""
    found = list(tree.glob("_build/*/lib"))
    return [path for path in found if profile == "default" or path.parent.name != "default"]


async def _assemble_older(bench: Workbench, profile: str, old: str) -> tuple[_Assembled | None, str]:
    """The older release, or why there is none to make a relup from."""
    result = await _run(bench, profile, old, "release")
    if result.status != 0:
        return None, f"the release of {old} does not build any more: rebar3 {result.ending()}"
    found = list(bench.tree.glob(f"_build/*/rel/*/releases/{escape(old)}"))
    if len(found) != 1:
        return None, f"the sources of {old} make a release of another version"
    return _Assembled.at(found[0].parent.parent), ""


async def _make(bench: Workbench, profile: str, version: str, *arguments: str) -> None:
    """Run rebar3, which must succeed."""
    result = await _run(bench, profile, version, *arguments)
    if result.status != 0:
        # Killed from outside, for example for want of memory: that may go better next time.
        kind = REFUSED if (result.status or 0) > 0 else UNAVAILABLE
        fail(
            kind,
            f"the release of {version} does not build: rebar3 {result.ending()}; log: {bench.log.as_uri()}",
        )


async def _run(bench: Workbench, profile: str, version: str, *arguments: str) -> ProcessResult:
    variables = {} if commit_prefix(version) is None else {"ERLMCP_DEPLOY_RELEASE_VERSION": version}
    try:
        return await rebar3(bench, "as", profile, *arguments, **variables)
    except OutOfTimeError as error:
        fail(UNAVAILABLE, f"the release of {version} cannot be built: {error}", cause=error)
    except NotMeasuredError as error:
        fail(INVALID_CONFIGURATION, f"the release of {version} cannot be built: {error}", cause=error)


def _check_profile(profile: str) -> None:
    if not _PROFILE.fullmatch(profile):
        fail(INVALID_CONFIGURATION, f"`profile` {profile!r} of the release is no rebar3 profile")
