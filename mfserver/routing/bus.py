"""The bus of one process: every subscriber is here."""

from collections.abc import Callable

from zope.interface import implementer

from mfserver.interfaces import IBus
from mfserver.message import Message

__all__ = ["LocalBus"]


@implementer(IBus)
class LocalBus:
    """Hands each message to the router at once.

    :param deliver: :meth:`mfserver.routing.router.Router.deliver`.
    """

    def __init__(self, deliver: Callable[[Message], None]) -> None:
        self._deliver = deliver

    def publish(self, message: Message) -> None:
        """Deliver. Nothing outlives the process here, so there is nothing to wait for."""
        self._deliver(message)
