"""Releases with relups, by real rebar3."""

from __future__ import annotations

import tarfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from temporalio.exceptions import ApplicationError

from activities.errors import REFUSED
from domain.build import ReleaseArtefact
from sandbox.otp import Workshop
from tests.activities.builds.service_repository import commit_files, git
from tests.activities.otp.conftest import Packages

pytestmark = pytest.mark.erlang


def relup_in(artefact: ReleaseArtefact, version: str) -> str | None:
    with tarfile.open(unquote(urlsplit(artefact.uri).path)) as archive:
        name = f"releases/{version}/relup"
        if name not in archive.getnames():
            return None
        file = archive.extractfile(name)
        assert file is not None
        return file.read().decode()


async def test_a_release_leads_from_the_version_that_runs(workshop: Workshop, packages: Packages) -> None:
    assert relup_in(packages["1.0.0"], "1.0.0") is None
    assert '"1.0.0"' in str(relup_in(packages["1.1.0"], "1.1.0"))
    assert packages["1.1.0"].note == ""
    # It is built once for each version it leads from
    assert await workshop.build("1.1.0", "1.0.0") == packages["1.1.0"]


async def test_without_an_appup_there_is_a_release_without_a_relup_that_says_why(
    workshop: Workshop, packages: Packages
) -> None:
    # Given 1.2.0, whose appup knows 1.1.0 only
    artefact = await workshop.build("1.2.0", "1.0.0")
    assert relup_in(artefact, "1.2.0") is None
    assert "there is no relup from 1.0.0" in artefact.note
    assert artefact.digest != packages["1.2.0"].digest
    # And a version that has no tag is said as well
    other = await workshop.build("1.1.0", "0.9.0")
    assert other.note == "there is no relup: 0.9.0 has no tag"


async def test_code_that_changed_under_the_same_version_is_refused(tmp_path: Path) -> None:
    # Given a release whose application was changed, and not its version
    workshop = Workshop(tmp_path)
    application = workshop.repository / "src" / "erlsample.app.src"
    git(workshop.repository, "checkout", "--quiet", "--detach", "v1.1.0")
    fixed = application.read_text().replace('{file, "VERSION"}', '"1.1.0"')
    assert fixed != application.read_text()
    commit_files(workshop.repository, {"src/erlsample.app.src": fixed, "VERSION": "1.1.1\n"}, "v1.1.1")
    metrics = workshop.repository / "src" / "erlsample_counter.erl"
    changed = {"src/erlsample_counter.erl": metrics.read_text().replace('"1.1.0"', '"1.1.2"')}
    commit_files(workshop.repository, {**changed, "VERSION": "1.1.2\n"}, "v1.1.2")
    # When it is to follow on nodes that run the earlier one
    with pytest.raises(ApplicationError, match="raise vsn") as refused:
        await workshop.build("1.1.2", "1.1.1")
    # Then it is refused: they would keep the old code, and say that they have the new one
    assert refused.value.type == REFUSED
    assert "erlsample-1.1.0" in refused.value.message
