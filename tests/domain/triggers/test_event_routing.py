"""What events start: the five kinds of the specification, and every trap on the way."""

from __future__ import annotations

from typing import Any

import pytest

from domain.configuration import Configuration
from domain.defaults import DEFAULTS
from domain.events import DeploymentEvent, EventSource, EventType
from domain.merging import overlay
from domain.triggers import HostEvent, Route, RouteOutcome
from domain.triggers.routing import routes
from tests.domain.triggers.events import (
    PEOPLE,
    RECEIVED,
    configuration,
    event,
    ignored,
    payload,
    read,
    refused,
    routed,
    rule,
    started,
)

APPS = {"added": [], "modified": ["apps/erlmcp/src/a.erl"], "removed": []}
SHA = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"


def push(branch: str = "main", *files: str, **changes: Any) -> HostEvent:
    """A push at GitHub that changes the files; by default one of ``apps``."""
    changed = {**APPS, "modified": list(files)} if files else APPS
    body = payload(
        "github_push_master_commit", ref=f"refs/heads/{branch}", after=SHA, commits=[changed], **changes
    )
    return read("github_push", body)


def tag(name: str, **changes: Any) -> HostEvent:
    return event("github_push_tag_created_v0.0.1", ref=f"refs/tags/{name}", **changes)


def pull_request(kind: str, **changes: Any) -> HostEvent:
    return event(f"github_pull_request_{kind}", pull_request__base__ref="main", **changes)


def dispatch(login: str = "dora", **inputs: Any) -> HostEvent:
    return event("github_workflow_dispatch", inputs=inputs or None, sender__login=login)


# 1. Git push events


@pytest.mark.parametrize("branch", ["feature/login", "develop"])
def test_a_push_to_a_feature_branch_or_develop_deploys_to_dev(branch: str) -> None:
    route = started(push(branch))

    assert route.rule == "dev_deployment"
    assert route.deployment is not None
    assert route.deployment.environment == "dev"
    assert route.deployment.version == f"0.0.0-{branch.replace('/', '-')}.g6113728"
    assert route.deployment.commit == SHA
    assert route.deployment.ref == branch
    assert route.deployment.approval is None


def test_a_push_to_main_deploys_to_staging_with_the_approval_of_its_pull_request() -> None:
    route = started(push("main"))

    assert route.deployment is not None
    assert route.deployment.environment == "staging"
    assert route.deployment.approval == "automatic"
    assert route.deployment.project == "Codertocat/Hello-World"
    assert route.deployment.event is not None
    assert route.deployment.event.metadata["rule"] == "staging_deployment"
    assert route.deployment.event.version == route.deployment.version


def test_a_branch_below_a_feature_branch_is_none() -> None:
    assert "this is feature/a/b" in ignored(push("feature/a/b"))


def test_only_the_named_paths_count() -> None:
    assert "this push changes 'ksapps/x.erl' and 1 more" in ignored(push("main", "ksapps/x.erl", "README.md"))
    assert started(push("main", "README.md", "config/sys.config")).rule == "staging_deployment"


def test_a_removed_file_is_a_change() -> None:
    removed = {"added": [], "modified": [], "removed": ["apps/old.erl"]}

    assert started(
        read("github_push", payload("github_push_master_commit", ref="refs/heads/main", commits=[removed]))
    )


def test_paths_are_not_looked_at_where_github_cut_the_list_short() -> None:
    elsewhere = {"added": [], "modified": ["README.md"], "removed": []}
    body = payload("github_push_master_commit", ref="refs/heads/main")

    full = {**body, "commits": [elsewhere] * 2047}
    cut = {**body, "commits": [elsewhere] * 2048}
    large = {**body, "commits": [{**elsewhere, "added": [f"docs/{n}" for n in range(3000)]}]}
    untold = {**body, "commits": [{"id": SHA}]}

    assert "wants a change of" in ignored(read("github_push", full))
    for unknown in (cut, large, untold):
        happened = read("github_push", unknown)
        assert happened.paths is None
        assert started(happened)


