"""Whether the approvals satisfy the rules, where one person counts for at most one rule."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from domain.approval.models import ApprovalPolicy, Decision, RuleProgress
from domain.approval_settings import ApprovalRule, Requirement


class Quorum(NamedTuple):
    """So many people with one of these roles."""

    roles: tuple[str, ...]
    needed: int


def quorums(policy: ApprovalPolicy) -> tuple[Quorum, ...]:
    """The rules of a gate; a policy without any is one rule of its own."""
    return of_rules(policy.rules) or (Quorum(policy.roles, policy.min_approvals),)


def of_rules(rules: Sequence[ApprovalRule]) -> tuple[Quorum, ...]:
    return tuple(Quorum(rule.roles, rule.min_approvals) for rule in rules)


def assign(people: Sequence[Collection[str]], rules: Sequence[Quorum]) -> list[list[int]]:
    """For each rule the people who count for it: as many as possible, each for one rule only.

    `people` are their roles. A maximum bipartite matching by augmenting paths: who has been placed makes way
    where another rule can take them.
    """
    placed: list[list[int]] = [[] for _ in rules]

    def place(person: int, tried: set[int]) -> bool:
        for index, rule in enumerate(rules):
            if index in tried or not set(people[person]).intersection(rule.roles):
                continue
            tried.add(index)
            if len(placed[index]) < rule.needed:
                placed[index].append(person)
                return True
            for position, other in enumerate(placed[index]):
                if place(other, tried):
                    placed[index][position] = person
                    return True
        return False

    for person in range(len(people)):
        place(person, set())
    return placed


def progress(policy: ApprovalPolicy, approvals: Sequence[Decision]) -> tuple[RuleProgress, ...]:
    """Each rule with the people who count for it.

    Where any one rule is enough they do not compete, so an approval shows at every rule it fits.
    """
    rules = quorums(policy)
    roles = [approval.roles for approval in approvals]
    if policy.require is Requirement.ALL:
        placed = assign(roles, rules)
    else:
        placed = [assign(roles, [rule])[0] for rule in rules]
    return tuple(
        RuleProgress(
            roles=rule.roles, needed=rule.needed, counted=tuple(approvals[i].actor for i in sorted(people))
        )
        for rule, people in zip(rules, placed, strict=True)
    )
