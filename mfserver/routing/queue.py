"""What one MQTT session has on the disk: how much it is, and what of it may be dropped."""

from collections import OrderedDict
from collections.abc import Callable

from mfserver.durable import Backlog, KeptDelivery, SessionKey
from mfserver.interfaces import IThing
from mfserver.message import Message
from mfserver.mqtt.session import Delivery
from mfserver.routing.bounds import Shared

__all__ = ["Queue"]


class Queue:
    """Keeps account of a session's deliveries on the disk; it holds none of them.

    :param dropped: told the sequence number of each that was dropped.
    :param thing: whose it is: what the log is told where it is full.
    :ivar count: deliveries; :attr:`size` their bytes.
    :ivar last: the greatest sequence number there was.
    """

    __slots__ = (
        "_droppable",
        "_dropped",
        "_is_full",
        "_session",
        "_shared",
        "_thing",
        "count",
        "last",
        "size",
    )

    def __init__(
        self,
        shared: Shared,
        session: SessionKey,
        backlog: Backlog,
        dropped: Callable[[int], None],
        thing: IThing,
    ) -> None:
        self._shared = shared
        self._session = session
        self._dropped = dropped
        self._thing = thing
        self.count = backlog.count
        self.size = backlog.size
        self.last = backlog.last
        # By sequence: the message's key and the size of everything at QoS 0.
        self._droppable: OrderedDict[int, tuple[int, int]] | None = None
        if backlog.droppable:
            self._droppable = OrderedDict(
                (sequence, (message, size)) for sequence, message, size in backlog.droppable
            )
        self._is_full = False

    def has_qos0(self) -> bool:
        """Whether something at QoS 0 is there."""
        return bool(self._droppable)

    def holds(self, delivery: Delivery) -> bool:
        """Whether a delivery that was read is still there: one at QoS 0 may have been dropped meanwhile."""
        return bool(delivery.qos) or delivery.sequence in (self._droppable or ())

    def add(self, delivery: Delivery) -> KeptDelivery | None:
        """Give a delivery its place, on the disk. :return: None where there is none."""
        if not self._make_room(delivery.size):
            if not self._is_full:
                self._shared.report("the queue of an MQTT session is full", f"thing {self._thing.id}")
            self._is_full = True
            self._shared.dropped += 1
            return None
        self.last += 1
        delivery.sequence = self.last
        self.count += 1
        self.size += delivery.size
        kept = KeptDelivery(
            self._session,
            delivery.sequence,
            delivery.message,
            delivery.qos,
            delivery.retain,
            delivery.identifiers,
            size=delivery.size,
        )
        self._shared.journal.queue(kept)
        if not delivery.qos:
            if self._droppable is None:
                self._droppable = OrderedDict()
            self._droppable[delivery.sequence] = (kept.message.key, kept.size)
        return kept

    def finish(self, delivery: Delivery) -> None:
        """Take a delivery off the disk. Its message may be but its key."""
        message = delivery.message
        if self._droppable is not None:
            self._droppable.pop(delivery.sequence, None)
        key = message.key if isinstance(message, Message) else message
        self._take(delivery.sequence, key, delivery.size)

    def _make_room(self, size: int) -> bool:
        """Whether it takes so many bytes more; the oldest at QoS 0 are dropped where that helps."""
        bounds = self._shared.bounds
        while self.count and (self.count >= bounds.messages or self.size + size > bounds.size):
            if not self._droppable:
                return False
            sequence, (message, its_size) = self._droppable.popitem(last=False)
            self._take(sequence, message, its_size)
            self._shared.dropped += 1
            self._dropped(sequence)
        return True

    def _take(self, sequence: int, message: int, size: int) -> None:
        self._shared.journal.finish(self._session, sequence, message)
        self.count -= 1
        self.size -= size
        if self.count == 0:
            self._is_full = False
