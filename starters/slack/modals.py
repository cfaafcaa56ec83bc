"""The modals behind the buttons of an approval: a reason, a comment, breaking the glass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from activities.slack.approval_message import BREAK_GLASS, COMMENT, REJECT
from domain.approval import Verb
from starters.slack.payloads import Gate, Occasion
from starters.slack.words import code, section
from starters.target import target_of

INPUT = "comment"
"""Block id and action id of the one input."""
_LONGEST = 2000


@dataclass(frozen=True)
class Question:
    """What a button asks before it decides.

    Attributes:
        name: the button's action id and the modal's callback id.
        prompt: label of the input, which must be filled in.
        warning: what to know before.
    """

    name: str
    verb: Verb
    title: str
    submit: str
    prompt: str
    emergency: bool = False
    warning: str = ""


QUESTIONS = {
    question.name: question
    for question in (
        Question(
            name=REJECT,
            verb=Verb.REJECT,
            title="Reject",
            submit="Reject",
            prompt="Why? One rejection ends the deployment; everybody will read this.",
        ),
        Question(
            name=COMMENT,
            verb=Verb.COMMENT,
            title="Comment",
            submit="Comment",
            prompt="Comment. It never decides; everybody will read it.",
        ),
        Question(
            name=BREAK_GLASS,
            verb=Verb.APPROVE,
            title="Break the glass",
            submit="Break the glass",
            prompt="What is the emergency?",
            emergency=True,
            warning=":rotating_light: *This goes around the rules of the gate.* It takes several people of "
            "the emergency roles, is told to everybody at once, and stays in the audit trail with your name "
            "and reason. In doubt, do not.",
        ),
    )
}


def modal(question: Question, gate: Gate, channel: str) -> dict[str, Any]:
    """The view to open; it remembers the approval and the channel it was opened in."""
    target = target_of(gate.approval_id)
    what = f"*{code(target.application)} {code(target.version)} → {code(target.environment)}*"
    occasion = Occasion(approval_id=gate.approval_id, gate=gate.gate, channel=channel)
    return {
        "type": "modal",
        "callback_id": question.name,
        "private_metadata": occasion.model_dump_json(),
        "title": _plain(question.title),
        "submit": _plain(question.submit),
        "close": _plain("Cancel"),
        "blocks": [
            section(f"{what}\ngate {code(gate.gate)}"),
            *([section(question.warning)] if question.warning else []),
            {
                "type": "input",
                "block_id": INPUT,
                "label": _plain(question.prompt),
                "element": {
                    "type": "plain_text_input",
                    "action_id": INPUT,
                    "multiline": True,
                    "max_length": _LONGEST,
                },
            },
        ],
    }


def notice(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """A modal that only says something, in place of the one that was submitted."""
    return {"type": "modal", "title": _plain("Not done"), "close": _plain("Close"), "blocks": blocks}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text}
