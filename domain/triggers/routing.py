"""From an event to what it starts (spec: Event Triggers).

    event ── whom it concerns ──▶ applications
          ── which rules want it ──▶ `domain.triggers.matching`
          ── what their actions are ──▶ a deployment, a validation, or why not

All of it is a pure function of the event and deployment.yaml: the same delivery leads to the same workflow
ids, however often it comes.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import ValidationError

from domain.configuration import ApplicationSettings, Configuration
from domain.dependency_update import DependencyUpdateRequest
from domain.deployment import DeploymentRequest
from domain.events import DeploymentEvent
from domain.findings import nearest
from domain.projects import project_of
from domain.triggers.host_event import HostEvent
from domain.triggers.inputs import InputRefusedError, Inputs, text_of, typed
from domain.triggers.matching import Miss, miss, nearest_miss
from domain.triggers.people import NotAllowedError, approver_roles, person_of, require_role
from domain.triggers.route import Route, RouteOutcome
from domain.triggers.rules import ALL_GATES, GATE_ALIASES, REASON, TARGETS, TriggerRule
from domain.validation import ValidationKind, ValidationRequest
from domain.version import commit_prefix, commit_version, parse_version, version_of_tag


def routes(event: HostEvent, configuration: Configuration) -> tuple[Route, ...]:
    """Where an event leads: at least one route for each application that it concerns.

    Several rules may want one event. Each target (an environment, a kind of validation) is started once, by
    the first rule in the order of the configuration. Where nothing starts, one route says why.
    """
    concerned = _concerned(event, configuration)
    if not concerned:
        return (Route(outcome=RouteOutcome.IGNORE, reason=_concerns_nobody(event, configuration)),)
    return tuple(route for name in concerned for route in _of_application(name, event, configuration))


# Whom it concerns


def _concerned(event: HostEvent, configuration: Configuration) -> tuple[str, ...]:
    if event.project is None:
        return tuple(configuration.applications)
    project = event.project.lower()
    named = tuple(n for n, a in configuration.applications.items() if _project(a) == project)
    if not named and len(configuration.applications) == 1:
        return tuple(n for n, a in configuration.applications.items() if _takes_foreign(a, event))
    return named


def _takes_foreign(application: ApplicationSettings, event: HostEvent) -> bool:
    """Whether the only application takes an event of a repository that is not known to be its own.

    It may be cloned from a mirror, so it takes what names a commit: a foreign commit ends at its checkout.
    What names none (a manual dispatch) would deploy our version at another project's word: that takes a
    repository that is on no host, whose project nobody can tell.
    """
    if application.project is not None:
        return False
    return bool(event.event.commit_sha) or _project(application) is None


def _project(application: ApplicationSettings) -> str | None:
    return (
        application.project.strip("/").lower() if application.project else project_of(application.repository)
    )


def _concerns_nobody(event: HostEvent, configuration: Configuration) -> str:
    names = ", ".join(configuration.applications) or "APPLICATION"
    own = [_project(application) for application in configuration.applications.values()]
    if len(own) == 1 and own[0] is not None and not event.event.commit_sha:
        return (
            f"repository {event.project} names no commit, and is not known to be that of {names} ({own[0]}); "
            f"if it is, write applications.{names}.project: {event.project}"
        )
    return (
        f"repository {event.project} belongs to no application ({names}); "
        f"write applications.{next(iter(configuration.applications), 'APPLICATION')}.project: {event.project}"
    )


# Which rules want it


class _Case(NamedTuple):
    """One rule that wants an event, for one application."""

    application: str
    name: str
    rule: TriggerRule
    event: HostEvent
    configuration: Configuration

    @property
    def settings(self) -> ApplicationSettings:
        return self.configuration.applications[self.application]

    @property
    def actor(self) -> str:
        """The person if the directory knows the login, else the login."""
        login = self.event.event.actor
        return person_of(self.configuration.directory, self.event.host, login) or login

    def record(self, version: str | None = None) -> DeploymentEvent:
        """The event as it goes into the history, with the rule that took it."""
        record = self.event.event
        metadata = {**record.metadata, "rule": self.name}
        return record.model_copy(update={"version": version, "metadata": metadata})

    def ignored(self, reason: str) -> Route:
        return self._ended(RouteOutcome.IGNORE, reason)

    def refused(self, reason: str) -> Route:
        return self._ended(RouteOutcome.REFUSE, reason)

    def _ended(self, outcome: RouteOutcome, reason: str) -> Route:
        return Route(outcome=outcome, reason=reason, application=self.application, rule=self.name)


def _of_application(name: str, event: HostEvent, configuration: Configuration) -> tuple[Route, ...]:
    if event.deleted:
        gone = f"tag {event.tag}" if event.tag is not None else f"branch {event.branch}"
        reason = f"{gone} was deleted; there is nothing to deploy"
        return (Route(outcome=RouteOutcome.IGNORE, reason=reason, application=name),)
    misses: list[tuple[str, Miss]] = []
    by_target: dict[str, Route] = {}
    for rule_name, rule in configuration.triggers.items():
        missed = miss(rule_name, rule, event)
        if missed is not None:
            misses.append((rule_name, missed))
            continue
        route = _act(_Case(name, rule_name, rule, event, configuration))
        by_target.setdefault(_target(route, rule), route)
    if not by_target:
        rule_of_it, reason = nearest_miss(misses)
        return (Route(outcome=RouteOutcome.IGNORE, reason=reason, application=name, rule=rule_of_it),)
    told = tuple(r for r in by_target.values() if r.outcome is not RouteOutcome.IGNORE)
    return told or tuple(by_target.values())[:1]


def _target(route: Route, rule: TriggerRule) -> str:
    """What must not be started twice by one event."""
    if route.deployment is not None:
        return f"deployment in {route.deployment.environment}"
    if route.validation is not None:
        return f"validation {route.validation.kind}"
    return TARGETS.get(rule.action, rule.action)


# What their actions are


def _act(case: _Case) -> Route:
    try:
        inputs = typed(case.rule.trigger.inputs, case.event.inputs)
        asked = text_of(inputs, "application")
        if asked is not None and asked != case.application:
            if asked not in case.configuration.applications:
                return case.refused(
                    f"input 'application': {nearest(asked[:60], case.configuration.applications)}"
                )
            return case.ignored(f"the dispatch is for {asked}")
        if case.rule.action == "dependency_update":
            return _update_dependencies(case)
        if case.rule.action in ("validate_pr", "nightly_validation"):
            return _validate(case, inputs)
        return _deploy(case, inputs)
    except (InputRefusedError, NotAllowedError) as error:
        return case.refused(str(error))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        return case.refused(f"{'.'.join(map(str, fault['loc']))} cannot be used: {fault['msg']}")


def _deploy(case: _Case, inputs: Inputs) -> Route:
    environment = TARGETS.get(case.rule.action) or text_of(inputs, "environment") or ""
    environments = case.configuration.environments
    if environment not in environments:
        return case.refused(
            f"{environment[:60]!r} is no environment; {nearest(environment[:60], environments)}"
        )
    by_hand = case.event.kind == "workflow_dispatch"
    if by_hand:
        _require_operator(case, environment)
    elif not environments[environment].auto_deploy and not approver_roles(case.configuration, environment):
        return case.ignored(
            f"nothing but people deploys to {environment}: auto_deploy is false, and nobody would be asked; "
            f"write environments.{environment}.auto_deploy: true, or name its approval"
        )
    version = _version(case, environment, inputs)
    if isinstance(version, Route):
        return version
    skips = str(inputs.get("skip_tests")).lower() == "true"
    if skips:
        _require_emergency(case, environment, inputs)
    request = DeploymentRequest(
        application=case.application,
        environment=environment,
        version=version,
        actor=case.actor,
        commit=_commit(case, inputs),
        ref=None if by_hand else case.event.tag or case.event.branch,
        reason=text_of(inputs, REASON),
        skip_tests=skips,
        event=case.record(version),
        approval="automatic" if _takes_over_approval(case.rule) else None,
        project=case.event.project,
    )
    return Route(
        outcome=RouteOutcome.START,
        reason=f"rule {case.name} deploys {version} to {environment}",
        application=case.application,
        rule=case.name,
        deployment=request,
    )


def _version(case: _Case, environment: str, inputs: Inputs) -> str | Route:
    """What is deployed: a tag's version, the one that somebody asks for, or the commit's own."""
    event, template = case.event, case.settings.tag
    names = {"application": case.application, "environment": environment}
    if event.kind == "workflow_dispatch":
        asked = text_of(inputs, "version")
        if asked is None:
            raise InputRefusedError("input 'version' is missing; fill it in, for example 3.0.0")
        # Written as the tag, bare, or with a v.
        written = (version_of_tag(template, asked, **names), asked, asked.removeprefix("v"))
        return next((v for v in written if v is not None and _fault(v) is None), None) or case.refused(
            f"input 'version': {_fault(asked.removeprefix('v'))}"
        )
    if event.tag is not None:
        tagged = version_of_tag(template, event.tag, **names)
        if tagged is None:
            return case.ignored(f"tag {event.tag} is none of {case.application}, whose tags are {template}")
        if (fault := _fault(tagged)) is not None:
            return case.ignored(f"tag {event.tag} is no release: {fault}")
        if commit_prefix(tagged) is not None:
            return case.ignored(f"tag {event.tag} is no release: {tagged} names a commit without a tag")
        return tagged
    return commit_version(event.branch or "", event.event.commit_sha)


def _fault(version: str) -> str | None:
    try:
        parse_version(version[:255])
    except ValueError as error:
        return str(error)
    return None


def _commit(case: _Case, inputs: Inputs) -> str | None:
    """The commit; none where the version's tag says it."""
    asked = text_of(inputs, "commit")
    return asked.lower() if asked is not None else case.event.event.commit_sha or None


