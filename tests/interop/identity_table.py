"""The table that a person reads: for each protocol, how many tricks were refused and how many twins let in.

It ends up as ``_identity_table.txt`` in trial's temporary directory, one for all tests of a run, because
``trial -j`` hides what its workers print; without ``-j`` it is printed too.
"""

import fcntl
import json
import sys
from collections.abc import Iterable, Iterator

from tests.interop.identity_world import Row
from tests.trial_directory import trial_directory

__all__ = ["add_to_table"]

TABLE = "_identity_table.txt"
_KEPT = "_identity_table.json"
_COLUMNS = ("tricks", "refused", "twins", "accepted")

Counts = dict[str, list[int]]


def add_to_table(title: str, outcomes: Iterable[tuple[Row, str]]) -> None:
    """Count what came of one test's rows, and write the table of all tests so far."""
    protocols: Counts = {}
    for row, outcome in outcomes:
        counts = protocols.setdefault(row.protocol, [0, 0, 0, 0])
        came_true = int(outcome == row.expected)
        if not row.twin or row.has_bystander:
            counts[0] += 1
            counts[1] += came_true
        if row.twin or row.has_bystander:
            counts[2] += 1
            counts[3] += came_true
    directory = trial_directory()
    with open(directory / _KEPT, "a+") as kept:
        fcntl.flock(kept, fcntl.LOCK_EX)  # trial's other worker writes there too
        kept.write(json.dumps([title, protocols]) + "\n")
        kept.seek(0)
        text = "\n".join(_lines([json.loads(line) for line in kept])) + "\n"
        (directory / TABLE).write_text(text)
    print(f"\n{text}", file=sys.stderr)


def _lines(kept: list[tuple[str, Counts]]) -> Iterator[str]:
    by_test: Counts = {}
    by_protocol: Counts = {}
    for title, protocols in kept:
        for protocol, counts in protocols.items():
            for sums, name in (by_test, title), (by_protocol, protocol):
                before = sums.get(name, [0, 0, 0, 0])
                sums[name] = [a + b for a, b in zip(before, counts, strict=True)]
    total = [sum(column) for column in zip(*by_test.values(), strict=True)]
    yield " " * 36 + "".join(f"{column:>9}" for column in _COLUMNS)
    for sums in by_test, by_protocol, {"all": total}:
        for name, counts in sums.items():
            yield f"{name:<36}" + "".join(f"{count:>9}" for count in counts)
        yield ""