def test_paths_are_not_looked_at_where_gitlab_lists_only_the_newest_commits() -> None:
    body = payload("gitlab_push", ref="refs/heads/main")
    untold = {k: v for k, v in body.items() if k != "total_commits_count"}

    assert "wants a change of" in ignored(read("gitlab_push", body))
    assert started(read("gitlab_push", {**body, "total_commits_count": 21}))
    assert started(read("gitlab_push", untold))


def test_a_new_branch_without_commits_changes_nothing() -> None:
    happened = event("github_push_feature_branch_created", ref="refs/heads/feature/new")

    assert happened.paths == ()
    assert "this push changes no file" in ignored(happened)


def test_a_branch_that_was_set_back_is_deployed() -> None:
    """The host lists no commits, though everything after the new head is undone."""
    body = payload("github_push_master_paths", ref="refs/heads/develop", commits=[], forced=True)

    assert started(read("github_push", body)).rule == "dev_deployment"


def test_a_branch_that_was_deleted_deploys_nothing() -> None:
    body = payload("github_push_tag_deleted", ref="refs/heads/develop")

    assert ignored(read("github_push", body)) == "branch develop was deleted; there is nothing to deploy"


def test_one_commit_on_one_branch_may_have_several_targets_and_each_once() -> None:
    also = {"trigger": {"event": "push", "branches": ["main"]}, "action": "deploy_dev"}
    again = {"trigger": {"event": "push", "branches": ["*"]}, "action": "deploy_staging"}
    checked = {"trigger": {"event": "push"}, "action": "validate_pr", "gates": ["all_quality_gates"]}

    found = routed(push("main"), triggers={"also": also, "again": again, "checked": checked})

    assert [(r.outcome, r.rule) for r in found] == [
        ("start", "staging_deployment"),
        ("start", "also"),
        ("start", "checked"),
    ]
    validation = found[2].validation
    assert validation is not None
    assert (validation.kind, validation.gates, validation.ref) == ("ci", (), "refs/heads/main")


# 2. Pull request events


@pytest.mark.parametrize("kind", ["opened", "synchronize", "reopened"])
def test_a_pull_request_is_validated(kind: str) -> None:
    route = started(pull_request(kind))

    assert route.rule == "pr_validation"
    assert route.deployment is None
    validation = route.validation
    assert validation is not None
    assert validation.kind == "pull_request"
    assert validation.commit == "ec26c3e57ca3a959ca5aad62de7213c562f8c821"
    assert validation.pull_request == 2
    assert validation.ref == "refs/pull/2/head"
    assert validation.gates == ("compile", "eunit", "ct", "dialyzer", "coverage", "security")


def test_a_pull_request_that_was_closed_unmerged_deploys_nothing() -> None:
    """GitHub fills in merge_commit_sha all the same."""
    assert "closed without merging" in ignored(pull_request("closed_unmerged"))


@pytest.mark.parametrize("kind", ["closed_unmerged", "opened"])
@pytest.mark.parametrize("condition", [None, "merged != true", "merged == false"])
def test_no_condition_deploys_what_is_not_merged(kind: str, condition: str | None) -> None:
    wide = rule(trigger={"event": "pull_request"}, action="deploy_staging", condition=condition)

    assert "rule mine wants merged pull requests" in ignored(pull_request(kind), **wide)


def test_the_merge_and_its_push_are_one_deployment() -> None:
    merge = started(pull_request("closed_merged"))
    commit = payload("github_pull_request_closed_merged")["pull_request"]["merge_commit_sha"]
    body = payload("github_push_master_commit", ref="refs/heads/main", after=commit, commits=[APPS])
    pushed = started(read("github_push", body))

    assert merge.deployment is not None
    assert pushed.deployment is not None
    assert merge.deployment.deployment_id == pushed.deployment.deployment_id
    assert merge.deployment.commit == pushed.deployment.commit == commit
    assert merge.deployment.approval == pushed.deployment.approval == "automatic"
    assert merge.deployment.ref == pushed.deployment.ref == "main"


