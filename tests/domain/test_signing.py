"""Signed decisions: what verifies, what does not, and what is said then."""

from __future__ import annotations

import base64
import contextlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.approval import DecisionMessage, DecisionRequest, Verb
from domain.identity import SIGNING_KEY, Identification, Proof, Signer
from domain.signing import PREFIX, SKEW, SigningKey, identify, query_of, statement, subject_of

ADA, BOB = "ada@example.com", "bob@example.com"
DEPLOYMENT = subject_of("default", "deployment:shop:production:1.0.0")
BEGUN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOW = BEGUN + timedelta(hours=1)
ADAS = SigningKey("ada-laptop", bytes(range(32)))
SIGNERS = {
    "ada-laptop": Signer(public_key=ADAS.public_key, speaks_for=(ADA,)),
    "receiver": Signer(public_key=SigningKey.generate("receiver").public_key, speaks_for=("*",)),
}


def signed(**message: Any) -> DecisionMessage:
    return ADAS.sign(DEPLOYMENT, Verb.APPROVE, DecisionMessage(**{"actor": ADA, **message}), NOW)


def verified(
    message: DecisionMessage,
    *,
    subject: str = DEPLOYMENT,
    verb: Verb = Verb.APPROVE,
    signers: dict[str, Signer] = SIGNERS,
    not_before: datetime | None = BEGUN,
    now: datetime | None = NOW,
) -> Identification:
    return identify(query_of(subject, verb, message, not_before), signers, now)


def test_a_decision_signed_by_a_known_signer_verifies() -> None:
    message = signed(comment="tested it", source="cli", gate="manual_approval")

    assert verified(message) == Identification(verified=True, signer="ada-laptop")
    assert message.at == NOW
    assert message.id


def test_a_decision_verifies_after_its_way_through_temporal() -> None:
    message = signed(comment="später: €, \u2028 and \U0001f600")

    update = DecisionRequest(decision=Verb.APPROVE, **message.model_dump())
    arrived = DecisionRequest.model_validate_json(update.model_dump_json())

    assert verified(arrived).verified


def test_the_time_verifies_in_any_time_zone() -> None:
    here = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert verified(signed().model_copy(update={"at": here})).verified


def test_a_message_with_an_id_keeps_it() -> None:
    assert signed(id="slack-1").id == "slack-1"


@pytest.mark.parametrize(
    "change",
    [
        {"actor": BOB},
        {"comment": "no"},
        {"source": "slack"},
        {"gate": "another_gate"},
        {"gate": None},
        {"id": "other"},
        {"id": None},
        {"emergency": True},
        {"at": NOW + timedelta(microseconds=1)},
    ],
    ids="-".join,
)
def test_a_changed_decision_does_not_verify(change: dict[str, Any]) -> None:
    message = signed(comment="yes", source="cli", gate="manual_approval").model_copy(update=change)

    found = verified(message)

    assert not found.verified
    assert "does not belong to this decision" in found.reason


def test_a_signature_counts_for_its_deployment_and_verb_only() -> None:
    message = signed()

    assert not verified(message, subject=subject_of("default", "deployment:shop:production:1.0.1")).verified
    assert not verified(message, verb=Verb.REJECT).verified


def test_a_signature_counts_in_its_namespace_only() -> None:
    """The same deployment may run in a cluster for rehearsals, where the same people are signed for."""
    rehearsal = subject_of("rehearsal", "deployment:shop:production:1.0.0")

    assert not verified(signed(), subject=rehearsal).verified
    assert not verified(signed(), subject="deployment:shop:production:1.0.0").verified


def test_a_signature_of_an_earlier_run_is_refused() -> None:
    message = signed()

    assert verified(message, not_before=NOW + SKEW).verified
    late = verified(message, not_before=NOW + SKEW + timedelta(seconds=1))
    assert not late.verified
    assert "before this deployment began" in late.reason


def test_when_the_deployment_began_is_utc_unless_it_says_otherwise() -> None:
    assert verified(signed(), not_before=NOW.replace(tzinfo=None)).verified
    assert not verified(signed(), not_before=(NOW + 2 * SKEW).replace(tzinfo=None)).verified
    assert not verified(signed(), not_before=datetime.max).verified


