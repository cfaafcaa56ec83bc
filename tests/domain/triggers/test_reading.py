"""Whatever comes, reading it ends in an event or in one of two errors, and routing it in routes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.triggers import EventIgnoredError, EventUnusableError, RouteOutcome
from domain.triggers.github import read_github
from domain.triggers.gitlab import read_gitlab
from domain.triggers.routing import routes
from domain.validation import Claim
from tests.domain.triggers.events import NAMES, RECEIVED, configuration, event, only, payload, read, routed

READERS = {"github": read_github, "gitlab": read_gitlab}
HEADERS = [
    "push",
    "pull_request",
    "workflow_dispatch",
    "ping",
    "Push Hook",
    "Tag Push Hook",
    "Merge Request Hook",
    "",
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())  # surrogates, too: JSON may have them
    | st.sampled_from(["0" * 40, "a" * 40, "refs/heads/main", "refs/tags/v1.0.0", "opened", "merge"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
WORLD = configuration()


def outcome(host: str, header: str, body: Any) -> str:
    try:
        happened = READERS[host](header, body, delivery="d-1", received=RECEIVED)
    except EventIgnoredError as error:
        assert error.reason
        return "ignored"
    except EventUnusableError as error:
        assert error.reason.isprintable()
        assert len(error.reason) < 500
        return "unusable"
    found = routes(happened, configuration(happened.project))
    assert found
    for route in found:
        assert route.reason
        assert (route.outcome == "start") == (route.deployment is not None or route.validation is not None)
    assert routes(happened, WORLD)
    return "event"


def places(value: Any, prefix: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a JSON value, the deepest ones of addresses and avatars left out."""
    yield prefix
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = [(k, v) for k, v in value.items() if not (isinstance(v, str) and k.endswith("_url"))]
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    for key, inner in pairs:
        yield from places(inner, (*prefix, key))


