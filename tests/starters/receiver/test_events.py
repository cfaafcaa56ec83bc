"""Events of Git hosts become deployments and validations, each started once."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import SearchAttributeKey
from temporalio.worker import Worker

from domain.deployment import DeploymentRequest, DeploymentState
from domain.events import EventSource
from domain.validation import ValidationKind, ValidationRequest
from sandbox.temporal import TemporalServer
from starters.connection import DEPLOYMENTS_QUEUE
from tests.starters.receiver.conftest import Receiver, Shop, receiving
from tests.starters.receiver.senders import (
    branch_pushed,
    github,
    gitlab,
    pull_request,
    pushed_anew,
    tag_pushed,
    tag_pushed_to_gitlab,
)

COMMIT = "1a2b3c4d5e6f708192a3b4c5d6e7f80910111213"


async def input_of(client: Client, workflow_id: str) -> dict[str, Any]:
    """What a workflow was started with."""
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    payloads = history.events[0].workflow_execution_started_event_attributes.input
    (value,) = await client.data_converter.decode(payloads.payloads)
    return dict(value)


async def runs_of(client: Client, workflow_id: str) -> int:
    """How many runs an id has had; the server shows them a moment later, the last one first."""
    last = (await client.get_workflow_handle(workflow_id).describe()).run_id
    while True:
        runs = [e.run_id async for e in client.list_workflows(f"WorkflowId = '{workflow_id}'")]
        if last in runs:
            return len(runs)
        await asyncio.sleep(0.05)


# Starting


async def test_a_tag_at_github_starts_a_deployment_to_production(
    receiver: Receiver, client: Client, shop: Shop, version: str
) -> None:
    body = tag_pushed(shop.project, f"v{version}")

    answer = await receiver.post("github", body, github(body, delivery=f"d-{version}"))

    # then the answer names workflow and rule
    workflow_id = shop.deployment("production", version)
    assert answer.status_code == 202
    assert answer.json() == {
        "outcome": "started",
        "workflow_id": workflow_id,
        "rule": "production_release",
        "reason": f"rule production_release deploys {version} to production",
    }
    # and the run knows where it comes from
    described = await client.get_workflow_handle(workflow_id).describe()
    assert described.workflow_type == "DeploymentWorkflow"
    assert described.task_queue == DEPLOYMENTS_QUEUE
    assert await described.memo() == {
        "delivery": f"github:d-{version}",
        "body": hashlib.sha256(body).hexdigest(),
    }
    request = DeploymentRequest.model_validate(await input_of(client, workflow_id))
    assert request.deployment_id == workflow_id
    assert request.event is not None
    assert request.event.source is EventSource.WEBHOOK
    assert request.event.metadata["ip_address"] == "127.0.0.1"
    assert request.event.metadata["user_agent"] == "GitHub-Hookshot/test"


async def test_a_tag_at_gitlab_does_too(receiver: Receiver, client: Client, shop: Shop, version: str) -> None:
    body = tag_pushed_to_gitlab(shop.project, f"v{version}")

    answer = await receiver.post("gitlab", body, gitlab(body, delivery=f"d-{version}"))

    assert answer.status_code == 202
    workflow_id = shop.deployment("production", version)
    assert answer.json()["workflow_id"] == workflow_id
    described = await client.get_workflow_handle(workflow_id).describe()
    assert await described.memo() == {"delivery": f"gitlab:d-{version}"}


async def test_a_pull_request_starts_a_validation(receiver: Receiver, client: Client, shop: Shop) -> None:
    body = pull_request(shop.project, commit=COMMIT)

    answer = await receiver.post("github", body, github(body, event="pull_request"))

    assert answer.status_code == 202
    workflow_id = f"validation:{shop.application}:{COMMIT}:pull_request"
    assert answer.json()["workflow_id"] == workflow_id
    request = ValidationRequest.model_validate(await input_of(client, workflow_id))
    assert request.kind is ValidationKind.PULL_REQUEST
    assert request.commit == COMMIT


async def test_one_repository_of_several_applications_starts_them_all(
    server: TemporalServer, client: Client, own_shop: Shop, version: str
) -> None:
    # given a second application that is built from the same repository
    described = own_shop.configuration.read_text()
    block = described[described.index(f"  {own_shop.application}:") : described.index("gates:")]
    second = block.replace(f"  {own_shop.application}:", f"  {own_shop.application}-too:")
    own_shop.configuration.write_text(described.replace(block, block + second))
    body = tag_pushed(own_shop.project, f"v{version}")

    async with receiving(server.address, own_shop.configuration) as receiver:
        answer = await receiver.post("github", body, github(body))

    assert answer.status_code == 202
    document = answer.json()
    wanted = [f"deployment:{own_shop.application}{s}:production:{version}" for s in ("", "-too")]
    assert document["workflow_id"] == wanted[0]
    assert document["started"] == [{"workflow_id": w, "rule": "production_release"} for w in wanted]
    for workflow_id in wanted:
        described_run = await client.get_workflow_handle(workflow_id).describe()
        assert described_run.status is WorkflowExecutionStatus.RUNNING


# Nothing to start


async def test_an_event_that_no_rule_wants_is_answered_with_the_rule_that_came_closest(
    receiver: Receiver, shop: Shop
) -> None:
    body = branch_pushed(shop.project, "main", commit=COMMIT, path="README.md")

    answer = await receiver.post("github", body, github(body))

    assert answer.status_code == 200
    assert answer.json()["outcome"] == "ignored"
    assert answer.json()["workflow_id"] is None
    assert answer.json()["rule"] == "staging_deployment"
    assert answer.json()["reason"]


async def test_an_event_of_a_foreign_repository_says_what_to_configure(
    receiver: Receiver, version: str
) -> None:
    body = tag_pushed("somebody/else", f"v{version}")

    answer = await receiver.post("github", body, github(body))

    assert answer.status_code == 200
    assert "somebody/else" in answer.json()["reason"]


@pytest.mark.parametrize("event", ["ping", "release", "star"])
async def test_an_event_of_no_interest_is_none(receiver: Receiver, event: str) -> None:
    answer = await receiver.post("github", b"{}", github(b"{}", event=event))

    assert answer.status_code == 200
    assert answer.json()["outcome"] == "ignored"


async def test_an_edited_configuration_counts_for_the_next_event(
    server: TemporalServer, own_shop: Shop, version: str
) -> None:
    async with receiving(server.address, own_shop.configuration) as receiver:
        # given tags that no release has
        described = own_shop.configuration.read_text()
        own_shop.configuration.write_text(described + "\ntriggers: {production_release: null}\n")
        body = tag_pushed(own_shop.project, f"v{version}")
        assert (await receiver.post("github", body, github(body))).status_code == 200

        # when a mistake is made in the next edit, then the one before it counts, and that is told
        own_shop.configuration.write_text(described + "\ntriggers: [\n")
        assert (await receiver.post("github", body, github(body))).status_code == 200
        ready = await receiver.http.get("/readyz")
        assert ready.status_code == 200
        assert "1 mistake(s)" in ready.json()["warnings"][0]
        metrics = (await receiver.http.get("/metrics")).text
        assert "erlmcp_deploy_receiver_configuration_current 0.0" in metrics

        # and when it is corrected, it counts
        own_shop.configuration.write_text(described)
        assert (await receiver.post("github", body, github(body))).status_code == 202
        assert (await receiver.http.get("/readyz")).json()["warnings"] == []


# Once


async def test_a_delivery_that_is_sent_again_starts_nothing(
    receiver: Receiver, client: Client, shop: Shop, version: str
) -> None:
    body = tag_pushed(shop.project, f"v{version}")
    headers = github(body)
    first = await receiver.post("github", body, headers)

    again = await receiver.post("github", body, headers)

    assert first.status_code == 202
    assert again.status_code == 200
    assert again.json()["outcome"] == "duplicate"
    assert again.json()["workflow_id"] == first.json()["workflow_id"]
    assert await runs_of(client, first.json()["workflow_id"]) == 1


async def test_another_event_for_what_runs_already_starts_nothing(
    receiver: Receiver, client: Client, shop: Shop, version: str
) -> None:
    body = tag_pushed(shop.project, f"v{version}")
    first = await receiver.post("github", body, github(body))

    other = await receiver.post("github", body, github(body))

    assert other.status_code == 200
    assert other.json()["outcome"] == "duplicate"
    assert await runs_of(client, first.json()["workflow_id"]) == 1


async def test_what_failed_is_started_by_a_new_event_and_not_by_the_old_one(
    server: TemporalServer, client: Client, shop: Shop, version: str
) -> None:
    body = tag_pushed(shop.project, f"v{version}")
    anew_body = pushed_anew(body)
    first, second = github(body), github(anew_body)
    workflow_id = shop.deployment("production", version)

    # given a deployment that ended without success
    async with receiving(server.address, shop.configuration) as receiver:
        assert (await receiver.post("github", body, first)).status_code == 202
    await client.get_workflow_handle(workflow_id).terminate()

    # when its event is delivered again, to a receiver that remembers nothing
    async with receiving(server.address, shop.configuration) as receiver:
        again = await receiver.post("github", body, first)
        assert again.status_code == 200
        assert again.json()["outcome"] == "duplicate"

        # and when the tag is pushed again
        anew = await receiver.post("github", anew_body, second)
        assert anew.status_code == 202

    described = await client.get_workflow_handle(workflow_id).describe()
    assert described.status is WorkflowExecutionStatus.RUNNING
    assert await described.memo_value("delivery") == f"github:{second['X-GitHub-Delivery']}"


@workflow.defn(name="DeploymentWorkflow", sandboxed=False)
class EndsAtOnce:
    """Ends in the state that its version's last part stands for, as the product's workflow shows it."""

    @workflow.run
    async def run(self, request: dict[str, Any]) -> None:
        state = DeploymentState.FAILED if request["version"].endswith(".9") else DeploymentState.COMPLETED
        key = SearchAttributeKey.for_keyword("DeploymentState")
        workflow.upsert_search_attributes([key.value_set(state)])


async def test_what_completed_is_not_deployed_again_by_another_event_and_what_failed_is(
    tmp_path: Path, own_shop: Shop
) -> None:
    completed, failed = (tag_pushed(own_shop.project, f"v3.0.{last}") for last in (0, 9))
    async with TemporalServer.start(tmp_path / "temporal", ui=False) as server:
        client = await server.client()
        async with receiving(server.address, own_shop.configuration) as receiver:
            # given deployments that have ended
            async with Worker(client, task_queue=DEPLOYMENTS_QUEUE, workflows=[EndsAtOnce]):
                for body in (completed, failed):
                    first = await receiver.post("github", body, github(body))
                    assert first.status_code == 202
                    await client.get_workflow_handle(first.json()["workflow_id"]).result()

            # when other events ask for the same
            completed, failed = pushed_anew(completed), pushed_anew(failed)
            after_completed = await receiver.post("github", completed, github(completed))
            after_failed = await receiver.post("github", failed, github(failed))

    assert after_completed.status_code == 200
    assert after_completed.json()["outcome"] == "duplicate"
    assert after_failed.status_code == 202
    assert after_failed.json()["outcome"] == "started"


async def test_two_receivers_that_get_one_event_at_the_same_time_start_it_once(
    server: TemporalServer, client: Client, shop: Shop, version: str
) -> None:
    body = tag_pushed(shop.project, f"v{version}")
    async with (
        receiving(server.address, shop.configuration) as one,
        receiving(server.address, shop.configuration) as other,
    ):
        answers = await asyncio.gather(
            *(r.post("github", body, github(body)) for r in (one, other) for _ in range(10))
        )

    assert sorted(a.status_code for a in answers) == [200] * 19 + [202]
    assert await runs_of(client, shop.deployment("production", version)) == 1


async def test_what_is_started_and_what_is_not_is_counted(
    server: TemporalServer, shop: Shop, version: str
) -> None:
    body = tag_pushed(shop.project, f"v{version}")
    headers = github(body)
    async with receiving(server.address, shop.configuration) as receiver:
        await receiver.post("github", body, headers)
        await receiver.post("github", body, headers)
        await receiver.post("github", body, github(body, secret="guessed"))
        await receiver.http.get("/somewhere?else")
        metrics = (await receiver.http.get("/metrics")).text.splitlines()

    for line in (
        'erlmcp_deploy_receiver_requests_total{endpoint="github",status="202"} 1.0',
        'erlmcp_deploy_receiver_requests_total{endpoint="github",status="200"} 1.0',
        'erlmcp_deploy_receiver_requests_total{endpoint="github",status="401"} 1.0',
        'erlmcp_deploy_receiver_requests_total{endpoint="unknown",status="404"} 1.0',
        'erlmcp_deploy_receiver_request_seconds_count{endpoint="github"} 3.0',
        'erlmcp_deploy_receiver_signatures_refused_total{endpoint="github"} 1.0',
        'erlmcp_deploy_receiver_duplicates_total{endpoint="github"} 1.0',
        'erlmcp_deploy_receiver_started_total{endpoint="github"} 1.0',
        "erlmcp_deploy_receiver_temporal_seconds_count 1.0",
        "erlmcp_deploy_receiver_temporal_unavailable_total 0.0",
        "erlmcp_deploy_receiver_in_flight 1.0",
        "erlmcp_deploy_receiver_configuration_current 1.0",
    ):
        assert line in metrics, line


async def test_the_signed_bytes_of_a_failed_deployment_start_it_no_second_time(
    server: TemporalServer, receiver: Receiver, client: Client, shop: Shop, version: str
) -> None:
    # given a deployment that has failed, and somebody who kept the request that started it
    body = tag_pushed(shop.project, f"v{version}")
    kept = github(body, delivery=f"first-{version}")
    workflow_id = (await receiver.post("github", body, kept)).json()["workflow_id"]
    await client.get_workflow_handle(workflow_id).terminate()

    # when it is sent again under another delivery id, which no signature covers, also to another receiver
    forged = {**kept, "X-GitHub-Delivery": f"forged-{version}"}
    async with receiving(server.address, shop.configuration) as another:
        answers = [await one.post("github", body, forged) for one in (receiver, another)]

    # then nothing is started, while what GitHub signs anew asks again
    assert [(a.status_code, a.json()["outcome"]) for a in answers] == [(200, "duplicate")] * 2
    anew = pushed_anew(body)
    answer = await receiver.post("github", anew, github(anew))
    assert answer.status_code == 202
    await client.get_workflow_handle(workflow_id).terminate()


async def test_a_tag_that_is_pushed_anew_to_gitlab_asks_again_with_the_same_bytes(
    receiver: Receiver, client: Client, shop: Shop, version: str
) -> None:
    body = tag_pushed_to_gitlab(shop.project, f"v{version}")
    first = await receiver.post("gitlab", body, gitlab(body))
    await client.get_workflow_handle(first.json()["workflow_id"]).terminate()

    again = await receiver.post("gitlab", body, gitlab(body))

    assert (first.status_code, again.status_code) == (202, 202)
    await client.get_workflow_handle(first.json()["workflow_id"]).terminate()