def test_a_signature_from_the_future_is_refused() -> None:
    early = verified(signed(), now=NOW - SKEW - timedelta(seconds=1))

    assert not early.verified
    assert "set the clock of 'ada-laptop'" in early.reason


@pytest.mark.parametrize("people", [("*",), (BOB, " Ada@Example.COM ")])
def test_people_are_compared_as_everywhere(people: tuple[str, ...]) -> None:
    signers = {"ada-laptop": Signer(public_key=ADAS.public_key, speaks_for=people)}

    assert verified(signed(), signers=signers).verified


def test_a_signer_speaks_for_its_people_only() -> None:
    found = verified(signed(actor=BOB))

    assert not found.verified
    assert "'ada-laptop' does not speak for bob@example.com" in found.reason
    assert "directory.signers.ada-laptop.speaks_for" in found.reason


def test_somebody_elses_key_does_not_verify_under_a_known_name() -> None:
    stolen_name = SigningKey.generate("receiver")

    message = stolen_name.sign(DEPLOYMENT, Verb.APPROVE, DecisionMessage(actor=ADA), NOW)

    assert not verified(message).verified


@pytest.mark.parametrize(
    ("proof", "said"),
    [
        (None, "is not signed"),
        (Proof(signer="nobody", signature="AAAA"), "'nobody' is not known"),
        (Proof(signer="ada-laptop", signature=""), "does not belong"),
        (Proof(signer="ada-laptop", signature="no base64 at all"), "does not belong"),
        (Proof(signer="ada-laptop", signature="ü"), "does not belong"),
        (Proof(signer="ada-laptop", signature=base64.b64encode(bytes(64)).decode()), "does not belong"),
    ],
)
def test_what_is_no_signature_is_said(proof: Proof | None, said: str) -> None:
    found = verified(signed().model_copy(update={"proof": proof}))

    assert not found.verified
    assert said in found.reason


@pytest.mark.parametrize(
    "at",
    [
        None,
        NOW.replace(tzinfo=None),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
    ],
)
def test_a_decision_without_a_time_does_not_verify(at: datetime | None) -> None:
    found = verified(signed().model_copy(update={"at": at}))

    assert not found.verified
    assert "does not say when" in found.reason


@pytest.mark.parametrize("text", ["", "bm90IGEga2V5", "not base64!"])
def test_a_public_key_that_is_none_is_no_configuration(text: str) -> None:
    with pytest.raises(ValidationError, match="must be the base64 of 32 bytes"):
        Signer(public_key=text, speaks_for=("*",))


@pytest.mark.parametrize("key", [bytes(32), bytes(31) + b"\x80", b"\x01" + bytes(31), b"\xed" + b"\xff" * 31])
def test_a_public_key_under_which_anybody_can_sign_is_no_configuration(key: bytes) -> None:
    with pytest.raises(ValidationError, match="anybody can sign"):
        Signer(public_key=base64.b64encode(key).decode(), speaks_for=("*",))


def test_the_statement_stays_as_it_is() -> None:
    """Signers and workers of different versions must agree on these bytes."""
    message = DecisionMessage(actor=ADA, comment="é", source="cli", id="1", at=NOW)

    assert statement(query_of(DEPLOYMENT, Verb.APPROVE, message, None)) == (
        b"erlmcp-deploy decision v1\n"
        b'{"actor":"ada@example.com","at":"2026-03-01T13:00:00.000000+00:00","comment":"\\u00e9",'
        b'"emergency":false,"gate":null,"id":"1","source":"cli",'
        b'"subject":"default/deployment:shop:production:1.0.0","verb":"approve"}'
    )


