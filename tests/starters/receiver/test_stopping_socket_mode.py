"""A stop while somebody's click came by Socket Mode: what has begun is finished."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import yaml
from slack_sdk.web.async_client import AsyncWebClient
from temporalio.client import Client

from domain.approval import DecisionMessage
from sandbox.slack import APP_TOKEN, BOT_TOKEN, SlackServer, SlackUser
from sandbox.temporal import TemporalServer
from tests.starters.receiver.conftest import Shop
from tests.starters.receiver.processes import serving, variables
from tests.starters.slack.conftest import signals_of
from tests.starters.world import ADA

ANNA = SlackUser(id="U1ADA", email=ADA, name="Ada")


async def test_a_click_that_has_come_is_a_decision_although_the_receiver_stops(
    server: TemporalServer, client: Client, own_shop: Shop, version: str, tmp_path: Path
) -> None:
    async with SlackServer.start(users=[ANNA]) as slack:
        described = yaml.safe_load(own_shop.configuration.read_text())
        described.setdefault("notification_channels", {})["slack"] = {"api_url": slack.api_url}
        own_shop.configuration.write_text(yaml.safe_dump(described))
        tokens = {"SLACK_BOT_TOKEN": BOT_TOKEN, "SLACK_APP_TOKEN": APP_TOKEN}
        environment = variables(server.address, own_shop.configuration, tokens)
        async with serving(environment, tmp_path / "receiver.log") as (process, _):
            await slack.wait_for_connections(1)
            # given a card that waits for a decision
            approval = await client.start_workflow(
                "Waiting",
                id=f"approval:{own_shop.application}:production:{version}:manual_approval",
                task_queue="nobody-works-here",
            )
            value = json.dumps({"approval_id": approval.id, "gate": "manual_approval"})
            text = {"type": "plain_text", "text": "Approve"}
            button = {"type": "button", "action_id": "approval_approve", "value": value, "text": text}
            await AsyncWebClient(token=BOT_TOKEN, base_url=slack.api_url).chat_postMessage(
                channel="approvals", text="?", blocks=[{"type": "actions", "elements": [button]}]
            )

            # when somebody clicks, and the receiver has to stop while it asks Slack who that is
            slack.latency = 0.6
            click = asyncio.create_task(slack.click(slack.messages[-1], "approval_approve", user=ANNA))
            while not any(method == "users.info" for method, _ in slack.calls):
                assert not click.done()
                await asyncio.sleep(0.01)
            os.kill(process.pid, signal.SIGTERM)

            # then the click counts, Slack hears of it, and the process ends well
            assert (await click).acknowledged
            assert await process.wait() == 0
        assert len(await signals_of(approval, DecisionMessage)) == 1
        await approval.terminate()
