"""Who acts, and what they may: logins of Git hosts, people of the directory, roles."""

from __future__ import annotations

from collections.abc import Collection

from domain.approval import identity
from domain.configuration import Configuration, Directory
from domain.gates import GateType
from domain.triggers.host_event import Host


class NotAllowedError(Exception):
    """The actor may not do this; the text says who may, or how to become known."""


def person_of(directory: Directory, host: Host | None, login: str) -> str | None:
    """The person that a login of a Git host belongs to; hosts do not tell upper from lower case."""
    if host is None:
        return None
    for person, accounts in directory.accounts.items():
        if identity(getattr(accounts, host) or "") == identity(login):
            return person
    return None


def require_role(
    directory: Directory, host: Host | None, login: str, roles: Collection[str], deed: str
) -> None:
    """That the actor is somebody the directory knows, with one of the roles.

    Raises:
        NotAllowedError: they are not.
    """
    person = person_of(directory, host, login)
    if person is None:
        raise NotAllowedError(
            f"{deed} needs the role {_any_of(roles)}, and {login} is nobody of the directory; "
            f"add the login under directory.accounts (PERSON: {{{host or 'github'}: {login}}})"
        )
    holders = {identity(p) for role in roles for p in directory.roles.get(role, ())}
    if identity(person) not in holders:
        raise NotAllowedError(
            f"{deed} needs the role {_any_of(roles)}, which {person} does not hold; "
            "ask somebody who does, or add the person under directory.roles"
        )


def approver_roles(configuration: Configuration, environment: str) -> tuple[str, ...]:
    """The roles that the approval gate of an environment asks; none if it has no such gate."""
    settings = configuration.environments[environment]
    gates = (configuration.gates[g] for g in settings.required_gates if g in configuration.gates)
    gate = next((g for g in gates if g.type is GateType.MANUAL), None)
    if gate is None and settings.approval is None:
        return ()  # rules say how a gate is decided; they are none by themselves
    if settings.approvals.rules:
        return tuple(dict.fromkeys(role for rule in settings.approvals.rules for role in rule.roles))
    if settings.approval is not None:
        return (settings.approval,)
    return gate.approvers.get(environment, ()) if gate is not None else ()


def _any_of(roles: Collection[str]) -> str:
    return " or ".join(roles)
