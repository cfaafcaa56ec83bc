"""GitHub's REST API over HTTP, and the sender of its webhooks."""

import asyncio
import contextlib
import hashlib
import json
import re
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.asgi import serve
from sandbox.github import git_http
from sandbox.github.documents import Documents
from sandbox.github.repository import (
    Account,
    CheckRun,
    CommitStatus,
    PullRequest,
    Repository,
)
from sandbox.github.webhooks import Delivery, signed_headers

APP_TOKEN: Final = "ghs_sandbox0123456789"
"""Of an app's installation: may do everything here."""
PERSONAL_TOKEN: Final = "ghp_sandbox0123456789"
"""Of a person: may do everything but make check runs."""
VERSIONS: Final = ("2022-11-28",)
_LIMIT: Final = 5000
_WEBHOOK_TIMEOUT: Final = 10.0
_CONCLUSIONS: Final = frozenset(
    {"action_required", "cancelled", "failure", "neutral", "success", "skipped", "timed_out"}
)
_STATES: Final = ("error", "failure", "pending", "success")
_MOST_STATUSES: Final = 1000
_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="GitHub"'}
_DOCUMENTATION: Final = "https://docs.github.com/rest"


@dataclass(frozen=True)
class Call:
    """One request as it came; ``token`` is what it carried."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    headers: Mapping[str, str]
    status: int

    @property
    def token(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


@dataclass(frozen=True)
class Grant:
    """What a token may: ``permissions`` of a fine-grained kind, ``checks`` (write) only for apps."""

    login: str
    app: bool
    permissions: frozenset[str]
    projects: frozenset[str] | None  # None: all


@dataclass(frozen=True)
class _Fault:
    status: int
    message: str
    headers: Mapping[str, str]
    path: str | None


class _ApiError(Exception):
    def __init__(self, status: int, message: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors


@dataclass(frozen=True)
class _List:
    """An answer in pages; ``key`` names the list inside of an object."""

    entries: list[dict[str, Any]]
    key: str | None = None
    around: Mapping[str, Any] = field(default_factory=dict)


_Body = dict[str, Any]
_Answer = _Body | _List | tuple[int, _Body]


@dataclass(frozen=True)
class _Asked:
    """A request that may be answered."""

    request: Request
    repository: Repository
    body: _Body
    grant: Grant | None

    def part(self, name: str) -> str:
        return str(self.request.path_params[name])

    def option(self, name: str, default: str = "") -> str:
        return self.request.query_params.get(name, default)


_Handler = Callable[[_Asked], _Answer]


class GitHubServer:
    """GitHub with the repositories that are added to it. Other repositories do not exist."""

    def __init__(self, accounts: Iterable[Account] = ()) -> None:
        self.latency = 0.0  # seconds before every answer
        self.calls: list[Call] = []  # every request, refused ones too
        self.deliveries: list[Delivery] = []
        self.remaining = _LIMIT  # requests left until `reset_at`
        self.reset_at = int(time.time()) + 3600
        self._accounts = {a.login.lower(): a for a in accounts}
        self._repositories: dict[str, Repository] = {}
        self._grants: dict[str, Grant] = {}
        self._faults: deque[_Fault] = deque()
        self._base_url = ""
        everything = ("checks", "contents", "pull_requests", "statuses")
        self.grant(APP_TOKEN, *everything, login="erlmcp-deploy[bot]", app=True)
        self.grant(PERSONAL_TOKEN, *everything, login="deployer")

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, accounts: Iterable[Account] = ()) -> AsyncIterator[Self]:
        """A running server on a free loopback port."""
        github = cls(accounts)
        async with serve(Starlette(routes=list(github._routes()))) as github._base_url:
            yield github

    @property
    def url(self) -> str:
        """Base address of the pages."""
        return self._base_url

    @property
    def api_url(self) -> str:
        """Base address of the REST API."""
        return f"{self._base_url}/api/v3"

    # To set it up

    def add_repository(
        self, project: str, *, private: bool = False, default_branch: str = "main"
    ) -> Repository:
        repository = Repository(
            project, private=private, default_branch=default_branch, accounts=self._accounts
        )
        self._repositories[project.lower()] = repository
        return repository

    def grant(
        self,
        token: str,
        *permissions: str,
        login: str = "somebody",
        app: bool = False,
        projects: Iterable[str] | None = None,
    ) -> None:
        """Make a token, or change what it may."""
        allowed = None if projects is None else frozenset(p.lower() for p in projects)
        self._grants[token] = Grant(login, app, frozenset(permissions), allowed)

    def revoke(self, token: str) -> None:
        del self._grants[token]

    def limit_rate(self, *, remaining: int = 0, reset_in: float = 3600) -> None:
        """The primary rate limit: so many requests are left until it is reset."""
        self.remaining, self.reset_at = remaining, int(time.time() + reset_in)

    def fail_next(
        self,
        times: int = 1,
        *,
        status: int = 500,
        message: str = "Server Error",
        headers: Mapping[str, str] | None = None,
        path: str | None = None,
    ) -> None:
        """Let the next requests fail before they have an effect; ``path``: only those it is found in (regex).

        A secondary rate limit is ``status=403``, ``message="You have exceeded a secondary rate limit."`` and
        ``headers={"Retry-After": "60"}``.
        """
        self._faults.extend([_Fault(status, message, dict(headers or {}), path)] * times)

    # To see what became of it

    def asked(self, method: str, path: str) -> list[Call]:
        """The requests of this method whose path matches the regex."""
        return [c for c in self.calls if c.method == method and re.search(path, c.path)]

    # Webhooks

    async def deliver(
        self,
        url: str,
        event: str,
        payload: Mapping[str, Any] | bytes,
        secret: str,
        *,
        guid: str | None = None,
    ) -> httpx.Response:
        """Send a webhook, signed over its very bytes; ``TransportError`` if nobody answers within 10 s."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return await self._send(Delivery(guid or str(uuid.uuid4()), event, url, body, secret, None))

    async def redeliver(self, delivery: Delivery | str) -> httpx.Response:
        """Send a webhook again, as people do by hand: the same id, the same bytes."""
        if isinstance(delivery, str):
            delivery = next(d for d in self.deliveries if d.id == delivery)
        return await self._send(delivery)

    def push_payload(
        self,
        repository: Repository,
        reference: str,
        *,
        before: str | None,
        after: str | None,
        pusher: str = "dev",
    ) -> _Body:
        """Of a ``push`` event; ``before`` None: it is new, ``after`` None: it was deleted."""
        return self._documents.push_event(repository, reference, before, after, pusher)

    def pull_request_payload(
        self, repository: Repository, pull: PullRequest, action: str, *, sender: str | None = None
    ) -> _Body:
        """Of a ``pull_request`` event: opened, synchronize, reopened, closed …"""
        return self._documents.pull_request_event(repository, pull, action, sender or pull.author)

    async def _send(self, delivery: Delivery) -> httpx.Response:
        headers = signed_headers(delivery.event, delivery.id, delivery.body, delivery.secret)
        status = None
        try:
            async with httpx.AsyncClient(timeout=_WEBHOOK_TIMEOUT, trust_env=False) as http:
                answer = await http.post(delivery.url, content=delivery.body, headers=headers)
            status = answer.status_code
            return answer
        finally:
            known = Delivery(
                delivery.id, delivery.event, delivery.url, delivery.body, delivery.secret, status
            )
            self.deliveries.append(known)

    # Transport

    @property
    def _documents(self) -> Documents:
        return Documents(self.url, self.api_url)

    def _routes(self) -> Iterable[Route]:
        """Reading needs no more than a permission of the same name; writing is refused without a token."""
        table: list[tuple[str, str, str, _Handler]] = [
            ("GET", "", "metadata", self._repository),
            ("GET", "/commits/{ref}", "contents", self._commit),
            ("GET", "/commits/{ref}/pulls", "pull_requests", self._pulls_of_commit),
            ("GET", "/commits/{ref}/check-runs", "checks", self._list_check_runs),
            ("GET", "/commits/{ref}/status", "statuses", self._combined_status),
            ("GET", "/compare/{basehead:path}", "contents", self._compare),
            ("GET", "/pulls", "pull_requests", self._list_pulls),
            ("POST", "/pulls", "pull_requests", self._create_pull),
            ("GET", "/pulls/{number:int}", "pull_requests", self._pull),
            ("PATCH", "/pulls/{number:int}", "pull_requests", self._update_pull),
            ("POST", "/issues/{number:int}/labels", "pull_requests", self._add_labels),
            ("GET", "/pulls/{number:int}/reviews", "pull_requests", self._reviews),
            ("GET", "/pulls/{number:int}/commits", "pull_requests", self._pull_commits),
            ("POST", "/check-runs", "checks", self._create_check_run),
            ("PATCH", "/check-runs/{id:int}", "checks", self._update_check_run),
            ("POST", "/statuses/{sha}", "statuses", self._create_status),
        ]
        for method, path, permission, handler in table:
            endpoint = self._endpoint(permission, handler)
            yield Route(f"/api/v3/repos/{{owner}}/{{repo}}{path}", endpoint, methods=[method])
        yield Route("/{owner}/{repo}.git/{path:path}", self._git, methods=["GET", "POST"])
        yield Route("/api/v3/{path:path}", self._endpoint("metadata", self._nothing), methods=["GET", "POST"])

    async def _git(self, request: Request) -> Response:
        """Fetches and pushes of a repository that has a real one behind it; see `Repository.serve`."""
        project = f"{request.path_params['owner']}/{request.path_params['repo']}".lower()
        repository, token = self._repositories.get(project), git_http.token_of(request)
        grant = None if token is None else self._grants.get(token)
        if grant is not None and grant.projects is not None and project not in grant.projects:
            grant = None
        pushes = git_http.pushes(request)
        if repository is None or repository.origin is None:
            return Response("Repository not found.", 404 if token else 401, _CHALLENGE)
        if grant is None and (token is not None or pushes or repository.private):
            return Response("Invalid username or token.", 401, _CHALLENGE)
        if grant is not None and pushes and "contents" not in grant.permissions:
            return Response("Permission denied: write access is not granted.", 403)
        user = grant.login if grant is not None else ""
        return await git_http.answer(request, repository.origin, request.path_params["path"], user)

    def _endpoint(self, permission: str, handler: _Handler) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            raw = await request.body()
            await asyncio.sleep(self.latency)
            try:
                body = json.loads(raw) if raw else {}
            except ValueError:
                body = None
            try:
                response = self._answered(request, permission, handler, body)
            except _ApiError as error:
                response = _refusal(error.status, error.message, error.errors)
            if request.headers.get("if-none-match") == response.headers.get("etag", ""):
                response = Response(status_code=304, headers={"ETag": response.headers["etag"]})
            elif request.headers.get("authorization"):
                self.remaining = max(self.remaining - 1, 0)
            for name, value in self._rate().items():
                response.headers.setdefault(name, value)
            path = request.url.path.removeprefix("/api/v3")
            query, headers = dict(request.query_params), dict(request.headers)
            self.calls.append(Call(request.method, path, query, body, headers, response.status_code))
            return response

        return answer

    def _answered(self, request: Request, permission: str, handler: _Handler, body: Any) -> Response:
        if fault := self._fault(request.url.path):
            refusal = _refusal(fault.status, fault.message)
            refusal.headers.update(fault.headers)
            return refusal
        if not request.headers.get("user-agent"):
            raise _ApiError(
                403, "Request forbidden by administrative rules. Please make sure your request has"
            )
        version = request.headers.get("x-github-api-version", VERSIONS[0])
        if version not in VERSIONS:
            raise _ApiError(400, f'"{version}" is not a supported version')
        grant = self._authenticate(request)
        if self.remaining <= 0 and time.time() < self.reset_at:
            raise _ApiError(403, "API rate limit exceeded for user ID 1.")
        repository = self._accessible(request, grant, permission)
        if not isinstance(body, dict):
            raise _ApiError(400, "Problems parsing JSON")
        found = handler(_Asked(request, repository, body, grant))
        if isinstance(found, _List):
            return _page(request, found)
        if isinstance(found, tuple):
            return _json(*found)
        return _json(200, found)

    def _authenticate(self, request: Request) -> Grant | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not scheme:
            if request.method != "GET":
                raise _ApiError(401, "Requires authentication")
            return None
        if scheme.lower() not in ("bearer", "token") or token not in self._grants:
            raise _ApiError(401, "Bad credentials")
        return self._grants[token]

    def _accessible(self, request: Request, grant: Grant | None, permission: str) -> Repository:
        owner, name = request.path_params.get("owner"), request.path_params.get("repo")
        project = f"{owner}/{name}".lower()
        repository = self._repositories.get(project)
        reachable = grant is not None and (grant.projects is None or project in grant.projects)
        if repository is None or (repository.private and not reachable):
            raise _ApiError(404, "Not Found")
        reading = request.method == "GET"
        repository.refresh()
        if reading and (permission == "metadata" or not repository.private):
            return repository
        kind = "integration" if grant is not None and grant.app else "personal access token"
        if grant is None or not reachable or permission not in grant.permissions:
            raise _ApiError(403, f"Resource not accessible by {kind}")
        if not reading and permission == "checks" and not grant.app:
            raise _ApiError(403, "You must authenticate via a GitHub App.")
        return repository

    def _fault(self, path: str) -> _Fault | None:
        for fault in self._faults:
            if fault.path is None or re.search(fault.path, path):
                self._faults.remove(fault)
                return fault
        return None

    def _rate(self) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(_LIMIT),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset_at),
            "X-RateLimit-Used": str(_LIMIT - self.remaining),
            "X-RateLimit-Resource": "core",
            "X-GitHub-Api-Version-Selected": VERSIONS[0],
            "X-GitHub-Request-Id": uuid.uuid4().hex[:16].upper(),
        }

    # Reading

    def _nothing(self, _: _Asked) -> _Answer:
        raise _ApiError(404, "Not Found")

    def _repository(self, asked: _Asked) -> _Answer:
        return self._documents.repository(asked.repository)

    def _commit(self, asked: _Asked) -> _Answer:
        return self._documents.commit(asked.repository, _commit_of(asked, asked.part("ref")))

    def _pulls_of_commit(self, asked: _Asked) -> _Answer:
        sha = _commit_of(asked, asked.part("ref"))
        found = asked.repository.pulls_of(sha)
        return _List([self._documents.pull(asked.repository, p, whole=False) for p in found])

    def _compare(self, asked: _Asked) -> _Answer:
        first, dots, second = asked.part("basehead").partition("...")
        base, head = asked.repository.resolve(first), asked.repository.resolve(second)
        if not dots or base is None or head is None:
            raise _ApiError(404, "Not Found")
        ahead, behind = asked.repository.between(base, head), asked.repository.between(head, base)
        status = ("diverged" if behind else "ahead") if ahead else ("behind" if behind else "identical")
        documents = self._documents
        return {
            "status": status,
            "ahead_by": len(ahead),
            "behind_by": len(behind),
            "total_commits": len(ahead),
            "base_commit": documents.commit(asked.repository, base),
            "commits": [documents.commit(asked.repository, sha) for sha in ahead[:250]],
            "html_url": f"{self.url}/{asked.repository.project}/compare/{first}...{second}",
        }

    def _list_pulls(self, asked: _Asked) -> _Answer:
        state, base, head = asked.option("state", "open"), asked.option("base"), asked.option("head")
        found = [
            p
            for p in asked.repository.pulls.values()
            if state in ("all", p.state)
            and base in ("", p.base)
            and head.rpartition(":")[2] in ("", p.branch)
        ]
        by_update = asked.option("sort", "created") == "updated"
        found.sort(
            key=lambda p: p.updated_at if by_update else p.created_at,
            reverse=asked.option("direction", "desc") == "desc",
        )
        return _List([self._documents.pull(asked.repository, p, whole=False) for p in found])

    def _pull(self, asked: _Asked) -> _Answer:
        return self._documents.pull(asked.repository, _pull_of(asked), whole=True)

    def _reviews(self, asked: _Asked) -> _Answer:
        pull = _pull_of(asked)
        return _List([self._documents.review(asked.repository, pull, r) for r in pull.reviews])

    def _pull_commits(self, asked: _Asked) -> _Answer:
        # GitHub never lists more than 250 here.
        return _List([self._documents.commit(asked.repository, c) for c in _pull_of(asked).commits[:250]])

    def _list_check_runs(self, asked: _Asked) -> _Answer:
        sha, name = _commit_of(asked, asked.part("ref")), asked.option("check_name")
        runs = [
            r for r in asked.repository.check_runs if r.head_sha == sha and name in ("", r.fields["name"])
        ]
        if asked.option("filter", "latest") == "latest":
            runs = list({r.fields["name"]: r for r in runs}.values())
        entries = [self._documents.check_run(asked.repository, r) for r in reversed(runs)]
        return _List(entries, key="check_runs", around={"total_count": len(entries)})

    def _combined_status(self, asked: _Asked) -> _Answer:
        sha = _commit_of(asked, asked.part("ref"))
        latest = {s.context: s for s in asked.repository.statuses if s.sha == sha}
        states = {s.state for s in latest.values()}
        bad = states & {"failure", "error"}
        return {
            "sha": sha,
            "state": "failure" if bad else "pending" if states != {"success"} else "success",
            "total_count": len(latest),
            "statuses": [self._documents.status(asked.repository, s) for s in latest.values()],
        }

    # Changing

    def _create_pull(self, asked: _Asked) -> _Answer:
        repository, body = asked.repository, asked.body
        for required in ("title", "head", "base"):
            if not body.get(required):
                raise _ApiError(422, f'Invalid request.\n\n"{required}" wasn\'t supplied.')
        branch, base = str(body["head"]).rpartition(":")[2], str(body["base"])
        for end, name in (("head", branch), ("base", base)):
            if name not in repository.branches:
                raise _ApiError(
                    422,
                    "Validation Failed",
                    [{"resource": "PullRequest", "field": end, "code": "invalid"}],
                )
        if any(p.state == "open" and (p.branch, p.base) == (branch, base) for p in repository.pulls.values()):
            owner = repository.project.partition("/")[0]
            raise _invalid("PullRequest", "", f"A pull request already exists for {owner}:{branch}.")
        _check_lengths(body)
        try:
            pull = repository.open_pull_request(
                branch,
                str(body["title"]),
                author=asked.grant.login if asked.grant is not None else "",
                base=base,
                body=str(body.get("body") or ""),
            )
        except ValueError:
            raise _invalid("PullRequest", "", f"No commits between {base} and {branch}") from None
        return 201, self._documents.pull(repository, pull, whole=True)

    def _update_pull(self, asked: _Asked) -> _Answer:
        pull = _pull_of(asked)
        _check_lengths(asked.body)
        pull.title = str(asked.body.get("title", pull.title))
        pull.body = str(asked.body.get("body", pull.body) or "")
        pull.updated_at = asked.repository.now()
        return self._documents.pull(asked.repository, pull, whole=True)

    def _add_labels(self, asked: _Asked) -> _Answer:
        pull = _pull_of(asked)
        pull.labels = list(dict.fromkeys((*pull.labels, *map(str, asked.body.get("labels", ())))))
        return _List([{"name": label} for label in pull.labels])

    # Publishing

    def _create_check_run(self, asked: _Asked) -> _Answer:
        for required in ("name", "head_sha"):
            if required not in asked.body:
                raise _ApiError(422, f'Invalid request.\n\n"{required}" wasn\'t supplied.')
        sha = str(asked.body["head_sha"])
        if sha not in asked.repository.commits:
            raise _ApiError(422, f"No commit found for SHA: {sha}")
        app = asked.grant.login if asked.grant is not None else ""
        run = CheckRun(asked.repository.next_id(), sha, _checked_run(asked.body, {}), app)
        asked.repository.check_runs.append(run)
        return 201, self._documents.check_run(asked.repository, run)

    def _update_check_run(self, asked: _Asked) -> _Answer:
        number = asked.request.path_params["id"]
        run = next((r for r in asked.repository.check_runs if r.id == number), None)
        if run is None:
            raise _ApiError(404, "Not Found")
        if asked.grant is None or run.app != asked.grant.login:
            raise _ApiError(403, "Invalid app_id - check run can only be modified by its GitHub App.")
        run.fields = _checked_run(asked.body, run.fields)
        run.updates += 1
        return self._documents.check_run(asked.repository, run)

    def _create_status(self, asked: _Asked) -> _Answer:
        repository, sha, body = asked.repository, asked.part("sha"), asked.body
        if sha not in repository.commits:
            raise _ApiError(422, f"No commit found for SHA: {sha}")
        state, context = body.get("state"), body.get("context") or "default"
        description = body.get("description")
        if state not in _STATES:
            raise _invalid("Status", "state", "state is not included in the list")
        if description is not None and len(description) > 140:
            raise _invalid("Status", "description", "description is too long (maximum is 140 characters)")
        target = body.get("target_url")
        if target is not None and not str(target).startswith(("http://", "https://")):
            raise _invalid("Status", "target_url", "target_url must use http(s) scheme")
        if sum(s.sha == sha and s.context == context for s in repository.statuses) >= _MOST_STATUSES:
            raise _invalid(
                "Status", "context", "This SHA and context has reached the maximum number of statuses."
            )
        creator = asked.grant.login if asked.grant is not None else ""
        number, at = repository.next_id(), repository.now()
        status = CommitStatus(number, sha, state, context, description, target, creator, at)
        repository.statuses.append(status)
        return 201, self._documents.status(repository, status)


