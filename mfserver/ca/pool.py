"""Threads for what would keep the reactor busy, and a bound on what waits for them."""

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from mfserver.errors import Overloaded

__all__ = ["Pool"]

T = TypeVar("T")


class Pool(Service):
    """Works while the service runs.

    :param name: what its threads are called.
    :param queue: how many pieces of work may be under way or wait.
    """

    def __init__(self, reactor: IReactorFromThreads, name: str, threads: int, queue: int) -> None:
        self._reactor = reactor
        self._threads = ThreadPool(0, threads, name)
        self._queue = queue
        self._pending = 0

    def startService(self) -> None:
        """Start the threads."""
        super().startService()
        self._threads.start()

    def stopService(self) -> None:
        """Stop the threads, after what they are doing; what waits fails with Overloaded."""
        super().stopService()
        self._threads.stop()

    def defer(self, work: Callable[[], T]) -> "Deferred[T]":
        """What the work returns or raises. :raises Overloaded: too much waits already."""
        if self._pending >= self._queue or not self.running:
            return fail(Overloaded("too many certificates are being made"))
        self._pending += 1
        # Cancelling what the caller holds must not free a place that is still taken.
        result: Deferred[T] = Deferred()
        running: Deferred[Any] = deferToThreadPool(self._reactor, self._threads, self._run, work)
        running.addBoth(self._done).chainDeferred(result)
        return result

    def _run(self, work: Callable[[], T]) -> T:
        if not self.running:
            raise Overloaded("the server is stopping")
        return work()

    def _done(self, result: Any) -> Any:
        self._pending -= 1
        return result
