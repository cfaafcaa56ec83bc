"""An alert of the monitoring system ends a deployment at once, wherever it has got to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from temporalio.client import WorkflowHandle

from domain.deployment import DeploymentStatus
from sandbox.configuration import APPLICATION
from tests.end_to_end.conftest import StartStory
from tests.end_to_end.story import QUICK, Story, result, states

LONG_STEPS = {"environments": {"production": {"canary": {"step_duration": "60s"}}}}
ALERT = {"name": "HighErrorRate", "severity": "critical"}

Reached = Callable[[DeploymentStatus], bool]


def _at_weight(weight: int) -> Reached:
    return lambda s: s.canary is not None and s.canary.weight == weight and s.canary.phase == "Analysing"


def _promoting(status: DeploymentStatus) -> bool:
    return status.canary is not None and status.canary.phase == "Promoting"


def _monitoring(status: DeploymentStatus) -> bool:
    return status.state == "Monitoring"


MOMENTS: list[tuple[str, Reached, int]] = [
    # the moment, how it is known, canary steps that are promoted by hand on the way there
    ("the step at 10%", _at_weight(10), 0),
    ("the step at 50%", _at_weight(50), 1),
    ("the step at 100%", _at_weight(100), 2),
    ("the promotion", _promoting, 3),
    ("Monitoring", _monitoring, 3),
]


async def _brought_to(story: Story, reached: Reached, promotions: int) -> WorkflowHandle[object, object]:
    handle = await story.start("1.1.0")
    await story.approve(handle)
    for weight in (10, 50, 100)[:promotions]:
        await story.until(handle, _at_weight(weight))
        await handle.signal("promote", {"actor": "operator@example.com"})
    await story.until(handle, reached, every=0.02)
    return handle


@pytest.mark.kubernetes
async def test_an_alert_aborts_in_every_step(start_story: StartStory) -> None:
    # Given a production service, and canary steps that would take a minute each
    async with start_story(times=QUICK, changes=LONG_STEPS) as story:
        assert (await story.deploy("1.0.0")).state == "Completed"
        for moment, reached, promotions in MOMENTS:
            handle = await _brought_to(story, reached, promotions)
            # When an alert comes at that moment, to the deployment
            await handle.signal("alert", ALERT)
            ended = await result(handle)
            # Then it ends as failed by the alert, the canary without traffic, and 1.0.0 serves again
            assert ended.state == "Failed", moment
            assert ended.reason == "alert HighErrorRate (critical)", moment
            assert states(ended)[-2:] == ["RollingBack", "Failed"], moment
            assert ended.canary is not None
            assert ended.canary.weight == 0 or _monitoring_began(ended), moment
            assert ended.rollback is not None
            assert ended.rollback.succeeded, moment
            assert ended.rollback.to_version == "1.0.0", moment
            assert await story.serves() == {"1.0.0"}, moment
        # And an alert to the canary itself is as good
        handle = await _brought_to(story, _at_weight(10), 0)
        canary = story.client.get_workflow_handle(f"canary:{APPLICATION}:production:1.1.0")
        await canary.signal("alert", ALERT)
        ended = await result(handle)
        assert ended.reason == "canary aborted: alert HighErrorRate (critical)"
        assert await story.serves() == {"1.0.0"}


@pytest.mark.kubernetes
async def test_an_alert_of_another_severity_or_too_early_changes_nothing(start_story: StartStory) -> None:
    async with start_story(
        changes={"environments": {"production": {"abort_on_alerts": ["critical"]}}}
    ) as story:
        # Given a deployment that waits for approval
        handle = await story.start("1.0.0")
        await story.until(handle, lambda s: s.approval is not None)
        # When an alert comes: nothing of the version serves yet
        await handle.signal("alert", ALERT)
        await story.approve(handle)
        await story.until(handle, _monitoring)
        # And one that this environment does not abort on
        await handle.signal("alert", {"name": "DiskFilling", "severity": "warning"})
        # Then it completes, and both are in the audit trail as refused
        assert (await result(handle)).state == "Completed"
        refused = [e for e in story.audit() if e.event_type == "deployment.alert"]
        assert [e.status for e in refused] == ["refused", "refused"]


def _monitoring_began(status: DeploymentStatus) -> bool:
    return "Monitoring" in states(status)
