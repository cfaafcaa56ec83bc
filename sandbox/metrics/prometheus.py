"""The real Prometheus, as Debian packages it."""

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx

from sandbox.metrics.target import MetricsTarget
from sandbox.processes import SupervisedProcess, find_program, free_port


@contextlib.asynccontextmanager
async def run_prometheus(targets: Sequence[MetricsTarget], data_dir: Path) -> AsyncIterator[str]:
    """Run it on a free loopback port; yields its base URL once it is ready."""
    program = find_program("prometheus", install="apt-get install --no-install-recommends prometheus")
    data_dir.mkdir(parents=True, exist_ok=True)
    configuration = data_dir / "prometheus.yml"
    configuration.write_text(json.dumps(_configuration(targets), indent=2))  # JSON is YAML
    address = f"127.0.0.1:{free_port()}"
    process = await SupervisedProcess.start(
        [
            program,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={data_dir / 'tsdb'}",
            "--storage.tsdb.retention.time=1d",
            f"--web.listen-address={address}",
        ],
        name="prometheus",
        log_file=data_dir / "prometheus.log",
    )
    async with process, httpx.AsyncClient(base_url=f"http://{address}", timeout=5) as http:
        await process.wait_until(lambda: _ready(http))
        yield f"http://{address}"


def _configuration(targets: Sequence[MetricsTarget]) -> dict[str, object]:
    jobs: dict[str, list[dict[str, object]]] = {}
    for target in targets:
        jobs.setdefault(target.job, []).append({"targets": [target.address], "labels": dict(target.labels)})
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "900ms", "evaluation_interval": "1s"},
        "scrape_configs": [{"job_name": job, "static_configs": targets} for job, targets in jobs.items()],
    }


async def _ready(http: httpx.AsyncClient) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await http.get("/-/ready")).is_success
    return False
