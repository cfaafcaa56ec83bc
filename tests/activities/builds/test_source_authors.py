"""Who wrote what a version brings: nobody is forgotten, and nobody can write themselves out of the list."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError

from activities.errors import REFUSED
from activities.source import Repositories
from domain.build import CheckoutRequest

ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


class Service:
    """A repository that several people write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main", "--template=")

    def git(self, *arguments: str, author: str = "ada@example.com") -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": author.partition("@")[0],
            "GIT_AUTHOR_EMAIL": author,
            "GIT_COMMITTER_NAME": "The Merge Button",
            "GIT_COMMITTER_EMAIL": "noreply@github.com",
        }
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, author: str, message: str = "change") -> str:
        self.git("commit", "--quiet", "--allow-empty", "--cleanup=verbatim", "-m", message, author=author)
        return self.git("rev-parse", "HEAD")

    def merge(self, branch: str, author: str) -> str:
        self.git("merge", "--quiet", "--no-ff", "-m", f"Merge {branch}", branch, author=author)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path / "service")


@pytest.fixture
def repositories(tmp_path: Path) -> Repositories:
    return Repositories(tmp_path / "worker", ENVIRONMENT, {})


async def authors(
    repositories: Repositories, service: Service, since: str | None = None, commit: str | None = None
) -> tuple[str, ...]:
    wanted = CheckoutRequest(
        application="service",
        repository=str(service.path),
        reference="main",
        commit=commit or service.git("rev-parse", "HEAD"),
        version="1.1.0",
        run="run-1",
        since=since,
    )
    resolved = await repositories.resolve(wanted)
    tree = service.path.parent / "trees" / resolved
    first = await repositories.materialise(wanted, resolved, tree)
    # the same request finds the same answer, in the same tree
    assert await repositories.materialise(wanted, resolved, tree) == first
    return first.authors


async def test_all_who_wrote_since_the_version_before_are_named_once(
    repositories: Repositories, service: Service
) -> None:
    service.commit("old@example.com")
    service.git("tag", "--annotate", "v1.0.0", "-m", "1.0.0")
    service.commit("bob@example.com")
    service.commit("Bob@Example.com")
    service.commit("cleo@example.com")

    assert await authors(repositories, service, "v1.0.0") == ("cleo@example.com", "Bob@Example.com")


@pytest.mark.parametrize("length", [7, 40])
async def test_the_version_before_may_be_a_commit(
    repositories: Repositories, service: Service, length: int
) -> None:
    before = service.commit("old@example.com")
    service.commit("bob@example.com")
    service.commit("cleo@example.com")

    found = await authors(repositories, service, before[:length])

    assert found == ("cleo@example.com", "bob@example.com")


async def test_a_tag_that_came_after_the_commit_was_mirrored_is_found(
    repositories: Repositories, service: Service
) -> None:
    before = service.commit("old@example.com")
    service.commit("bob@example.com")
    service.commit("cleo@example.com")
    # given a mirror that has the commit, and no tag yet
    assert await authors(repositories, service) == ("cleo@example.com",)

    service.git("tag", "v1.0.0", before)

    assert await authors(repositories, service, "v1.0.0") == ("cleo@example.com", "bob@example.com")


@pytest.mark.parametrize("since", ["v0.9.9", "main", "--output=/tmp/pwned", "HEAD", "v1..v2", "", "abcdef0"])
async def test_what_is_no_known_version_leaves_the_commit_itself(
    repositories: Repositories, service: Service, since: str
) -> None:
    service.commit("old@example.com")
    service.commit("bob@example.com")

    assert await authors(repositories, service, since) == ("bob@example.com",)


async def test_a_merge_brings_the_authors_of_its_branch(repositories: Repositories, service: Service) -> None:
    service.commit("old@example.com")
    service.git("checkout", "--quiet", "-b", "feature")
    service.commit("bob@example.com")
    service.commit("cleo@example.com")
    service.git("checkout", "--quiet", "main")
    service.commit("main@example.com")
    service.merge("feature", "dora@example.com")

    found = await authors(repositories, service)

    assert found == ("dora@example.com", "cleo@example.com", "bob@example.com")


