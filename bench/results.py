"""What was measured, and the arithmetic of it: medians of rounds, ratios within a round, and the verdict."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

__all__ = ["Run", "Ratio", "RowResult", "run_of", "table"]


@dataclass(frozen=True)
class Run:
    """One workload once, against one server.

    :ivar cost: what the row compares: microseconds of server CPU per operation, or KiB per connection.
    :ivar rate: operations per second.
    :ivar p50: microseconds; so is p99.
    :ivar lost: messages that were sent and never arrived.
    :ivar load: share of a core that the load generator used; near 1 it may be the limit of the rate.
    """

    cost: float
    rate: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    lost: int = 0
    errors: int = 0
    load: float = 0.0


def run_of(counted: Mapping[str, Any], cpu: float) -> Run:
    """From what the load generator counted, and the seconds of CPU that the server needed for it.

    :raises ValueError: nothing was done.
    """
    operations = counted["operations"]
    if operations <= 0:
        raise ValueError("no operation was completed")
    elapsed = counted["elapsed"] or 1e-9
    return Run(
        cost=cpu / operations * 1e6,
        rate=operations / elapsed,
        p50=counted["p50_us"],
        p99=counted["p99_us"],
        lost=counted["lost"],
        errors=counted["errors"],
        load=counted["cpu"] / elapsed,
    )


@dataclass(frozen=True)
class Ratio:
    """Our cost through a peer's: the median of the rounds, and the least and the most of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, ours: Sequence[Run], theirs: Sequence[Run]) -> "Ratio":
        """Pairs are those of one round: what disturbed the machine then disturbed both."""
        pairs = [a.cost / b.cost for a, b in zip(ours, theirs, strict=False) if b.cost > 0]
        return cls(median(pairs), min(pairs), max(pairs))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f}-{self.most:.2f})"


@dataclass
class RowResult:
    """All rounds of a row.

    :ivar bar: the most that the ratio to Mosquitto may be, or None.
    :ivar least_rate: the least operations per second that ours must do, or None.
    :ivar remarks: what else is to be said, such as why a server is missing.
    """

    number: str
    name: str
    unit: str
    bar: float | None = None
    least_rate: float | None = None
    runs: dict[str, list[Run]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def ratio(self, peer: str = "mosquitto") -> Ratio | None:
        """Ours to a peer's, or None where one of them was not measured."""
        ours, theirs = self.runs.get("mfserver"), self.runs.get(peer)
        return Ratio.of(ours, theirs) if ours and theirs else None

    @property
    def verdict(self) -> str:
        """Whether the bar is met; empty where there is none or nothing to compare."""
        ratio = self.ratio()
        if self.bar is not None and ratio is not None:
            return f"{'met' if ratio.median <= self.bar else 'MISSED'}: {self.bar:g} at most"
        ours = self.runs.get("mfserver")
        if self.least_rate is not None and ours:
            met = median(run.rate for run in ours) >= self.least_rate
            return f"{'met' if met else 'MISSED'}: {self.least_rate:,.0f}/s at least"
        return ""

    def as_json(self) -> dict[str, Any]:
        """Everything, with the figures that follow from it."""
        ratio = self.ratio()
        return {**asdict(self), "ratio": asdict(ratio) if ratio else None, "verdict": self.verdict}


_HEAD = ("", "workload", "server", "cost", "per second", "p50 µs", "p99 µs", "ratio", "bar")


def _cells(result: RowResult) -> Iterable[tuple[str, ...]]:
    for name, runs in result.runs.items():

        def middle(of: str, runs: list[Run] = runs) -> float:
            return float(median(getattr(run, of) for run in runs))

        ours = name == "mfserver"
        ratio = None if ours else result.ratio(name)
        yield (
            result.number if ours else "",
            result.name if ours else f"  {result.unit}",
            name + (" !" if any(run.lost or run.errors for run in runs) else ""),
            f"{middle('cost'):,.2f}",
            f"{middle('rate'):,.0f}" if middle("rate") else "",
            f"{middle('p50'):,.0f}" if middle("p50") else "",
            f"{middle('p99'):,.0f}" if middle("p99") else "",
            str(ratio) if ratio else "",
            result.verdict if ours else "",
        )


def table(results: Sequence[RowResult]) -> str:
    """Medians as text. A ``!`` behind a server: messages were lost or connections failed."""
    lines: list[tuple[str, ...]] = [_HEAD]
    for result in results:
        lines += _cells(result)
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    left = (1, 2, 8)
    text = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    text.insert(1, "  ".join("-" * width for width in widths))
    text += [f"{result.number} {remark}" for result in results for remark in result.remarks]
    return "\n".join(text)
