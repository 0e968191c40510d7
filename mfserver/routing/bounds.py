"""What an MQTT session stands on: its bounds, its connected client, and what all sessions share."""

from collections.abc import Callable
from typing import Any, Protocol

from mfserver.interfaces import ISessionStore
from mfserver.message import Message
from mfserver.routing.journal import Journal

__all__ = ["Bounds", "Client", "Shared"]


class Bounds:
    """What one session may hold.

    :ivar messages: that wait on the disk.
    :ivar size: their bytes; one message may always wait alone, however long.
    :ivar memory: bytes of messages that wait in memory for one client, and one more message.
    :ivar queue_qos0: whether messages at QoS 0 wait for a client that is away.
    """

    __slots__ = ("memory", "messages", "queue_qos0", "size")

    def __init__(
        self,
        *,
        messages: int = 100_000,
        size: int = 64 << 20,
        memory: int = 1 << 20,
        queue_qos0: bool = False,
    ) -> None:
        self.messages = messages
        self.size = size
        self.memory = memory
        self.queue_qos0 = queue_qos0


class Shared:
    """What all sessions share.

    :param now: the wall clock, in nanoseconds since 1970.
    :param clock: an ``IReactorTime``.
    :param report: tells the log of a kind of mistake and its details, without repeating itself.
    :ivar dropped: messages that found no room.
    """

    def __init__(
        self,
        journal: Journal,
        store: ISessionStore,
        bounds: Bounds,
        *,
        now: Callable[[], int],
        clock: Any,
        report: Callable[[str, str], None],
    ) -> None:
        self.journal = journal
        self.store = store
        self.bounds = bounds
        self.now = now
        self.clock = clock
        self.report = report
        self.dropped = 0


class Client(Protocol):
    """The connected end of a session."""

    @property
    def is_writable(self) -> bool:
        """Whether it takes more now; its session is pumped when it does again."""

    def send_publish(
        self,
        message: Message,
        qos: int,
        retain: bool,
        identifiers: tuple[int, ...],
        packet_id: int,
        dup: bool = False,
    ) -> bool:
        """Send a PUBLISH. :return: False where this client can never have it: it is longer than it takes."""

    def send_pubrel(self, packet_id: int, reason_code: int) -> None:
        """Send a PUBREL."""

    def taken_over(self) -> None:
        """Another network connection of the same client took the session (MQTT 5.0, 3.1.4); end."""

    def too_slow(self) -> None:
        """More waits than may; end."""
