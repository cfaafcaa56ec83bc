"""Sources: a mirror of each repository on the build worker, and clean work trees of single commits."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit
from uuid import uuid4

from activities.errors import (
    FORBIDDEN,
    INVALID_CONFIGURATION,
    INVALID_INPUT,
    NOT_FOUND,
    REFUSED,
    UNAVAILABLE,
    fail,
)
from activities.file_lock import file_lock
from activities.processes import CannotStartError, ProcessResult, run_process
from activities.redaction import Redactor
from domain.build import Checkout, CheckoutRequest
from domain.version import commit_prefix

_NETWORK_TIMEOUT = timedelta(minutes=30)
_LOCAL_TIMEOUT = timedelta(minutes=10)
_OUTPUT_LIMIT = 1_000_000
_MOST_COMMITS = 1000
_MOST_AUTHORS = 1000
_LONGEST_ADDRESS = 254
_SCP_LIKE = re.compile(r"[\w.-]+@[\w.-]+:(?!//)\S+")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_FULL_COMMIT = re.compile(r"[0-9a-f]{40}")
_LEGAL_REFERENCE = re.compile(r"(?!-)(?!.*(?:\.\.|@\{))[^\s~^:?*\[\\\x00-\x1f\x7f]+", re.DOTALL)
_CONTACT = re.compile(r"[^<>]*<([^<>]+)>\s*")
_INHERITED = ("PATH", "HOME", "USER", "TMPDIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR")

_FORBIDDEN = re.compile(
    r"authentication failed|could not read (?:username|password)|permission denied"
    r"|host key verification failed|error: 40[13]|access denied|dubious ownership|invalid credentials",
    re.IGNORECASE,
)
_MISSING = re.compile(
    r"repository not found|does not appear to be a git repository"
    r"|repository '.*' (?:not found|does not exist)|error: 404"
    r"|no such file or directory|project you were looking for could not be found",
    re.IGNORECASE,
)
_DAMAGED = re.compile(
    r"\.lock': file exists|bad object|object file .* is empty|loose object .* is corrupt|not a git repository"
    r"|corrupt|bad config|unable to read tree",
    re.IGNORECASE,
)


def credentials_of(environment: Mapping[str, str]) -> dict[str, str]:
    """URL prefix → token: ``GITHUB_TOKEN`` for ``GITHUB_SERVER_URL`` (https://github.com unless set)."""
    token = environment.get("GITHUB_TOKEN")
    server = environment.get("GITHUB_SERVER_URL", "https://github.com").rstrip("/")
    return {f"{server}/": token} if token else {}


class Repositories:
    """Git, with one bare repository per remote under `root`; each operation can be repeated after a crash.

    Attributes:
        credentials: URL prefix → token. Tokens reach git through its environment only, for their prefix only.
    """

    def __init__(self, root: Path, environment: Mapping[str, str], credentials: Mapping[str, str]) -> None:
        self._root = root
        self._credentials = dict(credentials)
        self._environment = {
            name: value
            for name, value in environment.items()
            if name in _INHERITED or name.lower().endswith("_proxy")
        }
        headers = {
            prefix: "Authorization: Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()
            for prefix, token in self._credentials.items()
        }
        self._network = {f"http.{prefix}.extraHeader": header for prefix, header in headers.items()}
        self._redactor = Redactor.of_environment(
            environment, *self._credentials.values(), *(h.rpartition(" ")[2] for h in headers.values())
        )

    async def resolve(self, request: CheckoutRequest) -> str:
        """The full commit that a request means: its `commit`, else its version's, else its reference's.

        Raises:
            ApplicationError: NotFound (commit, tag, branch or repository), Forbidden, Unavailable,
                InvalidInput or InvalidConfiguration.
        """
        check_repository(request.repository)
        _check_reference(request.reference)
        wanted = request.commit or commit_prefix(request.version)
        if wanted is not None and not _COMMIT.fullmatch(wanted):
            fail(INVALID_INPUT, f"commit {wanted!r} is none: write 7 to 40 hexadecimal digits")
        mirror = self._mirror(request.repository)
        async with file_lock(self._lock(mirror)):
            known = wanted is not None and _FULL_COMMIT.fullmatch(wanted) and mirror.is_dir()
            if not (known and await self._has(mirror, str(wanted))):
                await self._update(request.repository, mirror)
            if wanted is not None:
                return await self._commit(request.repository, mirror, wanted)
            return await self._referenced(request, mirror)

    async def materialise(self, request: CheckoutRequest, commit: str, tree: Path) -> Checkout:
        """A clean work tree of the commit at `tree`; one that is complete already is kept.

        The tree is a clone of its own (objects are hard links), so a build cannot damage the mirror.
        """
        mirror = self._mirror(request.repository)
        async with file_lock(self._lock(mirror)):
            if not await self._is_clean(tree, commit):
                await self._make(request.repository, mirror, commit, tree)
            authors = await self._authors(request, mirror, commit, tree)
        checkout = await self._describe(request, commit, tree)
        return checkout.model_copy(update={"authors": authors})

    async def find_version(self, tree: Path, version: str, tags: Sequence[str]) -> str | None:
        """The commit of an earlier version: the one its name holds, or that of the first tag there is."""
        prefix = commit_prefix(version)
        names = [prefix] if prefix is not None else [f"refs/tags/{tag}" for tag in tags]
        for name in names:
            if commit := await self._peeled(tree, name):
                return commit
        return None

    async def copy(self, tree: Path, commit: str, target: Path) -> None:
        """A clean work tree of another commit of `tree`, made anew."""
        draft = target.with_name(f".{target.name}-draft")
        for leftover in (draft, target):
            await asyncio.to_thread(shutil.rmtree, leftover, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        await self._local(
            target.parent, "clone", "--local", "--no-checkout", "--quiet", str(tree), str(draft)
        )
        await self.switch(draft, commit)
        draft.rename(target)

    async def switch(self, tree: Path, commit: str) -> None:
        """Bring a work tree to a commit; what is not tracked stays."""
        await self._local(tree, "checkout", "--quiet", "--detach", "--force", commit)

    async def _make(self, repository: str, mirror: Path, commit: str, tree: Path) -> None:
        if not mirror.is_dir() or not await self._has(mirror, commit):
            await self._update(repository, mirror)
            await self._commit(repository, mirror, commit)
        # Made beside and renamed: an interrupted clone never looks complete.
        draft = tree.with_name(f".{tree.name}-draft")
        for leftover in (draft, tree):
            await asyncio.to_thread(shutil.rmtree, leftover, ignore_errors=True)
        tree.parent.mkdir(parents=True, exist_ok=True)
        await self._local(
            tree.parent, "clone", "--local", "--no-checkout", "--quiet", str(mirror), str(draft)
        )
        await self._local(draft, "remote", "set-url", "origin", repository)
        await self._local(draft, "checkout", "--quiet", "--detach", "--force", commit)
        draft.rename(tree)

    async def _is_clean(self, tree: Path, commit: str) -> bool:
        """Whether the tree is at the commit and no tracked file differs; build products are not tracked."""
        if not (tree / ".git").is_dir():
            return False
        head = await self._git(tree, "rev-parse", "--verify", "--quiet", "HEAD")
        if _text(head) != commit:
            return False
        status = await self._git(tree, "status", "--porcelain", "--untracked-files=no")
        return status.status == 0 and not _text(status)

    async def _describe(self, request: CheckoutRequest, commit: str, tree: Path) -> Checkout:
        shown = await self._local(tree, "show", "--no-patch", "--format=%an%x00%ae%x00%s%x00%cI", commit)
        author, email, subject, committed_at = (_printable(part) for part in shown.split("\x00"))
        name = request.reference.removeprefix("refs/tags/")
        tagged = await self._peeled(tree, f"refs/tags/{name}") == commit
        return Checkout(
            path=str(tree),
            commit=commit,
            author=author,
            author_email=email,
            subject=subject,
            committed_at=committed_at,
            tag=name if tagged else None,
        )

    async def _authors(
        self, request: CheckoutRequest, mirror: Path, commit: str, tree: Path
    ) -> tuple[str, ...]:
        """Addresses of who wrote, or helped to write, what came with a commit.

        The repository's mailmap adds addresses and takes none away: those who write it must not be able to
        write themselves out of the list.

        Raises:
            ApplicationError: Refused, if so much is written there that authors could hide in it.
        """
        source = mirror if mirror.is_dir() and await self._has(mirror, commit) else tree
        for span in await self._spans(request, source, commit):
            shown = await self._git(
                source,
                *_mailmap(commit),
                "log",
                "--no-show-signature",
                "--encoding=UTF-8",
                f"--max-count={_MOST_COMMITS}",
                "-z",
                "--format=%ae%x00%aE%x00%(trailers:key=Co-authored-by,valueonly,unfold,separator=%x00)",
                *span,
                "--",
            )
            found = _addresses(_text(shown).split("\x00"))
            if shown.status == 0 and (shown.output is None or len(found) > _MOST_AUTHORS):
                fail(
                    REFUSED,
                    f"the commits up to {commit} name more than {_MOST_AUTHORS} authors: look at the"
                    " Co-authored-by lines of their messages",
                )
            if shown.status == 0 and found:
                return await self._mapped(source, commit, found)
        return ()

    async def _spans(self, request: CheckoutRequest, source: Path, commit: str) -> list[tuple[str, ...]]:
        """What to ask ``git log`` for, the first that finds something counts."""
        spans: list[tuple[str, ...]] = []
        if request.since and (since := await self._since(request, source)):
            spans.append((f"{since}..{commit}",))
        if await self._peeled(source, f"{commit}^2"):
            spans.append((f"{commit}^1..{commit}",))
        return [*spans, ("--no-walk", commit)]

    async def _since(self, request: CheckoutRequest, source: Path) -> str | None:
        """The commit of the version before; none if the repository does not know it."""
        name = request.since or ""
        if not _LEGAL_REFERENCE.fullmatch(name):
            return None
        tag = name if name.startswith("refs/tags/") else f"refs/tags/{name}"
        if found := await self._peeled(source, tag) or await self._abbreviated(source, name):
            return found
        if source == self._mirror(request.repository):
            # The tag may be newer than the mirror, which needs no update to find a commit that it has.
            await self._update(request.repository, source)
        return await self._peeled(source, tag) or await self._abbreviated(source, name)

    async def _abbreviated(self, repository: Path, wanted: str) -> str | None:
        if not _COMMIT.fullmatch(wanted):
            return None
        listed = await self._git(repository, "rev-parse", f"--disambiguate={wanted}")
        found = [commit for commit in _text(listed).split() if await self._has(repository, commit)]
        return found[0] if len(found) == 1 else None

    async def _mapped(self, source: Path, commit: str, addresses: Sequence[str]) -> tuple[str, ...]:
        """The addresses, and what the mailmap makes of them."""
        contacts = [f"<{address}>" for address in addresses]
        mapped = await self._git(source, *_mailmap(commit), "check-mailmap", *contacts)
        others = _addresses(_text(mapped).splitlines()) if mapped.status == 0 else []
        known = {address.casefold() for address in addresses}
        return (*addresses, *(o for o in others if o.casefold() not in known))

    async def _referenced(self, request: CheckoutRequest, mirror: Path) -> str:
        reference, repository = request.reference, request.repository
        names = (
            [reference]
            if reference.startswith("refs/")
            else [f"refs/tags/{reference}", f"refs/heads/{reference}"]
        )
        for name in names:
            if commit := await self._peeled(mirror, name):
                return commit
        if not _COMMIT.fullmatch(reference):
            fail(
                NOT_FOUND,
                f"{repository} has neither a tag nor a branch {reference!r}: push it (git push origin"
                f" {reference}), correct the application's `tag` in deployment.yaml, or name the commit",
            )
        return await self._commit(repository, mirror, reference)

    async def _commit(self, repository: str, mirror: Path, wanted: str) -> str:
        """The commit with this id or beginning of an id; branches of the same name do not count."""
        if _FULL_COMMIT.fullmatch(wanted):
            if not await self._has(mirror, wanted):
                # Not on any branch or tag, such as the head of a pull request: ask for it by name.
                asked_for = f"+{wanted}:refs/deployments/{wanted}"
                await self._git(mirror, "fetch", "--quiet", "--", repository, asked_for, remote=repository)
            found = [wanted] if await self._has(mirror, wanted) else []
        else:
            listed = await self._local(mirror, "rev-parse", f"--disambiguate={wanted}")
            found = [commit for commit in listed.split() if await self._has(mirror, commit)]
        if len(found) > 1:
            fail(
                INVALID_INPUT,
                f"commit {wanted} of {repository} is ambiguous; write more digits: {', '.join(found)}",
            )
        if not found:
            fail(NOT_FOUND, f"{repository} has no commit {wanted}: push it, or correct `commit`")
        return found[0]

    async def _has(self, repository: Path, commit: str) -> bool:
        kind = await self._git(repository, "cat-file", "-t", commit)
        return kind.status == 0 and _text(kind) == "commit"

    async def _peeled(self, repository: Path, reference: str) -> str | None:
        """The commit that a full reference leads to; annotated tags are followed."""
        peeled = await self._git(
            repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{reference}^{{commit}}"
        )
        return _text(peeled) if peeled.status == 0 else None

    async def _update(self, repository: str, mirror: Path) -> None:
        """Bring branches and tags up to date; a mirror that a crash has damaged is made again."""
        if mirror.is_dir():
            result = await self._fetch(repository, mirror)
            if result.status == 0:
                return
            if not _DAMAGED.search("\n".join(result.tail)):
                self._refuse(repository, result)
            await asyncio.to_thread(shutil.rmtree, mirror, ignore_errors=True)
        for leftover in mirror.parent.glob(f".{mirror.name}-*"):
            await asyncio.to_thread(shutil.rmtree, leftover, ignore_errors=True)
        draft = mirror.with_name(f".{mirror.name}-{uuid4().hex}")
        draft.mkdir(parents=True)
        await self._local(draft, "init", "--bare", "--quiet", "--template=", ".")
        result = await self._fetch(repository, draft)
        if result.status != 0:
            await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
            self._refuse(repository, result)
        draft.rename(mirror)

    async def _fetch(self, repository: str, mirror: Path) -> ProcessResult:
        # Branches and tags, not all references: GitHub keeps one for each pull request ever opened.
        references = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        options = ("--quiet", "--prune", "--no-auto-gc")
        return await self._git(mirror, "fetch", *options, "--", repository, *references, remote=repository)

    def _refuse(self, repository: str, result: ProcessResult) -> NoReturn:
        said = " ".join(line for line in result.tail if line) or result.ending()
        if _FORBIDDEN.search(said):
            fail(
                FORBIDDEN,
                f"repository {repository} refuses the build worker: {said}; set GITHUB_TOKEN to a token that"
                " may read it, or give the worker an SSH key that may",
            )
        if _MISSING.search(said):
            fail(
                NOT_FOUND,
                f"repository {repository} is not there, or hidden from the build worker's credentials:"
                f" {said}; correct `repository` in deployment.yaml or set GITHUB_TOKEN",
            )
        fail(UNAVAILABLE, f"repository {repository} cannot be read now: {said}")

    async def _local(self, directory: Path, *arguments: str) -> str:
        result = await self._git(directory, *arguments)
        if result.status != 0:
            fail(UNAVAILABLE, f"git {arguments[0]} in {directory} {result.ending()}")
        return _text(result)

    async def _git(self, directory: Path, *arguments: str, remote: str | None = None) -> ProcessResult:
        """Run git, without prompts or hooks; credentials only if it talks to a remote."""
        settings = {"core.hooksPath": os.devnull, "core.fsmonitor": "false", "advice.detachedHead": "false"}
        if remote is not None:
            settings |= self._network
        protocols = "https:ssh:file" if remote is None or not remote.startswith("http:") else "http"
        environment = {
            **self._environment,
            "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=20",
            "GIT_ALLOW_PROTOCOL": protocols,
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_CONFIG_COUNT": str(len(settings)),
        }
        for index, (key, value) in enumerate(settings.items()):
            environment[f"GIT_CONFIG_KEY_{index}"] = key
            environment[f"GIT_CONFIG_VALUE_{index}"] = value
        log = self._root / "git-logs" / f"{uuid4().hex}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            return await run_process(
                ["git", *arguments],
                directory=directory,
                environment=environment,
                log=log,
                timeout=_LOCAL_TIMEOUT if remote is None else _NETWORK_TIMEOUT,
                redactor=self._redactor,
                output_limit=_OUTPUT_LIMIT,
            )
        except CannotStartError:
            fail(INVALID_CONFIGURATION, "git is not installed on the build worker: apt-get install git")
        finally:
            log.unlink(missing_ok=True)

    def _mirror(self, repository: str) -> Path:
        name = re.sub(r"[^\w.-]+", "-", repository.rstrip("/").removesuffix(".git").rpartition("/")[2])[:40]
        digest = hashlib.sha256(repository.encode()).hexdigest()[:16]
        return self._root / "repositories" / f"{name.strip('.-') or 'repository'}-{digest}.git"

    def _lock(self, mirror: Path) -> Path:
        return mirror.with_suffix(".lock")


def check_repository(repository: str) -> None:
    """Refuse what git would take for an option, a program to run, or a password in the open."""
    remedy = "write https://…, ssh://…, git@host:path, file:///… or an absolute path"
    if _SCP_LIKE.fullmatch(repository) or repository.startswith("/"):
        return
    parts = urlsplit(repository)
    if parts.password is not None or (parts.scheme in ("http", "https") and parts.username is not None):
        fail(
            INVALID_CONFIGURATION,
            f"`repository` on {parts.hostname} carries credentials: remove them, and set GITHUB_TOKEN on the"
            " worker",
        )
    if parts.scheme in ("https", "ssh", "file") and not repository.startswith("-"):
        return
    if parts.scheme == "http" and _is_loopback(parts.hostname or ""):
        return
    fail(INVALID_CONFIGURATION, f"`repository` {repository!r} cannot be used: {remedy}")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_reference(reference: str) -> None:
    if not _LEGAL_REFERENCE.fullmatch(reference):
        fail(
            INVALID_INPUT,
            f"{reference!r} is no legal name of a tag, branch or commit: correct `ref` or the tag",
        )


def _mailmap(commit: str) -> tuple[str, str]:
    """The mailmap of the commit itself: a mirror has no work tree to find one in."""
    return "-c", f"mailmap.blob={commit}:.mailmap"


def _addresses(tokens: Sequence[str]) -> list[str]:
    """Distinct addresses among addresses, contacts and whatever else people write in trailers."""
    found: dict[str, str] = {}
    for token in tokens:
        contact = _CONTACT.fullmatch(token)
        address = _printable(token if contact is None else contact[1], _LONGEST_ADDRESS + 1)
        if "@" in address and len(address) <= _LONGEST_ADDRESS and not re.search(r"[\s<>]", address):
            found.setdefault(address.casefold(), address)
    return list(found.values())


def _text(result: ProcessResult) -> str:
    return (result.output or b"").decode(errors="replace").strip()


def _printable(text: str, limit: int = 200) -> str:
    return "".join(c for c in text if c.isprintable()).strip()[:limit]
