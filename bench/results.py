"""What was measured, and the arithmetic of it: medians of rounds, ratios within a round, and the verdict."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from bench.errors import BenchError

__all__ = ["Run", "Ratio", "RowResult", "judge_flatness", "run_of", "table"]

#: How much more an operation may cost at any size than at the smallest one.
FLAT = 1.5


@dataclass(frozen=True)
class Run:
    """One workload once, against one server.

    :ivar cost: what the row compares: microseconds of server CPU per operation, or KiB per connection.
    :ivar rate: operations per second.
    :ivar p50: microseconds; so is p99.
    :ivar lost: messages that were sent and never arrived.
    :ivar load: share of a core that the load generator used; near 1 it is the limit of the rate.
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

    :raises BenchError: nothing was done.
    """
    operations = counted["operations"]
    if operations <= 0:
        raise BenchError("no operation was completed")
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
    def of(cls, ours: Sequence[Run], theirs: Sequence[Run]) -> "Ratio | None":
        """Pairs are those of one round: what disturbed the machine then disturbed both."""
        pairs = [a.cost / b.cost for a, b in zip(ours, theirs, strict=False) if b.cost > 0]
        return cls(median(pairs), min(pairs), max(pairs)) if pairs else None

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f}-{self.most:.2f})"


@dataclass
class RowResult:
    """All rounds of a row.

    :ivar unit: of its cost.
    :ivar bar: the most that the ratio to Mosquitto may be, or None.
    :ivar least_rate: the least operations per second that ours must do, or None.
    :ivar most_p99: the most microseconds that ours may take in 99 of 100 cases, or None.
    :ivar judgement: a verdict that follows from more than this row.
    :ivar remarks: what else is to be said, such as why a server is missing.
    """

    number: str
    name: str
    unit: str
    bar: float | None = None
    least_rate: float | None = None
    most_p99: float | None = None
    judgement: str = ""
    runs: dict[str, list[Run]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def add(self, server: str, run: Run) -> None:
        """One more round."""
        self.runs.setdefault(server, []).append(run)

    def middle(self, server: str, of: str) -> float:
        """The median of the rounds."""
        return float(median(getattr(run, of) for run in self.runs[server]))

    def ratio(self, peer: str = "mosquitto") -> Ratio | None:
        """Ours to a peer's, or None where one of them was not measured."""
        return Ratio.of(self.runs.get("mfserver", ()), self.runs.get(peer, ()))

    @property
    def verdict(self) -> str:
        """Whether the bar is met; empty where there is none or nothing to compare."""
        ratio = self.ratio()
        if "mfserver" not in self.runs:
            return ""
        if self.bar is not None and ratio is not None:
            return _verdict(ratio.median <= self.bar, f"{self.bar:g} at most")
        if self.least_rate is not None:
            met = self.middle("mfserver", "rate") >= self.least_rate
            return _verdict(met, f"{self.least_rate:,.0f}/s at least")
        if self.most_p99 is not None:
            met = self.middle("mfserver", "p99") <= self.most_p99
            return _verdict(met, f"p99 {self.most_p99 / 1000:g} ms at most")
        return self.judgement

    def as_json(self) -> dict[str, Any]:
        """Everything, with the figures that follow from it."""
        ratio = self.ratio()
        return {**asdict(self), "ratio": asdict(ratio) if ratio else None, "verdict": self.verdict}


def _verdict(met: bool, bar: str) -> str:
    return f"{'met' if met else 'MISSED'}: {bar}"


def judge_flatness(results: Sequence[RowResult]) -> None:
    """Compare the cost of ours at each size with that at the smallest, the first of the results."""
    first = results[0]
    for result in results[1:]:
        if "mfserver" in first.runs and "mfserver" in result.runs:
            times = result.middle("mfserver", "cost") / first.middle("mfserver", "cost")
            result.judgement = _verdict(times <= FLAT, f"{times:.2f} of the smallest, {FLAT:g} at most")


_HEAD = ("", "workload", "server", "cost", "unit", "per second", "p50 µs", "p99 µs", "ratio", "bar")
_LEFT = ("workload", "server", "unit", "bar")


def _cells(result: RowResult) -> Iterable[tuple[str, ...]]:
    for place, (name, runs) in enumerate(result.runs.items()):
        rate, p50, p99 = (result.middle(name, of) for of in ("rate", "p50", "p99"))
        ratio = None if name == "mfserver" else result.ratio(name)
        yield (
            result.number if place == 0 else "",
            result.name if place == 0 else "",
            name + (" !" if any(run.lost or run.errors for run in runs) else ""),
            f"{result.middle(name, 'cost'):,.2f}",
            result.unit,
            f"{rate:,.0f}" if rate else "",
            f"{p50:,.0f}" if p50 else "",
            f"{p99:,.0f}" if p99 else "",
            str(ratio) if ratio else "",
            result.verdict if name == "mfserver" else "",
        )


def table(results: Sequence[RowResult]) -> str:
    """Medians as text. A ``!`` behind a server: messages were lost or connections failed."""
    lines: list[tuple[str, ...]] = [_HEAD, *(cells for result in results for cells in _cells(result))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            cell.ljust(width) if head in _LEFT else cell.rjust(width)
            for head, cell, width in zip(_HEAD, line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]
    text.insert(1, "  ".join("-" * width for width in widths))
    text += [f"{result.number}: {remark}" for result in results for remark in result.remarks]
    return "\n".join(text)
