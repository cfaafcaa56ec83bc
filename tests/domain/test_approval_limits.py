"""How much a decision may say, and what is kept of it."""

from __future__ import annotations

import pytest

from domain.approval import (
    COMMENT_LENGTH,
    COMMENTS_LIMIT,
    DecisionMessage,
    Verb,
    decide,
    oversized,
    refusal,
    shortened,
)
from domain.identity import Proof
from tests.domain.gate import ALICE, BOB, Gate


def test_a_long_comment_is_cut_and_a_flood_of_them_refused() -> None:
    gate = Gate()
    for _ in range(COMMENTS_LIMIT):
        assert gate.comment(BOB, comment="x" * 4000) is None

    assert "takes no more" in str(gate.comment(BOB))
    assert gate.approve(ALICE) is None
    assert all(len(c.comment) == COMMENT_LENGTH for c in gate.status.comments)


FIELDS = {"actor": 254, "comment": 4000, "source": 64, "gate": 128, "id": 200, "reply_to": 200}


@pytest.mark.parametrize(("field", "limit"), FIELDS.items())
def test_a_field_that_is_too_long_is_named_with_its_limit(field: str, limit: int) -> None:
    fits = DecisionMessage(**{"actor": ALICE, field: "x" * limit})
    too_long = DecisionMessage(**{"actor": ALICE, field: "x" * (limit + 1)})
    gate = Gate()

    assert oversized(fits) is None
    assert oversized(too_long) == f"{field} has {limit + 1} characters, and may have {limit}; shorten it"
    for verb in Verb:
        refused = refusal(gate.status, gate.policy, verb, too_long, gate.now)
        assert refused == oversized(too_long)
        assert decide(gate.status, gate.policy, verb, too_long, gate.now) == gate.status


@pytest.mark.parametrize(("field", "limit"), [("signer", 128), ("signature", 200)])
def test_so_is_a_field_of_the_signature(field: str, limit: int) -> None:
    too_long = DecisionMessage(actor=ALICE, proof=Proof(**{field: "x" * (limit + 1)}))

    assert oversized(DecisionMessage(actor=ALICE, proof=Proof(**{field: "x" * limit}))) is None
    assert (
        oversized(too_long) == f"proof.{field} has {limit + 1} characters, and may have {limit}; shorten it"
    )


def test_what_was_refused_as_too_long_is_kept_short() -> None:
    proof = Proof(signer="s" * 2_000_000, signature="t" * 2_000_000)
    flood = DecisionMessage(**dict.fromkeys(FIELDS, "x" * 2_000_000), proof=proof, emergency=True)
    ordinary = DecisionMessage(actor=ALICE, comment="LGTM", proof=Proof(signer="laptop", signature="c2ln"))

    short = shortened(flood)

    assert oversized(short) is None
    assert short.emergency
    assert short.actor.endswith("x…")
    assert len(short.model_dump_json()) < 6000
    assert shortened(short) == short
    assert shortened(ordinary) == ordinary
    assert shortened(DecisionMessage()) == DecisionMessage()
