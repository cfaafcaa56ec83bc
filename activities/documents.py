"""What a repository's documents say about a version (spec: Pre-Deployment Checklist)."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from domain.conditions import Scalar
from domain.model import Model
from domain.version import commit_prefix, is_breaking

GUIDE_SATISFIED = "exists_if_breaking"
"""The spec's word for: there is a migration guide, or none is needed."""

_LARGEST = 4 * 1024 * 1024
_ERLANG_DOC = re.compile(r"^\s*(?:%+\s*@(?:doc|private|hidden)\b|-moduledoc\b)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,4}\s+(.*\S)\s*$", re.MULTILINE)


class DocumentFindings(Model):
    """Measurements with what proves them; a measurement that could not be made is missing."""

    measurements: dict[str, Scalar]
    evidence: tuple[str, ...]


def inspect_documents(
    tree: Path, options: Mapping[str, str], version: str, previous_version: str | None
) -> DocumentFindings:
    """Measure the documents of a work tree.

    `options` name the files (``changelog``, ``migrations``, ``runbook``, ``alert_rules``) and carry what the
    deployment's own settings say (``health_checks_defined``, ``metrics_configured``).
    """
    findings = _Findings(tree)
    findings.changelog(options.get("changelog"), version)
    findings.migration_guide(options.get("migrations"), version, previous_version)
    findings.public_documentation()
    findings.alert_rules(options.get("alert_rules"))
    findings.runbook(options.get("runbook"))
    for name in ("health_checks_defined", "metrics_configured"):
        if name in options:
            findings.say(name, options[name].lower() == "true", f"deployment.yaml says {options[name]}")
    return DocumentFindings(measurements=findings.measurements, evidence=tuple(findings.evidence))


