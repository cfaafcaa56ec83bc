"""What is scraped."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class MetricsTarget:
    """``/metrics`` at ``address`` (host:port); ``labels`` are added to every series."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)
    job: str = "erlsample"

    @property
    def all_labels(self) -> dict[str, str]:
        """The labels with those that Prometheus adds itself."""
        return {"instance": self.address, "job": self.job, **self.labels}
