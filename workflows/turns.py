"""Waiting for a turn in an environment, as deployments and roll-backs do."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import FailureError

from activities.signatures import TurnSignatures
from domain.environment import Outcome, TurnAnswer, TurnDecision, TurnRelease, TurnRequest
from workflows import effects


class Turn:
    """One run's turn in its environment. The owner feeds it the signals ``turn_decided``."""

    def __init__(self, request: TurnRequest) -> None:
        self._request = request
        self.decision: TurnDecision | None = None

    def decided(self, decision: TurnDecision) -> None:
        if decision.token == self._request.token and decision.answer is not TurnAnswer.WAITING:
            self.decision = decision

    def still_waits(self, decision: TurnDecision) -> bool:
        """Whether this only says what is waited for."""
        return (
            self.decision is None
            and decision.token == self._request.token
            and decision.answer is TurnAnswer.WAITING
        )

    async def ask(self) -> None:
        """Enter the queue; the environment is started if need be."""
        await workflow.execute_activity_method(
            TurnSignatures.request_turn,
            self._request,
            summary=f"ask for a turn in {self._request.environment}",
            **effects.SHORT,
        )

    async def wait(self) -> TurnDecision:
        await workflow.wait_condition(lambda: self.decision is not None)
        assert self.decision is not None  # noqa: S101 - told to the type checker by the condition above
        return self.decision

    async def give_back(
        self,
        outcome: Outcome,
        *,
        live_version: str | None = None,
        commit: str | None = None,
        reason: str = "",
    ) -> None:
        """Tell the environment how it ended. An environment that is gone has nothing to be told."""
        release = TurnRelease(
            holder=self._request.holder,
            token=self._request.token,
            version=self._request.version,
            outcome=outcome,
            live_version=live_version,
            commit=commit,
            reason=reason,
        )
        environment = f"environment:{self._request.application}:{self._request.environment}"
        try:
            await workflow.get_external_workflow_handle(environment).signal("release_turn", release)
        except FailureError:
            workflow.logger.warning("environment workflow %s is gone; its queue starts afresh", environment)


def turn_request(
    *, application: str, environment: str, version: str, actor: str, **options: object
) -> TurnRequest:
    """The request of the current run."""
    info = workflow.info()
    return TurnRequest.model_validate(
        {
            "application": application,
            "environment": environment,
            "holder": info.workflow_id,
            "token": str(workflow.uuid4()),
            "started": workflow.now(),
            "version": version,
            "actor": actor,
            **options,
        }
    )