class _Findings:
    def __init__(self, tree: Path) -> None:
        self._tree = tree.resolve()
        self.measurements: dict[str, Scalar] = {}
        self.evidence: list[str] = []

    def say(self, name: str, value: Scalar | None, proof: str) -> None:
        if value is not None:
            self.measurements[name] = value
        self.evidence.append(f"{name}: {proof}")

    def changelog(self, name: str | None, version: str) -> None:
        text = self._read(name)
        if text is None:
            self.say("changelog_updated", False, f"there is no {name or 'changelog in the options'}")
            return
        # A commit without a tag has no release to be described under, only the section for the next one.
        wanted = "Unreleased" if commit_prefix(version) else version
        section = _section(text, wanted)
        if section is None:
            self.say("changelog_updated", False, f"{name} has no heading for {wanted}")
        elif not section.strip():
            self.say("changelog_updated", False, f"{name} says nothing under {wanted}")
        else:
            self.say("changelog_updated", True, f"{name} has a section for {wanted}")

    def migration_guide(self, name: str | None, version: str, previous: str | None) -> None:
        item = "migration_guide"
        guide = self._guide(name, version)
        if guide is not None:
            self.say(item, GUIDE_SATISFIED, f"{guide} is there")
        elif previous is None:
            self.say(item, GUIDE_SATISFIED, "nothing is deployed that would have to be migrated")
        elif not is_breaking(version, previous):
            self.say(item, GUIDE_SATISFIED, f"{previous} → {version} is not breaking")
        else:
            self.say(
                item, "missing", f"{previous} → {version} is breaking: write {name or 'docs'}/{version}.md"
            )

    def public_documentation(self) -> None:
        erlang = [
            p for d in self._directories("src", "apps/*/src", "lib/*/src") for p in sorted(d.rglob("*.erl"))
        ]
        documented: Callable[[Path], bool] = _erlang_documented
        sources, kind = erlang, "@doc, -moduledoc, @private or @hidden"
        if not erlang:
            sources, kind, documented = self._python_modules(), "a docstring", _python_documented
        if not sources:
            self.say(
                "all_public_docs", None, "not measured: there are neither Erlang nor Python modules in src/"
            )
            return
        missing = [str(path.relative_to(self._tree)) for path in sources if not documented(path)]
        proof = f"{len(sources) - len(missing)} of {len(sources)} modules have {kind}"
        if missing:
            proof += f"; without: {', '.join(missing[:20])}{' …' if len(missing) > 20 else ''}"
        self.say("all_public_docs", not missing, proof)

    def alert_rules(self, name: str | None) -> None:
        item = "alert_rules_updated"
        text = self._read(name)
        if text is None:
            self.say(item, False, f"there is no {name or 'alert rule file in the options'}")
            return
        try:
            alerts = [a for document in YAML(typ="safe", pure=True).load_all(text) for a in _alerts(document)]
        except (YAMLError, RecursionError) as error:
            self.say(item, False, f"{name} is no YAML: {str(error).splitlines()[0]}")
            return
        named = ", ".join(alerts[:10]) or "no rule with `alert` and `expr`"
        self.say(item, bool(alerts), f"{name} defines {named}")

    def runbook(self, name: str | None) -> None:
        text = self._read(name)
        exists = text is not None and bool(text.strip())
        proof = (
            f"{name} is there"
            if exists
            else f"there is no {name or 'runbook in the options'}, or it is empty"
        )
        self.say("runbook_exists", exists, proof)

    def _guide(self, name: str | None, version: str) -> str | None:
        """The file, directory entry or section that guides the migration to a version."""
        path = self._inside(name)
        if path is None or name is None:
            return None
        if path.is_file():
            text = self._read(name)
            return f"{name}, section {version}" if text and (_section(text, version) or "").strip() else None
        for candidate in (f"{version}.md", f"v{version}.md", f"{version}/README.md"):
            text = self._read(f"{name}/{candidate}")
            if text is not None and text.strip():
                return f"{name}/{candidate}"
        return None

    def _python_modules(self) -> list[Path]:
        roots = self._directories("src") or [
            path.parent for path in sorted(self._tree.glob("*/__init__.py")) if path.parent.name != "tests"
        ]
        modules = [path for root in roots for path in sorted(root.rglob("*.py"))]
        return [path for path in modules if not path.name.startswith("_") or path.name == "__init__.py"]

    def _directories(self, *patterns: str) -> list[Path]:
        return [path for pattern in patterns for path in sorted(self._tree.glob(pattern)) if path.is_dir()]

    def _inside(self, name: str | None) -> Path | None:
        """The path of a document; none if it is outside the work tree, whatever links say."""
        if not name:
            return None
        path = (self._tree / name).resolve()
        return path if path.is_relative_to(self._tree) else None

    def _read(self, name: str | None) -> str | None:
        path = self._inside(name)
        if path is None or not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        return path.read_text(errors="replace")


def _section(text: str, title: str) -> str | None:
    """The text under the heading that names a version (``## [1.2.0] - 2026-01-05``, ``# v1.2.0``)."""
    wanted = re.compile(rf"(?:version\s+)?\[?v?{re.escape(title)}(?![\w.+-]*\w)", re.IGNORECASE)
    headings = list(_HEADING.finditer(text))
    for index, heading in enumerate(headings):
        if wanted.match(heading.group(1)):
            level = _level(heading)
            end = next((h.start() for h in headings[index + 1 :] if _level(h) <= level), len(text))
            return text[heading.end() : end]
    return None


def _level(heading: re.Match[str]) -> int:
    return len(heading.group(0)) - len(heading.group(0).lstrip("#"))


def _alerts(document: object) -> list[str]:
    """The alerting rules of a Prometheus rule file or a PrometheusRule object."""
    if not isinstance(document, dict):
        return []
    spec = document.get("spec")
    groups = (spec if isinstance(spec, dict) else document).get("groups")
    rules = [
        rule
        for group in (groups if isinstance(groups, list) else [])
        if isinstance(group, dict) and isinstance(group.get("rules"), list)
        for rule in group["rules"]
    ]
    return [
        str(rule["alert"])
        for rule in rules
        if isinstance(rule, dict) and rule.get("alert") and rule.get("expr")
    ]


def _erlang_documented(path: Path) -> bool:
    return _ERLANG_DOC.search(path.read_text(errors="replace")) is not None


def _python_documented(path: Path) -> bool:
    try:
        module = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return False
    # An empty module, such as a package marker, has nothing to document.
    return not module.body or ast.get_docstring(module) is not None