def test_at_gitlab_too() -> None:
    merged = event("gitlab_pull_request_merge", object_attributes__target_branch="main")
    body = payload("gitlab_push_merge", ref="refs/heads/main")
    body["commits"][0]["modified"] = ["apps/a.erl"]

    first, second = started(merged).deployment, started(read("gitlab_push", body)).deployment

    assert first is not None
    assert second is not None
    assert first.deployment_id == second.deployment_id == "deployment:erlmcp:staging:0.0.0-main.g78a76ee"


def test_a_pull_request_from_a_fork_is_validated_only_where_the_rule_says_so() -> None:
    from_fork = pull_request("opened", pull_request__head__repo__full_name="mallory/Hello-World")
    from_nowhere = pull_request("opened", pull_request__head__repo=None)

    for happened in (from_fork, from_nowhere):
        assert happened.fork
        assert "triggers.pr_validation.forks: true takes them" in ignored(happened)
        assert started(happened, triggers={"pr_validation": {"forks": True}}).validation


def test_a_fork_at_gitlab() -> None:
    body = payload("gitlab_pull_request_create", object_attributes__target_branch="main")
    body["object_attributes"]["source_project_id"] = 99

    assert "forks" in ignored(read("gitlab_pull_request", body))


def test_what_was_merged_from_a_fork_is_ours_and_deployed() -> None:
    merged = pull_request("closed_merged")

    assert merged.fork
    assert started(merged).rule == "pr_merge"


@pytest.mark.parametrize(
    ("action", "oldrev", "becomes"),
    [
        ("open", None, "opened"),
        ("update", "c4c79227ed610f1151f05bbc5be33b4f340d39c8", "synchronize"),
        ("update", None, "edited"),
        ("reopen", None, "reopened"),
        ("close", None, "closed"),
    ],
)
def test_merge_requests_speak_githubs_words(action: str, oldrev: str | None, becomes: str) -> None:
    body = payload("gitlab_pull_request_create", object_attributes__action=action)
    body["object_attributes"]["oldrev"] = oldrev
    happened = read("gitlab_pull_request", body)

    assert (happened.action, happened.merged) == (becomes, False)


# 3. Tag events


def test_a_tag_deploys_its_version_to_production() -> None:
    route = started(tag("v3.0.0"))

    assert route.deployment is not None
    assert route.deployment.deployment_id == "deployment:erlmcp:production:3.0.0"
    assert route.deployment.ref == "v3.0.0"
    assert route.deployment.approval is None, "the change board decides"


def test_a_pre_release_follows_the_patterns() -> None:
    releases_only = {"triggers": {"production_release": {"trigger": {"tags": ["v*.*.*", "!v*-*"]}}}}

    assert started(tag("v3.0.0-rc.1")).reason.endswith("deploys 3.0.0-rc.1 to production")
    assert "this is tag v3.0.0-rc.1" in ignored(tag("v3.0.0-rc.1"), **releases_only)
    assert started(tag("v3.0.0"), **releases_only)


@pytest.mark.parametrize(
    ("name", "because"),
    [
        ("v1.2.3.4", "'1.2.3.4' is no semantic version"),
        ("v1.0", "wants tags"),
        ("v01.2.3", "'01.2.3' is no semantic version"),
        ("v1.2.3+build.7", "build metadata"),
        ("1.2.3", "wants tags"),
        ("release/v1.2.3", "wants tags"),
        ("v0.0.0-main.g1234567", "names a commit without a tag"),
    ],
)
def test_a_tag_that_is_no_release_does_nothing(name: str, because: str) -> None:
    assert because in ignored(tag(name))


