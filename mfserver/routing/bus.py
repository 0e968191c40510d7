"""The bus of one process: every subscriber is here."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from zope.interface import classImplements

from mfserver.interfaces import IBus
from mfserver.message import Message
from mfserver.routing.journal import Journal

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

__all__ = ["LocalBus"]


class LocalBus:
    """Hands each message to the router at once.

    :param deliver: :meth:`mfserver.routing.router.Router.deliver`.
    :param journal: notes what deliveries leave behind; None where nothing outlives the process.
    """

    def __init__(self, deliver: Callable[[Message], None], journal: Journal | None = None) -> None:
        self._deliver = deliver
        self._journal = journal

    def publish(self, message: Message) -> "Deferred[None] | None":
        """Deliver; there is something to wait for where that left a change, or very much is waiting."""
        journal = self._journal
        if journal is None:
            self._deliver(message)
            return None
        position = journal.position
        self._deliver(message)
        if journal.position == position and not journal.congested:
            return None
        return journal.committed()


# No decorator: of a class that has one mypyc makes a slow one.
classImplements(LocalBus, IBus)
