"""Who signed a decision, by what deployment.yaml says at this moment."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.errors import INVALID_CONFIGURATION
from activities.identity import IdentityActivities
from domain.approval import DecisionMessage, Verb
from domain.identity import Identification
from domain.signing import SigningKey, query_of

ADA = "ada@example.com"
DEPLOYMENT = "deployment:shop:production:1.0.0"
KEY = SigningKey.generate("ada-laptop")


def configured(path: Path, *, public_key: str | None) -> None:
    signer = {"ada-laptop": {"public_key": public_key, "speaks_for": [ADA]}}
    directory = {"roles": {"tech_lead": [ADA]}, "signers": {} if public_key is None else signer}
    # Written as JSON, which is YAML too.
    path.write_text(
        json.dumps({"environments": {"staging": None, "production": None}, "directory": directory})
    )


async def ask(path: Path, *, at: datetime | None = None, actor: str = ADA) -> Identification:
    now = datetime.now(UTC)
    message = KEY.sign(DEPLOYMENT, Verb.APPROVE, DecisionMessage(actor=actor), at or now)
    query = query_of(DEPLOYMENT, Verb.APPROVE, message, now - timedelta(hours=1))
    answer: Identification = await ActivityEnvironment().run(IdentityActivities(path).verify_identity, query)
    return answer


async def test_a_signer_of_the_directory_is_recognised_until_it_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "deployment.yaml"
    configured(path, public_key=KEY.public_key)

    assert await ask(path) == Identification(verified=True, signer="ada-laptop")

    # when the signer is removed while the worker runs, it counts no longer
    configured(path, public_key=None)
    removed = await ask(path)
    assert not removed.verified
    assert "directory.signers" in removed.reason

    # when it has another key, the old one counts no longer
    configured(path, public_key=SigningKey.generate("ada-laptop").public_key)
    assert not (await ask(path)).verified


async def test_signatures_from_other_times_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deployment.yaml"
    configured(path, public_key=KEY.public_key)
    now = datetime.now(UTC)

    assert "before this deployment began" in (await ask(path, at=now - timedelta(hours=2))).reason
    assert "yet to come" in (await ask(path, at=now + timedelta(hours=2))).reason


async def test_a_configuration_that_cannot_be_read_is_no_identification(tmp_path: Path) -> None:
    path = tmp_path / "deployment.yaml"
    path.write_text("directory: {signers: {ada-laptop: {}}}")

    with pytest.raises(ApplicationError, match="public_key") as raised:
        await ask(path)

    assert raised.value.type == INVALID_CONFIGURATION
    assert raised.value.non_retryable
