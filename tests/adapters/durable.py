"""A bus that keeps messages: it delivers at once, and commits when the test says so."""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mfserver.interfaces import IBus
from mfserver.message import Message

__all__ = ["DurableBus"]


@implementer(IBus)
class DurableBus:
    """Put it in place of ``router.bus``.

    :ivar commits: one for each message, in their order.
    """

    def __init__(self, deliver: Callable[[Message], None]) -> None:
        self._deliver = deliver
        self.commits: list[Deferred[None]] = []

    def publish(self, message: Message) -> "Deferred[None]":
        self._deliver(message)
        self.commits.append(Deferred())
        return self.commits[-1]
