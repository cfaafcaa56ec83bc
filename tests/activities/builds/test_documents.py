"""The documentation and operational items of the checklist, measured in a repository's own files."""

from pathlib import Path

import pytest

from activities.documents import GUIDE_SATISFIED, DocumentFindings, inspect_documents
from domain.configuration import DocumentSettings
from sandbox.sample import create_repository

NAMES = DocumentSettings().model_dump()


def inspect(
    tree: Path, version: str = "1.1.0", previous: str | None = "1.0.0", **options: str
) -> DocumentFindings:
    return inspect_documents(tree, {**NAMES, **options}, version, previous)


def write(tree: Path, name: str, text: str) -> None:
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text(text)


@pytest.mark.parametrize("flavour", ["erlang", "python"])
def test_the_sample_service_has_all_it_needs(tmp_path: Path, flavour: str) -> None:
    tree = create_repository(tmp_path / "sample", "erlang" if flavour == "erlang" else "python")

    found = inspect(tree, "1.3.0", "1.2.0", health_checks_defined="true", metrics_configured="false")

    assert found.measurements == {
        "changelog_updated": True,
        "migration_guide": GUIDE_SATISFIED,
        "all_public_docs": True,
        "alert_rules_updated": True,
        "runbook_exists": True,
        "health_checks_defined": True,
        "metrics_configured": False,
    }


def test_an_empty_repository_has_none_of_it(tmp_path: Path) -> None:
    found = inspect(tmp_path, "2.0.0", "1.0.0")

    assert found.measurements == {
        "changelog_updated": False,
        "migration_guide": "missing",
        "alert_rules_updated": False,
        "runbook_exists": False,
    }
    assert "all_public_docs: not measured" in "\n".join(found.evidence)


@pytest.mark.parametrize(
    ("changelog", "version", "updated"),
    [
        ("# Changelog\n## [1.1.0] - 2026-01-19\n- counts\n", "1.1.0", True),
        ("# v1.1.0\nCounts.\n# v1.0.0\n", "1.1.0", True),
        ("## Version 1.1.0\n### Added\n- counts\n", "1.1.0", True),
        ("## 1.1.0\n\n## 1.0.0\n- first\n", "1.1.0", False),
        ("## 1.1.0-rc.1\n- counts\n", "1.1.0", False),
        ("## 1.1.0.1\n- counts\n", "1.1.0", False),
        ("## 11.1.0\n- counts\n", "1.1.0", False),
        ("It says 1.1.0 somewhere.\n", "1.1.0", False),
        ("## [Unreleased]\n- counts\n## 1.0.0\n- first\n", "0.0.0-main.g1234567", True),
        ("## [Unreleased]\n\n## 1.0.0\n- first\n", "0.0.0-main.g1234567", False),
    ],
)
def test_a_changelog_is_updated_if_it_says_something_about_the_version(
    tmp_path: Path, changelog: str, version: str, updated: bool
) -> None:
    write(tmp_path, "CHANGELOG.md", changelog)

    assert inspect(tmp_path, version).measurements["changelog_updated"] is updated


@pytest.mark.parametrize(
    ("version", "previous", "guide", "measured"),
    [
        ("1.1.0", "1.0.0", None, GUIDE_SATISFIED),
        ("2.0.0", None, None, GUIDE_SATISFIED),
        ("2.0.0", "1.0.0", None, "missing"),
        ("2.0.0", "1.0.0", "docs/migrations/2.0.0.md", GUIDE_SATISFIED),
        ("2.0.0", "1.0.0", "docs/migrations/v2.0.0.md", GUIDE_SATISFIED),
        ("2.0.0", "1.0.0", "docs/migrations/1.0.0.md", "missing"),
        ("0.3.0", "0.2.9", None, "missing"),
    ],
)
def test_a_breaking_version_needs_a_migration_guide(
    tmp_path: Path, version: str, previous: str | None, guide: str | None, measured: str
) -> None:
    if guide is not None:
        write(tmp_path, guide, "Stop the writers first.\n")

    assert inspect(tmp_path, version, previous).measurements["migration_guide"] == measured


def test_the_guides_may_be_sections_of_one_file(tmp_path: Path) -> None:
    write(tmp_path, "MIGRATING.md", "## 2.0.0\nStop the writers first.\n")

    for version, measured in (("2.0.0", GUIDE_SATISFIED), ("3.0.0", "missing")):
        found = inspect(tmp_path, version, "1.0.0", migrations="MIGRATING.md")
        assert found.measurements["migration_guide"] == measured


def test_modules_without_documentation_are_named(tmp_path: Path) -> None:
    write(tmp_path, "apps/core/src/good.erl", "%% @doc Good.\n-module(good).\n")
    write(tmp_path, "apps/core/src/deep/newer.erl", '-module(newer).\n-moduledoc "Newer.".\n')
    write(tmp_path, "apps/core/src/inner.erl", "%%% @private\n-module(inner).\n")
    assert inspect(tmp_path).measurements["all_public_docs"] is True

    write(tmp_path, "apps/web/src/bad.erl", "%% Mentions that @doc is missing.\n-module(bad).\n")

    found = inspect(tmp_path)
    assert found.measurements["all_public_docs"] is False
    assert "without: apps/web/src/bad.erl" in "\n".join(found.evidence)


def test_python_modules_need_docstrings(tmp_path: Path) -> None:
    write(tmp_path, "src/service/__init__.py", "")
    write(tmp_path, "src/service/api.py", '"""The interface."""\n')
    write(tmp_path, "src/service/_inner.py", "x = 1\n")
    assert inspect(tmp_path).measurements["all_public_docs"] is True

    write(tmp_path, "src/service/broken.py", "def\n")

    assert inspect(tmp_path).measurements["all_public_docs"] is False


RULE = "rules: [{alert: Down, expr: up == 0}]"


@pytest.mark.parametrize(
    ("text", "updated"),
    [
        (f"groups: [{{name: service, {RULE}}}]", True),
        (f"kind: PrometheusRule\nspec: {{groups: [{{name: service, {RULE}}}]}}", True),
        (f"{{}}\n---\ngroups: [{{name: service, {RULE}}}]", True),
        ("groups: [{name: service, rules: [{record: a, expr: b}]}]", False),
        ("groups: [{name: service, rules: [{alert: Down}]}]", False),
        ("groups: []", False),
        ("groups: [", False),
        ("- text", False),
        ("x: !!python/object/apply:os.system [id]", False),
    ],
)
def test_alert_rules_are_rules_that_can_fire(tmp_path: Path, text: str, updated: bool) -> None:
    write(tmp_path, "ops/alerts.yml", text)

    assert inspect(tmp_path).measurements["alert_rules_updated"] is updated


def test_documents_outside_the_repository_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/runbook.md", "Call somebody.\n")
    tree = tmp_path / "tree"
    (tree / "docs").mkdir(parents=True)
    (tree / "docs" / "runbook.md").symlink_to(tmp_path / "elsewhere" / "runbook.md")

    assert inspect(tree).measurements["runbook_exists"] is False
    assert inspect(tree, runbook="../elsewhere/runbook.md").measurements["runbook_exists"] is False
