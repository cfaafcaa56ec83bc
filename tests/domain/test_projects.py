"""Which project of a Git host an address means."""

from __future__ import annotations

import pytest

from domain.projects import ForeignProjectError, host_of, project_at, project_of

GITHUB = "https://github.com"


@pytest.mark.parametrize(
    ("repository", "host", "project"),
    [
        ("https://github.com/Acme/Erlmcp.git", "github.com", "acme/erlmcp"),
        ("https://GitHub.com/acme/erlmcp/", "github.com", "acme/erlmcp"),
        ("ssh://git@ssh.github.com:443/acme/erlmcp.git", "ssh.github.com", "acme/erlmcp"),
        ("git@github.com:acme/erlmcp.git", "github.com", "acme/erlmcp"),
        ("github.com:acme/erlmcp", "github.com", "acme/erlmcp"),
        ("https://ci:secret@gitlab.example.com:8443/g/s/p.git", "gitlab.example.com", "g/s/p"),
        ("git@[::1]:acme/erlmcp", "::1", "acme/erlmcp"),
        ("/srv/git/erlmcp.git", None, None),
        ("file:///srv/git/erlmcp.git", None, None),
        ("https://github.com/erlmcp", "github.com", None),
        ("https://github.com/acme/../erlmcp", "github.com", None),
        ("https://github.com/acme/erl mcp", "github.com", None),
        ("https://github.com/acme/erlmcp%2Fx", "github.com", None),
        ("https://[::1/acme/erlmcp", None, None),
        ("", None, None),
    ],
)
def test_the_project_of_a_repository(repository: str, host: str | None, project: str | None) -> None:
    assert (host_of(repository), project_of(repository)) == (host, project)


@pytest.mark.parametrize(
    ("repository", "own", "asked", "project"),
    [
        ("https://github.com/Acme/Erlmcp.git", None, None, "acme/erlmcp"),
        ("git@ssh.github.com:acme/erlmcp.git", None, "ACME/erlmcp", "acme/erlmcp"),
        ("https://github.com/acme/erlmcp", "Acme/Renamed", None, "Acme/Renamed"),
        ("/srv/git/erlmcp", "acme/erlmcp", None, "acme/erlmcp"),
        ("/srv/git/erlmcp", None, "acme/erlmcp", "acme/erlmcp"),
    ],
)
def test_the_project_at_github(repository: str, own: str | None, asked: str | None, project: str) -> None:
    assert project_at(GITHUB, repository, own, asked) == project


@pytest.mark.parametrize(
    ("repository", "own", "asked", "reason"),
    [
        ("https://gitlab.com/acme/erlmcp", None, None, "is on gitlab.com, not on github.com"),
        ("https://gitlab.com/acme/erlmcp", "acme/erlmcp", "acme/erlmcp", "is on gitlab.com"),
        ("https://github.com.evil.example/acme/erlmcp", None, None, "is on github.com.evil.example"),
        ("https://github.com/acme/erlmcp", None, "mallory/erlmcp", "that is acme/erlmcp"),
        ("/srv/git/erlmcp", "acme/erlmcp", "mallory/erlmcp", "that is acme/erlmcp"),
        ("/srv/git/erlmcp", None, None, "set the application's `project`"),
        ("/srv/git/erlmcp", "erlmcp", None, "'erlmcp' is no owner/name"),
        ("/srv/git/erlmcp", None, "acme/../../user", "is no owner/name"),
    ],
)
def test_what_is_not_at_github_says_why(
    repository: str, own: str | None, asked: str | None, reason: str
) -> None:
    with pytest.raises(ForeignProjectError, match=reason):
        project_at(GITHUB, repository, own, asked)
