"""requirements.lock fixes what is installed, and says nothing of the machine it was made on."""

import re
import tomllib
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def locked() -> dict[str, tuple[str, list[str]]]:
    """Name → version and hashes."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "requirements.lock").read_text())
    found: dict[str, tuple[str, list[str]]] = {}
    for line in text.splitlines():
        if line and not line.lstrip().startswith("#"):
            requirement = Requirement(line.split(" --hash")[0])
            [specifier] = requirement.specifier
            assert specifier.operator == "==", line
            found[canonicalize_name(requirement.name)] = (
                specifier.version,
                re.findall(r"sha256:[0-9a-f]{64}", line),
            )
    return found


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    requirements = [Requirement(text) for group in groups for text in group]
    return [requirement for requirement in requirements if requirement.name != project["name"]]


def test_every_package_has_one_version_and_hashes() -> None:
    packages = locked()

    assert len(packages) > 50
    assert [name for name, (_, hashes) in packages.items() if not hashes] == []


def test_everything_declared_is_locked_in_an_allowed_version() -> None:
    packages = locked()

    wrong = [
        str(requirement)
        for requirement in declared()
        if (found := packages.get(canonicalize_name(requirement.name))) is None
        or not requirement.specifier.contains(found[0])
    ]
    assert wrong == [], "run `make lock`"


def test_the_lock_file_names_no_index_and_no_path() -> None:
    text = (ROOT / "requirements.lock").read_text()

    assert re.findall(r"(?i)https?://|file:|index-url|find-links|/home|/root|/tmp", text) == []


@pytest.fixture(scope="module")
def uv() -> ModuleType:
    loader = SourceFileLoader("ci_uv", str(ROOT / ".ci" / "uv"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_uv_is_told_what_pip_is_configured_for(uv: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "my wheels").mkdir()
    options = {
        "index-url": "https://user:pass@pypi.example.com/simple",
        "extra-index-url": f"https://extra.example.com/simple {(tmp_path / 'my wheels').as_uri()} file:///nowhere/simple",
        "find-links": f"{tmp_path}\n/nowhere",
        "trusted-host": "pypi.example.com\nextra.example.com",
        "cert": "/etc/ssl/corporate.pem",
        "proxy": "http://proxy.example.com:3128",
        "default-timeout": "180",
    }

    assert uv.uv_environment(options) == {
        "UV_DEFAULT_INDEX": "https://user:pass@pypi.example.com/simple",
        "UV_INDEX": f"https://extra.example.com/simple {(tmp_path / 'my wheels').as_uri()}",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": str(tmp_path),
        "UV_INSECURE_HOST": "pypi.example.com extra.example.com",
        "SSL_CERT_FILE": "/etc/ssl/corporate.pem",
        "ALL_PROXY": "http://proxy.example.com:3128",
        "UV_HTTP_TIMEOUT": "180",
    }
    assert uv.uv_environment({}) == {}