def _takes_over_approval(rule: TriggerRule) -> bool:
    """Whether the reviews of the pull request count. ``approval: none`` waives nothing: the environment
    asks whom it asks."""
    return rule.approval == "automatic" or (
        rule.action == "promote_to_staging" and rule.approval != "required"
    )


def _require_operator(case: _Case, environment: str) -> None:
    """Where nobody is named, whoever the host lets dispatch may."""
    roles = case.configuration.environments[environment].operators
    if roles:
        deed = f"deploying to {environment} by hand"
        require_role(case.configuration.directory, case.event.host, case.event.event.actor, roles, deed)


def _require_emergency(case: _Case, environment: str, inputs: Inputs) -> None:
    """Tests are skipped with a reason, by those who would break the glass or approve."""
    if text_of(inputs, REASON) is None:
        raise InputRefusedError(f"skip_tests needs a reason; fill in the input {REASON!r}")
    settings = case.configuration.environments[environment]
    roles = settings.approvals.emergency_roles or approver_roles(case.configuration, environment)
    if not roles:
        raise NotAllowedError(
            f"nobody may skip tests in {environment}, as nobody approves there; "
            f"name a role under environments.{environment}.approval"
        )
    deed = f"skipping tests in {environment}"
    require_role(case.configuration.directory, case.event.host, case.event.event.actor, roles, deed)


