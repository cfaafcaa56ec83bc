"""Projects: which one of a Git host a repository's address means."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

_SCP_LIKE = re.compile(r"(?:[\w.-]+@)?(?P<host>\[[0-9a-fA-F:]+\]|[\w.-]+):(?!//)(?P<path>\S+)")
_SCHEMES = frozenset({"https", "http", "ssh", "git", "git+ssh"})
_SEGMENT = re.compile(r"[\w.-]+", re.ASCII)


class ForeignProjectError(ValueError):
    """The application has no such project at this Git host; the text says why, and the remedy."""


def host_of(repository: str) -> str | None:
    """The host of a repository's address, lower-cased; none for a local path.

    ``https://…``, ``ssh://…`` and ``git@host:owner/name`` are understood.
    """
    address = _split(repository)
    return None if address is None else address[0]


def project_of(repository: str) -> str | None:
    """``owner/name`` (at GitLab also ``group/subgroup/name``), lower-cased as hosts compare it.

    None for a local path, and for an address that names no project.
    """
    address = _split(repository)
    if address is None:
        return None
    segments = address[1].strip("/").removesuffix(".git").split("/")
    if len(segments) < 2 or not all(_SEGMENT.fullmatch(s) and s not in (".", "..") for s in segments):
        return None
    return "/".join(segments).lower()


def same_project(one: str, other: str) -> bool:
    """Whether two names mean the same project; hosts ignore case."""
    return one.strip("/").casefold() == other.strip("/").casefold()


def project_at(url: str, repository: str, own: str | None = None, asked: str | None = None) -> str:
    """The project of an application at the Git host whose pages are under `url`.

    Another project than the application's own is refused: what is true of a fork, which knows the same
    commits, is not true of the application.

    Args:
        repository: of the application.
        own: the application's ``project``, where the configuration names it.
        asked: the project a request names.

    Raises:
        ForeignProjectError: there is none.
    """
    host, wanted = host_of(repository), host_of(url)
    if host is not None and host.removeprefix("ssh.") != wanted:
        raise ForeignProjectError(
            f"the repository is on {host}, not on {wanted}; for GitHub Enterprise set git_hosts.github"
        )
    known = own or project_of(repository)
    if known is not None and asked is not None and not same_project(known, asked):
        raise ForeignProjectError(f"{asked} is not the application's project; that is {known}")
    found = known or asked
    if found is None:
        raise ForeignProjectError(
            "the repository names no project; set the application's `project` to owner/name"
        )
    segments = found.strip("/").split("/")
    if len(segments) != 2 or not all(_SEGMENT.fullmatch(s) and s not in (".", "..") for s in segments):
        raise ForeignProjectError(f"project {found!r} is no owner/name; correct it in deployment.yaml")
    return "/".join(segments)


def comparison_url(
    repository: str, github: str, project: str | None, previous: str, commit: str
) -> str | None:
    """The page that shows what `commit` has and `previous` has not; none where no host shows it.

    Args:
        github: base address of GitHub's pages.
        project: the application's, where the configuration names it.
    """
    span = f"{quote(previous, safe='/')}...{quote(commit, safe='/')}"
    try:
        return f"{github.rstrip('/')}/{project_at(github, repository, project)}/compare/{span}"
    except ForeignProjectError:
        pass
    host, path = host_of(repository), project or project_of(repository)
    if host is None or path is None or "gitlab" not in host:
        return None
    parts = urlsplit(repository.strip())
    by_web = parts.scheme.lower() in ("http", "https")
    base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if by_web else f"https://{host}"
    return f"{base}/{quote(path, safe='/')}/-/compare/{span}"


def is_loopback(host: str) -> bool:
    """Whether what is sent there never leaves the machine."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _split(repository: str) -> tuple[str, str] | None:
    """Host and path."""
    text = repository.strip()
    if "://" not in text:
        match = _SCP_LIKE.fullmatch(text)
        return None if match is None else (match["host"].strip("[]").lower(), match["path"])
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:  # a bracket that is never closed
        return None
    if parts.scheme.lower() not in _SCHEMES or not host:
        return None
    return host, parts.path
