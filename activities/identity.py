"""Verified identity: who signed a decision, by the signers that deployment.yaml names at this moment."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from temporalio import activity

from activities.configuration import ConfigurationError, load_configuration
from activities.errors import INVALID_CONFIGURATION, fail
from activities.signatures import IdentitySignatures
from domain.identity import Identification, IdentityQuery
from domain.signing import identify


class IdentityActivities(IdentitySignatures):
    """Reads deployment.yaml anew for each decision: a signer that was removed counts no longer.

    Args:
        configuration: path of deployment.yaml.
    """

    def __init__(self, configuration: str | Path) -> None:
        self._path = Path(configuration)

    @activity.defn
    async def verify_identity(self, query: IdentityQuery) -> Identification:
        """Whether a decision was signed by somebody who may speak for the person it names.

        Raises:
            ApplicationError: InvalidConfiguration, if the file cannot be used; not retried.
        """
        try:
            # Parsing takes longer than an event loop should stand still.
            configuration = await asyncio.to_thread(load_configuration, self._path)
        except ConfigurationError as error:
            fail(INVALID_CONFIGURATION, str(error), cause=error)
        return identify(query, configuration.directory.signers, datetime.now(UTC))
