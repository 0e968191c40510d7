"""The matrix of certificates as a person reads it: what became of each cell, and which ones are wrong.

It ends up as ``_certificates_table.txt`` in trial's temporary directory, because ``trial -j`` hides what its
workers print; without ``-j`` it is printed too.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping

from tests.interop.certificates_matrix import PROTOCOLS, SITUATION, WORDS, Expectation
from tests.interop.certificates_world import METHODS
from tests.trial_directory import trial_directory

__all__ = ["show_matrix"]

_SHORT: Mapping[str, str] = {outcome: word for word, outcome in WORDS.items()}
_WRONG = "WRONG"
_LEGEND = (
    "in: may publish, and is heard; no: 403 or CONNACK not authorized; tls: the handshake fails;",
    "cut: closed right behind the handshake; end: the live connection ends within a second.",
    "M/WSS is MQTT over WSS.",
)


def show_matrix(option: str, outcomes: Iterable[tuple[Expectation, str]]) -> None:
    """Write and print the table of all attempts, behind those of other options."""
    cells: dict[tuple[str, str, str], set[str]] = {}
    wrong = attempts = 0
    for (situation, method, protocol, expected), outcome in outcomes:
        is_right = outcome == WORDS[expected]
        attempts, wrong = attempts + 1, wrong + (not is_right)
        cell = cells.setdefault((situation, method, protocol), set())
        cell.add(_SHORT[outcome] if is_right else _WRONG)
    text = "\n".join(_lines(option, cells))
    text += f"\n{len(cells)} cells, {attempts} attempts, {wrong or 'no'} wrong\n\n"
    with open(trial_directory() / "_certificates_table.txt", "a") as table:
        table.write(text)  # at once: trial's other worker writes there too
    print(f"\n{text}", file=sys.stderr)


def _lines(option: str, cells: Mapping[tuple[str, str, str], set[str]]) -> Iterator[str]:
    yield from [f"certificates with {option}"] if option else _LEGEND
    yield ""
    yield " " * SITUATION + " ".join(f"{method:<23}" for method in METHODS).rstrip()
    yield " " * SITUATION + " ".join(f"{name:<5}" for _ in METHODS for name in PROTOCOLS).rstrip()
    for situation in dict.fromkeys(situation for situation, _, _ in cells):
        words = [_word(cells.get((situation, method, name))) for method in METHODS for name in PROTOCOLS]
        yield f"{situation:<{SITUATION}}" + " ".join(f"{word:<5}" for word in words).rstrip()


def _word(cell: set[str] | None) -> str:
    """What stands in a cell: all its attempts came out alike, or one is wrong."""
    return "-" if cell is None else _WRONG if _WRONG in cell else "".join(cell)