PLACES = {name: [p for p in places(payload(name)) if p] for name in NAMES}


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_real_payload_with_anything_in_one_place(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    *parents, last = data.draw(st.sampled_from(PLACES[name]))
    body = copy.deepcopy(payload(name))
    inner: Any = body
    for parent in parents:
        inner = inner[parent]
    if data.draw(st.booleans()):
        inner[last] = data.draw(JSON)
    else:
        del inner[last]

    host = name.partition("_")[0]
    for header in (h for h in HEADERS if (" " in h) == (host == "gitlab")):
        outcome(host, header, body)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(header=st.sampled_from(HEADERS) | st.text(), body=JSON)
def test_any_json(header: str, body: Any) -> None:
    for host in READERS:
        assert outcome(host, header, body) in ("ignored", "unusable")


def test_a_payload_of_great_depth() -> None:
    deep: Any = "end"
    for _ in range(100_000):
        deep = [deep]
    for place in ("ref", "repository", "commits", "head_commit", "inputs", "sender"):
        body = {**payload("github_push_master_commit"), place: deep}
        assert outcome("github", "push", body) in ("event", "unusable")
    assert outcome(
        "github", "workflow_dispatch", {**payload("github_workflow_dispatch"), "inputs": {"x": deep}}
    )


@pytest.mark.parametrize(
    ("name", "place", "value", "because"),
    [
        ("github_push_master_commit", "after", "a3c4", "after is 'a3c4', not a commit of 40 hexadecimal"),
        ("github_push_master_commit", "commits", {}, "commits is an object, not a list"),
        ("github_push_master_commit", "commits__0", 7, "commits.0 is 7, not an object"),
        ("github_push_master_commit", "commits__0__added", [None], "commits.0.added.0 is null, not a path"),
        ("github_push_master_commit", "repository__full_name", "../x", "repository.full_name is '../x', not"),
        ("github_push_master_commit", "sender__login", "x" * 300, "sender.login is"),
        ("github_push_master_commit", "ref", "refs/heads/a\nb", "ref is 'refs/heads/a\\nb', not a line"),
        (
            "github_pull_request_opened",
            "pull_request__number",
            True,
            "pull_request.number is true, not a num",
        ),
        ("github_pull_request_closed_merged", "pull_request__merged", "yes", "merged is 'yes', not true or"),
        (
            "github_pull_request_closed_merged",
            "pull_request__merge_commit_sha",
            None,
            "merge_commit_sha is null",
        ),
        ("github_workflow_dispatch", "inputs", {"x": []}, "inputs.x is a list, not a text"),
        ("gitlab_push", "user_username", None, "user_username is null"),
        ("gitlab_pull_request_create", "object_attributes__iid", "1", "object_attributes.iid is '1', not"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_value(name: str, place: str, value: Any, because: str) -> None:
    with pytest.raises(EventUnusableError) as refused:
        event(name, **{place: value})

    assert because in refused.value.reason
    assert "send the payload as the host makes it" in refused.value.reason


def test_a_field_that_is_missing_is_called_so() -> None:
    body = payload("github_push_master_commit")
    del body["repository"]

    with pytest.raises(EventUnusableError, match="repository is missing, not an object"):
        read("github_push", body)


@pytest.mark.parametrize(
    ("name", "changes", "because"),
    [
        (
            "gitlab_pull_request_merge",
            {"object_attributes__merge_commit_sha": None},
            "merged by fast-forward",
        ),
        (
            "gitlab_pull_request_create",
            {"object_attributes__action": "approved"},
            "'approved' starts nothing",
        ),
        ("gitlab_pull_request_create", {"object_attributes__action": None}, "'' starts nothing"),
        ("github_push_master_commit", {"ref": "refs/notes/x"}, "neither a branch nor a tag"),
        ("github_push_master_commit", {"ref": "refs/heads/"}, "neither a branch nor a tag"),
    ],
)
def test_what_nobody_can_want(name: str, changes: dict[str, Any], because: str) -> None:
    with pytest.raises(EventIgnoredError) as ignored:
        event(name, **changes)

    assert because in ignored.value.reason


def test_a_deploy_key_pushes_without_a_sender() -> None:
    body = payload("github_push_master_commit", sender=None, pusher__name="deploy-key-7")

    assert read("github_push", body).event.actor == "deploy-key-7"


def test_a_squashed_merge_request_names_the_squashed_commit() -> None:
    body = payload("gitlab_pull_request_merge", object_attributes__merge_commit_sha=None)
    body["object_attributes"]["squash_commit_sha"] = "b" * 40

    assert read("gitlab_pull_request", body).event.commit_sha == "b" * 40


def test_what_comes_with_the_request_is_kept_short_and_does_not_pass_for_ours() -> None:
    body = payload("github_push_master_commit")
    passed = {"user_agent": "x" * 9000 + "\n", "host": "elsewhere"}

    record = read("github_push", body, metadata=passed).event

    assert len(record.metadata["user_agent"]) == 512
    assert record.metadata["host"] == "github"


# When


@pytest.mark.parametrize(
    ("name", "place", "written", "happened"),
    [
        ("github_pull_request_synchronize", "pull_request", "2026-02-02T11:58:00Z", "11:58"),
        ("github_pull_request_synchronize", "pull_request", "2026-02-02T12:58:00+01:00", "11:58"),
        ("gitlab_pull_request_create", "object_attributes", "2026-02-02 11:58:00 UTC", "11:58"),
        ("gitlab_pull_request_create", "object_attributes", "2026-02-02T11:58:00Z", "11:58"),
        ("gitlab_pull_request_create", "object_attributes", "2026-02-02T11:58:00.123Z", "11:58"),
        ("gitlab_pull_request_create", "object_attributes", "2026-02-02 12:58:00 +0100", "11:58"),
        # Clocks differ a little; a time that is yet to come would make every later event an old one.
        ("github_pull_request_synchronize", "pull_request", "2026-02-02T12:05:00Z", "12:05"),
        ("github_pull_request_synchronize", "pull_request", "2026-02-02T12:05:01Z", "12:00"),
        ("github_pull_request_synchronize", "pull_request", "9999-12-31T23:59:59-12:00", "12:00"),
        # Nobody knows when.
        ("github_pull_request_synchronize", "pull_request", "0001-01-01T00:00:00+14:00", "12:00"),
        ("github_pull_request_synchronize", "pull_request", "2026-02-02T11:58:00", "12:00"),
        ("github_pull_request_synchronize", "pull_request", "2026-02-02", "12:00"),
        ("github_pull_request_synchronize", "pull_request", "yesterday", "12:00"),
        ("github_pull_request_synchronize", "pull_request", "2026-02-02T11:58:00Z" + " " * 4000, "12:00"),
        ("github_pull_request_synchronize", "pull_request", 1769990400, "12:00"),
        ("github_pull_request_synchronize", "pull_request", None, "12:00"),
        ("gitlab_pull_request_create", "object_attributes", {"at": 1}, "12:00"),
    ],
)
def test_a_pull_requests_event_happened_when_its_host_says(
    name: str, place: str, written: object, happened: str
) -> None:
    record = event(name, **{f"{place}__updated_at": written}).event

    assert f"{record.timestamp:%H:%M}" == happened
    assert record.timestamp.utcoffset() == timedelta(0)
    assert record.metadata["received"] == RECEIVED.isoformat()


def test_of_two_commits_of_a_pull_request_the_newer_stays_newer_when_the_older_is_delivered_again() -> None:
    """The host sends the older event again, after the newer one, because we were not there at first."""

    def claimed(commit: str, updated: str, received: datetime) -> Claim:
        body = payload(
            "github_pull_request_synchronize",
            pull_request__head__sha=commit * 40,
            pull_request__base__ref="main",
            pull_request__updated_at=updated,
        )
        happened = read_github("pull_request", body, delivery=commit, received=received)
        validation = only(routed(happened), RouteOutcome.START).validation
        assert validation is not None
        assert validation.event is not None
        assert validation.pull_request is not None
        return Claim(
            validation_id=validation.validation_id,
            application=validation.application,
            project=validation.project,
            pull_request=validation.pull_request,
            asked_at=validation.event.timestamp,
            started_at=received,
        )

    newer = claimed("b", "2026-02-02T11:58:00Z", RECEIVED)
    older = claimed("a", "2026-02-02T11:57:00Z", RECEIVED + timedelta(minutes=30))

    assert older.rivals(newer)
    assert newer.newer_than(older)
    assert not older.newer_than(newer)


def test_a_push_happened_when_it_was_received() -> None:
    assert event("github_push_master_commit").event.timestamp == RECEIVED


def test_links_that_are_none_are_left_out() -> None:
    changed = event("github_push_master_commit", compare="javascript:alert(1)")

    assert "compare_url" not in changed.event.metadata
    assert changed.event.metadata["url"].startswith("https://github.com/")
