"""What happens at GitHub and in monitoring reaches deployments: through the receiver, and only once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from domain.merging import overlay
from domain.validation import ValidationStatus
from sandbox.configuration import APPLICATION, APPROVER, DEVELOPER, LOGINS, TECH_LEAD
from sandbox.github import APP_TOKEN
from sandbox.world import RECEIVER_SECRETS
from tests.end_to_end.conftest import StartStory
from tests.end_to_end.project import LOGIN, Project
from tests.end_to_end.slack import BOARD, LEAD, card_of, taken
from tests.end_to_end.story import Story, result
from tests.starters.receiver.senders import alertmanager, alerts

LEAD_LOGIN = LOGINS[TECH_LEAD]
CANARY: dict[str, Any] = {
    "environments": {"production": {"canary": {"step_duration": "60s", "analysis_interval": "1s"}}}
}


def _configuration(blocked: str) -> dict[str, Any]:
    """Few gates and no canary: what is built and how it is rolled out is told elsewhere."""
    lean = {"compliance": "off", "soak_duration": "1s", "canary": None}
    measured = {"test": {"command": ["sh", "-c", f"while [ -e {blocked} ]; do sleep 0.1; done; gates/test"]}}
    return {
        "applications": {
            APPLICATION: {
                # Commits without a tag have a version that no file of theirs can name.
                "build": {"steps": measured, "release": {"artefact": "dist/*.tar.gz"}},
                "workload": {"replicas": 1},
                "overrides": {"staging": {"health": {"version_field": False}}},
            }
        },
        "environments": {
            "staging": {**lean, "required_gates": ["compile", "test"]},
            "production": {**lean, "required_gates": ["compile", "manual_approval"]},
        },
        "triggers": {
            "pr_validation": {
                "trigger": {
                    "event": "pull_request",
                    "types": ["opened", "synchronize", "reopened"],
                    "branches": ["main"],
                },
                "action": "validate_pr",
                "gates": ["compile", "test"],
            }
        },
    }


@pytest.fixture(scope="module")
async def story(start_story: StartStory, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Story]:
    blocked = tmp_path_factory.mktemp("blocked") / "while-this-is-here"
    async with start_story(
        environments=("staging", "production"),
        changes=_configuration(str(blocked)),
        traffic_rate=0,
        github=True,
        variables={"GITHUB_TOKEN": APP_TOKEN, "BLOCKED": str(blocked)},
    ) as story:
        await story.world.start_receiver()
        yield story


@pytest.fixture(scope="module")
def project(story: Story) -> Project:
    return Project(story.world, unpublished=("v1.1.0",))


def answer(response: httpx.Response) -> tuple[int, str, str | None]:
    body = response.json()
    return response.status_code, body["outcome"], body["workflow_id"]


async def test_a_tag_goes_to_production(story: Story, project: Project) -> None:
    # Given the tag of a release, pushed by a developer
    commit = project.push_tag("v1.1.0")
    # When GitHub tells of it
    told = await project.tell_push("refs/tags/v1.1.0", before=None, after=commit, by=LOGIN)
    # Then it is on its way to production, whoever tells of it again
    deployment = f"deployment:{APPLICATION}:production:1.1.0"
    assert answer(told) == (202, "started", deployment), told.text
    assert answer(await project.tell_again()) == (200, "duplicate", deployment)
    # And once the board approves it in Slack it serves
    card = await card_of(story.world, "1.1.0")
    await taken(story.world, await story.world.slack.click(card, "approval_approve", user=BOARD))
    ended = await result(story.handle(deployment))
    assert (ended.state, ended.actor) == ("Completed", DEVELOPER)
    assert ended.built is not None
    assert ended.built.commit == commit
    assert ended.approval is not None
    assert [d.actor for d in ended.approval.received_approvals] == [APPROVER]
    assert await story.serves() == {"1.1.0"}
    # And GitHub may tell of it once more, with another delivery
    told = await project.tell_push("refs/tags/v1.1.0", before=None, after=commit, by=LOGIN)
    assert answer(told) == (200, "duplicate", deployment)


async def test_a_reviewed_pull_request_needs_no_second_approval(story: Story, project: Project) -> None:
    # Given a pull request that the tech lead has approved
    project.push("feature/reviewed")
    pull = project.open("feature/reviewed")
    project.hosted.review(pull, LEAD_LOGIN)
    # When it is merged, of which GitHub tells twice: as a push and as a merge
    merged = project.merge(pull, LOGIN)
    pushed = await project.tell_push("refs/heads/main", before=pull.base_sha, after=merged, by=LOGIN)
    closed = await project.tell_pull_request(pull, "closed")
    # Then one deployment to staging goes on its way
    deployment = f"deployment:{APPLICATION}:staging:0.0.0-main.g{merged[:7]}"
    assert answer(pushed) == (202, "started", deployment), pushed.text
    assert answer(closed) == (200, "duplicate", deployment), closed.text
    # And the review is its approval
    ended = await result(story.handle(deployment))
    assert ended.state == "Completed", ended.reason
    assert ended.approval is not None
    assert [(d.actor, d.source) for d in ended.approval.received_approvals] == [(TECH_LEAD, "github")]
    # And the pull request is kept as the evidence
    [found] = [
        e for e in story.audit() if (e.event_type, e.deployment_id) == ("approval.evidence", deployment)
    ]
    assert (found.status, found.details["pull_request"]["number"]) == ("success", pull.number)


async def test_a_pull_request_without_a_review_waits_for_the_tech_lead(
    story: Story, project: Project
) -> None:
    # Given a pull request that was merged without a review
    project.push("feature/hasty")
    pull = project.open("feature/hasty")
    merged = project.merge(pull, LOGIN)
    # When GitHub tells of the merge
    closed = await project.tell_pull_request(pull, "closed")
    version = f"0.0.0-main.g{merged[:7]}"
    assert closed.status_code == 202, closed.text
    # Then the tech lead is asked
    card = await card_of(story.world, version, "staging")
    await taken(story.world, await story.world.slack.click(card, "approval_approve", user=LEAD))
    ended = await result(story.handle(f"deployment:{APPLICATION}:staging:{version}"))
    assert ended.state == "Completed", ended.reason
    assert ended.approval is not None
    assert [(d.actor, d.source) for d in ended.approval.received_approvals] == [(TECH_LEAD, "slack")]


async def test_pull_requests_are_validated(story: Story, project: Project) -> None:
    # Given a pull request whose tests take their time
    blocked = Path(story.world.variables["BLOCKED"])
    blocked.touch()
    first = project.push("feature/validated")
    pull = project.open("feature/validated")
    opened = await project.tell_pull_request(pull, "opened")
    validation = f"validation:{APPLICATION}:{first}:pull_request"
    assert answer(opened) == (202, "started", validation), opened.text
    # When a newer commit is pushed meanwhile
    second = project.push("feature/validated")
    newer = await project.tell_pull_request(pull, "synchronize")
    assert newer.status_code == 202, newer.text
    # Then the older one gives way
    assert (await _validated(story, first)).state == "Superseded"
    # And the newer one is held against the gates
    blocked.unlink()
    ended = await _validated(story, second)
    assert (ended.state, [g.name for g in ended.gates]) == ("Completed", ["compile", "test"])
    # And GitHub shows both
    shown = {run.head_sha: run.fields for run in project.hosted.check_runs}
    assert shown[first]["conclusion"] == "cancelled"
    assert (shown[second]["name"], shown[second]["conclusion"]) == (
        f"erlmcp-deploy / {APPLICATION}",
        "success",
    )
    # And what comes from a fork does not run here
    foreign = await project.tell_pull_request(pull, "synchronize", by="stranger", fork=True)
    assert answer(foreign) == (200, "ignored", None)
    assert "fork" in foreign.json()["reason"]


async def _validated(story: Story, commit: str) -> ValidationStatus:
    workflow_id = f"validation:{APPLICATION}:{commit}:pull_request"
    handle = story.client.get_workflow_handle(workflow_id, result_type=ValidationStatus)
    ended: ValidationStatus = await handle.result()
    return ended


async def test_tests_are_skipped_by_those_who_may(story: Story, project: Project) -> None:
    form = {"environment": "staging", "version": "1.0.0"}
    # Given a developer who fills in the form of a manual deployment, and wants no tests
    refused = await project.dispatch(LOGIN, **form, skip_tests="true", reason="in a hurry")
    # Then that is refused, as skipping tests takes the role
    assert refused.status_code == 422
    assert "skipping tests in staging needs the role tech_lead" in refused.json()["reason"]
    # When the same developer leaves the tests in, then "false" is false
    started = await project.dispatch(LOGIN, **form, skip_tests="false")
    deployment = f"deployment:{APPLICATION}:staging:1.0.0"
    assert answer(started) == (202, "started", deployment), started.text
    await card_of(story.world, "1.0.0", "staging")
    outcomes = {g.name: str(g.outcome) for g in (await story.status(story.handle(deployment))).gates}
    assert outcomes == {"compile": "passed", "test": "passed"}
    typed = "reject staging 1.0.0 not this one"
    await taken(story.world, await story.world.slack.command("/deploy", typed, user=LEAD))
    assert (await result(story.handle(deployment))).state == "Rejected"
    # When the tech lead does it, with a reason, they are left out
    unreasoned = await project.dispatch(LEAD_LOGIN, **form, skip_tests="true")
    assert "needs a reason" in unreasoned.json()["reason"]
    started = await project.dispatch(LEAD_LOGIN, **form, skip_tests="true", reason="the fix is needed now")
    assert answer(started) == (202, "started", deployment), started.text
    handle = story.handle(deployment)
    status = await story.until(handle, lambda s: s.approval is not None)
    assert {g.name: str(g.outcome) for g in status.gates} == {"compile": "passed", "test": "skipped"}
    await handle.signal("abort", {"actor": TECH_LEAD, "reason": "enough seen"})
    assert (await result(handle)).state == "Failed"


async def test_an_alert_aborts_the_canary(story: Story, project: Project) -> None:
    world = story.world
    # Given 1.0.0 in production, and 1.3.0 on its canary
    assert (await story.deploy("1.0.0")).state == "Completed"
    world.configure(overlay(_configuration(world.variables["BLOCKED"]), CANARY))
    handle = await story.start("1.3.0")
    await story.approve(handle)
    await story.until(handle, lambda s: s.canary is not None and s.canary.weight == 10)
    # When an alert of its namespace fires
    fired = {"alertname": "HighErrorRate", "severity": "critical", "namespace": world.namespace("production")}
    body, url = alerts(fired), f"{world.receiver_url}/webhooks/alertmanager"
    async with httpx.AsyncClient(trust_env=False) as http:
        # Then it is believed only with the bearer token
        forged = await http.post(url, content=body, headers=alertmanager(body, secret="guessed"))
        assert forged.status_code == 401
        headers = alertmanager(body, secret=RECEIVER_SECRETS["ALERTMANAGER_TOKEN"])
        told = await http.post(url, content=body, headers=headers)
    assert answer(told) == (202, "signalled", handle.id), told.text
    # And the canary gets no traffic any more, and 1.0.0 serves
    ended = await result(handle)
    assert (ended.state, ended.reason) == ("Failed", "alert HighErrorRate (critical)")
    assert ended.canary is not None
    assert ended.canary.weight == 0
    assert ended.rollback is not None
    assert ended.rollback.restored
    assert await story.serves() == {"1.0.0"}
    world.configure(_configuration(world.variables["BLOCKED"]))
