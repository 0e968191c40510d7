"""Buses that do not what the local one does."""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mfserver.interfaces import IBus
from mfserver.message import Message

__all__ = ["BrokenBus", "DurableBus"]


@implementer(IBus)
class DurableBus:
    """Delivers at once, and commits when the test says so. Put it in place of ``router.bus``.

    :ivar free: how many of the next messages leave nothing to commit.
    :ivar commits: one for each other message, in their order.
    """

    def __init__(self, deliver: Callable[[Message], None]) -> None:
        self._deliver = deliver
        self.free = 0
        self.commits: list[Deferred[None]] = []

    def publish(self, message: Message) -> "Deferred[None] | None":
        self._deliver(message)
        if self.free:
            self.free -= 1
            return None
        self.commits.append(Deferred())
        return self.commits[-1]


@implementer(IBus)
class BrokenBus:
    """Fails over every message.

    :ivar count: of messages.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.count = 0

    def publish(self, message: Message) -> None:
        self.count += 1
        raise self._error
