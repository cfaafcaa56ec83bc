"""The documentation holds: its settings can be used as they stand, and its links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from activities.configuration import parse_configuration
from domain.analysis import WatchPolicy

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PEOPLE = "directory: {roles: {tech_lead: [tara@example.com], change_board: [carla@example.com]}}\n"
SETTINGS = {"applications", "environments", "directory"}


def snippets() -> Iterator[tuple[str, str]]:
    """Every block of YAML, with where it begins."""
    for page in PAGES:
        text = page.read_text()
        for block in re.finditer(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            yield f"{page.name}:{text.count(chr(10), 0, block.start()) + 1}", block[1]


def keys_of(snippet: str) -> set[str]:
    return {key for document in YAML(typ="safe", pure=True).load_all(snippet) for key in document}


@pytest.mark.parametrize(("place", "snippet"), [pytest.param(*s, id=s[0]) for s in snippets()])
def test_what_is_shown_can_be_used(place: str, snippet: str) -> None:
    keys = keys_of(snippet)
    if keys & SETTINGS:
        parse_configuration(snippet + ("" if "directory" in keys else PEOPLE), file=place)
    elif "metrics" in keys:
        WatchPolicy.model_validate({"subject": place, **YAML(typ="safe", pure=True).load(snippet)})
    else:
        # of Kubernetes (proved by tests/activities/kubernetes/test_documented_roles.py), Prometheus,
        # Alertmanager or Slack
        theirs = {"apiVersion", "relabel_configs", "receivers", "display_information"}
        assert keys & theirs, f"{place} is neither of ours nor of theirs"


def anchors(page: Path) -> set[str]:
    """What its headings are called in links, by the rule of GitHub."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"\w+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"
