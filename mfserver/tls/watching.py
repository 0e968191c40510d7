"""What a socket of TLS and whoever watches it promise each other."""

from typing import Any, Protocol

from mfserver.turn import Turn

__all__ = ["IPoller", "ShakesHands", "Watched"]


class Watched(Protocol):
    """What stands behind a descriptor."""

    fd: int

    def ready(self, events: int) -> None:
        """Something of what it waits for, or an error or a hang-up, is there.

        :param events: of epoll(7).
        """

    def lose(self, error: BaseException) -> None:
        """Nobody watches the socket any more, or a mistake of ours was caught: it is over."""


class ShakesHands(Watched, Protocol):
    """A connection whose handshake may have to wait for its turn."""

    def handshake(self) -> None:
        """Go on with the handshake, or with what comes first after it; it costs up to a few milliseconds."""


class IPoller(Protocol):
    """Who watches sockets.

    :ivar clock: an ``IReactorTime``, for deadlines.
    """

    turn: Turn
    clock: Any

    def watch(self, watched: Watched, events: int) -> None:
        """Call ``ready`` when one of these comes; errors and hang-ups always come."""

    def watch_for(self, watched: Watched, events: int) -> None:
        """The same, from now on for other events."""

    def forget(self, watched: Watched) -> None:
        """Call it no more: its descriptor is about to be closed."""

    def is_late(self) -> bool:
        """Whether the time of this turn is over: who is read may finish, and begin with nothing more."""

    def handshake_soon(self, transport: ShakesHands) -> None:
        """Call ``handshake`` when it is its turn among all that shake hands."""
