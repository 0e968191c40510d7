"""The matrix of certificates as a person reads it: what became of each cell, and which ones are wrong.

It ends up as ``_certificates_table.txt`` in trial's temporary directory, because ``trial -j`` hides what its
workers print; without ``-j`` it is printed too.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping

from tests.interop.certificates_matrix import PROTOCOLS, WORDS, Expectation
from tests.interop.certificates_world import METHODS
from tests.trial_directory import trial_directory

__all__ = ["show_matrix"]

_SHORT: Mapping[str, str] = {outcome: word for word, outcome in WORDS.items()}
_WRONG = "WRONG"
_LEGEND = (
    "in: may publish, and is heard; no: 403 or CONNACK not authorized; tls: the handshake fails;",
    "cut: closed right behind the handshake; end: the live connection ends within a second.",
)


def show_matrix(outcomes: Iterable[tuple[Expectation, str]]) -> None:
    """Write and print the table of all attempts."""
    cells: dict[tuple[str, str, str], set[str]] = {}
    wrong = attempts = 0
    for (situation, method, protocol, expected), outcome in outcomes:
        is_right = outcome == WORDS[expected]
        attempts, wrong = attempts + 1, wrong + (not is_right)
        cell = cells.setdefault((situation, method, protocol), set())
        cell.add(_SHORT[outcome] if is_right else _WRONG)
    text = "\n".join(_lines(cells))
    text += f"\n{len(cells)} cells, {attempts} attempts, {wrong or 'no'} wrong\n"
    (trial_directory() / "_certificates_table.txt").write_text(text)
    print(f"\n{text}", file=sys.stderr)


def _lines(cells: Mapping[tuple[str, str, str], set[str]]) -> Iterator[str]:
    yield from _LEGEND
    yield ""
    yield " " * 58 + " ".join(f"{method:<23}" for method in METHODS).rstrip()
    yield " " * 58 + " ".join(f"{protocol[-5:]:<5}" for _ in METHODS for protocol in PROTOCOLS).rstrip()
    for situation in dict.fromkeys(situation for situation, _, _ in cells):
        words = [
            _WRONG if _WRONG in cell else "".join(cell) or "-"
            for method in METHODS
            for protocol in PROTOCOLS
            for cell in [cells.get((situation, method, protocol), set())]
        ]
        yield f"{situation:<58}" + " ".join(f"{word:<5}" for word in words).rstrip()
