"""Which build of the hot modules runs: the same files as they are, or compiled by mypyc."""

from typing import Final

from mfserver import message

__all__ = ["PURE", "MYPYC", "BUILD", "build_of"]

PURE: Final = "pure"
MYPYC: Final = "mypyc"


def build_of(module: object) -> str:
    """:return: :data:`PURE` or :data:`MYPYC`, by where this module was loaded from."""
    return PURE if str(getattr(module, "__file__", "")).endswith((".py", ".pyc")) else MYPYC


#: They are compiled together or not at all: one stands for all of them.
BUILD: Final = build_of(message)
