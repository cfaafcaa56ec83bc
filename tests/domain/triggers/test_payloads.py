"""Every real payload is routed right, as it is, and with ``main`` where its authors had ``master``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from domain.triggers import EventIgnoredError, RouteOutcome
from domain.triggers.routing import routes
from tests.domain.triggers.events import NAMES, PAYLOADS, configuration, payload, read

NOT_THIS_BRANCH = "wants branches main; this is master"
NOT_THESE_FILES = "wants a change of apps/**, config/**; this push changes"

AS_THEY_ARE = {
    "github_deployment_review_requested": ("unwanted", "'deployment_review' starts nothing"),
    "github_pull_request_closed_merged": ("ignore", NOT_THIS_BRANCH),
    "github_pull_request_closed_unmerged": ("ignore", NOT_THIS_BRANCH),
    "github_pull_request_opened": ("ignore", NOT_THIS_BRANCH),
    "github_pull_request_reopened": ("ignore", NOT_THIS_BRANCH),
    "github_pull_request_synchronize": ("ignore", NOT_THIS_BRANCH),
    "github_push_branch_created_master": ("ignore", NOT_THIS_BRANCH),
    "github_push_feature_branch_created": ("ignore", "wants branches main; this is feature-branch"),
    "github_push_master_commit": ("ignore", NOT_THIS_BRANCH),
    "github_push_master_paths": ("ignore", NOT_THIS_BRANCH),
    "github_push_tag_created_v0.0.1": ("deployment:erlmcp:production:0.0.1", "d2b75aa7"),
    "github_push_tag_created_v1.0": ("ignore", "wants tags v*.*.*, v*.*.*-*; this is tag v1.0"),
    "github_push_tag_deleted": ("ignore", "tag simple-tag was deleted"),
    "github_release_published": ("unwanted", "'release' starts nothing"),
    "github_workflow_dispatch": ("refuse", "input 'name' is unknown"),
    "gitlab_pull_request_close": ("ignore", NOT_THIS_BRANCH),
    "gitlab_pull_request_create": ("ignore", NOT_THIS_BRANCH),
    "gitlab_pull_request_merge": ("ignore", NOT_THIS_BRANCH),
    "gitlab_push": ("ignore", NOT_THIS_BRANCH),
    "gitlab_push_merge": ("ignore", NOT_THIS_BRANCH),
    "gitlab_tag_create": ("deployment:erlmcp:production:1.0.0", "2adc9465"),
    "gitlab_tag_delete": ("ignore", "tag v1.0.0 was deleted"),
}

INTO_MAIN = {
    "github_pull_request_closed_merged": ("deployment:erlmcp:staging:0.0.0-main.ga216838", "a21683865c"),
    "github_pull_request_closed_unmerged": ("ignore", "2 into main was closed without merging"),
    "github_pull_request_opened": (f"validation:erlmcp:ec26c3e5{'*'}:pull_request", "ec26c3e5"),
    "github_pull_request_reopened": (f"validation:erlmcp:ec26c3e5{'*'}:pull_request", "ec26c3e5"),
    "github_pull_request_synchronize": (f"validation:erlmcp:ec26c3e5{'*'}:pull_request", "ec26c3e5"),
    "github_push_branch_created_master": ("ignore", f"{NOT_THESE_FILES} 'README.md'"),
    "github_push_master_commit": ("ignore", f"{NOT_THESE_FILES} 'README.md'"),
    "github_push_master_paths": ("ignore", f"{NOT_THESE_FILES} 'ksapps/"),
    "gitlab_pull_request_close": ("ignore", "1 into main was closed without merging"),
    "gitlab_pull_request_create": (f"validation:erlmcp:c4c79227{'*'}:pull_request", "c4c79227"),
    "gitlab_pull_request_merge": ("deployment:erlmcp:staging:0.0.0-main.g78a76ee", "78a76ee6"),
    "gitlab_push": ("ignore", f"{NOT_THESE_FILES} 'README.md'"),
    "gitlab_push_merge": ("ignore", f"{NOT_THESE_FILES} 'README.md'"),
}


def led(name: str, body: dict[str, Any]) -> tuple[str, str]:
    """Where a payload leads: the workflow's id and its commit, or the outcome and its reason."""
    try:
        happened = read(name, body)
    except EventIgnoredError as error:
        return "unwanted", error.reason
    (route,) = routes(happened, configuration(happened.project))
    if route.outcome is not RouteOutcome.START:
        return str(route.outcome), route.reason
    assert route.deployment is None or route.validation is None
    if route.deployment is not None:
        return route.deployment.deployment_id, str(route.deployment.commit)
    assert route.validation is not None
    return route.validation.validation_id, route.validation.commit


def assert_led(found: tuple[str, str], expected: tuple[str, str]) -> None:
    start, _, end = expected[0].partition("*")
    assert found[0].startswith(start), found
    assert found[0].endswith(end), found
    assert expected[1] in found[1]


def test_every_payload_is_in_the_table_and_in_the_attribution() -> None:
    assert set(NAMES) == set(AS_THEY_ARE)
    attribution = (PAYLOADS / "README.md").read_text()
    assert [n for n in NAMES if f"| {n}.json |" not in attribution] == []


@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_as_it_is(name: str) -> None:
    assert_led(led(name, payload(name)), AS_THEY_ARE[name])


@pytest.mark.parametrize("name", INTO_MAIN)
def test_where_the_branch_is_main(name: str) -> None:
    text = json.dumps(payload(name))
    body = json.loads(text.replace('"refs/heads/master"', '"refs/heads/main"').replace('"master"', '"main"'))

    assert_led(led(name, body), INTO_MAIN[name])


@pytest.mark.parametrize("name", [n for n in NAMES if AS_THEY_ARE[n][0] != "unwanted"])
def test_the_record_of_the_specification_is_filled(name: str) -> None:
    happened = read(name, payload(name), metadata={"ip_address": "192.0.2.7", "user_agent": "Hookshot/1"})
    record = happened.event

    host = name.partition("_")[0]
    assert record.id == f"{host}:d-1"
    assert record.actor in json.dumps(payload(name))
    assert record.git_ref
    assert record.source == "webhook"
    assert (
        record.type
        == {
            "push": "tag" if happened.tag else "push",
            "pull_request": "pr",
            "workflow_dispatch": "manual",
        }[happened.kind]
    )
    expected = {"delivery": "d-1", "host": host, "project": happened.project, "ip_address": "192.0.2.7"}
    assert expected.items() <= record.metadata.items()