def test_of_an_annotated_tag_the_commit_is_taken() -> None:
    tag_object, commit = "a" * 40, "d2b75aa7797ec26b088fa2dd527e9d2c052fcedd"
    at_github = started(tag("v3.0.0", after=tag_object)).deployment
    at_gitlab = started(event("gitlab_tag_create", after=tag_object)).deployment

    assert at_github is not None
    assert at_github.commit == commit
    assert at_gitlab is not None
    assert at_gitlab.commit == "2adc9465c4edfc33834e173fe89436a7cb899a1d"


def test_where_the_host_names_no_commit_the_tag_itself_is_deployed() -> None:
    deployment = started(tag("v3.0.0", head_commit=None)).deployment

    assert deployment is not None
    assert deployment.commit is None


def test_applications_of_one_repository_are_told_apart_by_their_tags() -> None:
    settings = configuration().model_dump()
    settings["applications"] = {
        name: {**settings["applications"]["erlmcp"], "project": "o/mono", "tag": "{application}/v{version}"}
        for name in ("api", "web")
    }
    settings["triggers"]["production_release"]["trigger"]["tags"] = ["*/v*"]
    happened = tag("web/v2.0.0", repository__full_name="O/Mono")

    api, web = routes(happened, Configuration.model_validate(settings))

    assert (api.outcome, api.reason) == (
        "ignore",
        "tag web/v2.0.0 is none of api, whose tags are {application}/v{version}",
    )
    assert web.deployment is not None
    assert web.deployment.deployment_id == "deployment:web:production:2.0.0"


# 4. Manual dispatch


@pytest.mark.parametrize("version", ["3.0.0", "v3.0.0", " 3.0.0 "])
def test_a_person_deploys_a_version(version: str) -> None:
    route = started(dispatch(environment="dev", version=version))

    assert route.deployment is not None
    assert route.deployment.deployment_id == "deployment:erlmcp:dev:3.0.0"
    assert route.deployment.actor == "dora@example.com", "the person, by directory.accounts"
    assert route.deployment.commit is None, "the version's tag names it"
    assert route.deployment.skip_tests is False
    assert route.deployment.event is not None
    assert route.deployment.event.type == "manual"


def test_the_version_of_a_commit_can_be_deployed() -> None:
    deployment = started(dispatch(environment="staging", version="0.0.0-main.g78a76ee")).deployment

    assert deployment is not None
    assert deployment.version == "0.0.0-main.g78a76ee"


def test_somebody_whom_the_directory_does_not_know_acts_by_login() -> None:
    deployment = started(dispatch("stranger", environment="dev", version="3.0.0")).deployment

    assert deployment is not None
    assert deployment.actor == "stranger"


@pytest.mark.parametrize(
    ("inputs", "because"),
    [
        ({}, "input 'environment' (Target environment) is missing"),
        ({"environment": "dev"}, "input 'version' (Version to deploy) is missing"),
        ({"environment": "dev", "version": " "}, "input 'version' (Version to deploy) is missing"),
        ({"environment": "Production", "version": "3.0.0"}, "did you mean 'production'?"),
        ({"environment": "dev", "version": "three"}, "'three' is no semantic version"),
        ({"environment": "dev", "version": "3.0.0", "skip_test": "true"}, "did you mean 'skip_tests'?"),
        ({"environment": "dev", "version": "3.0.0", "skip_tests": "yes"}, "write true or false"),
    ],
)
def test_inputs_that_cannot_be_used_are_refused(inputs: dict[str, Any], because: str) -> None:
    assert because in refused(dispatch(**inputs))


@pytest.mark.parametrize("told", ["false", "False", False, "", None])
def test_false_is_false_however_it_is_written(told: str | bool | None) -> None:
    deployment = started(dispatch(environment="dev", version="3.0.0", skip_tests=told)).deployment

    assert deployment is not None
    assert deployment.skip_tests is False


