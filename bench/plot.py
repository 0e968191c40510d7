"""The ratios as a drawing: how much of Mosquitto's CPU ours needs, row by row."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.errors import Missing
from bench.results import RowResult

__all__ = ["plot", "require_matplotlib"]


def require_matplotlib() -> Any:
    """Import it late: nothing else needs it.

    :raises Missing: it is not installed.
    """
    try:
        return importlib.import_module("matplotlib")
    except ImportError as error:
        raise Missing("a plot needs matplotlib: pip install 'mfserver[bench]'") from error


def plot(results: Sequence[RowResult], path: Path) -> None:
    """Draw the rows that have a peer into a file in SVG.

    :raises Missing: there is no matplotlib.
    """
    require_matplotlib().use("svg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    rows = [(result, ratio) for result in results if (ratio := result.ratio()) is not None]
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.4 * max(1, len(rows))), layout="constrained")
    for place, (result, ratio) in enumerate(reversed(rows)):
        colour = "tab:red" if "MISSED" in result.verdict else "tab:green"
        spread = [[ratio.median - ratio.least], [ratio.most - ratio.median]]
        axes.barh(place, ratio.median, xerr=spread, color=colour, height=0.6, capsize=3)
        if result.bar is not None:
            axes.plot([result.bar] * 2, [place - 0.4, place + 0.4], color="black", linewidth=2)
    axes.set_yticks(range(len(rows)), [f"{result.name} ({result.number})" for result, _ in reversed(rows)])
    axes.axvline(1.0, color="grey", linestyle="dotted")
    axes.set_xlabel("mfserver's cost through Mosquitto's; black: the most that it may be")
    figure.savefig(path)
    pyplot.close(figure)
