"""The activities that talk to GitHub. What GitHub refuses is told, not raised: people can still decide."""

from __future__ import annotations

import re

from temporalio import activity

from activities.github.access import GitHubAccess, settings_of
from activities.github.api import TOKEN, RefusedError
from activities.github.published import is_personal, publish
from activities.github.pulls import NoPullRequestError, find_merged
from activities.signatures import GitHostSignatures
from domain import temporal_ui
from domain.checks import CheckReceipt, CheckRun
from domain.configuration import ApplicationSettings, Configuration
from domain.evidence import ApprovalEvidence, EvidenceQuery
from domain.projects import ForeignProjectError, project_at, project_of, same_project
from domain.reviews import weigh

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class GitHostActivities(GitHubAccess, GitHostSignatures):
    """Reads reviews from GitHub, and publishes checks there."""

    @activity.defn
    async def find_approval_evidence(self, query: EvidenceQuery) -> ApprovalEvidence:
        """The merged pull request that brought a commit, and its standing approvals.

        An approval stands if it is its reviewer's last word, is of the very head that was merged, and comes
        from nobody who wrote a part of it; while anybody requests changes, none does. It is worth as much as
        the protection of the branch that was merged into: name the branch.

        Raises:
            ApplicationError: Unavailable. What GitHub refuses is no error: no evidence, with the reason.
        """
        commit = query.commit.lower()
        try:
            if not _COMMIT.fullmatch(commit):
                raise RefusedError(f"{query.commit[:70]!r} is no full commit id")
            configuration = await self._configuration()
            settings = settings_of(configuration, query.application)
            project = _project(configuration, settings, query.project)
            api = self._api(configuration)
            pull = await find_merged(api, project, commit, query.branch)
        except (RefusedError, NoPullRequestError) as error:
            return ApprovalEvidence(reason=str(error))
        return weigh(pull, commit, _people(configuration))

    @activity.defn
    async def publish_check(self, check: CheckRun) -> CheckReceipt:
        """Show a validation at its commit, or bring what is shown up to date; the same key is shown once.

        Raises:
            ApplicationError: Unavailable. What GitHub refuses is no error: a receipt with the reason.
        """
        try:
            if not _COMMIT.fullmatch(check.commit):
                raise RefusedError(f"{check.commit[:70]!r} is no full commit id")
            configuration = await self._configuration()
            project = _known_project(configuration, check.project)
            api = self._api(configuration)
            personal = is_personal(self._environment.get(TOKEN, ""))
            return await publish(api, project, self._with_page(check), personal=personal)
        except RefusedError as error:
            return CheckReceipt(published=False, reason=str(error))

    def _with_page(self, check: CheckRun) -> CheckRun:
        """The check with the page of its workflow, where everybody can open it."""
        ui = self._environment.get(temporal_ui.VARIABLE)
        if check.details_url is not None or not ui or not activity.in_activity():
            return check
        info = activity.info()
        if info.workflow_id is None:
            return check
        page = temporal_ui.workflow_page(ui, "", info.namespace, info.workflow_id, info.workflow_run_id)
        return check.model_copy(update={"details_url": page})


def _project(configuration: Configuration, settings: ApplicationSettings, asked: str | None) -> str:
    try:
        return project_at(configuration.git_hosts.github.url, settings.repository, settings.project, asked)
    except ForeignProjectError as error:
        raise RefusedError(str(error)) from None


def _known_project(configuration: Configuration, wanted: str) -> str:
    """The project, if an application has it: the token is not lent to whoever names another."""
    reasons = []
    for settings in configuration.applications.values():
        try:
            project = _project(configuration, settings, None)
        except RefusedError as error:
            own = settings.project or project_of(settings.repository)
            if own is not None and same_project(own, wanted):
                reasons.append(str(error))
            continue
        if same_project(project, wanted):
            return project
    raise RefusedError(
        reasons[0]
        if reasons
        else f"no application of deployment.yaml has the project {wanted[:200]} at GitHub"
    )


def _people(configuration: Configuration) -> dict[str, str]:
    """Login in lower case → person. A login that two people claim is nobody's."""
    people: dict[str, str] = {}
    doubtful: set[str] = set()
    for person, accounts in configuration.directory.accounts.items():
        if accounts.github is None:
            continue
        login = accounts.github.strip().casefold()
        if login in people:
            doubtful.add(login)
        people[login] = person
    return {login: person for login, person in people.items() if login not in doubtful}
