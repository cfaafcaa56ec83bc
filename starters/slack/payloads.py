"""What Slack sends when somebody presses a button, submits a modal or types a command: what we read of it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from domain.model import Message
from starters.errors import CommandError
from starters.slack.words import unescape
from starters.target import gate_of, target_of

Id = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{2,32}$")]
"""Of a person, channel, team …"""


class Who(Message):
    """Somebody in Slack; `team_id` is their own workspace's."""

    id: Id
    team_id: Id | None = None


class Place(Message):
    id: Id


class Team(Message):
    id: Id


class Posted(Message):
    """The message that a button belongs to.

    Attributes:
        user, bot_id: who posted it; an incoming webhook has a bot id of its own, and no user.
        subtype: ``bot_message`` where no bot user posted it.
    """

    user: str | None = None
    bot_id: str | None = None
    subtype: str | None = None


class Action(Message):
    action_id: str
    value: str = ""
    action_ts: str = Field(min_length=1)


class BlockActions(Message):
    """A pressed button; `message` is none where it was shown to one person alone."""

    user: Who
    team: Team | None = None
    message: Posted | None = None
    channel: Place | None = None
    trigger_id: str = ""
    response_url: str | None = None
    actions: tuple[Action, ...] = Field(min_length=1)


class Entry(Message):
    value: str | None = None


class State(Message):
    values: dict[str, dict[str, Entry]] = {}


class View(Message):
    id: str = Field(min_length=1)
    callback_id: str = ""
    private_metadata: str = ""
    state: State = State()


class ViewSubmission(Message):
    """A modal that was filled in."""

    user: Who
    team: Team | None = None
    view: View

    def typed(self, name: str) -> str:
        """What stands in the input of this name (block id and action id)."""
        entry = self.view.state.values.get(name, {}).get(name)
        return ((entry.value if entry is not None else None) or "").strip()


class SlashCommand(Message):
    command: str
    text: str = ""
    user_id: Id
    team_id: Id | None = None
    channel_id: Id
    trigger_id: str = Field(min_length=1)
    response_url: str | None = None

    @property
    def who(self) -> Who:
        return Who(id=self.user_id, team_id=self.team_id)

    @property
    def typed(self) -> str:
        return unescape(self.text)


def _of_a_deployment(approval_id: str) -> str:
    try:
        target_of(approval_id)
    except CommandError as error:
        raise ValueError(error.message) from None
    if gate_of(approval_id) is None:
        raise ValueError(f"{approval_id!r} names no approval")
    return approval_id


class Gate(Message):
    """Which approval a button is for: its `value`.

    Attributes:
        approval_id: the workflow's id.
    """

    approval_id: Annotated[str, StringConstraints(max_length=500), AfterValidator(_of_a_deployment)]
    gate: Annotated[str, StringConstraints(min_length=1, max_length=200)]

    @model_validator(mode="after")
    def _is_of_its_approval(self) -> Self:
        if gate_of(self.approval_id) != self.gate:
            raise ValueError(f"gate is {self.gate!r}, which is not the gate of {self.approval_id!r}")
        return self


class Occasion(Gate):
    """Where a modal was opened: its `private_metadata`."""

    channel: Id