async def test_going_back_to_an_older_version_names_who_wrote_its_commit(
    repositories: Repositories, service: Service
) -> None:
    older = service.commit("old@example.com")
    service.commit("bob@example.com")
    service.git("tag", "v2.0.0")

    assert await authors(repositories, service, "v2.0.0", older) == ("old@example.com",)


async def test_who_helped_to_write_is_an_author(repositories: Repositories, service: Service) -> None:
    service.commit(
        "bob@example.com",
        "Add login\n\nWith Cleo.\n\nCo-authored-by: Cleo Example <cleo@example.com>\n"
        "co-authored-by: Dora <123+dora@users.noreply.github.com>\nReviewed-by: Eve <eve@example.com>\n",
    )

    found = await authors(repositories, service)

    assert found == ("bob@example.com", "cleo@example.com", "123+dora@users.noreply.github.com")


async def test_the_mailmap_adds_addresses_and_takes_none_away(
    repositories: Repositories, service: Service
) -> None:
    # given Mallory, who maps his own address to somebody else's
    (service.path / ".mailmap").write_text(
        "Ada <ada@example.com> <ada@laptop.local>\nVictim <victim@example.com> <mallory@example.com>\n"
    )
    service.git("add", ".mailmap")
    service.commit("mallory@example.com", "x\n\nCo-authored-by: Ada <ada@laptop.local>\n")

    found = await authors(repositories, service)

    assert found[0] == "mallory@example.com"
    assert set(found) == {
        "mallory@example.com",
        "victim@example.com",
        "ada@laptop.local",
        "ada@example.com",
    }


async def test_hostile_names_and_trailers_are_only_text(repositories: Repositories, service: Service) -> None:
    service.commit(
        "bob@example.com",
        "x\n\nCo-authored-by: --upload-pack=id <--output=pwned@example.com>\n"
        "Co-authored-by: no address at all\n"
        "Co-authored-by: $(touch pwned) <\x1b[31mred@example.com>\n"
        f"Co-authored-by: Long <{'a' * 5000}@example.com>\n",
    )

    found = await authors(repositories, service)

    assert found == ("bob@example.com", "--output=pwned@example.com", "[31mred@example.com")
    assert not [*service.path.parent.rglob("pwned*")]


async def test_nobody_hides_behind_a_crowd(repositories: Repositories, service: Service) -> None:
    crowd = "\n".join(f"Co-authored-by: X <x{i}@example.com>" for i in range(1100))
    service.commit("mallory@example.com", f"x\n\n{crowd}\n")

    with pytest.raises(ApplicationError, match="more than 1000 authors") as refusal:
        await authors(repositories, service)

    assert (refusal.value.type, refusal.value.non_retryable) == (REFUSED, True)


async def test_a_tree_without_its_mirror_still_knows_its_authors(
    repositories: Repositories, service: Service, tmp_path: Path
) -> None:
    service.commit("old@example.com")
    service.git("tag", "v1.0.0")
    commit = service.commit("bob@example.com")
    wanted = CheckoutRequest(
        application="service",
        repository=str(service.path),
        reference="main",
        commit=commit,
        version="1.1.0",
        run="run-1",
        since="v1.0.0",
    )
    first = await repositories.materialise(wanted, commit, tmp_path / "tree")
    shutil.rmtree(tmp_path / "worker" / "repositories")

    assert await repositories.materialise(wanted, commit, tmp_path / "tree") == first


async def test_a_shallow_history_answers_with_what_it_has(
    repositories: Repositories, service: Service, tmp_path: Path
) -> None:
    # given a work tree whose history was cut off below the merge
    service.commit("old@example.com")
    service.git("checkout", "--quiet", "-b", "feature")
    service.commit("bob@example.com")
    service.git("checkout", "--quiet", "main")
    commit = service.merge("feature", "dora@example.com")
    tree = tmp_path / "tree"
    service.git("clone", "--quiet", "--depth=1", f"file://{service.path}", str(tree))
    wanted = CheckoutRequest(
        application="service",
        repository=str(service.path),
        reference="main",
        commit=commit,
        version="1.1.0",
        run="run-1",
        since="v1.0.0",
    )

    checkout = await repositories.materialise(wanted, commit, tree)

    assert checkout.authors == ("dora@example.com",)
