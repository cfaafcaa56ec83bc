"""Versions: SemVer that a Kubernetes label can hold."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.version import commit_prefix, commit_version, is_breaking, is_newer, parse_version

_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


@pytest.mark.parametrize(
    "text", ["3.0.0", "0.0.1", "1.2.3-rc.1", "10.20.30-alpha-1.x", "0.0.0-main.g1a2b3c4"]
)
def test_accepted(text: str) -> None:
    assert str(parse_version(text)) == text
    assert _LABEL.fullmatch(text)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("v3.0.0", "write 3.0.0"),
        ("v9", "write for example"),
        ("1.0", "write for example"),
        ("1.2.3.4", "write for example"),
        ("01.2.3", "write for example"),
        ("1.0.0+build", "build metadata"),
        ("1.0.0-" + "a" * 60, "longer than"),
        ("1.0.0-rc-", "dash"),
        ("1.0.0\n", "write for example"),
        ("1.0.٣", "write for example"),
        ("latest", "write for example"),
        ("", "write for example"),
        ("1.0.0; rm -rf /", "write for example"),
    ],
)
def test_refused_with_a_remedy(text: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=re.escape(remedy)):
        parse_version(text)


@given(st.text(max_size=80), st.text(alphabet="0123456789abcdefABCDEF", min_size=7, max_size=40))
def test_every_branch_makes_a_version_that_names_its_commit(branch: str, sha: str) -> None:
    version = commit_version(branch, sha)

    parse_version(version)
    assert _LABEL.fullmatch(version)
    assert commit_prefix(version) == sha[:7].lower()


def test_the_design_s_example() -> None:
    assert commit_version("feature/login", "1a2b3c4d5e6f") == "0.0.0-feature-login.g1a2b3c4"
    assert commit_prefix("3.0.0") is None


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0.0-rc.1", "1.0.0"),
        ("1.9.0", "1.10.0"),
        ("1.0.0-rc.2", "1.0.0-rc.10"),
        ("0.0.0-main.g1234567", "0.0.1"),
    ],
)
def test_order(older: str, newer: str) -> None:
    assert is_newer(newer, older)
    assert not is_newer(older, newer)
    assert not is_newer(newer, newer)


@pytest.mark.parametrize(
    ("version", "previous", "breaking"),
    [
        ("2.0.0", "1.9.9", True),
        ("1.9.0", "1.8.0", False),
        ("0.2.0", "0.1.9", True),
        ("0.1.10", "0.1.9", False),
        ("1.0.0", "0.9.0", True),
        ("1.0.0", "2.0.0", False),
    ],
)
def test_breaking(version: str, previous: str, breaking: bool) -> None:
    assert is_breaking(version, previous) is breaking
