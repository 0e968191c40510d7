"""What of MQTT outlives a connection and the process, as plain values, and a batch of changes of it.

A batch holds, for each thing that is kept, what it is to be in the end. Applying one twice does no harm, and
what came and went within one batch costs the disk nothing.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, NewType

from mfserver.message import Message
from mfserver.records import ChannelId, ThingId

__all__ = [
    "NEVER",
    "FOREVER",
    "QUEUED",
    "PUBLISHED",
    "RELEASED",
    "SessionKey",
    "KeptSession",
    "KeptSubscription",
    "KeptDelivery",
    "KeptWill",
    "Backlog",
    "Kept",
    "Changes",
]

#: The number of a session; it is never given to another.
SessionKey = NewType("SessionKey", int)

#: A session expiry interval that means that a session does not expire (MQTT 5.0, 3.1.2.11.2).
NEVER: Final = 0xFFFF_FFFF

#: The ``ends_at`` of a session that does not expire; longer than there will be seconds.
FOREVER: Final = 1 << 62

# How far a delivery is (MQTT 5.0, 4.3).
#: It waits for its turn.
QUEUED: Final = 0
#: PUBLISH was sent, or is about to be; PUBACK or PUBREC is awaited.
PUBLISHED: Final = 1
#: PUBREC came; PUBCOMP is awaited. Its message is not needed any more.
RELEASED: Final = 2


@dataclass(slots=True)
class KeptSession:
    """A session (MQTT 5.0, 4.1).

    :ivar expiry: seconds that it outlives its connection by; :data:`NEVER` for ever.
    :ivar ends_at: when it ends unless it is resumed, in seconds since 1970; :data:`FOREVER` for never, None
        while its client is connected.
    """

    key: SessionKey
    thing: ThingId
    client_id: str
    expiry: int
    ends_at: int | None = None


@dataclass(frozen=True, slots=True)
class KeptSubscription:
    """One subscription of a session.

    :ivar identifier: MQTT 5.0's subscription identifier; 0 for none.
    """

    topic_filter: str
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    identifier: int = 0


@dataclass(slots=True)
class KeptDelivery:
    """A message in the queue of a session, or in flight to its client.

    :ivar sequence: its place in the session's queue; a session uses each once, and they grow.
    :ivar message: with its ``key`` set: several queues may hold the same message. When read back,
        ``origin`` is None.
    :ivar qos: what it is sent at.
    :ivar retain: the RETAIN flag that it is sent with.
    :ivar identifiers: the subscription identifiers that it is sent with.
    :ivar packet_id: 1 to 65,535 once it has one.
    :ivar state: :data:`QUEUED`, :data:`PUBLISHED` or :data:`RELEASED`.
    :ivar size: bytes that it counts as in the queue.
    """

    session: SessionKey
    sequence: int
    message: Message
    qos: int
    retain: bool = False
    identifiers: tuple[int, ...] = ()
    packet_id: int = 0
    state: int = QUEUED
    size: int = 0


@dataclass(frozen=True, slots=True)
class KeptWill:
    """The will of a session whose client is connected, or whose will delay is running.

    :ivar delay: the will delay interval in seconds.
    :ivar due: when it is to be published, in seconds since 1970; None while the client is connected.
    """

    message: Message
    delay: int = 0
    due: int | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits on the disk for a session.

    :ivar count: messages.
    :ivar size: their bytes, as :attr:`KeptDelivery.size` counts them.
    :ivar last: the greatest sequence number.
    :ivar droppable: sequence, message key and size of those at QoS 0, the oldest first.
    """

    count: int = 0
    size: int = 0
    last: int = 0
    droppable: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """All that was kept, as a start finds it; queues themselves stay on the disk.

    :ivar received: the packet identifiers of QoS 2 messages that came and are not released.
    :ivar channels: of every thing that has a session, the channels that it may use.
    :ivar next_session: a number above those of all sessions there ever were.
    :ivar next_message: a number above the keys of all messages.
    """

    sessions: Sequence[KeptSession] = ()
    subscriptions: Mapping[SessionKey, Sequence[KeptSubscription]] = field(default_factory=dict)
    received: Mapping[SessionKey, AbstractSet[int]] = field(default_factory=dict)
    backlogs: Mapping[SessionKey, Backlog] = field(default_factory=dict)
    wills: Mapping[SessionKey, KeptWill] = field(default_factory=dict)
    retained: Sequence[Message] = ()
    channels: Mapping[ThingId, AbstractSet[ChannelId]] = field(default_factory=dict)
    next_session: int = 1
    next_message: int = 1


class Changes:
    """What is to be committed together. Each dictionary holds the final state of what its key names.

    :ivar sessions: None for one that is gone, with everything of it.
    :ivar subscriptions: by session and topic filter; None for one that is gone.
    :ivar received: by session and packet identifier: whether it is waiting for its PUBREL.
    :ivar queued: new deliveries, by session and sequence.
    :ivar moved: packet identifier and state of deliveries of earlier batches.
    :ivar done: deliveries of earlier batches that are over, and the keys of their messages.
    :ivar wills: None for one that is gone.
    :ivar retained: by channel and levels; None for one that was cleared.
    :ivar channels_gone: channels whose retained messages go. What ``retained`` holds of them is not applied.
    :ivar size: bytes of messages among it, about.
    """

    __slots__ = (
        "channels_gone",
        "done",
        "moved",
        "queued",
        "received",
        "retained",
        "sessions",
        "size",
        "subscriptions",
        "wills",
    )

    def __init__(self) -> None:
        self.sessions: dict[SessionKey, KeptSession | None] = {}
        self.subscriptions: dict[tuple[SessionKey, str], KeptSubscription | None] = {}
        self.received: dict[tuple[SessionKey, int], bool] = {}
        self.queued: dict[tuple[SessionKey, int], KeptDelivery] = {}
        self.moved: dict[tuple[SessionKey, int], tuple[int, int]] = {}
        self.done: dict[tuple[SessionKey, int], int] = {}
        self.wills: dict[SessionKey, KeptWill | None] = {}
        self.retained: dict[tuple[str, tuple[str, ...]], Message | None] = {}
        self.channels_gone: set[str] = set()
        self.size = 0

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__ if name != "size")

    def queue(self, delivery: KeptDelivery) -> None:
        """Add a delivery to its session's queue."""
        self.queued[delivery.session, delivery.sequence] = delivery
        self.size += delivery.size

    def move(self, session: SessionKey, sequence: int, packet_id: int, state: int) -> None:
        """Note how far a delivery is."""
        new = self.queued.get((session, sequence))
        if new is not None:
            new.packet_id, new.state = packet_id, state
        else:
            self.moved[session, sequence] = (packet_id, state)

    def finish(self, session: SessionKey, sequence: int, message: int) -> None:
        """Take a delivery out of its queue; one that has not been written yet never is.

        :param message: the key of its message.
        """
        new = self.queued.pop((session, sequence), None)
        if new is not None:
            self.size -= new.size
            return
        self.moved.pop((session, sequence), None)
        self.done[session, sequence] = message
