"""The sample service that the sandbox deploys, as a real git repository with real commits and tags.

Two flavours of the same service: ``erlang`` (OTP release with hot upgrades, needs rebar3) and ``python``
(standard library only). Their versions behave alike:

- 1.0.0 and 1.1.0 are good;
- 1.2.0 passes every gate, but answers 500 from the 21st ``/bump`` on and is unhealthy from then on
  (and, in Erlang, as soon as a running node is hot-upgraded to it);
- 1.3.0 boots well, but in Erlang the hot upgrade to it fails after the point of no return.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Literal

Flavour = Literal["erlang", "python"]

NAME: Final = "erlsample"
VERSIONS: Final = ("1.0.0", "1.1.0", "1.2.0", "1.3.0")
_RELEASED: Final = {
    "1.0.0": ("2026-01-05", "feat: count bumps over HTTP"),
    "1.1.0": ("2026-01-19", "feat: keep the state of the counter in a map"),
    "1.2.0": ("2026-02-02", "feat: take a lease for each bump"),
    "1.3.0": ("2026-02-16", "feat: number the schema of the state"),
}
_HERE = Path(__file__).parent


class SampleRepositoryError(RuntimeError):
    """The repository could not be built; carries the output of git."""


def create_repository(path: Path, flavour: Flavour = "erlang") -> Path:
    """Build the repository at ``path``: branch ``main``, one commit and one annotated tag for each version.

    Commit shas are the same on every machine. An existing repository at ``path`` is left as it is.
    Raises ``SampleRepositoryError`` when git is missing or fails, and when ``path`` holds something else.
    """
    if (path / ".git").is_dir():
        return path
    if path.exists() and any(path.iterdir()):
        raise SampleRepositoryError(f"{path} is neither empty nor a git repository: name another directory")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Built beside and moved at the end, so that an interrupted run leaves no half repository.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as workshop:
        tree = Path(workshop) / "tree"
        tree.mkdir()
        _git(tree, "init", "--quiet", "--initial-branch=main", "--template=")
        for version in VERSIONS:
            _write_version(tree, version, flavour)
            _commit(tree, version)
        if path.exists():
            path.rmdir()
        tree.rename(path)
    return path


def _write_version(tree: Path, version: str, flavour: Flavour) -> None:
    layer = "base" if version == VERSIONS[0] else f"overlay-{version}"
    for source in (_HERE / "common" / layer, _HERE / flavour / layer):
        shutil.copytree(
            source,
            tree,
            copy_function=shutil.copyfile,  # with an old time git would not see that VERSION changed
            ignore=shutil.ignore_patterns("__pycache__"),
            dirs_exist_ok=True,
        )
    for gate in (tree / "gates").iterdir():
        gate.chmod(0o755 if gate.read_bytes().startswith(b"#!") else 0o644)


def _commit(tree: Path, version: str) -> None:
    day, subject = _RELEASED[version]
    _git(tree, "add", "--all")
    _git(tree, "commit", "--quiet", "--message", subject, day=day)
    _git(tree, "tag", "--annotate", f"v{version}", "--message", f"{NAME} {version}", day=day)


def _git(tree: Path, *arguments: str, day: str = "2026-01-05") -> None:
    # The settings of the user (signing, line ends, hooks, names) must not change the shas.
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        environ |= {
            f"GIT_{role}_NAME": "Sample Developer",
            f"GIT_{role}_EMAIL": "developer@example.com",
            f"GIT_{role}_DATE": f"{day}T12:00:00+00:00",
        }
    try:
        subprocess.run(["git", *arguments], cwd=tree, env=environ, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise SampleRepositoryError("git is not installed: apt-get install git") from None
    except subprocess.CalledProcessError as error:
        raise SampleRepositoryError(f"git {arguments[0]} failed in {tree}: {error.stderr.strip()}") from error
