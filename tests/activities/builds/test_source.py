"""Checkouts: the commit that was meant, complete, clean, and found again after any crash."""

import base64
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from temporalio.exceptions import ApplicationError

from activities.errors import FORBIDDEN, INVALID_CONFIGURATION, INVALID_INPUT, NOT_FOUND, UNAVAILABLE
from activities.source import Repositories, credentials_of
from domain.build import Checkout, CheckoutRequest
from sandbox.processes import free_port

TOKEN = "ghp_0123456789abcdefghij"
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


def git(directory: Path, *arguments: str) -> str:
    identity = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "Ada Lovelace"), ("EMAIL", "ada@example.com"))
    }
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_COMMITTER_DATE": "2026-01-05T12:00:00+00:00",
        **identity,
    }
    done = subprocess.run(
        ["git", *arguments], cwd=directory, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(repository: Path, text: str) -> str:
    (repository / "text").write_text(text)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", f"feat: {text}")
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One commit on main, released as v1.0.0."""
    path = tmp_path / "service"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main", "--template=")
    commit(path, "first")
    git(path, "tag", "--annotate", "v1.0.0", "--message", "1.0.0")
    return path


@pytest.fixture
def repositories(tmp_path: Path) -> Repositories:
    return Repositories(tmp_path / "worker", ENVIRONMENT, {})


def request(repository: Path | str, reference: str = "v1.0.0", **fields: str) -> CheckoutRequest:
    known = {"application": "service", "version": "1.0.0", "run": "run-1"}
    return CheckoutRequest.model_validate(
        {**known, "repository": str(repository), "reference": reference, **fields}
    )


async def check_out(repositories: Repositories, wanted: CheckoutRequest, tree: Path) -> Checkout:
    return await repositories.materialise(wanted, await repositories.resolve(wanted), tree)


async def test_a_tag_leads_to_its_commit(
    repositories: Repositories, repository: Path, tmp_path: Path
) -> None:
    released = git(repository, "rev-parse", "v1.0.0^{commit}")
    commit(repository, "second")

    checkout = await check_out(repositories, request(repository), tmp_path / "tree")

    assert checkout == Checkout(
        path=str(tmp_path / "tree"),
        commit=released,
        author="Ada Lovelace",
        author_email="ada@example.com",
        subject="feat: first",
        committed_at="2026-01-05T12:00:00+00:00",
        tag="v1.0.0",
        authors=("ada@example.com",),
    )
    assert (tmp_path / "tree" / "text").read_text() == "first"
    assert git(tmp_path / "tree", "status", "--porcelain") == ""
    assert git(tmp_path / "tree", "describe") == "v1.0.0"


async def test_the_commit_asked_for_wins_over_the_tag(
    repositories: Repositories, repository: Path, tmp_path: Path
) -> None:
    second = commit(repository, "second")

    checkout = await check_out(repositories, request(repository, commit=second[:9]), tmp_path / "tree")

    assert (checkout.commit, checkout.tag) == (second, None)


async def test_the_version_of_an_untagged_commit_names_it(
    repositories: Repositories, repository: Path, tmp_path: Path
) -> None:
    second = commit(repository, "second")
    wanted = request(repository, "main", version=f"0.0.0-main.g{second[:7]}")
    commit(repository, "third")

    assert await repositories.resolve(wanted) == second


async def test_a_branch_with_the_name_of_a_commit_is_not_that_commit(
    repositories: Repositories, repository: Path
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "branch", first[:8])
    commit(repository, "second")
    git(repository, "branch", "--force", first[:8], "main")

    assert await repositories.resolve(request(repository, commit=first[:8])) == first


async def test_branches_and_new_tags_are_seen_at_once(repositories: Repositories, repository: Path) -> None:
    await repositories.resolve(request(repository))
    second = commit(repository, "second")
    git(repository, "tag", "v1.1.0")

    assert await repositories.resolve(request(repository, "v1.1.0")) == second
    assert await repositories.resolve(request(repository, "refs/heads/main")) == second


async def test_a_commit_on_no_branch_is_fetched_by_its_name(
    repositories: Repositories, repository: Path, tmp_path: Path
) -> None:
    # given the head of a pull request, which is on neither a branch nor a tag
    git(repository, "config", "uploadpack.allowAnySHA1InWant", "true")
    git(repository, "checkout", "--quiet", "--detach")
    head = commit(repository, "pull request")
    git(repository, "update-ref", "refs/pull/7/head", head)
    git(repository, "checkout", "--quiet", "main")

    checkout = await check_out(repositories, request(repository, "main", commit=head), tmp_path / "tree")

    assert checkout.subject == "feat: pull request"


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        (
            {"reference": "v9.9.9"},
            NOT_FOUND,
            r"neither a tag nor a branch 'v9.9.9': push it \(git push origin",
        ),
        ({"commit": "abcdef0"}, NOT_FOUND, r"has no commit abcdef0: push it"),
        ({"commit": "a" * 40}, NOT_FOUND, r"has no commit a{40}"),
        ({"commit": "HEAD~1"}, INVALID_INPUT, r"commit 'HEAD~1' is none: write 7 to 40 hexadecimal digits"),
        ({"reference": "--upload-pack=touch pwned"}, INVALID_INPUT, r"no legal name of a tag"),
        ({"reference": "main@{1}"}, INVALID_INPUT, r"no legal name of a tag"),
        ({"repository": "--upload-pack=id"}, INVALID_CONFIGURATION, r"cannot be used: write https://"),
        ({"repository": "ext::sh -c id"}, INVALID_CONFIGURATION, r"cannot be used: write https://"),
        (
            {"repository": "http://example.com/x.git"},
            INVALID_CONFIGURATION,
            r"cannot be used: write https://",
        ),
        ({"repository": "relative/path"}, INVALID_CONFIGURATION, r"an absolute path"),
        ({"repository": "/no/such/repository"}, NOT_FOUND, r"is not there, or hidden"),
    ],
)
async def test_what_cannot_be_checked_out_says_why_and_is_not_tried_again(
    repositories: Repositories, repository: Path, fields: dict[str, str], kind: str, message: str
) -> None:
    wanted = request(repository).model_copy(update=fields)

    with pytest.raises(ApplicationError, match=message) as failure:
        await repositories.resolve(wanted)

    assert (failure.value.type, failure.value.non_retryable) == (kind, True)


async def test_credentials_in_the_address_are_refused_and_not_repeated(repositories: Repositories) -> None:
    with pytest.raises(ApplicationError, match=r"on example\.com carries credentials") as failure:
        await repositories.resolve(request(f"https://ci:{TOKEN}@example.com/x.git"))

    assert failure.value.type == INVALID_CONFIGURATION
    assert TOKEN not in str(failure.value)


async def test_a_host_that_does_not_answer_is_worth_another_try(repositories: Repositories) -> None:
    with pytest.raises(ApplicationError, match="cannot be read now") as failure:
        await repositories.resolve(request(f"http://127.0.0.1:{free_port()}/service.git"))

    assert (failure.value.type, failure.value.non_retryable) == (UNAVAILABLE, False)


async def test_an_interrupted_clone_is_made_again(
    repositories: Repositories, repository: Path, tmp_path: Path
) -> None:
    # given what a worker leaves that is killed while it clones
    await repositories.resolve(request(repository))
    (mirror,) = (tmp_path / "worker" / "repositories").glob("*.git")
    draft = mirror.with_name(f".{mirror.name}-killed")
    mirror.rename(draft)
    shutil.rmtree(draft / "refs")
    tree = tmp_path / "tree"
    (tree / ".git").mkdir(parents=True)
    (tmp_path / ".tree-draft").mkdir()

    checkout = await check_out(repositories, request(repository), tree)

    assert checkout.subject == "feat: first"
    assert not draft.exists()
    assert git(tree, "status", "--porcelain") == ""


async def test_a_damaged_mirror_is_made_again(
    repositories: Repositories, repository: Path, tmp_path: Path
) -> None:
    await repositories.resolve(request(repository))
    (mirror,) = (tmp_path / "worker" / "repositories").glob("*.git")
    (mirror / "HEAD").write_bytes(b"\0\0")

    assert await repositories.resolve(request(repository)) == git(repository, "rev-parse", "HEAD")


async def test_a_complete_tree_is_kept_and_a_changed_one_made_again(
    repositories: Repositories, repository: Path, tmp_path: Path
) -> None:
    # given a checkout that was built in
    tree = tmp_path / "tree"
    first = await check_out(repositories, request(repository), tree)
    (tree / "_build").mkdir()
    # when the same is asked for again, the build is still there
    assert await check_out(repositories, request(repository), tree) == first
    assert (tree / "_build").is_dir()
    # but when a source has changed, the tree is a new one
    (tree / "text").write_text("tampered")
    assert await check_out(repositories, request(repository), tree) == first
    assert (tree / "text").read_text() == "first"
    assert not (tree / "_build").exists()


@pytest.fixture
def private_server(repository: Path, tmp_path: Path) -> Iterator[str]:
    """Serves the repository over HTTP to those who bring the token."""
    wanted = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
    served = tmp_path / "served"
    git(tmp_path, "clone", "--quiet", "--bare", str(repository), str(served / "service.git"))
    git(served / "service.git", "update-server-info")

    class Private(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") == f"Basic {wanted}":
                super().do_GET()
            else:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Private, directory=str(served)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_private_repository_opens_to_the_token_only(private_server: str, tmp_path: Path) -> None:
    wanted = request(f"{private_server}/service.git")
    environment = {**ENVIRONMENT, "GITHUB_TOKEN": TOKEN, "GITHUB_SERVER_URL": private_server}
    # given a worker without the token
    stranger = Repositories(tmp_path / "stranger", ENVIRONMENT, {})
    with pytest.raises(ApplicationError, match=r"refuses the build worker.*set GITHUB_TOKEN") as failure:
        await stranger.resolve(wanted)
    assert (failure.value.type, failure.value.non_retryable) == (FORBIDDEN, True)
    # and one with a token for somewhere else
    elsewhere = Repositories(tmp_path / "elsewhere", environment, {"https://github.com/": TOKEN})
    with pytest.raises(ApplicationError, match="refuses"):
        await elsewhere.resolve(wanted)
    # when the token is for this server
    worker = Repositories(tmp_path / "worker", environment, credentials_of(environment))
    checkout = await check_out(worker, wanted, tmp_path / "tree")
    # then it opens, and the token is written down nowhere
    assert checkout.tag == "v1.0.0"
    files = [*(tmp_path / "worker").rglob("*"), *(tmp_path / "tree").rglob("*")]
    contents = b"".join(file.read_bytes() for file in files if file.is_file())
    assert TOKEN.encode() not in contents
    assert base64.b64encode(f"x-access-token:{TOKEN}".encode()) not in contents
