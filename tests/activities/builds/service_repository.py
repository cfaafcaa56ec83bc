"""Repositories of a small service, and requests to check them out."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from domain.build import CheckoutRequest

WORKER_ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def git(directory: Path, *arguments: str) -> str:
    identity = {
        f"GIT_{r}_{w}": f"{w.lower()}@example.com" for r in ("AUTHOR", "COMMITTER") for w in ("NAME", "EMAIL")
    }
    isolated = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", *arguments],
        cwd=directory,
        env=isolated | identity,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def commit_files(repository: Path, files: Mapping[str, str], tag: str) -> None:
    """Commit these files, programs executable, and tag them."""
    for name, text in files.items():
        file = repository / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755 if text.startswith("#!") else 0o644)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", tag)
    git(repository, "tag", tag)


def checkout_request(repository: Path, version: str = "1.0.0", run: str = "run-1") -> CheckoutRequest:
    return CheckoutRequest(
        application="service", repository=str(repository), reference=f"v{version}", version=version, run=run
    )
