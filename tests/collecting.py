"""The garbage collector, while a test counts what the interpreter does."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["not_collecting"]


@contextmanager
def not_collecting() -> Iterator[None]:
    """Collect nothing inside the block.

    What other tests of this process left would be called there at its end, and so would whoever asked to be
    told of each collection, as hypothesis does.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
