"""Samples in memory: what the stand-in for Prometheus scraped lately."""

import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

Labels = frozenset[tuple[str, str]]  # with __name__
Matches = Callable[[Mapping[str, str]], bool]

_RETENTION: Final = 900.0  # seconds
_LOOKBACK: Final = 300.0  # seconds that an instant query looks back, as in Prometheus
_SAMPLE: Final = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+-?\d+)?"
)
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPES: Final = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


@dataclass(frozen=True)
class Sample:
    """One value at one time (seconds since the epoch); None: the series ended here."""

    time: float
    value: float | None


class SeriesStore:
    """All series by their labels."""

    def __init__(self) -> None:
        self._series: dict[Labels, deque[Sample]] = {}

    def append(self, time: float, values: Mapping[Labels, float | None]) -> None:
        """Add one sample to each series and forget what is too old."""
        for labels, value in values.items():
            samples = self._series.setdefault(labels, deque())
            samples.append(Sample(time, value))
            while samples[0].time < time - _RETENTION:
                samples.popleft()

    def instant(self, matches: Matches, time: float) -> Iterator[tuple[dict[str, str], Sample]]:
        """The latest sample of each series that has not ended."""
        for labels, samples in self._matching(matches):
            for sample in reversed(samples):
                if sample.time <= time:
                    if sample.value is not None and sample.time > time - _LOOKBACK:
                        yield labels, sample
                    break

    def window(
        self, matches: Matches, start: float, end: float
    ) -> Iterator[tuple[dict[str, str], list[tuple[float, float]]]]:
        """The samples of each series from ``start`` to ``end``, both included."""
        for labels, samples in self._matching(matches):
            inside = [(s.time, s.value) for s in samples if start <= s.time <= end and s.value is not None]
            if inside:
                yield labels, inside

    def _matching(self, matches: Matches) -> Iterator[tuple[dict[str, str], deque[Sample]]]:
        for labels, samples in self._series.items():
            if matches(found := dict(labels)):
                yield found, samples


def parse_exposition(text: str, target_labels: Mapping[str, str]) -> dict[Labels, float | None]:
    """The samples of one scrape in Prometheus text format.

    A label that the target has too is kept as ``exported_…``. Raises ``ValueError`` on any line that is not
    valid: Prometheus refuses such a scrape as a whole.
    """
    found: dict[Labels, float | None] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        sample = _SAMPLE.fullmatch(line.strip())
        if sample is None:
            raise ValueError(f"not a sample in Prometheus text format: {line!r}")
        labels = {"__name__": sample["name"]}
        for name, value in _LABEL.findall(sample["labels"] or ""):
            own = f"exported_{name}" if name in target_labels else name
            labels[own] = re.sub(r"\\.", lambda escape: _ESCAPES.get(escape[0], escape[0]), value)
        found[frozenset((labels | dict(target_labels)).items())] = float(sample["value"])
    return found


def format_value(value: float) -> str:
    """As Prometheus writes it in JSON."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
