"""Watches the sockets of all TLS connections, and lets handshakes in a few at a time."""

import select
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, ClassVar, Final

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from mfserver.tls.watching import ShakesHands, Watched
from mfserver.turn import Turn

__all__ = ["Poller"]

#: Sockets that are looked at at once; who waits is first the next time (epoll(7)).
_AT_ONCE: Final = 16
#: Seconds in which one after another is read, before what they write leaves.
_TURN: Final = 0.004
#: Seconds of a turn that handshakes may take; one is always done. Live traffic waits no longer for them.
_SLICE: Final = 0.002
#: Where the others of a turn need longer than that, we may take as much as they did, and handshakes half of
#: it, or who crowds one listener would starve the next. Seconds at most; so much is no crowd but a pause.
_LONGEST: Final = 0.25
#: Handshakes that wait for us; while there are more, nobody new is accepted: they wait in the system's
#: backlog, where no deadline of ours runs.
_MOST_HANDSHAKES: Final = 64


class Poller:
    """One descriptor in the reactor, which stands for those of all TLS connections and their listeners.

    A turn then costs the reactor's own work once, however many are ready, and what they write leaves when all
    have been read.

    :param reactor: an ``IReactorFDSet`` and ``IReactorTime``.
    :param turn: of which the poller makes the beginning and the end.
    :param monotonic: seconds, for how long handshakes take.
    :ivar clock: the reactor, for deadlines.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(self, reactor: Any, turn: Turn, monotonic: Callable[[], float] = perf_counter) -> None:
        self.clock = reactor
        self.turn = turn
        self._reactor = reactor
        self._monotonic = monotonic
        self._epoll: select.epoll | None = None
        # By descriptor. No dictionary: its keys would be objects, one place more in memory to wait for.
        self._watched: list[Watched | None] = []
        self._count = 0
        # Whether somebody was left at the end of the last turn, so that the reactor did not rest since.
        self._is_behind = False
        self._left = self._until = 0.0
        self._handshakes: deque[ShakesHands] = deque()
        self._sliced = 0.0  # when the last slice ended; 0 while no handshake waits
        self._shaken = 0.0  # seconds of slices since the last turn's end
        self._next_handshakes: IDelayedCall | None = None

    @property
    def is_busy(self) -> bool:
        """Whether so many handshakes wait that nobody new is to be accepted."""
        return len(self._handshakes) >= _MOST_HANDSHAKES

    # --- who is watched -------------------------------------------------------------------------------------

    def watch(self, watched: Watched, events: int) -> None:
        """Call ``ready`` when one of these comes; errors and hang-ups always come."""
        if self._epoll is None:
            self._epoll = select.epoll()
            self._reactor.addReader(self)
        fd = watched.fd
        self._epoll.register(fd, events)
        if fd >= len(self._watched):
            self._watched += [None] * (fd + 1 - len(self._watched))
        self._watched[fd] = watched
        self._count += 1

    def watch_for(self, watched: Watched, events: int) -> None:
        """The same, from now on for other events."""
        if self._epoll is not None:
            self._epoll.modify(watched.fd, events)

    def forget(self, watched: Watched) -> None:
        """Call it no more: its descriptor is about to be closed."""
        fd = watched.fd
        if self._epoll is None or not 0 <= fd < len(self._watched) or self._watched[fd] is not watched:
            return
        self._epoll.unregister(fd)
        self._watched[fd] = None
        self._count -= 1
        if not self._count:
            self._close()

    def _close(self) -> None:
        """Nobody is left: the reactor need not know us."""
        epoll = self._epoll
        assert epoll is not None
        self._reactor.removeReader(self)  # which asks for the descriptor
        self._epoll = None
        epoll.close()
        self._handshakes.clear()  # those of connections that are closed
        if self._next_handshakes is not None:
            self._next_handshakes.cancel()
            self._next_handshakes = None

    # --- IReadDescriptor ------------------------------------------------------------------------------------

    def doRead(self) -> None:
        """Read everybody who is ready, as long as it is our turn."""
        now = self._monotonic()
        others = min(_LONGEST, now - self._left - self._shaken) if self._is_behind else 0.0
        until = now + others
        while True:
            now = self._read_some(now + _TURN)
            if not self._is_behind or now >= until:
                break
        self._left, self._shaken = now, 0.0

    def _read_some(self, until: float) -> float:
        """Read, and send what that made others write.

        :param until: when to stop; who is left then is first the next time.
        :return: when it ended.
        """
        epoll, watched, turn = self._epoll, self._watched, self.turn
        self._until = until
        turn.begin()
        try:
            while True:
                ready = epoll.poll(0, _AT_ONCE) if epoll is not None else []
                for fd, events in ready:
                    found = watched[fd]
                    if found is None:
                        continue  # closed by what another one was told in this turn
                    try:
                        found.ready(events)
                    except Exception as error:
                        self._log.failure("a TLS connection is closed over a mistake of ours")
                        self._lose(found, error)
                epoll = self._epoll  # the last one may have left
                self._is_behind = len(ready) == _AT_ONCE and epoll is not None
                if not self._is_behind or self._monotonic() >= until:
                    break
        finally:
            turn.end()
            if self._handshakes:
                self._shake_hands_soon()
        return self._monotonic()

    def _lose(self, watched: Watched, reason: BaseException) -> None:
        """End one connection or listener. If it cannot, that is no trouble of the others."""
        try:
            watched.lose(reason)
        except Exception:
            self._log.failure("a TLS connection failed to close")
            self.forget(watched)

    def is_late(self) -> bool:
        """Whether the time of this turn is over: who is read may finish, and begin with nothing more."""
        return self._monotonic() >= self._until

    def fileno(self) -> int:
        """The descriptor of all."""
        return -1 if self._epoll is None else self._epoll.fileno()

    def logPrefix(self) -> str:
        """What Twisted logs."""
        return "TLS"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends: so does every connection."""
        for watched in list(self._watched):
            if watched is not None:
                self._lose(watched, reason.value or ConnectionLost())

    # --- handshakes -----------------------------------------------------------------------------------------

    def handshake_soon(self, transport: ShakesHands) -> None:
        """Call ``handshake`` when it is its turn among all that shake hands.

        A handshake takes milliseconds of computing, and a login some tenths of one. A storm of them is worked
        off a slice a turn, and between two slices live connections are read and written.
        """
        self._handshakes.append(transport)

    def _shake_hands_soon(self) -> None:
        if self._next_handshakes is None:
            self._next_handshakes = self._reactor.callLater(0, self._shake_hands)
        elif self._next_handshakes.getTime() > self._reactor.seconds():
            # Somebody set the clock back: without this nobody is let in before that time has come again.
            self._next_handshakes.reset(0)

    def _shake_hands(self) -> None:
        self._next_handshakes = None
        begun = now = self._monotonic()
        others = min(_LONGEST, now - self._sliced) if self._sliced else 0.0
        self._until = now + max(_SLICE, others / 2)
        self.turn.begin()
        try:
            while self._handshakes:
                transport = self._handshakes.popleft()
                try:
                    transport.handshake()
                except Exception as error:
                    self._log.failure("a TLS handshake is over by a mistake of ours")
                    self._lose(transport, error)
                if self.is_late():
                    break
        finally:
            self.turn.end()
            now = self._monotonic()
            self._shaken += now - begun
            self._sliced = 0.0
            if self._handshakes:
                self._sliced = now
                self._shake_hands_soon()


# No decorator: of a class that has one mypyc makes a slow one.
classImplements(Poller, IReadDescriptor)