def _validate(case: _Case, inputs: Inputs) -> Route:
    commit = _commit(case, inputs)
    if commit is None:
        return case.refused("the event names no commit to validate; fill in an input 'commit'")
    if case.rule.action == "nightly_validation":
        kind = ValidationKind.NIGHTLY
    else:
        kind = ValidationKind.PULL_REQUEST if case.event.kind == "pull_request" else ValidationKind.CI
    request = ValidationRequest(
        application=case.application,
        commit=commit,
        kind=kind,
        actor=case.actor,
        ref=case.event.event.git_ref,
        gates=_gates(case),
        project=case.event.project or _project(case.settings),
        pull_request=case.event.number,
        event=case.record(),
    )
    return Route(
        outcome=RouteOutcome.START,
        reason=f"rule {case.name} validates {commit[:7]}",
        application=case.application,
        rule=case.name,
        validation=request,
    )


def _update_dependencies(case: _Case) -> Route:
    if case.event.kind != "schedule":
        return case.ignored("dependency updates are started by their schedule, not by events of the host")
    return Route(
        outcome=RouteOutcome.START,
        reason=f"rule {case.name} updates the dependencies",
        application=case.application,
        rule=case.name,
        dependency_update=DependencyUpdateRequest(
            application=case.application, actor=case.actor, event=case.record()
        ),
    )


def _gates(case: _Case) -> tuple[str, ...]:
    """What the commit is held against; none means every gate that some environment requires."""
    ours = {*case.configuration.gates, *case.settings.build.steps}
    named = (g if g in ours else GATE_ALIASES.get(g, g) for g in case.rule.gates)
    gates = tuple(dict.fromkeys(named))
    return () if gates == (ALL_GATES,) else gates
