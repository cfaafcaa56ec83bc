"""An approval as a Slack message: what one needs to know to decide, how it stands, and the buttons."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from slack_sdk.models.blocks import (
    ActionsBlock,
    Block,
    ButtonElement,
    ContextBlock,
    HeaderBlock,
    MarkdownTextObject,
    PlainTextObject,
    SectionBlock,
)

from activities.slack.message import Message
from activities.slack.mrkdwn import in_a_row, link, listed, local_time, mrkdwn, one_line, seen
from domain.approval import ApprovalState, ApprovalStatus, Decision, RuleProgress, Verb, missing
from domain.approval_card import ApprovalCard
from domain.approval_settings import Requirement

APPROVE: Final = "approval_approve"
REJECT: Final = "approval_reject"
COMMENT: Final = "approval_comment"
BREAK_GLASS: Final = "approval_break_glass"

_COMMENTS = 5
_LINE = 300
_VALUE = ButtonElement.value_max_length // 2  # each button carries it
_SECTION = 1500  # all sections together stay well below what Slack takes in one message
_ENDED = {
    ApprovalState.APPROVED: "✅ Approved",
    ApprovalState.REJECTED: "⛔ Rejected",
    ApprovalState.EXPIRED: "⌛ Expired",
}
_GATE_SIGNS = {"passed": "✅", "warned": "⚠️", "skipped": "⏭️", "failed": "❌", "running": "⏳"}
_RISK_SIGNS = {"low": "🟢", "medium": "🟡", "high": "🔴"}


def approval_message(card: ApprovalCard, now: datetime, *, interactive: bool) -> Message:
    """The message of a card; without `interactive` it has no buttons, and says how to decide elsewhere."""
    return Message(
        text=_text(card),
        blocks=[*_blocks(card, now, interactive=interactive)],
        payload={"key": card.key, "thread": card.key, "revision": card.revision},
    )


def decided(card: ApprovalCard) -> bool:
    """Whether this is the last word."""
    return card.approval.state is not ApprovalState.PENDING


def _text(card: ApprovalCard) -> str:
    lines = [_title(card)]
    if headline := _headline(card):
        lines.append(headline)
    lines.append(f"asked by {card.requester}")
    if card.facts.risk:
        lines.append(f"risk: {card.facts.risk}")
    if not decided(card):
        lines.append(f"until {card.approval.expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC; {_command(card)}")
    return "\n".join(one_line(line, _LINE) for line in lines)


def _blocks(card: ApprovalCard, now: datetime, *, interactive: bool) -> Iterator[Block]:
    title = seen(_title(card))
    limit = HeaderBlock.text_max_length
    yield HeaderBlock(
        text=PlainTextObject(text=title if len(title) <= limit else title[: limit - 1] + "…", emoji=False)
    )
    if headline := _headline(card):
        yield SectionBlock(text=mrkdwn(f"*{one_line(headline, _LINE)}*"))
    yield SectionBlock(fields=[*_fields(card)])
    for section in (
        _rules(card, now),
        _gates(card),
        _list("Risk", card.facts.risks),
        _list("Compliance gaps", card.facts.compliance_gaps),
        _votes(card.approval),
        _comments(card.approval),
    ):
        if section:
            yield SectionBlock(text=mrkdwn(section))
    buttons = [] if decided(card) or not interactive else _buttons(card)
    if buttons:
        yield ActionsBlock(elements=buttons)
    yield ContextBlock(elements=[mrkdwn(_footer(card, buttons=bool(buttons)))])


def _title(card: ApprovalCard) -> str:
    if decided(card):
        return f"{_ENDED[card.approval.state]}: {card.application} {card.version} for {card.environment}"
    return f"Approve {card.application} {card.version} for {card.environment}?"


def _headline(card: ApprovalCard) -> str:
    return card.headline or card.approval.reason or ""


def _fields(card: ApprovalCard) -> Iterator[MarkdownTextObject]:
    """Two columns, no more than the ten fields Slack takes."""
    facts, approval = card.facts, card.approval
    commit = f"`{one_line(facts.commit[:12], 60)}`" if facts.commit else ""
    subject = one_line(facts.subject, _LINE) if facts.subject else ""
    replaced = one_line(facts.previous_version, 100) if facts.previous_version else ""
    changes = link(facts.diff_url, f"{facts.previous_version or ''}…{card.version}") if facts.diff_url else ""
    risk = f"{_RISK_SIGNS.get(facts.risk, '')} {one_line(facts.risk, 60)}".strip() if facts.risk else ""
    ended = approval.decided_at
    for label, value in (
        ("Version", one_line(card.version, 100)),
        ("Replaces", replaced),
        ("Commit", f"{commit} {subject}".strip()),
        ("Changes", changes),
        ("Asked by", one_line(card.requester, _LINE)),
        ("Why", one_line(facts.reason, _LINE) if facts.reason else ""),
        ("Risk", risk),
        ("Soak", one_line(facts.soak, _LINE) if facts.soak else ""),
        ("Gate", one_line(approval.gate_name, 150)),
        ("Decided", local_time(ended)) if ended else ("Open until", local_time(approval.expires_at)),
    ):
        if value:
            yield mrkdwn(f"*{label}*\n{value}")


def _rules(card: ApprovalCard, now: datetime) -> str:
    """Who approves: of each rule how many, how many of them are missing, and who can still do so."""
    policy, approval = card.policy, card.approval
    rules = missing(approval, policy, now)
    together = "any one of" if policy.require is Requirement.ANY else "all of"
    heading = f"*Who approves* ({together} these)" if len(rules) > 1 else "*Who approves*"
    lines = [_rule(rule, open_=not decided(card)) for rule in rules]
    if not decided(card):
        emergency = policy.emergency
        if emergency is not None and approval.escalated_at is not None:
            counted = len(approval.emergency_approvals)
            lines.append(
                f"🚨 or {emergency.people} of {_any(emergency.roles)} break the glass: {counted} so far"
            )
        barred = [f"{person} asked for it" for person in policy.excluded]
        barred += [f"{person} wrote it" for person in policy.authors]
        if barred:
            lines.append(f"Not: {in_a_row((one_line(b, 100) for b in barred), _LINE)}")
        if policy.require_verified:
            lines.append("Only signed decisions count")
    return listed(lines, _SECTION, heading=heading) if lines else ""


def _rule(rule: RuleProgress, *, open_: bool) -> str:
    line = f"{'✅' if not rule.missing else '•'} {rule.needed} of {_any(rule.roles)}"
    if rule.counted:
        line += f": {_people(rule.counted)}"
    if rule.missing and open_:
        line += f" · *{rule.missing} missing*"
        line += f", open to {_people(rule.open_to)}" if rule.open_to else ", and nobody can approve"
    return line


def _any(roles: tuple[str, ...]) -> str:
    return in_a_row((one_line(role, 100) for role in roles), _LINE, separator=" or ") or "nobody"


def _people(people: tuple[str, ...]) -> str:
    return in_a_row((one_line(person, 100) for person in people), _LINE)


def _gates(card: ApprovalCard) -> str:
    """The gates that passed on one line; every other one with its reason."""
    passed = [gate.name for gate in card.facts.gates if gate.outcome == "passed"]
    lines = [
        f"{_GATE_SIGNS.get(gate.outcome, '•')} {one_line(f'{gate.name} {gate.outcome}', 100)}"
        + (f": {one_line(gate.reason, _LINE)}" if gate.reason else "")
        for gate in card.facts.gates
        if gate.outcome != "passed"
    ]
    if passed:
        names = in_a_row((one_line(name, 60) for name in passed), _LINE)
        lines.insert(0, f"{_GATE_SIGNS['passed']} {names} passed")
    return listed(lines, _SECTION, heading="*Gates*") if lines else ""


def _list(heading: str, items: tuple[str, ...]) -> str:
    lines = [f"• {one_line(item, _LINE)}" for item in items]
    return listed(lines, _SECTION, heading=f"*{heading}*") if lines else ""


def _votes(approval: ApprovalStatus) -> str:
    votes = sorted((*approval.received_approvals, *approval.received_rejections), key=lambda d: d.at)
    return listed([_vote(d) for d in votes], _SECTION, heading="*Decisions*") if votes else ""


def _vote(decision: Decision) -> str:
    """One line: who, in which role and for whom, when, whether it was signed, and why."""
    if decision.emergency:
        said = "🚨 {} breaks the glass"
    else:
        said = "⛔ {} rejects" if decision.verb is Verb.REJECT else "✅ {} approves"
    line = said.format(one_line(decision.actor, 150))
    if decision.roles:
        line += f" as {in_a_row((one_line(role, 60) for role in decision.roles), 200)}"
    if decision.on_behalf_of:
        line += f" on behalf of {one_line(decision.on_behalf_of, 150)}"
    line += f" · {local_time(decision.at)}"
    if decision.verified is not None:
        line += " · verified" if decision.verified else " · not verified"
    return line + _quoted(decision.comment)


def _comments(approval: ApprovalStatus) -> str:
    """The last few, oldest first."""
    said = approval.comments
    lines = [
        f"💬 {one_line(c.actor, 150)} · {local_time(c.at)}{_quoted(c.comment)}" for c in said[-_COMMENTS:]
    ]
    earlier = len(said) - len(lines)
    heading = f"*Comments* ({earlier} earlier)" if earlier else "*Comments*"
    return listed(lines, _SECTION, heading=heading) if lines else ""


def _quoted(comment: str) -> str:
    return f" · “{one_line(comment, _LINE)}”" if comment.strip() else ""


def _buttons(card: ApprovalCard) -> list[ButtonElement]:
    value = json.dumps({"approval_id": card.approval.id, "gate": card.policy.gate})
    if len(value) > _VALUE:
        return []
    buttons = [("Approve", APPROVE, "primary"), ("Reject…", REJECT, "danger"), ("Comment…", COMMENT, None)]
    if card.policy.emergency is not None and card.approval.escalated_at is not None:
        buttons.append(("Break the glass…", BREAK_GLASS, "danger"))
    return [
        ButtonElement(text=PlainTextObject(text=text), action_id=action, value=value, style=style)
        for text, action, style in buttons
    ]


def _footer(card: ApprovalCard, *, buttons: bool) -> str:
    parts = []
    if not decided(card):
        how = "or at a terminal: " if buttons else "Decide at a terminal: "
        parts.append(f"{how}`{one_line(_command(card), _LINE)}`")
    if card.facts.deployment_url:
        parts.append(link(card.facts.deployment_url, "deployment"))
    parts.append(one_line(card.approval.id, _LINE))
    return in_a_row(parts, _SECTION * 2, separator=" · ")


def _command(card: ApprovalCard) -> str:
    return f"erlmcp-deploy approve {card.environment} {card.version}"
