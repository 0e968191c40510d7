"""What goes out to one client: bounded in bytes, within its send quota and its Maximum Packet Size."""

from collections import deque
from collections.abc import Callable
from typing import Final

from mfserver.mqtt.constants import MQTT_5_0, PACKET_TOO_LARGE, QUOTA_EXCEEDED, SUCCESS, VARIABLE_MAXIMUM
from mfserver.mqtt.encode import EncodedPublish, encode
from mfserver.mqtt.packets import Connack, Disconnect, Packet, Puback
from mfserver.mqtt.properties import REASON_STRING
from mfserver.mqtt.session import Session

__all__ = ["Sender"]

#: Bytes of acknowledgements and the like that may wait for the transport besides messages.
_ANSWER_BYTES: Final = 65_536


class Sender:
    """Queues packets for the transport, and messages for the send quota.

    :ivar version: of MQTT.
    :ivar maximum: the client's Maximum Packet Size in bytes.
    :ivar session: replaced when CONNECT was accepted.
    :ivar paused: the transport takes nothing; see :meth:`resume`.
    """

    __slots__ = (
        "_max_queued_bytes",
        "_out",
        "_out_bytes",
        "_waiting",
        "maximum",
        "paused",
        "session",
        "version",
    )

    def __init__(self, max_queued_bytes: int) -> None:
        self._max_queued_bytes = max_queued_bytes
        self._out: list[bytes] = []
        self._out_bytes = 0  # of what waits, too
        self._waiting: deque[EncodedPublish] = deque()
        self.version = 0
        self.maximum = VARIABLE_MAXIMUM + 5
        self.session = Session(1)
        self.paused = False

    def take_data(self) -> bytes:
        """Everything that waits for the transport, once."""
        data = b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        return data

    def publish(self, publish: EncodedPublish) -> int:
        """Queue a message.

        :return: 0, or the reason code why it was not: QUOTA_EXCEEDED or PACKET_TOO_LARGE.
        """
        if publish.size > self.maximum:
            return PACKET_TOO_LARGE  # [MQTT-3.1.2-24] [MQTT-3.1.2-25]
        waiting = self._out_bytes + self.session.queued_bytes
        if waiting and waiting + publish.size > self._max_queued_bytes:
            return QUOTA_EXCEEDED
        if self.paused:  # apart from the answers, because it may have to be dropped again
            self._waiting.append(publish)
            self._out_bytes += publish.size
        else:
            self._publish(publish)
        return SUCCESS

    def resume(self) -> None:
        """The transport takes more again: send what waited, the oldest first."""
        self.paused = False
        self._publish_queued()
        while self._waiting:
            publish = self._waiting.popleft()
            self._out_bytes -= publish.size
            self._publish(publish)

    def discard(self, is_over: Callable[[str], bool]) -> None:
        """Drop the messages that wait on topics of which this is true."""
        self.session.discard(is_over)
        over = [publish for publish in self._waiting if is_over(publish.topic)]
        self._out_bytes -= sum(publish.size for publish in over)
        self._waiting = deque(publish for publish in self._waiting if not is_over(publish.topic))

    def clear(self) -> None:
        """Drop every message that waits: the session ended."""
        self.session.clear()
        self._waiting.clear()

    def acknowledged(self, packet_id: int) -> bool:
        """Free a packet identifier and send what waited for it. :return: whether it was in flight."""
        if not self.session.acknowledge(packet_id):
            return False
        if not self.paused:
            self._publish_queued()
        return True

    def send(self, packet: Packet) -> int:
        """Queue a packet that is no message, before messages that wait for the send quota.

        [MQTT-3.3.4-10] [MQTT-4.9.0-3]

        :return: as :meth:`publish`; what is not sent then cannot be dropped, so the connection has to end.
        """
        data = encode(packet, self.version)
        if len(data) > self.maximum:
            return PACKET_TOO_LARGE  # [MQTT-3.1.2-24]
        # A DISCONNECT is the last of all, and short: it is not what makes the difference.
        bound = self._max_queued_bytes + _ANSWER_BYTES
        if self._out_bytes and self._out_bytes + len(data) > bound and type(packet) is not Disconnect:
            return QUOTA_EXCEEDED
        self._out.append(data)
        self._out_bytes += len(data)
        return SUCCESS

    def explain(self, packet: Connack | Disconnect | Puback, reason_string: str | None) -> int:
        """Queue a packet with its reason string, or without where it has none or that would not fit.

        [MQTT-3.2.2-19] [MQTT-3.4.2-2] [MQTT-3.14.2-3]

        :return: as :meth:`publish`.
        """
        bare = packet.properties
        if reason_string and self.version == MQTT_5_0:
            packet.properties = {**(bare or {}), REASON_STRING: reason_string}
            if len(encode(packet, MQTT_5_0)) > self.maximum:
                packet.properties = bare
        return self.send(packet)

    def _publish(self, publish: EncodedPublish) -> None:
        """Queue a message for the transport, or for the send quota."""
        if publish.qos == 0:
            self._out.append(publish.head)
            self._out_bytes += publish.size
            return
        packet_id = self.session.take_packet_id()
        if packet_id:
            self._publish_in_flight(packet_id, publish)
        else:
            self.session.enqueue(publish)

    def _publish_queued(self) -> None:
        """Send what the send quota allows by now."""
        while (queued := self.session.next_queued()) is not None:
            self._publish_in_flight(*queued)

    def _publish_in_flight(self, packet_id: int, publish: EncodedPublish) -> None:
        """Queue a QoS 1 PUBLISH with its packet identifier."""
        self._out += (publish.head, packet_id.to_bytes(2, "big"), publish.tail)
        self._out_bytes += publish.size