def test_a_signature_over_the_bare_fields_is_none_over_a_decision() -> None:
    """What the key signs elsewhere never passes for a decision: the statement begins with its purpose."""
    private = Ed25519PrivateKey.generate()
    signers = {
        "x": Signer(
            public_key=base64.b64encode(private.public_key().public_bytes_raw()).decode(), speaks_for=("*",)
        )
    }
    message = DecisionMessage(actor=ADA, id="1", at=NOW)
    bare = statement(query_of(DEPLOYMENT, Verb.APPROVE, message, None)).removeprefix(PREFIX)

    def proven(content: bytes) -> DecisionMessage:
        signature = base64.b64encode(private.sign(content)).decode()
        return message.model_copy(update={"proof": Proof(signer="x", signature=signature)})

    assert verified(proven(PREFIX + bare), signers=signers).verified
    assert not verified(proven(bare), signers=signers).verified


texts = st.text(max_size=20)
messages = st.builds(
    DecisionMessage,
    actor=texts,
    comment=texts,
    source=texts,
    gate=st.none() | texts,
    id=texts.filter(bool),
    emergency=st.booleans(),
)


zones = st.none() | st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
edges = st.sampled_from((datetime.min, datetime.max, NOW.replace(tzinfo=None)))
times = st.none() | st.builds(lambda time, zone: time.replace(tzinfo=zone), edges | st.datetimes(), zones)
wild = texts | st.text("=+/ü\x00A ", max_size=90) | st.just(ADA)


proofs = st.builds(
    Proof,
    signer=st.sampled_from((*SIGNERS, "")) | wild,
    signature=wild | st.binary(max_size=70).map(lambda raw: base64.b64encode(raw).decode()),
)
wild_messages = st.builds(
    lambda message, **wilder: message.model_copy(update=wilder), messages, actor=wild, at=times, proof=proofs
)


@given(said=wild_messages, subject=wild, verb=st.sampled_from(Verb), begun=times, genuine=st.booleans())
def test_whatever_a_decision_says_about_itself_there_is_an_answer(
    said: DecisionMessage, subject: str, verb: Verb, begun: datetime | None, genuine: bool
) -> None:
    """An error would be tried again and again, and everybody at the gate would wait behind it."""
    if genuine and said.at is not None:
        with contextlib.suppress(ValueError):
            said = ADAS.sign(subject, verb, said, said.at)

    found = identify(query_of(subject, verb, said, begun), SIGNERS, NOW)

    assert found.verified == (found.reason == "")
    assert genuine or not found.verified


@given(
    first=messages,
    second=messages,
    subjects=st.tuples(texts, texts),
    verbs=st.tuples(*[st.sampled_from(Verb)] * 2),
)
def test_different_decisions_have_different_statements(
    first: DecisionMessage, second: DecisionMessage, subjects: tuple[str, str], verbs: tuple[Verb, Verb]
) -> None:
    one, other = (
        query_of(subject, verb, message.model_copy(update={"at": NOW}), None)
        for subject, verb, message in zip(subjects, verbs, (first, second), strict=True)
    )

    assert (one == other) == (statement(one) == statement(other))


def test_a_key_comes_from_the_environment_and_stays_secret() -> None:
    value = ADAS.environment_value

    key = SigningKey.from_environment({SIGNING_KEY: f" {value}\n"})

    assert key is not None
    assert (key.name, key.public_key) == ("ada-laptop", ADAS.public_key)
    assert value.partition(":")[2] not in repr(key)
    assert SigningKey.from_environment({}) is None
    assert SigningKey.from_environment({SIGNING_KEY: " "}) is None


@pytest.mark.parametrize(
    "value",
    [
        "c2VjcmV0",
        "ada:c2VjcmV0",
        "ada:secret!",
        ":" + ADAS.environment_value.partition(":")[2],
        "ada",
        "ada:",
    ],
)
def test_an_unusable_key_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(ValueError, match=f"{SIGNING_KEY} is not NAME:KEY") as raised:
        SigningKey.from_environment({SIGNING_KEY: value})

    assert "keys new signing" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "c2VjcmV0" not in str(raised.value)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("name", ["", "a:b", " ada"])
def test_a_signer_has_a_usable_name(name: str) -> None:
    with pytest.raises(ValueError, match="give a name without colon"):
        SigningKey.generate(name)
