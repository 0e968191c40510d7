"""How the cost of an operation changes with the size of things: it should not."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.results import RowResult, judge_flatness
from bench.runner import Runner

__all__ = ["SCALES", "Scale"]


@dataclass(frozen=True)
class Scale:
    """Rows that differ in a size alone.

    :ivar options: of the load generator, for a size.
    :ivar least: the size that the larger ones are compared with; smaller ones are only shown.
    """

    number: str
    name: str
    unit: str
    sizes: Sequence[int]
    options: Callable[[int], Mapping[str, object]]
    least: int = 0

    def run(self, runner: Runner) -> list[RowResult]:
        """All sizes, each with a fresh server."""
        sizes = [size for size in self.sizes if size <= 1_000] if runner.choice.quick else self.sizes
        results = [RowResult(f"{self.number}", f"{self.name} {size:,}", self.unit) for size in sizes]
        for size, result in zip(sizes, results, strict=True):
            with contextlib.ExitStack() as stack:
                servers = [stack.enter_context(runner.server(name, "ec")) for name in runner.each(result)]
                runner.rounds(result, servers, self.options(size))
        judge_flatness([result for size, result in zip(sizes, results, strict=True) if size >= self.least])
        return results


SCALES = (
    Scale(
        "14", "1 publisher, subscribers:", "µs/delivery",
        (1, 10, 100, 1_000, 10_000), lambda size: {"subscribers": size, "concurrency": 64}, least=10,
    ),
    Scale(
        "15", "1 publisher to 10, other subscriptions:", "µs/delivery",
        (10, 100, 1_000, 10_000, 100_000), lambda size: {"subscribers": 10, "others": size},
    ),
    Scale(
        "16", "QoS 1, 1 in flight each, connections:", "µs/PUBLISH",
        (100, 1_000, 10_000), lambda size: {"publishers": size, "topics": size, "concurrency": 64},
    ),
)  # fmt: skip
