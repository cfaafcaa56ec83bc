"""The desk where Slack's interactions arrive: buttons, modals, the slash command (spec: Approval Workflow).

A decision is acknowledged when Temporal has taken it, within the three seconds Slack waits; otherwise it is
not, and Slack shows the person that it failed. What a decision comes to is the workflow's to say: it updates
the message, and tells a refusal to the person alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from pydantic import ValidationError
from temporalio.client import Client
from temporalio.service import RPCError

from activities.slack.approval_message import APPROVE
from activities.slack.web_api import BOT_TOKEN
from domain.approval import Verb
from domain.configuration import Configuration
from domain.signing import SigningKey
from starters.receiver.answer import Answer, RefusedError
from starters.receiver.temporal import ANSWER_LIMIT, Temporal, unavailable
from starters.slack import commands
from starters.slack.decisions import decision, signal, signed
from starters.slack.modals import INPUT, QUESTIONS, Question, modal, notice
from starters.slack.once import Once
from starters.slack.payloads import (
    Action,
    BlockActions,
    Gate,
    Occasion,
    SlashCommand,
    ViewSubmission,
    Who,
)
from starters.slack.people import People, SlackApi, SlackRefusedError, StrangerError
from starters.slack.words import Words, code, escape, words
from starters.target import Target, target_of

T = TypeVar("T")

ACKNOWLEDGE_LIMIT = 2.8
"""Seconds for everything; Slack waits three."""
_SAYING_LIMIT = 10
_RESPONSE_HOST = "hooks.slack.com"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlackReply:
    """What goes back to Slack.

    Attributes:
        status: 200 acknowledges; over Socket Mode nothing else is acknowledged.
        body: for the person: a message after a command, what becomes of a modal after its submission.
        answer: the same in the receiver's own terms.
    """

    status: int
    body: dict[str, Any] | None
    answer: Answer


class _Deadline:
    """The time that is left for one interaction."""

    def __init__(self) -> None:
        self._end = asyncio.get_running_loop().time() + ACKNOWLEDGE_LIMIT

    @property
    def left(self) -> float:
        return max(0.0, self._end - asyncio.get_running_loop().time())

    async def slack(self, work: Awaitable[T]) -> T:
        """Wait for Slack's own API no longer than that.

        Raises:
            RefusedError: 503.
        """
        try:
            async with asyncio.timeout(self.left):
                return await work
        except TimeoutError:
            raise unavailable("Slack itself does not answer in time; try again") from None


class SlackDesk:
    """Takes what Slack sends; whoever calls has checked that it is Slack.

    Args:
        configuration: the current deployment.yaml.
        environment: holds ``SLACK_BOT_TOKEN`` and the receiver's signing key.

    Raises:
        ValueError: the signing key cannot be used.
    """

    def __init__(
        self,
        temporal: Temporal,
        configuration: Callable[[], Configuration],
        *,
        environment: Mapping[str, str],
    ) -> None:
        self._temporal = temporal
        self._configuration = configuration
        self._key = SigningKey.from_environment(environment)
        self._api = SlackApi(configuration, environment)
        self._people = People(self._api, configuration)
        self._saying: set[asyncio.Task[None]] = set()
        self._once: Once[SlackReply] = Once(lambda reply: reply.status == 200)

    async def handle(self, form: Mapping[str, str]) -> SlackReply:
        """Take one HTTP request: the fields of its form."""
        if "ssl_check" in form:
            return _reply(Answer(200, "ignored", "Slack checks the certificate"))
        if "payload" not in form:
            return await self.take("slash_commands", form)
        try:
            payload = json.loads(form["payload"])
        except ValueError:
            payload = None
        if not isinstance(payload, dict):
            return _reply(Answer(400, "unreadable", "the field payload is not a JSON object"))
        return await self.take("interactive", payload)

    async def take(self, kind: str, payload: Mapping[str, Any]) -> SlackReply:
        """Take one interaction. One that is sent again gets the same answer, and nothing more is done.

        Args:
            kind: ``interactive`` or ``slash_commands``, as Socket Mode calls them.
        """
        # Slack names every interaction in its payload (trigger_id), so the same payload is the same one.
        payload = dict(payload)
        identity = hashlib.sha256(json.dumps([kind, payload], sort_keys=True).encode()).hexdigest()
        reply, _ = await self._once.do(identity, lambda: self._take(kind, payload))
        return reply

    async def _take(self, kind: str, payload: Mapping[str, Any]) -> SlackReply:
        what = payload.get("type") if kind == "interactive" else kind
        takers: dict[str, Callable[[Mapping[str, Any]], Coroutine[Any, Any, SlackReply]]] = {
            "block_actions": self._pressed,
            "view_submission": self._submitted,
            "slash_commands": self._typed,
        }
        taker = takers.get(str(what))
        if taker is None:
            return _reply(Answer(200, "ignored", f"nothing is done for {escape(str(what))[:80]}"))
        try:
            return await taker(payload)
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, e["loc"])) for e in error.errors(include_input=False))
            return _reply(Answer(422, "invalid", f"Slack's {what} cannot be used: {fields}"))

    async def close(self) -> None:
        """Finish what is being said to people."""
        if self._saying:
            await asyncio.wait(self._saying, timeout=_SAYING_LIMIT)
        for task in [*self._saying]:
            task.cancel()
        await self._people.close()

    # Buttons

    async def _pressed(self, payload: Mapping[str, Any]) -> SlackReply:
        pressed = BlockActions.model_validate(payload)
        action = pressed.actions[0]
        if action.action_id != APPROVE and action.action_id not in QUESTIONS:
            return _reply(
                Answer(200, "ignored", f"nothing is done for the button {escape(action.action_id)}")
            )
        gate = Gate.model_validate_json(action.value)
        try:
            target = target_of(gate.approval_id)
            answer, said = await self._press(pressed, action, gate, target)
        except StrangerError as stranger:
            answer, said = Answer(200, "refused", str(stranger), gate.approval_id), stranger.said
        except RefusedError as refused:
            answer, said = refused.answer, _failed(refused.answer.reason)
        self._say(pressed.response_url, said)
        return _reply(answer)

    async def _press(
        self, pressed: BlockActions, action: Action, gate: Gate, target: Target
    ) -> tuple[Answer, Words | None]:
        deadline = _Deadline()
        here = None if pressed.team is None else pressed.team.id
        person = await deadline.slack(self._people.address_of(pressed.user, here))
        if self._api.token is not None and not (await deadline.slack(self._api.home())).posted(
            pressed.message
        ):
            reason = "this message is not one of mine, so its buttons decide nothing"
            return Answer(200, "refused", reason, gate.approval_id), _failed(reason)
        channel = pressed.channel.id if pressed.channel is not None else pressed.user.id
        if action.action_id in QUESTIONS:
            return await self._ask(QUESTIONS[action.action_id], pressed, gate, channel, deadline)
        taken = await self._decide(
            Verb.APPROVE,
            person,
            "",
            gate=gate,
            key=f"{pressed.user.id}:{action.action_ts}",
            channel=channel,
            who=pressed.user,
            emergency=False,
            deadline=deadline,
        )
        return _signalled(taken, gate), _approved(target, gate) if taken else _too_late(target)

    async def _ask(
        self, question: Question, pressed: BlockActions, gate: Gate, channel: str, deadline: _Deadline
    ) -> tuple[Answer, Words | None]:
        """Open the modal of a button."""
        if self._api.token is None:
            reason = f"{BOT_TOKEN} is not set, so no window can be opened"
            return Answer(200, "refused", reason, gate.approval_id), _failed(reason)
        view = modal(question, gate, channel)
        try:
            await deadline.slack(
                self._api.call(lambda slack: slack.views_open(trigger_id=pressed.trigger_id, view=view))
            )
        except SlackRefusedError as error:
            if error.code != "exchanged_trigger_id":  # it is open: Slack sent the click twice
                late = " (you were faster than Slack; press the button again)"
                hint = late if error.code == "expired_trigger_id" else ""
                reason = f"Slack does not open the window: {error.code}{hint}"
                return Answer(200, "refused", reason, gate.approval_id), _failed(reason)
        return Answer(200, "asked", f"the person is asked: {question.name}", gate.approval_id), None

    # Modals

    async def _submitted(self, payload: Mapping[str, Any]) -> SlackReply:
        submitted = ViewSubmission.model_validate(payload)
        question = QUESTIONS.get(submitted.view.callback_id)
        if question is None:
            reason = f"nothing is done for the modal {escape(submitted.view.callback_id)}"
            return _reply(Answer(200, "ignored", reason))
        occasion = Occasion.model_validate_json(submitted.view.private_metadata)
        target = target_of(occasion.approval_id)
        typed = submitted.typed(INPUT)
        if not typed:
            answer = Answer(200, "refused", "nothing was written", occasion.approval_id)
            missing = {
                "response_action": "errors",
                "errors": {INPUT: "Write a few words; blanks say nothing."},
            }
            return _reply(answer, missing)
        deadline = _Deadline()
        try:
            here = None if submitted.team is None else submitted.team.id
            person = await deadline.slack(self._people.address_of(submitted.user, here))
            taken = await self._decide(
                question.verb,
                person,
                typed,
                gate=occasion,
                key=f"{submitted.user.id}:{submitted.view.id}",
                channel=occasion.channel,
                who=submitted.user,
                emergency=question.emergency,
                deadline=deadline,
            )
        except StrangerError as stranger:
            answer = Answer(200, "refused", str(stranger), occasion.approval_id)
            return _reply(answer, _instead(stranger.said))
        except RefusedError as refused:
            return _reply(refused.answer)  # Slack shows that it failed, and keeps what was typed
        return _reply(_signalled(taken, occasion), None if taken else _instead(_too_late(target)))

    async def _decide(
        self,
        verb: Verb,
        person: str,
        comment: str,
        *,
        gate: Gate,
        key: str,
        channel: str,
        who: Who,
        emergency: bool,
        deadline: _Deadline,
    ) -> bool:
        """Hand a decision to the approval; whether it is open.

        Raises:
            RefusedError: 503; Temporal did not take it.
        """
        message = decision(
            person, comment, gate=gate.gate, key=key, channel=channel, user=who.id, emergency=emergency
        )
        target = target_of(gate.approval_id)

        async def hand_over(client: Client) -> bool:
            sealed = signed(message, self._key, client.namespace, target, verb)
            return await signal(client, gate.approval_id, verb, sealed)

        return await self._temporal_takes(hand_over, deadline)

    async def _temporal_takes(self, work: Callable[[Client], Awaitable[T]], deadline: _Deadline) -> T:
        try:
            return await self._temporal.ask(work, limit=min(ANSWER_LIMIT, deadline.left))
        except RPCError as error:
            _log.warning("Temporal answers %s: %s", error.status.name, error.message)
            raise unavailable("Temporal does not take it; its operators find the reason in the log") from None

    # The slash command

    async def _typed(self, payload: Mapping[str, Any]) -> SlackReply:
        command = SlashCommand.model_validate(payload)
        if commands.needs_nobody(command.typed):
            return _reply(Answer(200, "told", "help"), commands.usage(command.command).message())
        deadline = _Deadline()
        try:
            person = await deadline.slack(self._people.address_of(command.who, command.team_id))
            order = commands.understand(command, person, self._configuration(), self._key)
            done = await self._temporal_takes(order.carry_out, deadline)
        except (StrangerError, commands.MistakeError) as refused:
            return _reply(Answer(200, "refused", str(refused)), refused.said.message())
        except RefusedError as refused:
            self._say(command.response_url, _failed(refused.answer.reason))
            return _reply(refused.answer)
        answer = Answer(200, done.outcome, f"{order.verb} from Slack", done.workflow_id)
        return _reply(answer, done.said.message())

    # Saying something to one person, after the acknowledgement

    def _say(self, response_url: str | None, said: Words | None) -> None:
        if said is None or response_url is None:
            return
        if not _is_slacks(response_url, self._configuration().notification_channels.slack.api_url):
            _log.warning("a person in Slack could not be told: response_url does not lead to Slack")
            return
        task = asyncio.create_task(_post(response_url, said))
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)


async def _post(response_url: str, said: Words) -> None:
    """Answer at a response URL, which is a secret, so no error that may quote it is passed on."""
    message = {**said.message(), "replace_original": False}
    limit = aiohttp.ClientTimeout(total=_SAYING_LIMIT)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, trust_env=True) as session,
            session.post(response_url, json=message, allow_redirects=False) as answer,
        ):
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        _log.warning("a person in Slack could not be told: %s", type(error).__name__)
        return
    if status != 200:
        _log.warning("a person in Slack could not be told: HTTP %s", status)


def _is_slacks(response_url: str, api_url: str) -> bool:
    """Whether an address out of a payload is one that Slack gives: its own, or the host of the API we use."""
    try:
        asked, own = urlsplit(response_url), urlsplit(api_url)
        if (asked.scheme, asked.hostname, asked.port) == (own.scheme, own.hostname, own.port):
            return True
        return asked.scheme == "https" and asked.hostname == _RESPONSE_HOST and asked.port in (None, 443)
    except ValueError:
        return False


def _reply(answer: Answer, body: dict[str, Any] | None = None) -> SlackReply:
    return SlackReply(answer.status, body, answer)


def _signalled(taken: bool, gate: Gate) -> Answer:
    if taken:
        return Answer(200, "signalled", "the approval has the decision", gate.approval_id)
    return Answer(200, "refused", "the approval is closed", gate.approval_id)


def _approved(target: Target, gate: Gate) -> Words:
    what = f"{code(target.application)} {code(target.version)} for {code(target.environment)}"
    return words(f"You approved {what} (gate {code(gate.gate)}). If the gate refuses it, you are told.")


def _too_late(target: Target) -> Words:
    name = f"{code(target.application)} {code(target.version)} → {code(target.environment)}"
    return words(f"Nothing was done: the approval of {name} is closed; it was decided already.")


def _failed(reason: str) -> Words:
    return words(f":warning: That did not work: {escape(reason)}")


def _instead(said: Words) -> dict[str, Any]:
    """Say something in the modal that was submitted."""
    return {"response_action": "update", "view": notice(said.blocks())}