def _commit_of(asked: _Asked, reference: str) -> str:
    sha = asked.repository.resolve(reference)
    if sha is None:
        raise _ApiError(422, f"No commit found for SHA: {reference}")
    return sha


def _pull_of(asked: _Asked) -> PullRequest:
    pull = asked.repository.pulls.get(asked.request.path_params["number"])
    if pull is None:
        raise _ApiError(404, "Not Found")
    return pull


def _checked_run(body: Mapping[str, Any], known: Mapping[str, Any]) -> _Body:
    """The fields of a check run after a change."""
    fields = {**known, **body}
    if fields.get("status", "queued") not in ("queued", "in_progress", "completed"):
        raise _invalid("CheckRun", "status", "status is not included in the list")
    if "conclusion" in body:
        if body["conclusion"] not in _CONCLUSIONS:
            raise _invalid("CheckRun", "conclusion", "conclusion is not included in the list")
        fields["status"] = "completed"
    elif body.get("status") == "completed":
        raise _ApiError(422, 'Invalid request.\n\n"conclusion" wasn\'t supplied.')
    elif "status" in body:
        fields.pop("conclusion", None)
    output = body.get("output")
    if output is not None:
        for required in ("title", "summary"):
            if not output.get(required):
                raise _ApiError(422, f'Invalid request.\n\n"{required}" wasn\'t supplied.')
        if len(output["summary"]) > 65_535:
            raise _invalid("CheckRun", "summary", "summary exceeds a maximum of 65535 characters")
    return fields


