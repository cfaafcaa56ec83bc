"""Approvals that nobody could give, or that would be worth nothing, are refused before anybody waits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from domain.approval import OnTimeout, identity
from domain.approval.quorum import Quorum, assign
from domain.approval_settings import ApprovalSettings, Delegation, Requirement
from domain.configuration import Configuration, Directory, EnvironmentSettings
from domain.findings import Finding, nearest
from domain.gates import GateDefinition, GateType
from domain.plan import APPROVAL_TIMEOUT
from domain.secrets import Path

_DEFAULTS = ApprovalSettings()
_BEGINNING = datetime.min.replace(tzinfo=UTC)
_END = datetime.max.replace(tzinfo=UTC)


def gate_approvals(
    configuration: Configuration, name: str, settings: EnvironmentSettings, gates: dict[str, GateDefinition]
) -> Iterator[Finding]:
    """What one environment says of its approval; `gates` are those it requires."""
    path: Path = ("environments", name)
    directory = configuration.directory
    manual = [g for g, definition in gates.items() if definition.type is GateType.MANUAL]
    for extra in manual[1:]:
        yield Finding(
            (*path, "required_gates", settings.required_gates.index(extra)), extra,
            f"is a second manual gate, and only {manual[0]!r} would be asked",
            "keep one, and use min_approvals or approvals.rules for more people",
        )  # fmt: skip
    yield from _known_roles((*path, "operators"), settings.operators, directory)
    if not manual and settings.approval is None:
        yield from _never_asked(path, settings)
        yield from _emergency((*path, "approvals"), settings, directory)
        return
    asked = manual[0] if manual else "manual_approval"
    if settings.approvals.rules:
        yield from _rules(path, settings, directory)
    else:
        yield from _single_rule(name, settings, manual, gates, directory)
    definition = configuration.gates.get(asked, GateDefinition(type=GateType.MANUAL))
    timeout = definition.timeout if "timeout" in definition.model_fields_set else APPROVAL_TIMEOUT
    yield from _times((*path, "approvals"), settings, timeout)
    yield from _emergency((*path, "approvals"), settings, directory)
    if definition.on_timeout is OnTimeout.APPROVE and settings.require_verified_identity:
        yield Finding(
            ("gates", asked, "on_timeout"), "approve",
            f"would approve {name} in nobody's name, where every decision must be signed",
            f"write on_timeout: reject, or environments.{name}.require_verified_identity: false",
        )  # fmt: skip
    if settings.production and "requester" not in settings.approvals.exclude:
        yield Finding(
            (*path, "approvals", "exclude"), list(settings.approvals.exclude),
            "would let people approve their own deployments to production",
            "write exclude: [requester], or [requester, author]",
        )  # fmt: skip


def _never_asked(path: Path, settings: EnvironmentSettings) -> Iterator[Finding]:
    remedy = "name the role under approval, or a manual gate under required_gates"
    if settings.min_approvals > 1:
        yield Finding(
            (*path, "min_approvals"), settings.min_approvals,
            "is never asked for: there is no approval", remedy,
        )  # fmt: skip
    # Who may break the glass may also skip the tests, which needs no approval.
    emergency = {field: getattr(_DEFAULTS, field) for field in ("emergency_roles", "emergency_people")}
    if settings.approvals.model_copy(update=emergency) != _DEFAULTS:
        yield Finding((*path, "approvals"), None, "is never looked at: there is no approval", remedy)


def _single_rule(
    name: str,
    settings: EnvironmentSettings,
    manual: list[str],
    gates: dict[str, GateDefinition],
    directory: Directory,
) -> Iterator[Finding]:
    path: Path = ("environments", name)
    if settings.approval is not None:
        where: Path = (*path, "approval")
        roles: tuple[str, ...] = (settings.approval,)
    else:
        where = ("gates", manual[0], "approvers", name)
        roles = gates[manual[0]].approvers.get(name, ())
    if not roles:
        yield Finding(
            where, None, f"nobody may approve {name}",
            f"name a role under environments.{name}.approval or gates.{manual[0]}.approvers.{name}",
        )  # fmt: skip
        return
    people = _holders(roles, directory)
    if not people:
        for role in roles:
            yield _nobody(role, f"must approve {name}", directory)
    elif len(people) < settings.min_approvals:
        yield Finding(
            (*path, "min_approvals"), settings.min_approvals,
            f"is more than there are people with the role {' or '.join(roles)}: {len(people)}",
            f"write at most {len(people)}, or add people under directory.roles.{roles[0]}",
        )  # fmt: skip
    if people:
        yield from _known_roles(where, roles, directory, numbered=False)


def _rules(path: Path, settings: EnvironmentSettings, directory: Directory) -> Iterator[Finding]:
    approvals = settings.approvals
    where: Path = (*path, "approvals", "rules")
    if settings.min_approvals > 1:
        yield Finding(
            (*path, "min_approvals"), settings.min_approvals, "is never looked at: approvals.rules decide",
            "remove it, and write min_approvals at the rules",
        )  # fmt: skip
    alone = True
    for index, rule in enumerate(approvals.rules):
        yield from _known_roles((*where, index, "roles"), rule.roles, directory)
        for role in rule.roles:
            if role in directory.roles and not _holders((role,), directory):
                yield _nobody(role, f"rule {index} of {path[1]} asks for", directory)
        people = _holders(rule.roles, directory)
        if people and len(people) < rule.min_approvals:
            yield Finding(
                (*where, index, "min_approvals"), rule.min_approvals,
                f"is more than there are people with the role {' or '.join(rule.roles)}: {len(people)}",
                f"write at most {len(people)}, or add people under directory.roles.{rule.roles[0]}",
            )  # fmt: skip
        alone = alone and len(people) >= rule.min_approvals
    if alone and approvals.require is Requirement.ALL:
        held = _held(directory)
        rules = [Quorum(rule.roles, rule.min_approvals) for rule in approvals.rules]
        placed = assign([held[p] for p in sorted(held)], rules)
        short = [f"rule {i}" for i, rule in enumerate(rules) if len(placed[i]) < rule.needed]
        if short:
            yield Finding(
                where, None,
                "can never be satisfied together: one person counts for one rule, and too few are left for "
                f"{' and '.join(short)}",
                "add people under directory.roles, ask for fewer, or write require: any",
            )  # fmt: skip


def _times(path: Path, settings: EnvironmentSettings, timeout: timedelta) -> Iterator[Finding]:
    approvals = settings.approvals
    for index, (earlier, later) in enumerate(pairwise((timedelta(0), *approvals.reminders))):
        if later <= earlier:
            yield Finding(
                (*path, "reminders", index), approvals.model_dump(mode="json")["reminders"][index],
                "is not later than the one before it" if index else "is no time after the request",
                "write them in ascending order, for example [4h, 12h, 24h]",
            )  # fmt: skip
    before = approvals.escalate_before
    if before is not None and before != _DEFAULTS.escalate_before:
        text = approvals.model_dump(mode="json")["escalate_before"]
        if before >= timeout:
            yield Finding(
                (*path, "escalate_before"), text, "is as long as people have, so there is no time before it",
                "write less than the gate's timeout, or null for no escalation",
            )  # fmt: skip
        elif before <= timedelta(0):
            yield Finding(
                (*path, "escalate_before"), text, "leaves no time to decide after the escalation",
                "write for example 6h, or null for no escalation",
            )  # fmt: skip


def _emergency(path: Path, settings: EnvironmentSettings, directory: Directory) -> Iterator[Finding]:
    approvals = settings.approvals
    roles = approvals.emergency_roles
    if not roles:
        if approvals.emergency_people != _DEFAULTS.emergency_people:
            yield Finding(
                (*path, "emergency_people"), approvals.emergency_people,
                "is never asked for: nobody may break the glass", "name who may under emergency_roles",
            )  # fmt: skip
        return
    yield from _known_roles((*path, "emergency_roles"), roles, directory)
    people = _holders(roles, directory)
    if len(people) < approvals.emergency_people and all(role in directory.roles for role in roles):
        yield Finding(
            (*path, "emergency_people"), approvals.emergency_people,
            f"is more than there are people with the role {' or '.join(roles)}: {len(people)}",
            f"add people under directory.roles.{roles[0]}, or name further emergency_roles",
        )  # fmt: skip


# The directory


def people_and_roles(configuration: Configuration) -> Iterator[Finding]:
    """What the directory says of people, whoever is asked."""
    directory = configuration.directory
    for field in ("roles", "on_call"):
        for role, people in getattr(directory, field).items():
            for index, person in enumerate(people):
                if not identity(person):
                    yield Finding(
                        ("directory", field, role, index), person, "is nobody",
                        "write how the person signs, for example alice@example.com",
                    )  # fmt: skip
    for role in directory.on_call:
        if role not in directory.roles:
            yield Finding(
                ("directory", "on_call", role), None, "is no role of the directory",
                f"add directory.roles.{role}; {nearest(role, directory.roles)}",
            )  # fmt: skip
    yield from _delegations(directory)
    yield from _signers(directory)
    yield from _accounts(directory)


def _delegations(directory: Directory) -> Iterator[Finding]:
    held = _held(directory)
    for index, delegation in enumerate(directory.delegations):
        path: Path = ("directory", "delegations", index)
        person, delegate = identity(delegation.person), identity(delegation.delegate)
        if not delegate:
            yield Finding(
                (*path, "delegate"), delegation.delegate, "is nobody",
                "write how the person signs, for example bob@example.com",
            )  # fmt: skip
        elif person == delegate:
            yield Finding(
                (*path, "delegate"), delegation.delegate, "would decide for themselves", "name somebody else"
            )
        if person not in held:
            yield Finding(
                (*path, "person"), delegation.person, "holds no role that could be delegated",
                "add the person under directory.roles, or remove the delegation",
            )  # fmt: skip
        for position, role in enumerate(delegation.roles):
            if role not in directory.roles:
                yield Finding(
                    (*path, "roles", position), role, "is no role of the directory",
                    nearest(role, directory.roles),
                )  # fmt: skip
            elif role not in held.get(person, (role,)):
                yield Finding(
                    (*path, "roles", position), role, f"is not held by {delegation.person}",
                    nearest(role, held[person]),
                )  # fmt: skip
        if delegation.since and delegation.until and delegation.until <= delegation.since:
            yield Finding(
                (*path, "until"), delegation.until.isoformat(), "is not after since, so it is never in force",
                "write a later time",
            )  # fmt: skip
        for other in directory.delegations:
            if person != delegate == identity(other.person) and _overlap(delegation, other):
                yield Finding(
                    (*path, "delegate"), delegation.delegate,
                    f"is away at the same time (for {other.delegate}), and a vote is not passed on twice",
                    f"name {other.delegate} here, or change one of the windows",
                )  # fmt: skip


def _overlap(one: Delegation, other: Delegation) -> bool:
    begun = max(one.since or _BEGINNING, other.since or _BEGINNING)
    return begun < min(one.until or _END, other.until or _END)


def _signers(directory: Directory) -> Iterator[Finding]:
    known = {
        *_held(directory),
        *(identity(p) for people in directory.on_call.values() for p in people),
        *(identity(d.delegate) for d in directory.delegations),
    }
    for name, signer in directory.signers.items():
        path: Path = ("directory", "signers", name)
        if not signer.speaks_for:
            yield Finding(
                (*path, "speaks_for"), [], "speaks for nobody", "name the people whose decisions it signs"
            )
        for index, person in enumerate(signer.speaks_for):
            if person != "*" and identity(person) not in known:
                yield Finding(
                    (*path, "speaks_for", index), person, "is nobody whom the directory knows",
                    "add the person under directory.roles; " + nearest(identity(person), known),
                )  # fmt: skip


def _accounts(directory: Directory) -> Iterator[Finding]:
    seen: dict[tuple[str, str], str] = {}
    people: dict[str, str] = {}
    for person, accounts in directory.accounts.items():
        path: Path = ("directory", "accounts", person)
        first = people.setdefault(identity(person), person)
        if first != person:
            yield Finding(path, None, f"is the same person as {first!r}", "write each person once")
            continue
        for host in ("github", "gitlab", "slack"):
            account = getattr(accounts, host)
            if account is None:
                continue
            owner = seen.setdefault((host, identity(account)), person)
            if owner != person:
                yield Finding(
                    (*path, host), account, f"belongs to {owner} already",
                    "write each account at one person: it says who decides",
                )  # fmt: skip


# Roles and who holds them


def _held(directory: Directory) -> dict[str, list[str]]:
    """Person → roles."""
    held: dict[str, list[str]] = {}
    for role, people in directory.roles.items():
        for person in sorted({identity(p) for p in people} - {""}):
            held.setdefault(person, []).append(role)
    return held


def _holders(roles: Iterable[str], directory: Directory) -> set[str]:
    return {identity(p) for role in roles for p in directory.roles.get(role, ())} - {""}


def _nobody(role: str, task: str, directory: Directory) -> Finding:
    return Finding(
        ("directory", "roles", role), list(directory.roles[role]) if role in directory.roles else None,
        f"nobody holds the role that {task}",
        f"list the people, for example directory: {{roles: {{{role}: [alice@example.com]}}}}",
    )  # fmt: skip


def _known_roles(
    path: Path, roles: Iterable[str], directory: Directory, *, numbered: bool = True
) -> Iterator[Finding]:
    for index, role in enumerate(roles):
        if role not in directory.roles:
            yield Finding(
                (*path, index) if numbered else path, role, "is no role of the directory",
                f"add directory.roles.{role}; {nearest(role, directory.roles)}",
            )  # fmt: skip
