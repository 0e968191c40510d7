"""What the tests know of the two builds: as it is written, and with its hot modules compiled by mypyc."""

import os
from typing import Any, Final, TypeVar

from mfserver.build import BUILD, MYPYC, PURE

__all__ = ["EXPECTED", "attributes", "pure_only"]

T = TypeVar("T")

#: The build that is to be tested. Nobody is to take one for the other.
EXPECTED: Final = MYPYC if os.environ.get("MFSERVER_MYPYC") == "1" else PURE


def attributes(kind: Any) -> tuple[str, ...]:
    """What an instance of a class with slots holds, whichever build that is of."""
    found: Any = getattr(kind, "__slots__", None) or getattr(kind, "__mypyc_attrs__", ())
    return tuple(found)


def pure_only(test: T) -> T:
    """Mark a test, or a class of tests, that watches functions which the interpreter runs.

    What it counts there - calls, and looks through a dictionary of its own - machine code does not show.
    """
    if BUILD != PURE:
        test.skip = "it watches the interpreter, and this build is compiled"  # type: ignore[attr-defined]
    return test
