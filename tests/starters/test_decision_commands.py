"""``approve``, ``reject`` and ``comment``: decisions are counted, kept or refused, and it is said which."""

from __future__ import annotations

import json

import pytest

from domain.approval import ApprovalState, ApprovalStatus, Verb
from domain.deployment import DeploymentState, DeploymentStatus
from tests.starters.conftest import Eventually
from tests.starters.world import BOB, EVE, CommandLine, World

CARL, MALLORY = "carl@example.com", "mallory@example.com"


@pytest.fixture
async def waiting(cli: CommandLine, world: World, eventually: Eventually) -> CommandLine:
    """Carl's deployment of 1.0.0 to production waits for two of the change board."""
    await cli("deploy", "production", "1.0.0", "--actor", CARL)

    async def pending() -> bool:
        answer = await cli("status", "production", "1.0.0", "--json")
        return bool(json.loads(answer.stdout).get("approval"))

    await eventually(pending)
    return cli


async def test_the_quorum_lets_the_deployment_go_on(waiting: CommandLine) -> None:
    # when one approves
    first = await waiting("approve", "production", "1.0.0", "--actor", BOB, "-m", "tested it myself")

    # then one more is needed
    assert first.exit_code == 0
    assert "approval counted; 1 more needed" in first.stdout
    assert "bob@example.com as change_board" in first.stdout
    assert "tested it myself" in first.stdout

    # when another approves, by the gate's id
    gate = waiting.id_of("approval", "production", "1.0.0", "manual_approval")
    second = await waiting("approve", "--id", gate, "--actor", EVE)

    # then it goes on to the end
    assert "approved; the deployment goes on" in second.stdout
    assert (await waiting("watch", "production", "1.0.0")).exit_code == 0


async def test_a_decision_as_json(waiting: CommandLine) -> None:
    answer = await waiting("reject", "production", "--actor", BOB, "-m", "no", "--json")

    document = json.loads(answer.stdout)
    approval = ApprovalStatus.model_validate(document["approval"])
    assert document["outcome"] == "counted"
    assert approval.state is ApprovalState.REJECTED
    assert [(d.verb, d.actor, d.comment, d.source) for d in approval.received_rejections] == [
        (Verb.REJECT, BOB, "no", "cli")
    ]


async def test_refusals_are_told_with_the_reason_and_exit_code_1(waiting: CommandLine) -> None:
    stranger = await waiting("approve", "production", "1.0.0", "--actor", MALLORY)
    await waiting("approve", "production", "1.0.0", "--actor", BOB)
    again = await waiting("approve", "production", "1.0.0", "--actor", BOB.upper())
    elsewhere = await waiting("approve", "production", "1.0.0", "--gate", "nonsense", "--actor", BOB)
    unknown = await waiting("approve", "production", "9.9.9", "--actor", BOB)

    assert [a.exit_code for a in (stranger, again, unknown)] == [1, 1, 1]
    assert "refused: mallory@example.com holds none of the roles change_board" in stranger.stderr
    assert "refused: BOB@EXAMPLE.COM has approved already; 1 more person(s) needed" in again.stderr
    assert "there is no deployment" in unknown.stderr
    assert elsewhere.exit_code == 1
    assert "there is no gate 'nonsense', but 'manual_approval'" in elsewhere.stderr


async def test_who_asked_for_it_may_not_approve_it(
    cli: CommandLine, world: World, eventually: Eventually
) -> None:
    await cli("deploy", "production", "1.0.0", "--actor", BOB)

    async def refused_as_requester() -> bool:
        answer = await cli("approve", "production", "1.0.0", "--actor", BOB)
        return "bob@example.com asked for this deployment, and may not approve it" in answer.stderr

    await eventually(refused_as_requester)


async def test_a_comment_never_decides(waiting: CommandLine) -> None:
    answer = await waiting("comment", "production", "1.0.0", "--actor", MALLORY, "-m", "is the runbook done?")
    empty = await waiting("comment", "production", "1.0.0")
    blank = await waiting("comment", "production", "1.0.0", "-m", "   ")

    assert answer.exit_code == 0
    assert "comment kept" in answer.stdout
    assert "is the runbook done?" in (await waiting("status", "production", "1.0.0")).stdout
    assert [a.exit_code for a in (empty, blank)] == [2, 2]
    assert all("comment is missing" in a.stderr for a in (empty, blank))


async def test_an_early_approval_is_kept_for_its_gate(cli: CommandLine, world: World) -> None:
    # given a version that waits for its turn, because another one is being watched
    world.monitoring.held.add(f"{cli.application}: monitoring of 1.0.0")
    await cli("approve", "staging", "1.0.0")
    await cli("deploy", "staging", "1.0.0", "--actor", CARL)
    await cli("approve", "staging", "1.0.0", "--actor", BOB)
    await cli("deploy", "staging", "1.1.0", "--actor", CARL)

    # when it is approved before its gate is open
    early = await cli("approve", "staging", "1.1.0", "--actor", BOB, "--json")
    remark = await cli("comment", "staging", "1.1.0", "-m", "hm")

    # then that is said, and it counts when the gate opens
    assert json.loads(early.stdout) == {
        "outcome": "kept",
        "deployment_id": cli.id_of("deployment", "staging", "1.1.0"),
        "state": "Pending",
    }
    assert remark.exit_code == 1
    assert "is not open, so there is nothing to comment on yet" in remark.stderr
    world.monitoring.held.clear()
    final = json.loads((await cli("watch", "staging", "1.1.0", "--json")).stdout)
    assert DeploymentStatus.model_validate(final).state is DeploymentState.COMPLETED
    assert [d["actor"] for d in final["approval"]["received_approvals"]] == [BOB]


async def test_a_decision_after_the_end_is_refused(waiting: CommandLine) -> None:
    await waiting("reject", "production", "1.0.0", "--actor", BOB)
    await waiting("watch", "production", "1.0.0")

    late = await waiting("approve", "production", "1.0.0", "--actor", EVE)

    assert late.exit_code == 1
    assert "has ended already: Rejected (rejected by bob@example.com)" in late.stderr


async def test_pending_lists_what_waits_with_the_time_left(
    waiting: CommandLine, eventually: Eventually
) -> None:
    await waiting("approve", "production", "1.0.0", "--actor", BOB)

    async def listed() -> bool:
        answer = await waiting("pending", "production", "-a", waiting.application, "--json")
        found = [ApprovalStatus.model_validate(a) for a in json.loads(answer.stdout)["pending"]]
        return [a.id for a in found] == [waiting.id_of("approval", "production", "1.0.0", "manual_approval")]

    await eventually(listed)
    table = await waiting("pending", "-a", waiting.application)
    assert table.exit_code == 0
    assert "1 of 2" in table.stdout
    assert "2d 23h" in table.stdout

    # and what is decided waits no longer
    await waiting("approve", "production", "1.0.0", "--actor", EVE)

    async def gone() -> bool:
        return "nothing waits" in (await waiting("pending", "-a", waiting.application)).stdout

    await eventually(gone)
