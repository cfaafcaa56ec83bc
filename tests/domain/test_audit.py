"""The hash chain makes every change of the trail evident."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.audit import (
    AuditCategory,
    AuditEvent,
    ChainedEvent,
    canonical_json,
    chain_hash,
    link,
    verify_chain,
)

CHAIN = "deployment:erlmcp:production:3.0.0"


def event(number: int) -> AuditEvent:
    return AuditEvent(
        event_id=f"00000000-0000-4000-8000-{number:012}",
        event_type="deployment.transition",
        category=AuditCategory.DEPLOYMENT,
        timestamp=datetime(2026, 2, 2, 12, number, tzinfo=UTC),
        actor="alice@example.com",
        action="deploy_production",
        target="production",
        version="3.0.0",
        status="success",
        reason="größer als vorher",
        deployment_id=CHAIN,
        environment="production",
        ip_address="203.0.113.7",
        user_agent="temporal-cli",
        details={"from": "Building", "to": "Testing", "gates": [1, 2]},
        metadata={"run": "r1"},
    )


def chain(length: int = 4) -> list[ChainedEvent]:
    stored: list[ChainedEvent] = []
    for number in range(length):
        stored.append(link(CHAIN, stored[-1] if stored else None, event(number)))
    return stored


def test_an_untouched_chain_has_no_fault() -> None:
    assert verify_chain(chain()) is None
    assert verify_chain([]) is None


_CHANGES: dict[str, Any] = {
    "event_id": "11111111-0000-4000-8000-000000000000",
    "event_type": "deployment.other",
    "category": AuditCategory.APPROVAL,
    "timestamp": datetime(2026, 2, 2, 12, 1, tzinfo=UTC) + timedelta(microseconds=1),
    "actor": "mallory@example.com",
    "action": "deploy_staging",
    "target": "staging",
    "version": "3.0.1",
    "status": "failed",
    "reason": "",
    "deployment_id": "deployment:erlmcp:staging:3.0.0",
    "environment": "staging",
    "ip_address": None,
    "user_agent": "curl",
    "details": {"from": "Building", "to": "Testing", "gates": [2, 1]},
    "metadata": {},
}


def test_every_field_of_an_event_is_tried() -> None:
    assert set(_CHANGES) == set(AuditEvent.model_fields)


@pytest.mark.parametrize("field", _CHANGES)
@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_changed_field_is_found_at_its_place(field: str, place: int) -> None:
    stored = chain()
    changed = stored[place].event.model_copy(update={field: _CHANGES[field]})
    stored[place] = stored[place].model_copy(update={"event": changed})

    fault = verify_chain(stored)

    assert fault is not None
    assert fault.sequence == place + 1
    assert "changed" in fault.reason


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s: s[:1] + s[2:], id="one removed"),
        pytest.param(lambda s: s[1:], id="the first removed"),
        pytest.param(lambda s: [s[1], s[0], *s[2:]], id="two swapped"),
        pytest.param(lambda s: [s[0], s[0], *s[1:]], id="one doubled"),
        pytest.param(lambda s: [s[0].model_copy(update={"chain": "other"}), *s[1:]], id="of another chain"),
        pytest.param(lambda s: [s[0].model_copy(update={"hash": "f" * 64}), *s[1:]], id="hash replaced"),
        pytest.param(lambda s: [s[0], s[1].model_copy(update={"previous_hash": "0" * 64}), *s[2:]], id="cut"),
        pytest.param(lambda s: [link(CHAIN, None, event(9)), *s[1:]], id="first one rewritten with its hash"),
    ],
)
def test_a_changed_chain_is_found(change: Callable[[list[ChainedEvent]], list[ChainedEvent]]) -> None:
    assert verify_chain(change(chain())) is not None


def test_the_parts_of_a_hash_cannot_flow_into_each_other() -> None:
    assert chain_hash("deployment:1", 11, "0" * 64, event(0)) != chain_hash(
        "deployment:11", 1, "0" * 64, event(0)
    )


@settings(max_examples=100)
@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=4))
def test_stored_and_read_again_the_hash_still_holds(details: dict[str, Any]) -> None:
    stored = link(CHAIN, None, event(0).model_copy(update={"details": details}))

    again = ChainedEvent.model_validate_json(stored.model_dump_json())

    assert verify_chain([again]) is None
    assert canonical_json(again.event) == canonical_json(stored.event)
