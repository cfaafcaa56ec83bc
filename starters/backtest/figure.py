"""Plots of a backtest as SVG or PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from domain.analysis import WatchOutcome
from starters.backtest.plots import Panel
from starters.errors import usage_error

_COLOURS = {
    WatchOutcome.FAILED: "tab:red",
    WatchOutcome.INCONCLUSIVE: "goldenrod",
    WatchOutcome.PASSED: "tab:green",
}
_FEW = 200
"""Up to so many values each is marked."""


def check_drawable(option: str, path: Path) -> None:
    """Refuse before anything is measured what could not be written afterwards.

    Raises:
        CommandError: matplotlib is missing, or the directory (exit code 2).
    """
    _figure_class()
    if not path.resolve().parent.is_dir():
        raise usage_error(f"{option} is {str(path)!r}: there is no directory {path.resolve().parent}")


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra of its own, and slow to import
    except ImportError:
        raise usage_error(
            "plots in files need matplotlib, which is not installed",
            remedy="pip install 'erlmcp-deploy[plots]', or leave --svg and --png out",
        ) from None
    return Figure


def to_file(path: Path, file_format: str, title: str, drawn: Sequence[Panel]) -> None:
    """Draw all panels below each other.

    Raises:
        CommandError: the file cannot be written (exit code 2).
    """
    figure = _figure_class()(figsize=(11, 1.2 + 2.8 * len(drawn)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for panel, axis in zip(drawn, axes, strict=True):
        _draw(panel, axis)
    axes[-1].set_xlabel("time (UTC)")
    try:
        figure.savefig(path, format=file_format, dpi=144)
    except OSError as error:
        raise usage_error(f"{path} cannot be written: {error.strerror or error}") from None


def _draw(panel: Panel, axis: Any) -> None:
    lines = [("baseline", panel.baseline, "0.6"), ("watched", panel.watched, "tab:blue")]
    for label, series, colour in lines:
        if series is not None:
            # Gaps stay gaps: no line over a time without data.
            moments = [at for at, _ in series.moments()]
            values = [math.nan if v is None or not math.isfinite(v) else v for _, v in series.moments()]
            marker = "." if len(values) < _FEW else None
            axis.plot(moments, values, color=colour, linewidth=1.2, marker=marker, label=label)
    for limit in panel.limits:
        axis.axhline(limit, color="tab:orange", linestyle="--", linewidth=1, label=f"limit {limit:g}")
    if panel.bad:
        axis.plot(
            [at for at, _ in panel.bad],
            [v for _, v in panel.bad],
            color="tab:red",
            linestyle="none",
            marker="x",
            label="bad",
        )
    for outcome in sorted({outcome for _, outcome in panel.verdicts}):
        for index, at in enumerate(at for at, found in panel.verdicts if found is outcome):
            axis.axvline(
                at, color=_COLOURS[outcome], linewidth=1.5, label=str(outcome) if index == 0 else None
            )
    if panel.empty:
        axis.text(0.5, 0.5, "nothing was recorded", transform=axis.transAxes, ha="center", color="0.4")
    elif axis.get_ylim()[0] > 0:
        axis.set_ylim(bottom=0)
    axis.set_title(panel.title, loc="left", fontsize=10)
    axis.set_ylabel(panel.unit.strip())
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left", fontsize=8)
