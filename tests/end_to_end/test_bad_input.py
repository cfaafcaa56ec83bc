"""Bad input is refused at the start: the workflow fails with one clear message, and nothing is touched."""

from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from tests.end_to_end.conftest import StartStory

GOOD = {
    "application": "erlsample",
    "environment": "production",
    "version": "1.0.0",
    "actor": "developer@example.com",
}
CASES: list[tuple[dict[str, Any], str, list[str]]] = [
    ({"environment": "prod"}, "deployment:erlsample:prod:1.0.0", ["prod", "production"]),
    ({"application": "other"}, "deployment:other:production:1.0.0", ["other", "erlsample"]),
    ({"version": "v1.0.0"}, "deployment:erlsample:production:v1.0.0", ["version", "v1.0.0", "1.0.0"]),
    ({"version": "latest"}, "deployment:erlsample:production:latest", ["version", "latest"]),
    ({"verison": "1.0.0"}, "deployment:erlsample:production:1.0.0", ["verison", "did you mean version?"]),
    ({"skip_tests": "maybe"}, "deployment:erlsample:production:1.0.0", ["skip_tests", "maybe"]),
    ({"skip_tests": True}, "deployment:erlsample:production:1.0.0", ["skip_tests", "reason"]),
    ({"actor": "  "}, "deployment:erlsample:production:1.0.0", ["actor"]),
    ({"actor": None}, "deployment:erlsample:production:1.0.0", ["actor"]),
    ({}, "somewhere-else", ["somewhere-else", "deployment:erlsample:production:1.0.0"]),
]


async def test_bad_input_fails_at_once_and_touches_nothing(start_story: StartStory) -> None:
    async with start_story() as story:
        for changes, workflow_id, named in CASES:
            # Given a request with one mistake
            # When it is started
            handle = await story.client.start_workflow(
                "DeploymentWorkflow", {**GOOD, **changes}, id=workflow_id, task_queue="deployments"
            )
            # Then the workflow fails, for good, and says what is wrong
            with pytest.raises(WorkflowFailureError) as failure:
                await handle.result()
            cause = failure.value.cause
            assert isinstance(cause, ApplicationError), changes
            assert cause.non_retryable, changes
            for word in named:
                assert word in cause.message, (changes, cause.message)
        # And a missing actor is as clear, and so is no input at all
        for missing in ({k: v for k, v in GOOD.items() if k != "actor"}, None):
            handle = await story.client.start_workflow(
                "DeploymentWorkflow",
                *([] if missing is None else [missing]),
                id="deployment:erlsample:production:1.0.0",
                task_queue="deployments",
            )
            with pytest.raises(WorkflowFailureError) as failure:
                await handle.result()
            assert "actor" in str(failure.value.cause)
        # And nothing was touched
        assert story.proxy.writes == []
        assert story.world.slack.messages == []


async def test_a_version_without_a_tag_fails_in_validation(start_story: StartStory) -> None:
    async with start_story() as story:
        ended = await story.deploy("9.9.9")
        assert ended.state == "Failed"
        assert [str(t.state) for t in ended.history] == ["Pending", "Validation", "Failed"]
        assert "v9.9.9" in (ended.reason or "")
        assert story.proxy.writes == []
