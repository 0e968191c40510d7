"""Retained messages on their way to one session: found a few at a time, as fast as it takes them.

Nothing is copied or held before its turn, so that a subscription to very many costs memory and the reactor's
time only as far as its client reads.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from twisted.internet.interfaces import IDelayedCall

from mfserver.message import Message
from mfserver.routing.bounds import Shared
from mfserver.routing.retained import Found

__all__ = ["Feeding"]

#: Topic levels and messages that are looked at in one turn of the reactor for one session.
_LOOKS: Final = 250
#: Subscriptions of one session whose retained messages may wait: twice as many as it may have.
_MANY: Final = 20_000
#: Seconds until the next look while the disk is behind.
_PAUSE: Final = 0.05


class _Feed(NamedTuple):
    """What one subscription brings."""

    found: Found
    qos: int
    identifiers: tuple[int, ...]


class Feeding:
    """The retained messages of a session's new subscriptions, one subscription after the other.

    :param takes: asked, with the QoS of the subscription, whether the session takes a message now. When that
        changes, call :meth:`go_on`.
    :param give: called with each message, the QoS that it is sent at, and the subscription's identifiers.
    :param over: called when there is no more to bring; this object is of no use from then on.
    """

    __slots__ = ("_call", "_feeds", "_give", "_over", "_shared", "_takes")

    def __init__(
        self,
        shared: Shared,
        takes: Callable[[int], bool],
        give: Callable[[Message, int, tuple[int, ...]], None],
        over: Callable[[], None],
    ) -> None:
        self._shared = shared
        self._takes = takes
        self._give = give
        self._over = over
        self._feeds: deque[_Feed] | None = deque()  # None once nobody is there to bring them to
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        """How many subscriptions have not brought everything."""
        return len(self._feeds or ())

    def add(self, found: Found, qos: int, identifiers: tuple[int, ...]) -> bool:
        """Bring what a subscription finds, behind what the others do, from the next turn of the reactor on.

        :return: False where too many have not brought everything.
        """
        if self._feeds is None or len(self._feeds) >= _MANY:
            return False
        self._feeds.append(_Feed(found, qos, identifiers))
        if self._call is None:
            self._call = self._shared.clock.callLater(0, self._bring_some)
        return True

    def bring_older(self, channel: str, levels: tuple[str, ...]) -> None:
        """A message comes on this topic: what still waits of it goes first."""
        for feed in list(self._feeds or ()):
            message = feed.found.take(channel, levels)
            if message is not None:
                self._give(message, min(feed.qos, message.qos), feed.identifiers)

    def detach(self, is_kept: bool) -> bool:
        """The client is gone: go on with what its session keeps without it. :return: whether there is any."""
        self._feeds = deque(feed for feed in self._feeds or () if is_kept and feed.qos) or None
        if not self._feeds and self._call is not None:
            self._call.cancel()
            self._call = None
        elif self._feeds and self._call is None:
            self._call = self._shared.clock.callLater(0, self._bring_some)
        return self._feeds is not None

    def go_on(self) -> None:
        """Bring some, if no turn for more is waited for."""
        if self._call is None:
            self._bring_some()

    def _bring_some(self) -> None:
        self._call = None
        for _ in range(_LOOKS):
            if self._feeds is None:
                return
            if not self._feeds:
                self._over()
                return
            feed = self._feeds[0]
            if feed.qos and self._shared.journal.congested:
                self._call = self._shared.clock.callLater(_PAUSE, self._bring_some)
                return
            if not self._takes(feed.qos):
                return
            message = feed.found.look()
            if message is not None:
                self._give(message, min(feed.qos, message.qos), feed.identifiers)
            elif feed.found.is_over:
                self._feeds.popleft()
        if self._feeds is not None:
            self._call = self._shared.clock.callLater(0, self._bring_some)
