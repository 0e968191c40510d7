"""One write per connection and reactor turn."""

from typing import Any, Protocol

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

    def add(self, flushable: Flushable) -> None:
        """Flush it before this turn ends; asking again is free."""
        if not self._waiting:
            self._reactor.callLater(0, self._end)
        self._waiting[flushable] = None

    def _end(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for flushable in waiting:
            try:
                flushable.flush()
            except Exception:
                self._log.failure("a connection could not be flushed")
