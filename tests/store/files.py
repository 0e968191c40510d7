"""Stores in files of their own."""

import hmac
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from mfserver.store.store import Store

__all__ = ["REACTOR", "a_path", "a_store", "digest", "store_threads"]

#: The global one, which has real threads.
REACTOR: Any = reactor


def digest(key: str) -> bytes:
    return hmac.digest(b"secret", key.encode(), "sha256")


def a_path(case: SynchronousTestCase) -> str:
    """A file that is not there yet, in a directory that is."""
    directory = case.mktemp()
    os.mkdir(directory)
    return os.path.join(os.path.abspath(directory), "store.db")


def a_store(
    case: SynchronousTestCase,
    path: str | None = None,
    readers: int = 2,
    now: Callable[[], float] = time.time,
) -> Store:
    """A store that is open until the test ends."""
    store = Store(f"sqlite:///{path or a_path(case)}", digest, REACTOR, readers, now)
    store.open()
    case.addCleanup(store.close)
    return store


def store_threads() -> set[threading.Thread]:
    """The threads of all stores in this process, those of other tests too."""
    return {thread for thread in threading.enumerate() if "store" in thread.name}
