"""``erlmcp-deploy deploy``: start a deployment, and with ``--wait`` see it through."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.text import Text
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from domain.deployment import DeploymentRequest, DeploymentState, DeploymentStatus
from starters import github_actions
from starters.connection import DEPLOYMENTS_QUEUE, command, connect, workflow_url
from starters.errors import CommandError, ExitCode, invalid_input, usage_error
from starters.following import Follower
from starters.progress import progress
from starters.rendering import Screen, clean, command_line, state_style, target_words
from starters.target import (
    ActorOption,
    ApplicationOption,
    JsonOption,
    OptionalEnvironment,
    OptionalVersion,
    check_configured,
    default_application,
    require_actor,
)

EXIT_CODES = {
    DeploymentState.COMPLETED: ExitCode.OK,
    DeploymentState.FAILED: ExitCode.FAILED,
    DeploymentState.REJECTED: ExitCode.REJECTED,
}


@dataclass(frozen=True)
class Started:
    """The run that carries a request out: begun now, or running already."""

    workflow_id: str
    run_id: str | None
    fresh: bool


async def start(client: Client, request: DeploymentRequest) -> Started:
    """Start a deployment; one that runs already is left alone and found."""
    try:
        handle = await client.start_workflow(
            "DeploymentWorkflow",
            request,
            id=request.deployment_id,
            task_queue=DEPLOYMENTS_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            # Not USE_EXISTING: that one does not tell a new run from an old one.
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            static_summary=f"{request.application} {request.version} → {request.environment}",
            static_details=_details(request),
        )
    except WorkflowAlreadyStartedError as error:
        return Started(request.deployment_id, error.run_id, fresh=False)
    return Started(request.deployment_id, handle.result_run_id, fresh=True)


def _details(request: DeploymentRequest) -> str:
    lines = [f"- asked for by: {clean(request.actor)}"]
    for name, value in (("commit", request.commit), ("ref", request.ref), ("reason", request.reason)):
        if value:
            lines.append(f"- {name}: {clean(value)}")
    if request.skip_tests:
        lines.append("- **test gates are skipped**")
    return "\n".join(lines)


@command
async def deploy(
    environment: OptionalEnvironment = None,
    version: OptionalVersion = None,
    *,
    environment_option: Annotated[
        str | None, typer.Option("--environment", "-e", show_default=False, help="In place of ENVIRONMENT.")
    ] = None,
    version_option: Annotated[
        str | None, typer.Option("--version", "-v", show_default=False, help="In place of VERSION.")
    ] = None,
    application: ApplicationOption = None,
    actor: ActorOption = None,
    commit: Annotated[
        str | None, typer.Option(show_default=False, help="Commit to build; by default the version's tag.")
    ] = None,
    ref: Annotated[str | None, typer.Option(show_default=False, help="Branch or tag it came from.")] = None,
    reason: Annotated[
        str | None, typer.Option(show_default=False, help="Why; needed with --skip-tests.")
    ] = None,
    skip_tests: Annotated[
        bool, typer.Option("--skip-tests", help="Leave the test gates out (emergencies); audited.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Show progress until it has ended.")] = False,
    follow_cancel: Annotated[
        bool, typer.Option("--follow-cancel", help="With --wait: Ctrl-C aborts the deployment as well.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Deploy a version to an environment.

    Asking twice is asking once: a deployment that runs already is found, not doubled.

    Exit codes: 0 Completed (or started, without --wait), 1 Failed, 2 invalid input, 3 Rejected,
    130 interrupted (the deployment goes on).
    """
    if follow_cancel and not wait:
        raise usage_error("--follow-cancel is given without --wait", remedy="add --wait")
    request = _request(
        environment=_one_of("environment", environment, environment_option),
        version=_one_of("version", version, version_option),
        application=default_application(application),
        actor=require_actor(actor),
        commit=commit,
        ref=ref,
        reason=reason,
        skip_tests=skip_tests,
    )
    check_configured(request.application, request.environment)
    screen = Screen(as_json=as_json)
    client = await connect()
    started = await start(client, request)
    url = workflow_url(client.namespace, started.workflow_id, started.run_id)
    answer: dict[str, Any] = {
        "deployment_id": started.workflow_id,
        "run_id": started.run_id,
        "started": started.fresh,
        "workflow_url": url,
    }
    github_actions.write_outputs({"deployment_id": started.workflow_id, "workflow_url": url or ""})
    screen.show(_announcement(started, request, url, wait=wait))
    if not wait:
        screen.document(answer)
        return
    page = workflow_url(client.namespace, started.workflow_id)
    final = await see_through(client, screen, started, page, follow_cancel=follow_cancel)
    screen.document({**answer, "status": final.model_dump(mode="json")})
    github_actions.report_end(final, url)
    raise typer.Exit(EXIT_CODES[final.state])


