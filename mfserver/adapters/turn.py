"""One write per connection and reactor turn."""

from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

__all__ = ["Turn", "Flushable"]


class Flushable(Protocol):
    """Something that collects bytes and writes them in one go."""

    def flush(self) -> None:
        """Write what was collected."""


class Turn:
    """Everybody who has something to write before the reactor waits again.

    A message for a thousand subscribers, or a thousand messages for one, then cost one write, one TLS
    record and one system call for each connection.

    :param reactor: an ``IReactorTime``.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: dict[Flushable, None] = {}
        self._end_call: IDelayedCall | None = None

    def add(self, flushable: Flushable) -> None:
        """Flush it before this turn ends; asking again is free."""
        if self._end_call is None:
            self._end_call = self._reactor.callLater(0, self._end)
        elif self._end_call.getTime() > self._reactor.seconds():
            # Somebody set the clock back: without this the end of the turn would be that far away.
            self._end_call.reset(0)
        self._waiting[flushable] = None

    def _end(self) -> None:
        self._end_call = None
        waiting, self._waiting = self._waiting, {}
        for flushable in waiting:
            try:
                flushable.flush()
            except Exception:
                self._log.failure("a connection could not be flushed")