def _check_lengths(body: Mapping[str, Any]) -> None:
    for name, most in (("title", 256), ("body", 65_536)):
        if len(str(body.get(name) or "")) > most:
            raise _invalid("PullRequest", name, f"{name} is too long (maximum is {most} characters)")


def _invalid(resource: str, name: str, message: str) -> _ApiError:
    error = {"resource": resource, "code": "custom", "field": name, "message": message}
    return _ApiError(422, "Validation Failed", [error])


def _page(request: Request, found: _List) -> Response:
    query = request.query_params
    size = min(max(int(query.get("per_page", "30")), 1), 100)
    number = max(int(query.get("page", "1")), 1)
    last = max(-(-len(found.entries) // size), 1)
    entries = found.entries[(number - 1) * size : number * size]
    document = entries if found.key is None else {**found.around, found.key: entries}
    response = _json(200, document)
    relations = {"prev": number - 1, "next": number + 1, "last": last, "first": 1}
    links = [
        f'<{request.url.include_query_params(page=page)}>; rel="{name}"'
        for name, page in relations.items()
        if 1 <= page <= last and page != number
    ]
    if links:
        response.headers["Link"] = ", ".join(links)
    return response


def _refusal(status: int, message: str, errors: list[dict[str, Any]] | None = None) -> Response:
    document: _Body = {"message": message}
    if errors is not None:
        document["errors"] = errors
    return _json(status, {**document, "documentation_url": _DOCUMENTATION, "status": str(status)})


def _json(status: int, document: Any) -> Response:
    body = json.dumps(document).encode()
    response = Response(body, status, media_type="application/json; charset=utf-8")
    if status == 200:
        response.headers["ETag"] = f'W/"{hashlib.sha256(body).hexdigest()}"'
    return response
