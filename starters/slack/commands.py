"""The slash command: ``/deploy status | pending | approve | reject | abort | rollback``."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from temporalio.client import Client

from domain.approval import ApprovalState, Verb, identity
from domain.configuration import Configuration
from domain.deployment import Command, DeploymentStatus
from domain.signing import SigningKey
from starters.errors import CommandError
from starters.finding import running
from starters.following import NoAnswerError
from starters.orders import ToldDeployment, environment_record, order_rollback, send
from starters.slack import reading
from starters.slack.decisions import decision, signal, signed
from starters.slack.payloads import SlashCommand
from starters.slack.words import Words, code, escape, words
from starters.target import Place, Target, gate_of
from workflows.conversion import explain

M = TypeVar("M", bound=BaseModel)

_VERBS = {
    "help": "",
    "status": "[ENV [VERSION]]",
    "pending": "",
    "approve": "ENV VERSION [comment…]",
    "reject": "ENV VERSION reason…",
    "abort": "ENV VERSION reason…",
    "rollback": "ENV [reason…]",
}
_MEANINGS = {
    "help": "this",
    "status": "how everything, an environment or a deployment stands",
    "pending": "what waits for approval",
    "approve": "approve at the open gate; before it opens the approval is kept for it",
    "reject": "reject; one rejection ends the deployment",
    "abort": "stop a deployment at once; what is half deployed is rolled back",
    "rollback": "bring an environment back to its last good version",
}


class MistakeError(Exception):
    """The command cannot be carried out as it was typed; nothing was sent."""

    def __init__(self, *paragraphs: str) -> None:
        super().__init__(paragraphs[0])
        self.said = words(*paragraphs)


@dataclass(frozen=True)
class Done:
    """What a command came to.

    Attributes:
        outcome: told, signalled, started, duplicate, refused.
    """

    said: Words
    outcome: str = "told"
    workflow_id: str | None = None


@dataclass(frozen=True)
class Order:
    """A command that was understood; `carry_out` is asked of Temporal, and bears being done twice."""

    verb: str
    carry_out: Callable[[Client], Awaitable[Done]]


def needs_nobody(typed: str) -> bool:
    """Whether the command may be answered without knowing who asks."""
    return (typed.split() or ["help"])[0].lower() == "help"


def usage(command: str) -> Words:
    """All there is to type."""
    lines = [f"`{escape(f'{command} {verb} {_VERBS[verb]}'.strip())}` {_MEANINGS[verb]}" for verb in _VERBS]
    return words(
        "*Deployments*\n" + "\n".join(lines),
        "ENV is an environment such as `production`; with several applications `application/production`.",
    )


def understand(
    command: SlashCommand, person: str, configuration: Configuration, key: SigningKey | None
) -> Order:
    """What was typed, as an order.

    Raises:
        MistakeError: it cannot be understood, or the person may not; says what can be typed.
    """
    return _Reader(command, person, configuration, key).order()


class _Reader:
    def __init__(
        self, command: SlashCommand, person: str, configuration: Configuration, key: SigningKey | None
    ) -> None:
        self._command = command
        self._name = escape(command.command)
        self._person = person
        self._configuration = configuration
        self._key = key
        self._rest = command.typed.split()

    def order(self) -> Order:
        verb = self._next().lower()
        orders: dict[str, Callable[[], Callable[[Client], Awaitable[Done]]]] = {
            "status": self._status,
            "pending": self._pending,
            "approve": lambda: self._decide(Verb.APPROVE),
            "reject": lambda: self._decide(Verb.REJECT),
            "abort": self._abort,
            "rollback": self._rollback,
        }
        if verb not in orders:
            near = difflib.get_close_matches(verb, _VERBS, n=1, cutoff=0.5)
            did_you_mean = f" Did you mean `{self._name} {near[0]} {_VERBS[near[0]]}`?" if near else ""
            raise MistakeError(
                f"There is no {code(verb)}.{did_you_mean}", *usage(self._command.command).paragraphs
            )
        return Order(verb, orders[verb]())

    # The parts of a command

    def _next(self) -> str:
        return self._rest.pop(0) if self._rest else ""

    def _words(self) -> str:
        return " ".join(self._rest)

    def _place(self, verb: str) -> Place:
        typed = self._next()
        if not typed:
            raise self._incomplete(verb, "the environment")
        application, _, environment = typed.rpartition("/")
        known = self._configuration.applications
        if not application:
            if len(known) != 1:
                raise MistakeError(
                    "Which application? " + _choice("Write one of", (f"{a}/{typed}" for a in known))
                )
            application = next(iter(known))
        elif application not in known:
            raise MistakeError(f"There is no application {code(application)}. " + _choice("There are", known))
        if environment not in self._configuration.environments:
            near = difflib.get_close_matches(environment, self._configuration.environments, n=1)
            meant = f"Did you mean {code(near[0])}? " if near else ""
            raise MistakeError(
                f"There is no environment {code(environment)}. "
                + meant
                + _choice("There are", self._configuration.environments)
            )
        return _checked(Place, application=application, environment=environment)

    def _target(self, verb: str) -> Target:
        place = self._place(verb)
        version = self._next()
        if not version:
            raise self._incomplete(verb, "the version")
        return _checked(Target, application=place.application, environment=place.environment, version=version)

    def _reason(self, verb: str) -> str:
        reason = self._words()
        if not reason:
            raise self._incomplete(verb, "the reason; it is kept in the audit trail")
        return reason

    def _incomplete(self, verb: str, what: str) -> MistakeError:
        return MistakeError(f"Missing: {what}. Write `{self._name} {verb} {_VERBS[verb]}`")

    # Reading

    def _status(self) -> Callable[[Client], Awaitable[Done]]:
        if not self._rest:
            applications = sorted(self._configuration.applications)

            async def all_of_them(client: Client) -> Done:
                return Done(await reading.everything(client, applications, datetime.now(UTC)))

            return all_of_them
        if len(self._rest) == 1:
            place = self._place("status")

            async def environment(client: Client) -> Done:
                return Done(
                    await reading.environment(client, place, datetime.now(UTC)), workflow_id=place.workflow_id
                )

            return environment
        target = self._target("status")

        async def deployment(client: Client) -> Done:
            said = await reading.deployment(client, target, datetime.now(UTC))
            return Done(said, workflow_id=target.id_of("deployment"))

        return deployment

    def _pending(self) -> Callable[[Client], Awaitable[Done]]:
        async def pending(client: Client) -> Done:
            return Done(await reading.pending(client, datetime.now(UTC)))

        return pending

    # Deciding

    def _decide(self, verb: Verb) -> Callable[[Client], Awaitable[Done]]:
        target = self._target(str(verb))
        comment = self._reason(str(verb)) if verb is Verb.REJECT else self._words()
        deployment_id = target.id_of("deployment")

        async def hand_over(client: Client, workflow_id: str, gate: str | None) -> bool:
            message = decision(
                self._person,
                comment,
                gate=gate,
                key=self._command.trigger_id,
                channel=self._command.channel_id,
                user=self._command.user_id,
            )
            sealed = signed(message, self._key, client.namespace, target, verb)
            return await signal(client, workflow_id, verb, sealed)

        async def decide(client: Client) -> Done:
            for found in await running(client, target.id_of("approval", "")):
                if await hand_over(client, found.workflow_id, gate_of(found.workflow_id)):
                    said = words(f"Your {_NOUNS[verb]} of {_named(target)} went to its open gate.")
                    return Done(said, "signalled", found.workflow_id)
            if (closed := await _closed(client, target)) is not None:
                return Done(closed, "refused", deployment_id)
            if not await hand_over(client, deployment_id, None):
                return Done(_not_running(target), "refused", deployment_id)
            said = words(
                f"Your {_NOUNS[verb]} of {_named(target)} is kept: it counts when the gate opens, as far as "
                "the gate's rules let it."
            )
            return Done(said, "signalled", deployment_id)

        return decide

    # Operating

    def _check_operator(self, place: Place | Target, verb: str) -> None:
        """Refuse whoever holds none of the environment's roles.

        Raises:
            MistakeError: says who may.
        """
        roles = self._configuration.directory.roles
        wanted = self._configuration.environments[place.environment].operators or tuple(roles)
        entitled = {identity(p) for role in wanted for p in roles.get(role, ())}
        if identity(self._person) in entitled:
            return
        who = "; ".join(f"{code(r)}: {', '.join(map(escape, roles.get(r, ()))) or 'nobody'}" for r in wanted)
        raise MistakeError(
            f":no_entry: {escape(self._person)} may not {verb} in {code(place.environment)}.",
            f"Ask one of them: {who or 'nobody; the directory of deployment.yaml has no roles'}",
        )

    def _abort(self) -> Callable[[Client], Awaitable[Done]]:
        target = self._target("abort")
        order = Command(actor=self._person, reason=self._reason("abort"))
        self._check_operator(target, "abort")

        async def abort(client: Client) -> Done:
            try:
                await send(client, target, "abort", order)
            except CommandError as error:
                return Done(_explained(error), "refused", target.id_of("deployment"))
            said = words(
                f":octagonal_sign: {_named(target)} stops now; what is half deployed is rolled back.\n"
                f"> {escape(order.reason)}"
            )
            return Done(said, "signalled", target.id_of("deployment"))

        return abort

    def _rollback(self) -> Callable[[Client], Awaitable[Done]]:
        place = self._place("rollback")
        reason = self._words() or "asked for in Slack"
        delivery = f"slack:{self._command.trigger_id}"
        self._check_operator(place, "roll back")

        async def rollback(client: Client) -> Done:
            try:
                async with asyncio.timeout(reading.PATIENCE):
                    record = await environment_record(client, place)
            except TimeoutError:
                silence = f"{code(place.workflow_id)}: no worker answers, so nothing was done."
                return Done(
                    words(silence, "Start a worker (`erlmcp-deploy worker`) and try again."), "refused"
                )
            except CommandError as error:
                return Done(_explained(error), "refused", place.workflow_id)
            try:
                done = await order_rollback(
                    client, record, actor=self._person, reason=reason, delivery=delivery
                )
            except CommandError as error:
                return Done(_explained(error), "refused", place.workflow_id)
            if isinstance(done, ToldDeployment):
                workflow_id = done.target.id_of("deployment")
                return Done(
                    words(f"{_BACK} {_named(done.target)} stops and rolls back."), "signalled", workflow_id
                )
            if done.again:
                said = words(f"Done already: this very command went to {code(done.workflow_id)}.")
                return Done(said, "duplicate", done.workflow_id)
            verb = "started" if done.fresh else "runs already"
            stopped = (
                f"; {code(done.stopped)} had deployed nothing yet and is stopped" if done.stopped else ""
            )
            return Done(
                words(f"{_BACK} {code(done.workflow_id)} {verb}{stopped}."), "started", done.workflow_id
            )

        return rollback


_NOUNS = {Verb.APPROVE: "approval", Verb.REJECT: "rejection"}
_BACK = ":leftwards_arrow_with_hook:"


def _choice(title: str, names: Iterable[str]) -> str:
    return f"{title}: " + ", ".join(map(code, sorted(names)))


def _named(target: Target) -> str:
    return f"{code(target.application)} {code(target.version)} → {code(target.environment)}"


async def _closed(client: Client, target: Target) -> Words | None:
    """Why no decision counts any more, as far as a worker says so in time."""
    try:
        status = await reading.ask(client, target.id_of("deployment"), DeploymentStatus)
    except NoAnswerError:
        return None
    if status is None:
        return _not_running(target)
    if status.state.final:
        reason = f": {escape(status.reason)}" if status.reason else ""
        return words(f"{_named(target)} has ended already: *{status.state}*{reason}")
    approval = status.approval
    if approval is not None and approval.state is not ApprovalState.PENDING:
        reason = escape(approval.reason or str(approval.state))
        return words(f"The gate of {_named(target)} was decided already: {reason}")
    return None


def _not_running(target: Target) -> Words:
    return words(f"There is no deployment of {_named(target)} to decide on; it may have ended already.")


def _explained(error: CommandError) -> Words:
    return words(f"Not done: {escape(error.message)}", *([escape(error.remedy)] if error.remedy else []))


def _checked(model: type[M], **fields: str) -> M:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise MistakeError(f"Not understood: {escape(explain(error, model))}") from None
