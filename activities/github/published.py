"""Validations where people look for them: check runs, or commit statuses where the token may not make any."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from activities.github.api import GitHubApi, RefusedError
from domain.checks import CheckReceipt, CheckRun, CheckState

_LONGEST_TITLE: Final = 255
_LONGEST_SUMMARY: Final = 65_535
_LONGEST_DESCRIPTION: Final = 140
_CONCLUSIONS: Final = {
    CheckState.PASSED: "success",
    CheckState.FAILED: "failure",
    CheckState.CANCELLED: "cancelled",
}
_STATUSES: Final = {
    CheckState.RUNNING: "pending",
    CheckState.PASSED: "success",
    CheckState.FAILED: "failure",
    CheckState.CANCELLED: "error",
}
_PEOPLES_TOKENS: Final = ("ghp_", "github_pat_", "gho_")
"""How the tokens of people begin, which may not make check runs; of others it shows."""


async def publish(api: GitHubApi, project: str, check: CheckRun, *, personal: bool) -> CheckReceipt:
    """Show a check at its commit, as a check run if the token may.

    Raises:
        RefusedError: it may not be shown at all.
        ApplicationError: Unavailable.
    """
    if not personal:
        try:
            return await _check_run(api, project, check)
        except RefusedError as error:
            # A token of a person, or an app without the permission; both may still be allowed statuses.
            if error.status not in (403, 404):
                raise
    return await _status(api, project, check)


def is_personal(token: str) -> bool:
    """Whether it is a person's token, as far as its beginning tells."""
    return token.strip().startswith(_PEOPLES_TOKENS)


async def _check_run(api: GitHubApi, project: str, check: CheckRun) -> CheckReceipt:
    body = _check_run_body(check)
    runs = await api.listed(
        f"/repos/{project}/commits/{check.commit}/check-runs",
        key="check_runs",
        check_name=check.name,
        filter="all",
    )
    ours = (r for r in runs if r.get("external_id") == check.key and isinstance(r.get("id"), int))
    earlier = next(ours, None)
    if earlier is None:
        created = {**body, "head_sha": check.commit, "external_id": check.key}
        return _receipt(await api.send("POST", f"/repos/{project}/check-runs", created))
    if check.state is CheckState.RUNNING and earlier.get("status") == "completed":
        return _receipt(earlier)  # a late attempt does not take back what was shown in the end
    return _receipt(await api.send("PATCH", f"/repos/{project}/check-runs/{earlier['id']}", body))


def _check_run_body(check: CheckRun) -> dict[str, Any]:
    title = _cut(check.title, _LONGEST_TITLE) or check.name
    body: dict[str, Any] = {
        "name": check.name,
        "started_at": _time(check.started_at),
        "output": {"title": title, "summary": _cut(check.summary, _LONGEST_SUMMARY) or title},
    }
    if check.details_url is not None:
        body["details_url"] = check.details_url
    if check.state is CheckState.RUNNING:
        return {**body, "status": "in_progress"}
    body |= {"status": "completed", "conclusion": _CONCLUSIONS[check.state]}
    return body if check.finished_at is None else {**body, "completed_at": _time(check.finished_at)}


async def _status(api: GitHubApi, project: str, check: CheckRun) -> CheckReceipt:
    body: dict[str, Any] = {
        "state": _STATUSES[check.state],
        "context": check.name,
        "description": _cut(check.title, _LONGEST_DESCRIPTION),
    }
    if check.details_url is not None:
        body["target_url"] = check.details_url
    return _receipt(await api.send("POST", f"/repos/{project}/statuses/{check.commit}", body))


def _receipt(document: dict[str, Any]) -> CheckReceipt:
    reference = document.get("html_url") or document.get("url")
    return CheckReceipt(published=True, reference=None if reference is None else str(reference))


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
