"""rebar3 profiles of one checkout: which of its runs may go on at the same time."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from activities.file_lock import file_lock
from activities.measurement import Workbench

_DEPENDENCIES = re.compile(r"\{\s*(?:deps|plugins|project_plugins)\s*,\s*\[\s*[^\s\]]")


@asynccontextmanager
async def profile_locks(bench: Workbench, profiles: Iterable[str]) -> AsyncIterator[None]:
    """Have the build directories of these profiles alone.

    All profiles build dependencies and plugins in ``_build/default``, so with any of those every run has that
    directory alone as well; without, runs of different profiles share nothing but the sources.
    """
    wanted = set(profiles)
    if wanted and has_dependencies(bench.tree):
        wanted.add("default")
    async with AsyncExitStack() as held:
        for profile in sorted(wanted):  # always in this order, so that no two runs wait for each other
            await held.enter_async_context(file_lock(bench.locks / f"profile-{profile}.lock"))
        yield


def has_dependencies(tree: Path) -> bool:
    """Whether a project has dependencies or plugins; in doubt it has."""
    if (tree / "rebar.config.script").exists():
        return True
    lock = tree / "rebar.lock"
    if lock.exists() and "<<" in lock.read_text(errors="replace"):
        return True
    configurations = [
        tree / "rebar.config",
        *tree.glob("apps/*/rebar.config"),
        *tree.glob("lib/*/rebar.config"),
    ]
    return any(
        _DEPENDENCIES.search(_uncommented(path.read_text(errors="replace")))
        for path in configurations
        if path.is_file()
    )


def _uncommented(configuration: str) -> str:
    return re.sub(r"^\s*%.*$", "", configuration, flags=re.MULTILINE)
