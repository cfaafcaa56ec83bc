"""An environment: one deployment at a time, newest first, roll-backs before all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from domain.environment import (
    HISTORY_LIMIT,
    EnvironmentRecord,
    Hold,
    HoldMessage,
    Outcome,
    QueuePolicy,
    TurnAnswer,
    TurnDecision,
    TurnRelease,
    TurnRequest,
    ask,
    blocked,
    drop_dead_holder,
    grant,
    position,
    release,
    rollback_target,
)

NOW = datetime(2026, 2, 2, 12, tzinfo=UTC)
FREEZE = Hold(actor="alice@example.com", reason="year's end", since=NOW)
EMPTY = EnvironmentRecord(application="erlmcp", environment="production")


def wants(version: str, **changes: Any) -> TurnRequest:
    fields: dict[str, Any] = {
        "application": "erlmcp",
        "environment": "production",
        "holder": f"deployment:erlmcp:production:{version}",
        "token": "r1",
        "version": version,
    }
    return TurnRequest(**{**fields, **changes})


def gives_back(
    turn: TurnRequest, outcome: Outcome = Outcome.DEPLOYED, live: str | None = None
) -> TurnRelease:
    return TurnRelease(
        holder=turn.holder,
        token=turn.token,
        version=turn.version,
        outcome=outcome,
        live_version=live if live is not None else turn.version,
        commit=turn.commit,
        reason="error rate",
    )


def after(record: EnvironmentRecord, *requests: TurnRequest) -> EnvironmentRecord:
    for request in requests:
        record, _ = ask(record, request)
        record, _ = grant(record, NOW)
    return record


def deployed(*versions: str) -> EnvironmentRecord:
    record = EMPTY
    for version in versions:
        record = release(after(record, wants(version)), gives_back(wants(version)), NOW)
    return record


def answers(decisions: list[TurnDecision]) -> list[tuple[str, TurnAnswer]]:
    return [(d.holder.rpartition(":")[2], d.answer) for d in decisions]


def waiting(record: EnvironmentRecord) -> list[str]:
    return [w.version for w in record.queue]


# Turns


def test_the_first_gets_the_turn_and_the_second_waits() -> None:
    record = after(EMPTY, wants("1.0.0"), wants("1.1.0"))

    assert record.holder == wants("1.0.0")
    assert waiting(record) == ["1.1.0"]
    assert position(record, wants("1.1.0")) == 1
    assert position(record, wants("1.0.0")) is None


def test_asking_twice_is_asking_once() -> None:
    record = after(EMPTY, wants("1.0.0"), wants("1.1.0"))

    again, to_holder = ask(record, wants("1.0.0"))
    same, to_waiting = ask(again, wants("1.1.0"))

    assert same == record
    assert answers(to_holder) == [("1.0.0", TurnAnswer.GRANTED)]
    assert to_waiting == []


def test_a_new_run_takes_the_place_of_the_run_that_ended() -> None:
    record = after(EMPTY, wants("1.0.0"), wants("1.1.0"), wants("1.1.0", token="r2"))

    assert [(w.version, w.token) for w in record.queue] == [("1.1.0", "r2")]


def test_what_is_live_needs_no_turn() -> None:
    record, decisions = ask(deployed("1.0.0"), wants("1.0.0", token="r2"))

    assert answers(decisions) == [("1.0.0", TurnAnswer.LIVE_ALREADY)]
    assert record.queue == ()


@pytest.mark.parametrize("changes", [{"allow_same": True}, {"commit": "f" * 40}])
def test_what_is_live_is_deployed_again_on_demand_or_from_another_commit(changes: dict[str, Any]) -> None:
    _, decisions = ask(deployed("1.0.0"), wants("1.0.0", token="r2", **changes))

    assert decisions == []


def test_what_is_about_to_be_replaced_is_not_called_live() -> None:
    record = after(deployed("1.1.0"), wants("1.2.0"), wants("1.1.0", token="r2"))

    assert waiting(record) == ["1.1.0"], "it must go back to 1.1.0 once 1.2.0 is there"


def test_what_became_live_while_it_waited_is_told_so() -> None:
    record = after(EMPTY, wants("1.0.0"), wants("1.0.0", holder="promotion:erlmcp:1.0.0"))
    record = release(record, gives_back(wants("1.0.0")), NOW)

    record, decision = grant(record, NOW)

    assert decision is not None
    assert decision.answer is TurnAnswer.LIVE_ALREADY
    assert record.holder is None


# Policies


def test_a_newer_version_supersedes_the_older_ones_that_wait() -> None:
    record = after(EMPTY, wants("1.0.0"), wants("1.1.0"))

    record, decisions = ask(record, wants("1.2.0"))

    assert answers(decisions) == [("1.1.0", TurnAnswer.SUPERSEDED)]
    assert waiting(record) == ["1.2.0"]


def test_an_older_version_is_superseded_by_the_newer_one_that_waits() -> None:
    record = after(EMPTY, wants("1.0.0"), wants("1.2.0"))

    record, decisions = ask(record, wants("1.1.0"))

    assert answers(decisions) == [("1.1.0", TurnAnswer.SUPERSEDED)]
    assert waiting(record) == ["1.2.0"]


@pytest.mark.parametrize(("first", "second"), [("gaaaaaaa", "gbbbbbbb"), ("gbbbbbbb", "gaaaaaaa")])
def test_of_commits_without_a_tag_the_later_one_counts_whatever_its_sha(first: str, second: str) -> None:
    older, newer = f"0.0.0-main.{first}", f"0.0.0-main.{second}"
    record = after(EMPTY, wants("1.0.0"), wants(older))

    record, decisions = ask(record, wants(newer))

    assert [d.answer for d in decisions] == [TurnAnswer.SUPERSEDED]
    assert waiting(record) == [newer]


def test_a_release_and_an_untagged_commit_do_not_supersede_each_other() -> None:
    record = after(EMPTY, wants("1.0.0"), wants("2.0.0"), wants("0.0.0-main.gaaaaaaa"))

    assert waiting(record) == ["2.0.0", "0.0.0-main.gaaaaaaa"]


def test_with_the_queue_policy_everybody_waits() -> None:
    queued = [wants(v, policy=QueuePolicy.QUEUE) for v in ("1.0.0", "1.2.0", "1.1.0")]

    record = after(EMPTY, *queued)

    assert waiting(record) == ["1.2.0", "1.1.0"]


def test_with_the_reject_policy_a_second_is_refused_even_while_the_first_is_frozen() -> None:
    frozen = after(EMPTY.model_copy(update={"freeze": FREEZE}), wants("1.0.0", policy=QueuePolicy.REJECT))
    busy = after(EMPTY, wants("1.0.0", policy=QueuePolicy.REJECT))

    for record in (frozen, busy):
        _, decisions = ask(record, wants("1.1.0", policy=QueuePolicy.REJECT))
        assert answers(decisions) == [("1.1.0", TurnAnswer.REFUSED)]
        assert "busy with 1.0.0" in decisions[0].reason


def test_a_roll_back_goes_before_everything_that_waits() -> None:
    record = after(EMPTY, wants("1.0.0"), wants("1.1.0"))

    record = after(record, wants("1.0.0", holder="rollback:1", urgent=True, allow_same=True))

    assert [w.holder for w in record.queue] == ["rollback:1", wants("1.1.0").holder]


# Freezes and holds


def test_a_freeze_stops_all_but_roll_backs() -> None:
    record = after(EMPTY.model_copy(update={"freeze": FREEZE}), wants("1.0.0"))
    assert record.holder is None

    record = after(record, wants("0.9.0", holder="rollback:1", urgent=True))

    assert record.holder is not None
    assert record.holder.urgent


def test_a_freeze_ends_by_itself_at_its_time() -> None:
    freeze = FREEZE.model_copy(update={"until": NOW + timedelta(hours=1)})
    record = after(EMPTY.model_copy(update={"freeze": freeze}), wants("1.0.0"))

    assert blocked(record, NOW) == freeze
    assert grant(record, NOW)[1] is None
    granted, decision = grant(record, NOW + timedelta(hours=1))

    assert decision is not None
    assert decision.answer is TurnAnswer.GRANTED
    assert granted.holder == wants("1.0.0")


def test_after_a_roll_back_no_automation_ships_the_version_again_but_a_person_may() -> None:
    bad = wants("1.1.0", commit="a" * 40)
    record = release(after(deployed("1.0.0"), bad), gives_back(bad, Outcome.ROLLED_BACK, "1.0.0"), NOW)

    _, automated = ask(record, wants("1.1.0", token="r2", automated=True))
    _, by_hand = ask(record, wants("1.1.0", token="r2"))
    _, other = ask(record, wants("1.1.1", automated=True))

    assert [d.answer for d in automated] == [TurnAnswer.REFUSED]
    assert "rolled back (error rate)" in automated[0].reason
    assert by_hand == other == []
    assert record.current_version == "1.0.0"
    assert record.last_good_version == "1.0.0"


def test_what_waited_while_its_version_was_rolled_back_is_refused_too() -> None:
    bad = wants("1.1.0")
    record = after(deployed("1.0.0"), bad, wants("1.1.0", holder="promotion", automated=True))
    record = release(record, gives_back(bad, Outcome.ROLLED_BACK, "1.0.0"), NOW)

    record, decision = grant(record, NOW)

    assert decision is not None
    assert (decision.holder, decision.answer) == ("promotion", TurnAnswer.REFUSED)
    assert record.holder is None


def test_a_roll_back_does_not_lift_a_person_s_hold() -> None:
    bad, hold = wants("1.1.0"), FREEZE
    record = after(deployed("1.0.0"), bad).model_copy(update={"hold": hold})

    record = release(record, gives_back(bad, Outcome.ROLLED_BACK, "1.0.0"), NOW)

    assert blocked(record, NOW) == hold
    assert list(record.held_versions) == ["1.1.0"]


def test_each_version_that_was_rolled_back_is_held_until_it_is_deployed_well() -> None:
    record = deployed("1.0.0")
    for bad in (wants("1.1.0"), wants("1.2.0")):
        record = release(after(record, bad), gives_back(bad, Outcome.ROLLED_BACK, "1.0.0"), NOW)
    assert set(record.held_versions) == {"1.1.0", "1.2.0"}

    again = wants("1.1.0", token="r2")
    record = release(after(record, again), gives_back(again), NOW)
    assert set(record.held_versions) == {"1.2.0"}


def test_a_late_request_of_an_older_run_is_ignored() -> None:
    newer = wants("1.0.0", token="r2", started=NOW)
    record = after(EMPTY, newer)

    late, decisions = ask(record, wants("1.0.0", token="r1", started=NOW - timedelta(minutes=1)))

    assert late == record
    assert decisions == []


def test_a_time_without_a_zone_is_utc() -> None:
    message = HoldMessage.model_validate({"until": "2026-12-24T00:00:00"})
    assert message.until == datetime(2026, 12, 24, tzinfo=UTC)


# What is known of the past


def test_a_roll_back_goes_to_the_last_good_version_never_to_one_that_was_rolled_back() -> None:
    record = deployed("1.0.0", "1.1.0")
    bad = wants("1.1.0", token="r2", allow_same=True)
    record = release(after(record, bad), gives_back(bad, Outcome.ROLLED_BACK, "1.0.0"), NOW)

    assert rollback_target(record, "1.2.0") == "1.0.0"
    assert rollback_target(deployed("1.0.0", "1.1.0"), "1.1.0") == "1.0.0"
    assert rollback_target(deployed("1.0.0"), "1.0.0") is None


def test_a_roll_back_to_a_version_that_a_person_chose_makes_it_the_last_good_one() -> None:
    by_hand = wants("1.1.0", holder="rollback:erlmcp:production:1.1.0", urgent=True, allow_same=True)
    record = after(deployed("0.9.0", "1.0.0", "1.1.0"), by_hand)

    record = release(record, gives_back(by_hand, Outcome.ROLLED_BACK, "0.9.0"), NOW)

    assert record.current_version == record.last_good_version == "0.9.0"


def test_what_could_not_be_rolled_back_is_no_version_to_go_back_to() -> None:
    bad = wants("1.1.0", token="r2", allow_same=True)
    turn = gives_back(bad, Outcome.BROKEN).model_copy(update={"live_version": None})

    record = release(after(deployed("1.0.0", "1.1.0"), bad), turn, NOW)

    assert record.current_version is None
    assert record.last_good_version == rollback_target(record, "1.2.0") == "1.0.0"


def test_history_is_bounded() -> None:
    record = deployed(*(f"1.0.{n}" for n in range(HISTORY_LIMIT + 5)))

    assert len(record.history) == HISTORY_LIMIT
    assert record.history[-1].version == f"1.0.{HISTORY_LIMIT + 4}"


def test_a_holder_that_was_terminated_loses_its_turn() -> None:
    record = after(EMPTY, wants("1.0.0"), wants("1.1.0"))

    record = drop_dead_holder(record, "it was terminated", NOW)
    record, decision = grant(record, NOW)

    assert decision is not None
    assert decision.holder == wants("1.1.0").holder
    assert record.history[-1].outcome is Outcome.BROKEN
    assert drop_dead_holder(EMPTY, "x", NOW) == EMPTY


def test_who_holds_no_turn_only_leaves_the_queue() -> None:
    record = after(EMPTY, wants("1.0.0"), wants("1.1.0"))

    left = release(record, gives_back(wants("1.1.0")), NOW)
    stranger = release(left, gives_back(wants("1.0.0", token="r9")), NOW)

    assert left.queue == ()
    assert left.holder == wants("1.0.0")
    assert left.current_version is None
    assert stranger == left


# All of it, in every order


class Environment(RuleBasedStateMachine):
    """Whatever is asked, granted, released, frozen or killed, in any order, nothing ever overlaps."""

    def __init__(self) -> None:
        super().__init__()
        self.record = EMPTY
        self.granted: TurnRequest | None = None
        self.known: dict[tuple[str, str], TurnRequest] = {}
        self.open: set[tuple[str, str]] = set()

    def settle(self, decisions: list[TurnDecision]) -> None:
        for decision in decisions:
            if decision.answer is not TurnAnswer.GRANTED:
                self.open.discard((decision.holder, decision.token))

    @rule(
        version=st.sampled_from(["1.0.0", "1.1.0", "1.2.0", "0.0.0-main.gaaaaaaa", "0.0.0-main.gbbbbbbb"]),
        run=st.sampled_from(["r1", "r2"]),
        policy=st.sampled_from(QueuePolicy),
        urgent=st.booleans(),
        automated=st.booleans(),
    )
    def ask_for_a_turn(
        self, version: str, run: str, policy: QueuePolicy, urgent: bool, automated: bool
    ) -> None:
        kind = "rollback" if urgent else "deployment"
        request = wants(
            version, holder=f"{kind}:{version}", token=run, policy=policy, urgent=urgent, automated=automated
        )
        key = (request.holder, request.token)
        request = self.known.setdefault(key, request)
        before = self.record
        if self.granted is not None and self.granted.holder == request.holder and not self.holds(key):
            # The holder was started again, so the run that had the turn is dead.
            self.open.discard((self.granted.holder, self.granted.token))
            self.granted = None
        self.record, decisions = ask(before, request)
        assert ask(self.record, request)[0] == self.record, "asking twice is asking once"
        if key not in self.open:
            # The run that had this workflow id before must have ended.
            replaced = {k for k in self.open if k[0] == request.holder and not self.holds(k)}
            if request in self.record.queue:
                self.open -= replaced
            self.open.add(key)
        self.settle(decisions)
        for decision in decisions:
            if decision.answer is TurnAnswer.SUPERSEDED:
                assert not decision.holder.startswith("rollback"), "a roll-back is never superseded"

    def holds(self, key: tuple[str, str]) -> bool:
        return self.granted is not None and (self.granted.holder, self.granted.token) == key

    @rule()
    def give_turns(self) -> None:
        stopped = blocked(self.record, NOW) is not None
        while True:
            free = self.record.holder is None
            self.record, decision = grant(self.record, NOW)
            if decision is None:
                break
            assert free
            self.settle([decision])
            if decision.answer is TurnAnswer.GRANTED:
                assert self.granted is None, "two deployments of one environment overlap"
                self.granted = self.known[(decision.holder, decision.token)]
                assert self.granted.urgent or not stopped, "a freeze was ignored"
                assert self.granted.urgent or not any(w.urgent for w in self.record.queue)

    @precondition(lambda self: self.granted is not None)
    @rule(outcome=st.sampled_from(Outcome))
    def give_it_back(self, outcome: Outcome) -> None:
        assert self.granted is not None
        live = "1.0.0" if outcome is Outcome.ROLLED_BACK else self.granted.version
        turn = gives_back(self.granted, outcome, live)
        self.record = release(self.record, turn, NOW)
        assert release(self.record, turn, NOW) == self.record, "giving back twice is giving back once"
        self.open.discard((self.granted.holder, self.granted.token))
        self.granted = None

    @precondition(lambda self: self.granted is not None)
    @rule()
    def die(self) -> None:
        assert self.granted is not None
        self.record = drop_dead_holder(self.record, "terminated", NOW)
        self.open.discard((self.granted.holder, self.granted.token))
        self.granted = None

    @rule(frozen=st.booleans())
    def freeze(self, frozen: bool) -> None:
        self.record = self.record.model_copy(update={"freeze": FREEZE if frozen else None})

    @invariant()
    def one_holder_and_it_is_the_one_that_was_told(self) -> None:
        assert self.record.holder == self.granted

    @invariant()
    def nobody_is_forgotten_and_nobody_waits_twice(self) -> None:
        queue = [(w.holder, w.token) for w in self.record.queue]
        holder = [] if self.record.holder is None else [(self.record.holder.holder, self.record.holder.token)]
        assert len(set(queue)) == len(queue)
        assert len({h for h, _ in queue}) == len(queue)
        assert not set(queue) & set(holder)
        assert set(queue) | set(holder) == self.open

    @invariant()
    def roll_backs_come_first(self) -> None:
        urgent = [w.urgent for w in self.record.queue]
        assert urgent == sorted(urgent, reverse=True)

    @invariant()
    def it_survives_storage(self) -> None:
        assert EnvironmentRecord.model_validate_json(self.record.model_dump_json()) == self.record


TestEnvironmentInEveryOrder = Environment.TestCase
TestEnvironmentInEveryOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
