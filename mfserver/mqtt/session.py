"""The sending half of a session (MQTT 5.0 and 3.1.1, 4.1): identifiers, what is in flight, what waits."""

from collections import deque
from collections.abc import Callable
from typing import Final

from mfserver.mqtt.encode import EncodedPublish

__all__ = ["Session"]

_MAX_PACKET_ID: Final = 65_535


class Session:
    """What was sent at QoS 1 and is not acknowledged, and what waits until it may be sent.

    :ivar queued_bytes: of the packets that wait.
    """

    __slots__ = ("_in_flight", "_last", "_queue", "_send_quota", "queued_bytes")

    def __init__(self, send_quota: int) -> None:
        """:param send_quota: 1 to 65,535 packets in flight at most [MQTT-4.9.0-1] [MQTT-3.3.4-9]."""
        self._send_quota = send_quota
        self._in_flight: set[int] = set()
        self._queue: deque[EncodedPublish] = deque()
        self._last = 0
        self.queued_bytes = 0

    def take_packet_id(self) -> int:
        """A free packet identifier, which is in flight from now on; 0 when the send quota is used up."""
        if len(self._in_flight) >= self._send_quota:
            return 0  # [MQTT-4.9.0-2]
        packet_id = self._last
        while True:  # ends: less than 65,535 are in flight
            packet_id = packet_id % _MAX_PACKET_ID + 1
            if packet_id not in self._in_flight:
                # [MQTT-2.2.1-4] [MQTT-4.3.2-1], of 3.1.1 [MQTT-2.3.1-4]
                self._in_flight.add(packet_id)
                self._last = packet_id
                return packet_id

    def acknowledge(self, packet_id: int) -> bool:
        """Free a packet identifier. :return: whether it was in flight."""
        if packet_id not in self._in_flight:
            return False
        self._in_flight.remove(packet_id)
        return True

    def enqueue(self, publish: EncodedPublish) -> None:
        """Let a packet wait behind the others; the caller bounds :attr:`queued_bytes`."""
        self._queue.append(publish)
        self.queued_bytes += publish.size

    def next_queued(self) -> tuple[int, EncodedPublish] | None:
        """The packet that has waited longest and a packet identifier for it, if the send quota allows."""
        if not self._queue:
            return None
        packet_id = self.take_packet_id()
        if not packet_id:
            return None
        publish = self._queue.popleft()
        self.queued_bytes -= publish.size
        return packet_id, publish

    def discard(self, is_over: Callable[[str], bool]) -> None:
        """Drop what waits on topics of which this is true; what is in flight cannot be called back."""
        self._queue = deque(publish for publish in self._queue if not is_over(publish.topic))
        self.queued_bytes = sum(publish.size for publish in self._queue)

    def clear(self) -> None:
        """Forget everything: the session ended."""
        self._in_flight.clear()
        self._queue.clear()
        self.queued_bytes = 0