def _one_of(name: str, argument: str | None, option: str | None) -> str:
    if argument is not None and option is not None and argument != option:
        raise usage_error(f"{name} is given twice: {argument!r} and {option!r}", remedy="leave one out")
    value = argument or option
    if value is None:
        raise usage_error(f"{name} is missing", remedy="write erlmcp-deploy deploy ENVIRONMENT VERSION")
    return value


def _request(**fields: Any) -> DeploymentRequest:
    if fields["skip_tests"] and not fields["reason"]:
        raise usage_error(
            "reason is missing: skipping tests is audited with its reason", remedy="give --reason"
        )
    try:
        return DeploymentRequest.model_validate(fields)
    except ValidationError as error:
        raise invalid_input(error, DeploymentRequest) from None


def _announcement(started: Started, request: DeploymentRequest, url: str | None, *, wait: bool) -> Text:
    mark, word = ("✔ started", "bold green") if started.fresh else ("● runs already", "bold yellow")
    text = Text.assemble((mark, word), " ", started.workflow_id)
    if not wait:
        target = target_words(request.application, request.environment, request.version)
        text.append("\n  ")
        text.append_text(command_line("watch", *target))
    if url is not None:
        text.append(f"\n  {url}", style="dim")
    return text


async def see_through(
    client: Client,
    screen: Screen,
    started: Started,
    url: str | None,
    *,
    follow_cancel: bool = False,
    seen: DeploymentStatus | None = None,
) -> DeploymentStatus:
    """Show a deployment until it has ended; a log leaves out what was `seen` already.

    Raises:
        CommandError: it broke, or the waiting was interrupted (the deployment goes on).
    """
    with progress(screen, url, seen) as show:
        follower = Follower(
            client, started.workflow_id, DeploymentStatus, run_id=started.run_id, show=show.update
        )
        final = await _or_interrupted(follower, client, screen, started, follow_cancel=follow_cancel)
    screen.show(_verdict(final))
    return final


async def _or_interrupted(
    follower: Follower[DeploymentStatus],
    client: Client,
    screen: Screen,
    started: Started,
    *,
    follow_cancel: bool,
) -> DeploymentStatus:
    try:
        return await follower.result()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
    if not follow_cancel:
        raise interrupted(started.workflow_id)
    await client.get_workflow_handle(started.workflow_id, run_id=started.run_id).cancel()
    screen.note("the deployment is being aborted; interrupt again to leave without waiting for it")
    return await follower.result()


def interrupted(workflow_id: str) -> CommandError:
    """Ctrl-C: the person leaves, the deployment stays."""
    _, application, environment, version = workflow_id.split(":", 3)
    target = " ".join(target_words(application, environment, version))
    return CommandError(
        f"stopped watching; {workflow_id} goes on",
        remedy=f"come back: erlmcp-deploy watch {target}; end it: erlmcp-deploy abort {target}",
        exit_code=ExitCode.INTERRUPTED,
    )


def _verdict(final: DeploymentStatus) -> Text:
    text = Text.assemble(
        (f"{final.state}", state_style(final.state)),
        f" {final.application} {final.version} → {final.environment}",
    )
    if final.reason:
        text.append(f": {clean(final.reason)}")
    return text