def test_tests_are_skipped_with_a_reason_and_a_role() -> None:
    asked = {"environment": "staging", "version": "3.0.0", "skip_tests": "true"}
    with_reason = {**asked, "reason": "the site is down"}

    assert "skip_tests needs a reason" in refused(dispatch("tara-l", **asked))
    assert "stranger is nobody of the directory" in refused(dispatch("stranger", **with_reason))
    assert "tech_lead, which dora@example.com does not hold" in refused(dispatch("dora", **with_reason))

    deployment = started(dispatch("tara-l", **with_reason)).deployment
    assert deployment is not None
    assert (deployment.skip_tests, deployment.reason) == (True, "the site is down")
    assert deployment.actor == "tara@example.com"


def test_where_emergencies_have_roles_of_their_own_approvers_do_not_skip_tests() -> None:
    asked = {"environment": "production", "version": "3.0.0", "skip_tests": True, "reason": "down"}
    emergencies = {"environments": {"production": {"approvals": {"emergency_roles": ["sre"]}}}}

    assert "needs the role sre" in refused(dispatch("carla", **asked), **emergencies)
    assert started(dispatch("sam", **asked), **emergencies)
    assert started(dispatch("carla", **asked)), "without them, approvers do"


def test_where_nobody_approves_nobody_skips_tests() -> None:
    asked = {"environment": "dev", "version": "3.0.0", "skip_tests": "true", "reason": "hurry"}

    assert "name a role under environments.dev.approval" in refused(dispatch("tara-l", **asked))


def test_where_an_environment_has_operators_only_they_dispatch() -> None:
    operated = {"environments": {"production": {"operators": ["sre", "change_board"]}}}
    asked = {"environment": "production", "version": "3.0.0"}

    assert "sre or change_board, which dora@example.com does not hold" in refused(
        dispatch(**asked), **operated
    )
    assert "directory.accounts (PERSON: {github: stranger})" in refused(
        dispatch("stranger", **asked), **operated
    )
    assert started(dispatch("SAM", **asked), **operated)
    assert started(tag("v3.0.0"), **operated), "a tag is the host's to protect"


def test_an_input_may_name_the_commit() -> None:
    declared: dict[str, Any] = {"triggers": {"adhoc_deployment": {"trigger": {"inputs": {"commit": {}}}}}}
    asked = {"environment": "dev", "version": "3.0.0"}

    deployment = started(dispatch(**asked, commit=SHA.upper()), **declared).deployment

    assert deployment is not None
    assert deployment.commit == SHA
    assert "commit cannot be used" in refused(dispatch(**asked, commit="main"), **declared)


def test_a_dispatch_of_another_workflow_is_left_alone_where_the_rule_names_ours() -> None:
    ours = {"triggers": {"adhoc_deployment": {"condition": "workflow == .github/workflows/deploy.yml"}}}

    reason = ignored(dispatch(name="Mona"), **ours)

    assert "this is .github/workflows/hello-world-workflow.yml on branch master by dora" in reason


def test_a_dispatch_may_choose_among_the_applications_of_a_repository() -> None:
    settings = configuration().model_dump()
    settings["applications"] = {
        name: {**settings["applications"]["erlmcp"], "project": "octo-org/octo-repo"}
        for name in ("api", "web")
    }
    settings["triggers"]["adhoc_deployment"]["trigger"]["inputs"]["application"] = {"required": True}
    two = Configuration.model_validate(settings)
    asked = {"environment": "dev", "version": "3.0.0"}

    api, web = routes(dispatch(**asked, application="web"), two)
    wrong = routes(dispatch(**asked, application="webb"), two)

    assert (api.outcome, api.reason) == ("ignore", "the dispatch is for web")
    assert web.deployment is not None
    assert {r.reason for r in wrong} == {"input 'application': did you mean 'web'?"}


# 5. Scheduled events


