"""Versions: SemVer for releases, ``0.0.0-{branch}.g{sha}`` for commits without a tag."""

from __future__ import annotations

import re
from typing import Annotated

import semver
from pydantic import AfterValidator

_LABEL_LIMIT = 63


def parse_version(text: str) -> semver.Version:
    """Read a SemVer 2.0.0 version, without a leading ``v``.

    Raises:
        ValueError: it is none, or could not be written as a Kubernetes label.
    """
    try:
        version = semver.Version.parse(text)
    except ValueError:
        bare = text.removeprefix("v")
        remedy = bare if semver.Version.is_valid(bare) else "for example 3.0.0 or 3.0.0-rc.1"
        raise ValueError(f"{text!r} is no semantic version; write {remedy}") from None
    if version.build:
        raise ValueError(
            f"{text!r} has build metadata (+{version.build}), which no Kubernetes label can hold"
        )
    if text.endswith("-"):
        raise ValueError(
            f"{text!r} ends with a dash, which no Kubernetes label may; write {text.rstrip('-')!r}"
        )
    if len(text) > _LABEL_LIMIT:
        raise ValueError(f"{text!r} is longer than the {_LABEL_LIMIT} characters of a Kubernetes label")
    return version


def _checked(text: str) -> str:
    parse_version(text)
    return text


SemVer = Annotated[str, AfterValidator(_checked)]
"""A version that was checked to be SemVer and fit for a Kubernetes label."""


def commit_version(branch: str, sha: str) -> str:
    """The version of a commit that has no tag, e.g. ``0.0.0-feature-login.g1a2b3c4``."""
    slug = re.sub(r"[^0-9a-z]+", "-", branch.lower()).strip("-")[:40].strip("-") or "commit"
    if slug.isdigit() and slug.startswith("0"):
        slug = f"b{slug}"
    return f"0.0.0-{slug}.g{sha[:7].lower()}"


def commit_prefix(version: str) -> str | None:
    """The commit named by a `commit_version`, or none for a release."""
    match = re.fullmatch(r"0\.0\.0-[0-9a-z-]+\.g([0-9a-f]{7})", version)
    return match.group(1) if match else None


def version_of_tag(template: str, tag: str, **names: str) -> str | None:
    """What stands for ``{version}`` in a tag that is made by the template; none if it is made otherwise.

    It need not be a version: ``v1.0`` has ``1.0`` by ``v{version}``.
    """
    before, *after = (re.escape(part) for part in template.format(**names, version="\0").split("\0"))
    if not after:
        return None
    first, *repeated = after
    pattern = f"{before}(?P<version>.+){first}" + "".join(f"(?P=version){part}" for part in repeated)
    match = re.fullmatch(pattern, tag)
    return match["version"] if match else None


def is_newer(version: str, than: str) -> bool:
    """Whether SemVer orders `version` after `than`."""
    return bool(parse_version(version) > parse_version(than))


def is_breaking(version: str, previous: str) -> bool:
    """Whether going from `previous` to `version` may break clients (SemVer's major, or minor before 1.0)."""
    new, old = parse_version(version), parse_version(previous)
    return bool(new.major > old.major or (new.major == old.major == 0 and new.minor > old.minor))
