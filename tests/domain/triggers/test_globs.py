"""Globs take whole segments, and nothing more than they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.triggers.globs import fault, matches


@pytest.mark.parametrize(
    ("glob", "taken", "left"),
    [
        ("main", ["main"], ["maintenance", "domain", "Main", "x/main", "main/x", ""]),
        ("feature/*", ["feature/a", "feature/a.b-c"], ["feature/a/b", "feature", "myfeature/a", "feature-x"]),
        ("apps/**", ["apps/x", "apps/x/y.erl", "apps/.hidden"], ["apps", "ksapps/x", "x/apps/y", "apps2/x"]),
        ("**", ["main", "feature/a/b"], []),
        ("**/rebar.config", ["rebar.config", "a/rebar.config", "a/b/rebar.config"], ["xrebar.config"]),
        (
            "apps/**/src/*.erl",
            ["apps/src/a.erl", "apps/x/y/src/a.erl"],
            ["apps/src/a/b.erl", "apps/xsrc/a.erl"],
        ),
        ("*", ["main", ""], ["feature/a"]),
        ("v?.0", ["v1.0"], ["v10.0", "v/.0", "v.0"]),
        ("v*.*.*", ["v1.2.3", "v1.2.3-rc.1", "v1.2.3.4", "v.."], ["v1.0", "1.2.3", "xv1.2.3", "v1.2/3.4"]),
        ("v*.*.*-*", ["v1.2.3-rc.1"], ["v1.2.3"]),
        ("a.b", ["a.b"], ["axb"]),
        ("[a]+(b)", ["[a]+(b)"], ["ab", "a"]),
    ],
)
def test_globs(glob: str, taken: list[str], left: list[str]) -> None:
    assert [t for t in taken if not matches([glob], t)] == []
    assert [t for t in left if matches([glob], t)] == []


def test_what_globs_have_taken_can_be_taken_back_and_given_again() -> None:
    globs = ["v*.*.*", "!v*-*", "v*-rc.*"]

    assert matches(globs, "v3.0.0")
    assert not matches(globs, "v3.0.0-beta.1")
    assert matches(globs, "v3.0.0-rc.1")
    assert not matches(["!main"], "develop"), "nothing was taken"


@pytest.mark.parametrize(
    ("glob", "remedy"),
    [
        ("/apps/**", "apps/**"),
        ("apps/", "apps/**"),
        ("./apps/*", "apps/**"),
        ("", "apps/**"),
        ("**.erl", "**/*.erl"),
        ("apps/x**", "alone"),
        ("!apps//x", "apps/**"),
    ],
)
def test_a_glob_that_cannot_mean_what_was_meant(glob: str, remedy: str) -> None:
    wrong = fault(glob)

    assert wrong is not None
    assert remedy in wrong[1]


@pytest.mark.parametrize("glob", ["main", "feature/*", "apps/**", "**/x", "!docs/**", "**", "v*.*.*"])
def test_a_glob_without_fault(glob: str) -> None:
    assert fault(glob) is None


@given(st.lists(st.text(st.characters(exclude_characters="/*?!"), min_size=1), min_size=1, max_size=4))
def test_text_without_wildcards_takes_itself_alone(segments: list[str]) -> None:
    text = "/".join(segments)

    assert matches([text], text)
    assert matches(["**"], text)
    assert matches(["/".join(["*"] * len(segments))], text)
    assert not matches(["/".join(["*"] * (len(segments) + 1))], text)
    assert not matches([text], text + "x")


def test_a_glob_of_many_stars_ends_soon() -> None:
    assert not matches(["**/*a*/**/*b*/**/*c"], "/".join(["ab"] * 150))
