"""One write per connection and reactor turn."""

from typing import Any, ClassVar, Protocol

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
    record and one system call for each connection. Protocols are flushed first, each once, then the
    transports that these wrote to.

    Who reads many connections in one turn brackets that with :meth:`begin` and :meth:`end`; outside of it the
    turn ends with the next timed calls of the reactor.

    :param reactor: an ``IReactorTime``.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: dict[Flushable, None] = {}
        self._transports: dict[Flushable, None] = {}
        self._has_begun = False
        self._end_call: IDelayedCall | None = None

    def add(self, flushable: Flushable) -> None:
        """Flush a protocol before this turn ends; asking again is free."""
        self._waiting[flushable] = None
        if not self._has_begun:
            self._end_soon()

    def add_transport(self, transport: Flushable) -> None:
        """Flush a transport before this turn ends, after the protocols; asking again is free."""
        self._transports[transport] = None
        if not self._has_begun:
            self._end_soon()

    def begin(self) -> None:
        """Whoever calls this calls :meth:`end` before it gives the reactor back."""
        self._has_begun = True

    def end(self) -> None:
        """Flush everybody once. Who adds itself meanwhile waits for the next turn, which comes at once."""
        self._has_begun = True
        waiting, self._waiting = self._waiting, {}
        self._flush(waiting)
        transports, self._transports = self._transports, {}
        self._flush(transports)
        self._has_begun = False
        if self._waiting or self._transports:
            self._end_soon()

    def _flush(self, waiting: dict[Flushable, None]) -> None:
        for flushable in waiting:
            try:
                flushable.flush()
            except Exception:
                self._log.failure("a connection could not be flushed")

    def _end_soon(self) -> None:
        if self._end_call is None:
            self._end_call = self._reactor.callLater(0, self._ended)
        elif self._end_call.getTime() > self._reactor.seconds():
            # Somebody set the clock back: without this the end of the turn would be that far away.
            self._end_call.reset(0)

    def _ended(self) -> None:
        self._end_call = None
        self.end()