def schedule(cron: str, commit: str = SHA, project: str | None = None) -> HostEvent:
    return HostEvent(
        kind="schedule",
        project=project,
        schedule=cron,
        event=DeploymentEvent(
            id="schedule:nightly",
            type=EventType.SCHEDULE,
            source=EventSource.API,
            actor="schedule",
            timestamp=RECEIVED,
            git_ref="refs/heads/main",
            commit_sha=commit,
        ),
    )


def test_the_nightly_build_validates() -> None:
    (route,) = routes(schedule("0 2 * * *"), configuration())

    assert route.validation is not None
    assert route.validation.validation_id == f"validation:erlmcp:{SHA}:nightly"
    assert route.validation.project == "banyan-platform/erlmcp"
    assert route.validation.actor == "schedule"


def test_a_schedule_without_a_commit_is_refused() -> None:
    (route,) = routes(schedule("0 2 * * *", commit=""), configuration())

    assert (route.outcome, route.validation) == ("refuse", None)


def test_dependency_updates_are_started_by_their_schedule_and_by_no_event_of_the_host() -> None:
    (route,) = routes(schedule("0 6 * * 1"), configuration())

    assert route.outcome is RouteOutcome.START
    assert route.dependency_update is not None
    assert route.dependency_update.application == "erlmcp"

    on_push = rule(trigger={"event": "push"}, action="dependency_update")
    assert "started by their schedule" in ignored(push("main"), **on_push)


def test_a_schedule_nobody_knows_starts_nothing() -> None:
    (route,) = routes(schedule("0 3 * * *"), configuration())

    assert "this is '0 3 * * *'" in route.reason


# Whom it concerns


def applications(**repositories: dict[str, Any]) -> Configuration:
    erlmcp = DEFAULTS["applications"]["erlmcp"]
    named = {name: {**erlmcp, **written} for name, written in repositories.items()}
    return Configuration.model_validate({**overlay(DEFAULTS, {"directory": PEOPLE}), "applications": named})


def concerned(settings: Configuration, project: str) -> list[str | None]:
    return [r.application for r in routes(tag("v3.0.0", repository__full_name=project), settings)]


@pytest.mark.parametrize(
    "repository",
    [
        "https://github.com/acme/shop.git",
        "https://github.com/Acme/Shop",
        "ssh://git@github.com:22/acme/shop.git",
        "git@github.com:acme/shop.git",
    ],
)
def test_the_project_is_read_from_the_repository(repository: str) -> None:
    settings = applications(shop={"repository": repository}, other={"repository": "/srv/other.git"})

    assert concerned(settings, "ACME/shop") == ["shop"]
    assert concerned(settings, "acme/shop2") == [None]


def test_a_named_project_counts_instead_of_the_repository() -> None:
    settings = applications(shop={"repository": "https://github.com/acme/mirror.git", "project": "Acme/Shop"})

    assert concerned(settings, "acme/shop") == ["shop"]
    assert concerned(settings, "acme/mirror") == [None]


MIRROR = {"repository": "https://git.example.com/mirrors/shop.git"}


@pytest.mark.parametrize(
    "happened",
    [
        push("main", repository__full_name="acme/shop"),
        tag("v3.0.0", repository__full_name="acme/shop"),
        pull_request(
            "opened",
            repository__full_name="acme/shop",
            pull_request__head__repo__full_name="acme/shop",
        ),
    ],
    ids=["push", "tag", "pull request"],
)
def test_a_single_application_takes_the_commits_of_any_repository(happened: HostEvent) -> None:
    """It may be cloned from a mirror; a commit that is not in the mirror ends at its checkout."""
    (route,) = routes(happened, applications(shop=MIRROR))

    assert (route.outcome, route.application) == (RouteOutcome.START, "shop")


