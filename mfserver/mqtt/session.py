"""The session of one client (MQTT 5.0 and 3.1.1, 4.1): what waits for it, and what is in flight.

A plain structure: it sends nothing, and outlives the connections of its client [MQTT-4.1.0-1], of 3.1.1
[MQTT-4.1.0-1] [MQTT-4.1.0-2].
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Delivery", "Session"]

_MAX_PACKET_ID: Final = 65_535
_REFUSED: Final = 0x80  # and above


class Delivery:
    """One message on its way to one client.

    :ivar message: whatever the owner sends; never looked at here.
    :ivar qos: what it is sent at.
    :ivar retain: the RETAIN flag that it is sent with.
    :ivar identifiers: the subscription identifiers that it is sent with.
    :ivar packet_id: 1 to 65,535 while it is in flight, else 0.
    :ivar released: whether its PUBREC came: only PUBREL is sent from then on.
    :ivar sequence: the owner's number for it.
    :ivar size: bytes that it counts as while it waits.
    """

    __slots__ = (
        "identifiers",
        "message",
        "packet_id",
        "qos",
        "released",
        "retain",
        "sequence",
        "size",
    )

    def __init__(
        self,
        message: Any,
        qos: int,
        retain: bool = False,
        identifiers: tuple[int, ...] = (),
        size: int = 0,
        sequence: int = 0,
    ) -> None:
        self.message = message
        self.qos = qos
        self.retain = retain
        self.identifiers = identifiers
        self.size = size
        self.sequence = sequence
        self.packet_id = 0
        self.released = False


#: What waits for all whom nothing waits for: an empty deque takes 760 bytes. Nothing is ever put here.
_NONE: Final[deque[Delivery]] = deque()


class Session:
    """The protocol state of a session. Nothing in it is bounded but what is in flight: the owner does that.

    :ivar waiting: in the order in which it came [MQTT-4.6.0-5], of 3.1.1 [MQTT-4.6.0-6]. Change it only by
        the methods.
    :ivar waiting_bytes: sizes of what waits.
    :ivar in_flight: by packet identifier, in the order of sending: QoS 1 until its PUBACK, QoS 2 until its
        PUBCOMP [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.3.3-5].
    :ivar send_quota: how many may be in flight, 0 to 65,535; set it when a connection begins. More may be,
        from a connection that took more, and they go first.
    """

    __slots__ = ("_droppable", "_last", "_received", "in_flight", "send_quota", "waiting", "waiting_bytes")

    def __init__(self, send_quota: int = 0) -> None:
        self.waiting: deque[Delivery] = _NONE
        self.waiting_bytes = 0
        self.in_flight: dict[int, Delivery] = {}
        self._received: set[int] | None = None  # until somebody asks: an empty one takes 216 bytes
        self.send_quota = send_quota  # [MQTT-4.9.0-1]
        self._droppable: deque[Delivery] = _NONE  # what waits at QoS 0, in the same order
        self._last = 0

    @property
    def received(self) -> set[int]:
        """Identifiers of QoS 2 PUBLISHes of the client that it has not released; the owner keeps it."""
        if self._received is None:
            self._received = set()
        return self._received

    # --- packet identifiers ------------------------------------------------------------------------------

    def take_packet_id(self) -> int:
        """A packet identifier that nothing in flight has; 0 when the send quota is used up."""
        if len(self.in_flight) >= self.send_quota:
            return 0  # [MQTT-4.9.0-2] [MQTT-3.3.4-9], also for who acknowledges nothing [MQTT-4.5.0-2]
        packet_id = self._last
        while True:  # ends: less than 65,535 are in flight
            packet_id = packet_id % _MAX_PACKET_ID + 1
            if packet_id not in self.in_flight:
                # [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1], of 3.1.1 [MQTT-2.3.1-4]
                self._last = packet_id
                return packet_id

    def begin(self, delivery: Delivery) -> bool:
        """Put a delivery of QoS 1 or 2 in flight, with a packet identifier of its own.

        :return: False when the send quota is used up; nothing happened then.
        """
        packet_id = self.take_packet_id()
        if not packet_id:
            return False
        # of 3.1.1 [MQTT-4.3.2-1] [MQTT-4.3.3-1]
        delivery.packet_id = packet_id
        self.in_flight[packet_id] = delivery
        return True

    def adopt(self, delivery: Delivery) -> None:
        """Put a delivery that was in flight before, with its packet identifier, behind the others in flight.

        It keeps that identifier: [MQTT-4.4.0-1], of 3.1.1 [MQTT-4.4.0-1].
        """
        self.in_flight[delivery.packet_id] = delivery
        self._last = delivery.packet_id

    # --- acknowledgements of the client ------------------------------------------------------------------

    def puback(self, packet_id: int) -> Delivery | None:
        """PUBACK came, with whichever reason code [MQTT-4.4.0-2].

        :return: what it ends; None where no QoS 1 delivery has this identifier.
        """
        delivery = self.in_flight.get(packet_id)
        if delivery is None or delivery.qos != 1:
            return None
        return self._end(packet_id)

    def pubrec(self, packet_id: int, reason_code: int) -> Delivery | None:
        """PUBREC came. One that refuses ends the delivery [MQTT-4.4.0-2]; else PUBREL is to be sent, for a
        repeated PUBREC again [MQTT-4.3.3-4], and PUBLISH no more [MQTT-4.3.3-6].

        :return: None where no QoS 2 delivery has this identifier.
        """
        delivery = self.in_flight.get(packet_id)
        if delivery is None or delivery.qos != 2:
            return None
        if not delivery.released:
            if reason_code >= _REFUSED:
                return self._end(packet_id)
            delivery.released = True
        return delivery

    def pubcomp(self, packet_id: int) -> Delivery | None:
        """PUBCOMP came. :return: what it ends; None where nothing that is released has this identifier."""
        delivery = self.in_flight.get(packet_id)
        if delivery is None or not delivery.released:
            return None
        return self._end(packet_id)

    def _end(self, packet_id: int) -> Delivery:
        """Take a delivery out of flight: its packet identifier is free."""
        delivery = self.in_flight.pop(packet_id)
        delivery.packet_id = 0
        return delivery

    # --- what waits --------------------------------------------------------------------------------------

    def enqueue(self, delivery: Delivery) -> None:
        """Let a delivery wait behind the others."""
        if self.waiting is _NONE:
            self.waiting = deque()
        self.waiting.append(delivery)
        self.waiting_bytes += delivery.size
        if delivery.qos == 0:
            if self._droppable is _NONE:
                self._droppable = deque()
            self._droppable.append(delivery)

    def pop_waiting(self) -> Delivery | None:
        """Take out the delivery that has waited longest; None when none waits."""
        if not self.waiting:
            return None
        delivery = self.waiting.popleft()
        self.waiting_bytes -= delivery.size
        if delivery.qos == 0:
            self._droppable.popleft()  # it is the oldest of QoS 0, too
        return delivery

    def drop_oldest_qos0(self) -> Delivery | None:
        """Take out the delivery of QoS 0 that has waited longest; None when none waits."""
        if not self._droppable:
            return None
        delivery = self._droppable.popleft()
        self.waiting.remove(delivery)
        self.waiting_bytes -= delivery.size
        return delivery

    def discard(self, is_over: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out of what waits all of which this is true; what is in flight cannot be called back.

        :return: what was taken out, in its order.
        """
        kept: deque[Delivery] = deque()
        over: list[Delivery] = []
        for delivery in self.waiting:
            (over if is_over(delivery) else kept).append(delivery)
        if over:
            self.waiting = kept
            self.waiting_bytes = sum(delivery.size for delivery in kept)
            self._droppable = deque(delivery for delivery in kept if delivery.qos == 0)
        return over

    def clear(self) -> None:
        """Forget everything: the session ended, or a new one begins. The send quota stays."""
        self.waiting = self._droppable = _NONE
        self.waiting_bytes = 0
        self.in_flight.clear()
        self._received = None
