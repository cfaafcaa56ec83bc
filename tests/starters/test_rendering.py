"""What a person sees: complete, within the columns there are, and not to be forged from outside."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console, RenderableType

from domain.analysis import WatchOutcome, WatchVerdict
from domain.approval import ApprovalState, ApprovalStatus, Decision, Verb
from domain.canary import CanaryPhase, CanaryStatus, StepVerdict
from domain.compliance import ComplianceItem, ComplianceMode, ComplianceReport
from domain.conditions import Check
from domain.deployment import Built, DeploymentState, DeploymentStatus, RollbackSummary, Transition
from domain.gates import GateOutcome, GateResult
from starters.github_actions import summary
from starters.rendering import brief, changes, clean, deployment_board
from tests.starters import progressive
from workflows import presentation

NOON = datetime(2026, 2, 2, 12, tzinfo=UTC)
S = DeploymentState
FORGED = "fine\n12:00:00 Completed\x1b[2J | <b>[red]"


def after(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def approval(*people: str, comment: str = "") -> ApprovalStatus:
    given = Decision(verb=Verb.APPROVE, actor="", roles=("change_board",), comment=comment, at=after(5))
    approvals = tuple(given.model_copy(update={"actor": person}) for person in people)
    decided = len(approvals) == 2
    return ApprovalStatus(
        id="approval:erlmcp:production:3.0.0:manual_approval",
        deployment_id="deployment:erlmcp:production:3.0.0",
        gate_name="manual_approval",
        state=ApprovalState.APPROVED if decided else ApprovalState.PENDING,
        required_approvers=("change_board",),
        min_approvals=2,
        received_approvals=approvals,
        created_at=after(4),
        expires_at=after(4) + timedelta(hours=72),
        decided_at=after(6) if decided else None,
        reason="approved by " + ", ".join(people) if decided else None,
    )


def waiting(comment: str = "") -> DeploymentStatus:
    """3.0.0 waits for the second approval."""
    states = (S.PENDING, S.VALIDATION, S.BUILDING, S.TESTING, S.APPROVAL)
    return DeploymentStatus(
        deployment_id="deployment:erlmcp:production:3.0.0",
        application="erlmcp",
        environment="production",
        version="3.0.0",
        actor="ada@example.com",
        state=S.APPROVAL,
        since=after(4),
        started_at=NOON,
        history=[Transition(state=s, at=after(i)) for i, s in enumerate(states)],
        built=Built(commit="1a2b3c4d5e6f"),
        previous_version="2.9.1",
        gates=[
            GateResult(
                name="compile",
                outcome=GateOutcome.PASSED,
                checks=(Check(name="errors", expected="0", measured="0", passed=True),),
            ),
            GateResult(
                name="performance", outcome=GateOutcome.WARNED, reason="regression is 12, wanted < 10%"
            ),
        ],
        compliance=ComplianceReport(
            mode=ComplianceMode.REPORT,
            items=(
                ComplianceItem(
                    section="documentation",
                    item="changelog_updated",
                    expected="true",
                    measured="false",
                    passed=False,
                    reason="changelog_updated is false, wanted true",
                ),
            ),
        ),
        approval=approval("eve@example.com", comment=comment),
    )


def failed() -> DeploymentStatus:
    """3.0.0 broke in its canary and was rolled back."""
    verdict = WatchVerdict(outcome=WatchOutcome.FAILED, reason="error_rate is 9%, limit 5%")
    canary = CanaryStatus(
        id="canary:erlmcp:production:3.0.0",
        phase=CanaryPhase.FAILED,
        reason="canary at 10%: error_rate is 9%, limit 5%",
        steps=(StepVerdict(weight=10, started_at=after(8), finished_at=after(9), verdict=verdict),),
    )
    before = waiting()
    ends = ((S.DEPLOYING, 7), (S.ROLLING_BACK, 9), (S.FAILED, 10))
    return before.model_copy(
        update={
            "state": S.FAILED,
            "since": after(10),
            "finished_at": after(10),
            "reason": "canary at 10%: error_rate is 9%, limit 5%",
            "history": [*before.history, *(Transition(state=s, at=after(m)) for s, m in ends)],
            "approval": approval("eve@example.com", "bob@example.com"),
            "canary": canary,
            "rollback": RollbackSummary(
                workflow_id="rollback:erlmcp:production:3.0.0",
                to_version="2.9.1",
                succeeded=True,
                reason="2.9.1 is live again",
                duration=timedelta(seconds=52),
            ),
        }
    )


def printed(part: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(part)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize("status", [waiting(FORGED), failed()], ids=["waiting", "failed"])
def test_the_board_fits_its_columns(status: DeploymentStatus, width: int) -> None:
    shown = printed(deployment_board(status, after(7), width=width, url="https://t.example.com/w"), width)

    assert max(len(line) for line in shown.splitlines()) <= width
    assert "…" not in shown


def test_the_board_of_a_waiting_deployment_says_who_must_do_what_until_when() -> None:
    shown = printed(deployment_board(waiting(), after(7), width=100), 100)

    assert "erlmcp 3.0.0 → production" in shown
    assert "● Approval · 7m 00s" in shown
    assert "1 of 2 · change_board · manual_approval · closes in 2d 23h" in shown
    assert "▲ performance  regression is 12, wanted < 10%" in shown
    assert "▲ documentation: changelog_updated is false, wanted true" in shown
    assert "erlmcp-deploy approve production 3.0.0 -a erlmcp" in shown
    assert "○ Deploying" in shown


def test_the_board_of_a_failed_deployment_says_why_and_what_was_undone() -> None:
    shown = printed(deployment_board(failed(), after(60), width=100), 100)

    assert "● Failed · 10m 00s" in shown
    assert "canary at 10%: error_rate is 9%, limit 5%" in shown
    assert "✘ Deploying" in shown
    assert "✔ rolled back to 2.9.1 in 52s" in shown
    assert "○" not in shown
    assert "You can" not in shown


def test_on_a_low_terminal_the_states_ahead_take_one_line() -> None:
    shown = printed(deployment_board(waiting(), after(7), width=100, height=24), 100)

    assert "○ 4 more" in shown
    assert "○ Deploying" not in shown


def test_the_log_tells_each_change_once_in_the_order_it_happened() -> None:
    first = changes(None, waiting(), after(7))
    then = changes(waiting(), failed(), after(11))

    assert [line.text for line in first if line.entered] == [
        "Pending", "Validation", "Building", "Testing", "Approval"
    ]  # fmt: skip
    assert [line.text for line in then] == [
        "approval manual_approval: approved by bob@example.com",
        "approval manual_approval closed: approved by eve@example.com, bob@example.com",
        "Deploying",
        "canary at 10%",
        "canary at 10% failed: error_rate is 9%, limit 5%",
        "canary failed: canary at 10%: error_rate is 9%, limit 5%",
        "RollingBack",
        "roll-back to 2.9.1 done: 2.9.1 is live again",
        "Failed",
    ]
    assert changes(failed(), failed(), after(12)) == []


def test_text_from_outside_cannot_forge_lines_or_move_the_cursor() -> None:
    status = waiting(FORGED)

    board = printed(deployment_board(status, after(7), width=100), 100)
    log = [line.text for line in changes(None, status, after(7))]
    table = summary(status, after(7), None)

    assert "\x1b" not in board + "".join(log) + table
    assert not any("\n" in line for line in log)
    assert "[red]" in board
    assert "&lt;b>\\[red\\]" in table
    assert " \\| " in table
    assert clean("a\r\n b\u202ec") == "a b\ufffdc"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (512, "8m 32s"), (3_600, "1h 00m"), (258_700, "2d 23h"), (-5, "0s")],
)
def test_durations_are_two_units(seconds: float, text: str) -> None:
    assert brief(timedelta(seconds=seconds)) == text


# Progressive delivery


def board(status: DeploymentStatus, width: int = 110) -> str:
    return printed(deployment_board(status, after(18), width=width), width)


def test_a_warning_stands_above_everything_with_what_is_tolerated() -> None:
    shown = board(progressive.warned_canary())

    assert "▲ Warning · ● Deploying" in shown
    # said once, though deployment and canary both say it
    assert shown.count(f"WARNING  {progressive.WARNING}") == 1
    assert shown.index("WARNING") < shown.index("✔ Pending")
    assert "WARNING" not in board(progressive.failed_canary())


def test_a_judged_step_shows_what_was_measured() -> None:
    lines = board(progressive.warned_canary(), 140).splitlines()

    def line(part: str) -> str:
        return " ".join(next(text for text in lines if part in text).strip("│ ").split())

    assert line("✔ 10m 00s") == (
        "10% ✔ 10m 00s score 100% · passed, 20 round(s) · 25% taken · 1 of 4 pods is the smallest share"
    )
    assert line("0.21%") == "✔ error_rate 0.21% 20 good"
    assert line("queue_depth") == "▲ queue_depth 311, which is > 100 20 bad, advisory"
    assert line("being watched") == "50% ● 3m 00s being watched"


def test_a_failed_step_shows_its_numbers_on_low_terminals_too() -> None:
    status, now = progressive.failed_canary(), after(18)
    low = printed(deployment_board(status, now, width=110, height=24), 110)
    passed = printed(deployment_board(progressive.warned_canary(), now, width=110, height=24), 110)

    assert "✘ error_rate   8.967%, limit 5%     3 good, 1 bad" in low
    assert "✔ latency_p95" not in passed


def test_what_can_be_ordered_fits_the_moment() -> None:
    def orders(status: DeploymentStatus) -> list[str]:
        return re.findall(r"erlmcp-deploy (\w+) production 3.0.0 -a erlmcp", board(status))

    assert orders(progressive.warned_canary()) == ["pause", "promote", "abort"]
    assert orders(progressive.doubtful_canary()) == ["resume", "promote", "abort"]
    assert orders(progressive.blue_green(waiting=True)) == ["promote", "abort"]
    assert orders(progressive.blue_green(waiting=False)) == ["abort"]
    assert "analyse this weight once more" in board(progressive.doubtful_canary())
    assert "switch all traffic to the new side" in board(progressive.blue_green(waiting=True))


def test_the_steps_of_blue_green_and_of_other_controllers_are_shown() -> None:
    waiting = board(progressive.blue_green(waiting=True))
    flagger = board(progressive.handed_over())

    assert "Blue/green  ✔ 1m 00s   bring up green       3 pods ready" in waiting
    assert "⏸ waits for a person to promote" in waiting
    assert "steered by its own controller: Progressing · advance weight 30" in flagger
    assert "30% Analysing" in flagger


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize(
    "status",
    [
        progressive.warned_canary(),
        progressive.failed_canary(),
        progressive.doubtful_canary(),
        progressive.handed_over(),
        progressive.blue_green(waiting=True),
    ],
)
def test_progressive_deliveries_fit_their_columns(status: DeploymentStatus, width: int) -> None:
    assert max(len(line) for line in board(status, width).splitlines()) <= width


def test_the_log_tells_warnings_steps_and_hand_overs_once() -> None:
    def told(before: DeploymentStatus, then: DeploymentStatus) -> list[str]:
        return [line.text for line in changes(before, then, after(18))]

    calm, warned = progressive.deploying(), progressive.warned_canary()
    first = told(calm, warned)
    recovered = warned.model_copy(update={"warnings": (), "canary": None})

    assert f"WARNING {progressive.WARNING}" in first
    assert "canary at 10%: 1 of 4 pods is the smallest share" in first
    assert told(warned, warned) == []
    assert told(warned, recovered) == ["the warning is over"]
    assert told(calm, progressive.handed_over()) == [
        "the canary's own controller: Progressing, 30%: advance weight 30"
    ]
    assert told(progressive.blue_green(waiting=False), progressive.blue_green(waiting=True)) == [
        "blue/green: Preview passed",
        "blue/green: WaitingForPromotion",
    ]


def test_the_temporal_ui_shows_the_same() -> None:
    warned = presentation.deployment(progressive.warned_canary())
    failed = presentation.deployment(progressive.failed_canary())
    switching = presentation.deployment(progressive.blue_green(waiting=True))

    assert warned.count("**! Warning:**") == 1
    assert "Measured at 10%:" in warned
    assert "| ▲\u00a0\u00a0 | queue_depth\u00a0\u00a0 |" in warned
    assert "20 bad, advisory" in warned
    assert "passed (score 100%)" in warned
    assert "25%, 1 of 4 pods is the smallest share" in warned
    assert "Warning" not in failed
    assert "| ✘\u00a0\u00a0 | error_rate\u00a0\u00a0 | 8.967%, limit 5%\u00a0\u00a0 | 3 good, 1 bad" in failed
    assert "### Blue/green: **WaitingForPromotion**" in switching
    assert "Steered by its own controller: **Progressing**" in presentation.deployment(
        progressive.handed_over()
    )