@pytest.mark.parametrize(
    "happened",
    [
        event(
            "github_workflow_dispatch",
            repository__full_name="evil/other",
            inputs={"environment": "production", "version": "9.9.9"},
        ),
        tag("v9.9.9", repository__full_name="evil/other", head_commit=None),
    ],
    ids=["dispatch", "tag"],
)
def test_without_a_commit_another_project_deploys_nothing(happened: HostEvent) -> None:
    """What it asks for would be found in our own repository."""
    assert not happened.event.commit_sha
    (route,) = routes(happened, applications(shop=MIRROR))

    assert (route.outcome, route.deployment) == (RouteOutcome.IGNORE, None)
    assert route.reason == (
        "repository evil/other names no commit, and is not known to be that of shop (mirrors/shop); "
        "if it is, write applications.shop.project: evil/other"
    )

    named = applications(shop={**MIRROR, "project": "evil/other"})
    assert [r.application for r in routes(happened, named)] == ["shop"]
    local = applications(shop={"repository": "/srv/shop.git"})
    assert [r.application for r in routes(happened, local)] == ["shop"]


def test_a_single_application_with_a_local_repository_takes_every_event() -> None:
    alone = applications(shop={"repository": "/srv/shop.git"})
    two = applications(shop={"repository": "/srv/shop.git"}, web={"repository": "/srv/web.git"})

    assert concerned(alone, "any/thing") == ["shop"]
    (route,) = routes(tag("v3.0.0", repository__full_name="any/thing"), two)
    assert route.outcome is RouteOutcome.IGNORE
    assert route.reason == (
        "repository any/thing belongs to no application (shop, web); "
        "write applications.shop.project: any/thing"
    )


# What an environment allows


def test_where_only_people_deploy_an_event_needs_somebody_who_is_asked() -> None:
    unasked = {
        "environments": {"production": {"approval": None, "required_gates": ["compile"], "production": False}}
    }

    rules = [{"roles": ["change_board"]}]
    ungated = overlay(unasked, {"environments": {"production": {"approvals": {"rules": rules}}}})

    assert started(tag("v3.0.0")), "the change board decides"
    assert "nobody would be asked" in ignored(tag("v3.0.0"), **ungated), "rules are no gate by themselves"
    assert "write environments.production.auto_deploy: true" in ignored(tag("v3.0.0"), **unasked)
    assert started(dispatch(environment="production", version="3.0.0"), **unasked), "a person asks"


@pytest.mark.parametrize(
    ("approval", "action", "expected"),
    [
        ("automatic", "deploy_staging", "automatic"),
        ("none", "deploy_staging", None),
        ("required", "deploy_staging", None),
        (None, "deploy_staging", None),
        (None, "promote_to_staging", "automatic"),
        ("required", "promote_to_staging", None),
    ],
)
def test_what_a_rule_says_of_approval(approval: str | None, action: str, expected: str | None) -> None:
    """There is no word that waives an environment's approval: at most reviews are taken over."""
    settings = rule(
        trigger={"event": "pull_request"}, action=action, approval=approval, condition="merged == true"
    )

    deployment = started(pull_request("closed_merged"), **settings).deployment

    assert deployment is not None
    assert deployment.approval == expected


def test_the_nearest_miss_is_told() -> None:
    assert ignored(push("master")) == (
        "rule dev_deployment wants branches feature/*, develop; rule staging_deployment wants branches main; "
        "this is master"
    )


def test_without_rules_of_its_kind_an_event_starts_nothing() -> None:
    only_tags = rule(trigger={"event": "push", "tags": ["v*"]}, action="deploy_production")

    assert ignored(pull_request("opened"), **only_tags) == (
        "this is a pull_request event, and no rule wants those; add one under triggers"
    )
    assert "wants tags v*; this is branch main" in ignored(push("main"), **only_tags)


def test_a_redelivery_leads_to_the_same() -> None:
    def routes_of(delivery: str) -> Route:
        body = payload("github_push_tag_created_v0.0.1")
        return started(read("github_push", body, delivery=delivery))

    assert routes_of("d-7") == routes_of("d-7")
