"""Encrypted payloads: nothing that people write is in Temporal's store in clear, and all goes on as ever."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.worker import Replayer

from domain.approval import ApprovalState
from domain.deployment import DeploymentStatus
from sandbox.temporal import TemporalServer
from tests.starters.world import CommandLine, World, workers
from tests.workflows.conftest import Shop
from workers.composition import WORKFLOWS, workflow_runner
from workflows.confidentiality import (
    ENCRYPTED,
    ENCRYPTION_KEYS,
    ENCRYPTION_REQUIRED,
    KEY_ID,
    REFUSED,
    UnreadablePayloadError,
    generate_key,
)
from workflows.conversion import data_converter_for

OLD, NEW = f"old:{generate_key()}", f"new:{generate_key()}"
SPOKEN = "the-customer-of-the-secret-project"
"""A word that stands in everything people write here."""
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("temporal")


@pytest.fixture(scope="module")
async def server(store: Path) -> AsyncIterator[TemporalServer]:
    async with TemporalServer.start(store, ui=False) as running:
        yield running


async def connected(server: TemporalServer, keys: str = "", *, required: bool = False) -> Client:
    environment = {ENCRYPTION_KEYS: keys, ENCRYPTION_REQUIRED: str(required)}
    return await Client.connect(server.address, data_converter=data_converter_for(environment))


def shop_of(client: Client, world: World, home: Path) -> Shop:
    return Shop(f"shop-{next(_numbers)}", client, world, home)


async def decided(shop: Shop, deployment: WorkflowHandle[Any, Any]) -> None:
    """People talk, one is refused, and two approve."""
    await shop.until(deployment, lambda status: status.approval is not None)
    gate = shop.child("approval", "1.0.0", "manual_approval")
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await gate.execute_update(
            "decide", {"decision": "approve", "actor": f"{SPOKEN}@example.com", "comment": SPOKEN}
        )
    assert isinstance(refused.value.cause, FailureError)
    assert f"{SPOKEN}@example.com holds none of the roles" in refused.value.cause.message
    await gate.signal("comment", {"actor": "ada@example.com", "comment": SPOKEN})
    for actor in ("ada@example.com", "bob@example.com"):
        await deployment.signal("approve", {"actor": actor, "comment": SPOKEN})


async def histories(client: Client, shop: Shop) -> dict[str, bytes]:
    """What the server hands out of every workflow of the shop, with base64 undone."""
    found = {}
    async for listed in client.list_workflows():
        if f":{shop.name}:" in listed.id:
            history = await client.get_workflow_handle(listed.id, run_id=listed.run_id).fetch_history()
            found[listed.id] = b"".join(event.SerializeToString() for event in history.events)
            found[listed.id] += listed.raw_info.SerializeToString()
    return found


async def failed_tasks(handle: WorkflowHandle[Any, Any]) -> list[str]:
    """Why workers could not go on."""
    history = await handle.fetch_history()
    return [
        event.workflow_task_failed_event_attributes.failure.message
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    ]


def on_disk(store: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(store.iterdir()) if path.is_file())


def keys_in(history: bytes) -> set[str]:
    return {name for name in ("old", "new") if KEY_ID.encode() + b"\x12\x03" + name.encode() in history}


async def test_what_people_write_is_nowhere_in_temporal(
    server: TemporalServer, store: Path, tmp_path: Path
) -> None:
    # given that the same deployment without encryption shows it everywhere this test looks
    open_store = tmp_path / "open"
    async with TemporalServer.start(open_store, ui=False) as open_server:
        client = await connected(open_server)
        async with workers(client, tmp_path) as world:
            shop = shop_of(client, world, tmp_path)
            deployment = await shop.start("1.0.0", reason=SPOKEN)
            await decided(shop, deployment)
            await shop.ended(deployment)
            clear = await histories(client, shop)
    assert {
        workflow_id.partition(":")[0] for workflow_id, text in clear.items() if SPOKEN.encode() in text
    } >= {
        "deployment",
        "approval",
    }
    assert SPOKEN.encode() in on_disk(open_store)

    # when it runs with encryption: one that succeeds, and one that fails by a message
    client = await connected(server, NEW)
    async with workers(client, tmp_path) as world:
        shop = shop_of(client, world, tmp_path)
        deployment = await shop.start("1.0.0", reason=SPOKEN)
        await decided(shop, deployment)
        ended = await shop.ended(deployment)
        failed = await shop.start("not a version", reason=SPOKEN)
        with pytest.raises(WorkflowFailureError) as failure:
            await failed.result()
        sealed = await histories(client, shop)

    # then people see what they wrote
    assert ended.approval is not None
    assert ended.approval.state is ApprovalState.APPROVED
    assert {d.comment for d in ended.approval.received_approvals} == {SPOKEN}
    assert isinstance(failure.value.cause, ApplicationError)
    assert (failure.value.cause.type, "not a version" in failure.value.cause.message) == (
        "InvalidInput",
        True,
    )

    # and neither history nor database do
    assert sealed.keys() >= {
        deployment.id,
        failed.id,
        f"approval:{shop.name}:production:1.0.0:manual_approval",
    }
    assert [workflow_id for workflow_id, text in sealed.items() if SPOKEN.encode() in text] == []
    assert SPOKEN.encode() not in on_disk(store)
    # nor any other text of the product but its names
    assert b"approved by" not in b"".join(sealed.values())
    assert b"Traceback" not in b"".join(sealed.values())
    assert b".py" not in b"".join(sealed.values())


async def test_an_encrypted_history_replays_with_its_key_only(server: TemporalServer, tmp_path: Path) -> None:
    client = await connected(server, NEW)
    async with workers(client, tmp_path) as world:
        shop = shop_of(client, world, tmp_path)
        deployment = await shop.start("1.0.0", reason=SPOKEN)
        await shop.approve(deployment)
        await shop.ended(deployment)
    history = await deployment.fetch_history()

    def replayer(keys: str) -> Replayer:
        return Replayer(
            workflows=WORKFLOWS,
            workflow_runner=workflow_runner(),
            data_converter=data_converter_for({ENCRYPTION_KEYS: keys}),
        )

    await replayer(f"{OLD},{NEW}").replay_workflow(history)
    for keys in (OLD, ""):
        with pytest.raises(Exception, match="encrypted with the key 'new'"):
            await replayer(keys).replay_workflow(history)


async def test_keys_are_rotated_and_encryption_is_switched_on_while_a_deployment_runs(
    server: TemporalServer, tmp_path: Path
) -> None:
    # given a deployment that waits for its approval, not encrypted
    client = await connected(server)
    async with workers(client, tmp_path) as world:
        shop = shop_of(client, world, tmp_path)
        deployment = await shop.start("1.0.0")
        await shop.until(deployment, lambda status: status.approval is not None)

    # when the workers come back with a key, and then with another one before it
    for number, keys in enumerate((OLD, f"{NEW},{OLD}")):
        client = await connected(server, keys)
        async with workers(client, tmp_path) as world:
            shop = Shop(shop.name, client, world, tmp_path)
            gate = shop.child("approval", "1.0.0", "manual_approval")
            await gate.execute_update(
                "decide", {"decision": "comment", "actor": "ada@example.com", "comment": f"remark {number}"}
            )
            if number == 1:
                deployment = client.get_workflow_handle(deployment.id, result_type=DeploymentStatus)
                await shop.approve(deployment)
                ended = await shop.ended(deployment)

    # then nothing was lost
    assert ended.state == "Completed"
    assert ended.approval is not None
    assert [d.comment for d in ended.approval.comments] == ["remark 0", "remark 1"]
    assert keys_in((await histories(client, shop))[gate.id]) == {"old", "new"}


async def test_a_worker_without_the_key_leaves_everything_to_one_that_has_it(
    server: TemporalServer, tmp_path: Path
) -> None:
    # given an encrypted deployment that waits, and an approval
    client = await connected(server, NEW)
    async with workers(client, tmp_path) as world:
        shop = shop_of(client, world, tmp_path)
        deployment = await shop.start("1.0.0")
        await shop.until(deployment, lambda status: status.approval is not None)
    await shop.approve(deployment)

    # when workers come that have another key
    async with workers(await connected(server, OLD), tmp_path):
        while not await failed_tasks(deployment):  # noqa: ASYNC110 - the condition lies in another process
            await asyncio.sleep(0.1)

    # then the deployment goes on with the right one
    async with workers(client, tmp_path) as world:
        assert (await shop.ended(deployment)).state == "Completed"

    # and whoever looked at it in between could read why it did not
    assert "encrypted with the key 'new'" in (await failed_tasks(deployment))[0]


async def test_the_command_line_names_the_key_it_lacks(server: TemporalServer, tmp_path: Path) -> None:
    client = await connected(server, NEW)
    async with workers(client, tmp_path) as world:
        shop = shop_of(client, world, tmp_path)
        deployment = await shop.start("1.0.0")
        await shop.until(deployment, lambda status: status.approval is not None)
        cli = CommandLine(server.address, shop.name, tmp_path)

        without = await cli("approve", "production", "1.0.0", **{ENCRYPTION_KEYS: None})
        wrong = await cli("approve", "production", "1.0.0", **{ENCRYPTION_KEYS: OLD})
        broken = await cli("approve", "production", "1.0.0", **{ENCRYPTION_KEYS: "new:c2VjcmV0"})
        right = await cli("approve", "production", "1.0.0", "--json", **{ENCRYPTION_KEYS: f"{NEW},{OLD}"})
        await deployment.terminate()

    assert [answer.exit_code for answer in (without, wrong, broken)] == [1, 1, 2]
    assert "the key 'new', and ERLMCP_DEPLOY_ENCRYPTION_KEYS is not set" in without.stderr
    assert "the key 'new', and ERLMCP_DEPLOY_ENCRYPTION_KEYS has only old" in wrong.stderr
    assert "key 'new' has 6 bytes instead of 32" in broken.stderr
    assert "c2VjcmV0" not in broken.output
    assert right.exit_code == 0
    assert [d["actor"] for d in json.loads(right.stdout)["approval"]["received_approvals"]] == [
        "ada@example.com"
    ]


async def test_where_encryption_is_required_nothing_else_counts(
    server: TemporalServer, tmp_path: Path
) -> None:
    client = await connected(server, NEW, required=True)
    plain = await connected(server)
    async with workers(client, tmp_path) as world:
        shop = shop_of(client, world, tmp_path)

        # when a deployment is asked for in clear, then the sender can read why it is refused
        refused = await plain.start_workflow(
            "DeploymentWorkflow",
            {"application": shop.name, "environment": "dev", "version": "1.0.0", "actor": "ada@example.com"},
            id=f"deployment:{shop.name}:dev:1.0.0",
            task_queue="deployments",
        )
        with pytest.raises(WorkflowFailureError) as failure:
            await refused.result()
        assert isinstance(failure.value.cause, ApplicationError)
        assert failure.value.cause.type == "InvalidInput"
        assert "ERLMCP_DEPLOY_ENCRYPTION_REQUIRED is true" in failure.value.cause.message

        # when decisions are sent in clear, then they do not count and stop nothing
        deployment = await shop.start("1.0.0")
        await shop.until(deployment, lambda status: status.approval is not None)
        for actor in ("ada@example.com", "bob@example.com"):
            await plain.get_workflow_handle(deployment.id).signal("approve", {"actor": actor})
        gate = plain.get_workflow_handle(f"approval:{shop.name}:production:1.0.0:manual_approval")
        with pytest.raises(WorkflowUpdateFailedError, match="Workflow update failed") as unheard:
            await gate.execute_update("decide", {"decision": "approve", "actor": "ada@example.com"})
        assert isinstance(unheard.value.cause, FailureError)
        assert "ERLMCP_DEPLOY_ENCRYPTION_REQUIRED is true" in str(unheard.value.cause.cause)
        await shop.approve(deployment, "ada@example.com", "eve@example.com")
        ended = await shop.ended(deployment)

    assert ended.state == "Completed"
    assert ended.approval is not None
    assert [d.actor for d in ended.approval.received_approvals] == ["ada@example.com", "eve@example.com"]


NOT_ENCRYPTED = RawValue(Payload(metadata={"encoding": ENCRYPTED}, data=b'"x"'))
"""What the stock command line makes of ``--input-meta encoding=binary/encrypted``."""


@pytest.mark.parametrize("keys", ["", NEW], ids=["without keys", "with keys"])
async def test_what_nobody_can_read_is_refused_and_stops_nothing(
    server: TemporalServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, keys: str
) -> None:
    client = await connected(server, keys)
    strangers: list[tuple[Client, Any]] = [(await connected(server), NOT_ENCRYPTED)]
    if keys:  # another key goes by that id elsewhere
        strangers.append((await connected(server, f"new:{generate_key()}"), {"actor": "x@example.com"}))
    async with workers(client, tmp_path) as world:
        shop = shop_of(client, world, tmp_path)
        deployment = await shop.start("1.0.0")
        await shop.until(deployment, lambda status: status.approval is not None)
        gate = shop.child("approval", "1.0.0", "manual_approval")

        for stranger, said in strangers:
            # when somebody signals it, then the signal is dropped
            await stranger.get_workflow_handle(deployment.id).signal("pause", said)
            # an update is refused
            with pytest.raises(WorkflowUpdateFailedError) as unheard:
                await stranger.get_workflow_handle(gate.id).execute_update("decide", said)
            assert isinstance(unheard.value.cause, FailureError)
            assert "it is encrypted" in str(unheard.value.cause.cause)
            # and a deployment that is asked for so fails, and says why
            refused = await stranger.start_workflow(
                "DeploymentWorkflow",
                said,
                id=f"deployment:{shop.name}:dev:{next(_numbers)}",
                task_queue="deployments",
            )
            with pytest.raises(WorkflowFailureError) as failure:
                await refused.result()
            assert isinstance(failure.value.cause, ApplicationError)
            assert failure.value.cause.type == "InvalidInput"
            assert "it is encrypted" in failure.value.cause.message
            assert await failed_tasks(client.get_workflow_handle(refused.id)) == []

        # then the next word is obeyed
        await deployment.signal("abort", {"actor": "ada@example.com", "reason": "stop at once"})
        ended = await shop.until(deployment, lambda status: status.state.final)

    assert ended.state == "Failed"
    assert "stop at once" in ended.model_dump_json()
    assert "pause" in caplog.text
    assert await failed_tasks(deployment) == []


@pytest.mark.parametrize("keys", ["", f"{NEW},"], ids=["without keys", "with keys"])
async def test_a_signal_under_a_lost_key_waits_until_its_id_is_known_and_is_dropped_then(
    server: TemporalServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, keys: str
) -> None:
    # given a deployment that a signal under a key holds up that nobody has
    client = await connected(server, keys)
    stranger = await connected(server, f"lost:{generate_key()}")
    async with workers(client, tmp_path) as world:
        shop = shop_of(client, world, tmp_path)
        deployment = await shop.start("1.0.0")
        await shop.until(deployment, lambda status: status.approval is not None)
        await stranger.get_workflow_handle(deployment.id).signal("pause", {"actor": "x@example.com"})
        await deployment.signal("abort", {"actor": "ada@example.com", "reason": "stop at once"})
        while not await failed_tasks(deployment):  # noqa: ASYNC110 - the condition lies in another process
            await asyncio.sleep(0.1)
    assert "encrypted with the key 'lost'" in (await failed_tasks(deployment))[0]

    # when the workers come back with a new key under its id
    client = await connected(server, f"{keys}lost:{generate_key()}")
    async with workers(client, tmp_path) as world:
        shop = Shop(shop.name, client, world, tmp_path)
        deployment = client.get_workflow_handle(deployment.id, result_type=DeploymentStatus)
        ended = await shop.until(deployment, lambda status: status.state.final)

    # then the signal is dropped, and the next one obeyed
    assert "signal input for pause" in caplog.text
    assert "stop at once" in ended.model_dump_json()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({ENCRYPTION_KEYS: "a"}, "an entry is not ID:KEY"),
        ({ENCRYPTION_KEYS: "a:c2VjcmV"}, "the key 'a' is not base64"),
        ({ENCRYPTION_KEYS: "a:c2VjcmV0"}, "key 'a' has 6 bytes instead of 32"),
        ({ENCRYPTION_KEYS: f"{OLD},{OLD}"}, "key id 'old' is there twice"),
        ({ENCRYPTION_KEYS: OLD.replace("old", "o d")}, "an entry is not ID:KEY"),
        ({ENCRYPTION_KEYS: OLD.partition(":")[2]}, "an entry is not ID:KEY"),
        ({ENCRYPTION_KEYS: ","}, "there is no key"),
        ({ENCRYPTION_REQUIRED: "true"}, "is true and ERLMCP_DEPLOY_ENCRYPTION_KEYS is not set"),
        ({ENCRYPTION_REQUIRED: "yes"}, "write true or false"),
    ],
)
def test_unusable_settings_are_named_and_never_shown(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        data_converter_for(environment)

    assert "c2Vjcm" not in str(raised.value)
    assert OLD.partition(":")[2] not in str(raised.value)


async def test_a_payload_that_was_changed_is_not_read() -> None:
    converter = data_converter_for({ENCRYPTION_KEYS: f"{NEW},{OLD}"})
    [payload] = await converter.encode([{"a": 1}])
    assert await converter.decode([payload]) == [{"a": 1}]
    assert json.dumps({"a": 1}).encode() not in payload.data

    named_otherwise = {**payload.metadata, KEY_ID: b"old"}
    for changed in (
        Payload(metadata=payload.metadata, data=payload.data[:-1] + bytes([payload.data[-1] ^ 1])),
        Payload(metadata=payload.metadata, data=payload.data[:12]),
        Payload(metadata=payload.metadata),
        Payload(metadata=named_otherwise, data=payload.data),
        Payload(metadata={"encoding": ENCRYPTED}, data=payload.data),
        Payload(metadata={**payload.metadata, KEY_ID: b"\xff"}, data=payload.data),
    ):
        with pytest.raises(UnreadablePayloadError, match=r"it is encrypted.* is not"):
            await converter.decode([changed])


async def test_nobody_else_sets_the_mark_of_what_is_refused() -> None:
    said = "<b>read me</b>"
    forged = Payload(metadata={"encoding": REFUSED}, data=said.encode())

    with pytest.raises(UnreadablePayloadError) as raised:
        await data_converter_for({}).decode([forged])

    assert said not in str(raised.value)


async def test_the_same_value_never_looks_the_same() -> None:
    converter = data_converter_for({ENCRYPTION_KEYS: NEW})

    first, second = await converter.encode(["yes", "yes"])

    assert first.data != second.data
