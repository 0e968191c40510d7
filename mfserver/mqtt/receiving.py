"""What one client publishes: within our Receive Maximum, and with its topic aliases resolved."""

from typing import Final, cast

from mfserver.mqtt.constants import MQTT_5_0
from mfserver.mqtt.data import decode_text
from mfserver.mqtt.errors import MalformedPacket, ProtocolError, ReceiveMaximumExceeded
from mfserver.mqtt.limits import Limits
from mfserver.mqtt.packets import Properties, Publish
from mfserver.mqtt.properties import TOPIC_ALIAS
from mfserver.mqtt.topics import check_topic_name

__all__ = ["Receiver"]

#: Bytes of a topic name that is kept for the next PUBLISH: so few that they count as part of a connection.
_SHORT: Final = 256


class Receiver:
    """Takes in the PUBLISHes of one network connection.

    :ivar alias_bytes: of the topics that have a topic alias.
    :ivar max_packet: bytes of a whole packet.
    :ivar max_payload: bytes of a payload.
    :ivar topic: a topic name that came lately, as most clients say the same one again; ``""`` for none.
    :ivar topic_bytes: the same as it came.
    """

    __slots__ = (
        "_aliases",
        "_limits",
        "_qos_1",
        "_qos_2",
        "alias_bytes",
        "max_packet",
        "max_payload",
        "topic",
        "topic_bytes",
    )

    def __init__(self, limits: Limits) -> None:
        # First what each message passes: so it lies side by side in a compiled object.
        self.max_packet = limits.max_packet
        self.max_payload = limits.max_payload
        self.topic_bytes = b""
        self.topic = ""
        self.alias_bytes = 0
        self._limits = limits
        self._aliases: dict[int, str] = {}
        # What counts against the Receive Maximum (4.9): how many of QoS 1, and which of QoS 2.
        self._qos_1 = 0
        self._qos_2: dict[int, None] = {}  # an empty set takes three times as much

    def publish(self, publish: Publish, version: int) -> None:
        """Check a PUBLISH and count it; put the topic name where a topic alias stands (3.3.2.3.4).

        :raises MQTTError: it is too large, says what only a server says, or is one too many.
        """
        self._limits.check_publish(publish)
        if publish.properties is not None:
            self._resolve_alias(publish, publish.properties)
        if publish.qos == 0 or version != MQTT_5_0:
            return  # 3.x has no Receive Maximum
        if publish.qos == 1:
            self._qos_1 += 1
        else:
            self._qos_2[publish.packet_id] = None  # a repeated one counts once
        if self._qos_1 + len(self._qos_2) > self._limits.receive_maximum:
            raise ReceiveMaximumExceeded("the receive maximum is exceeded")  # [MQTT-3.3.4-7]

    def count_qos_1(self) -> bool:
        """Count a PUBLISH of QoS 1 of MQTT 5.0. :return: False where it is one too many, and not counted."""
        if self._qos_1 + len(self._qos_2) >= self._limits.receive_maximum:
            return False
        self._qos_1 += 1
        return True

    def topic_of(self, name: bytes) -> str:
        """The topic name that these bytes are; ``""`` where they are none."""
        try:
            topic = decode_text(name)
            check_topic_name(topic)
        except MalformedPacket:
            return ""
        if len(name) <= _SHORT:
            self.topic, self.topic_bytes = topic, name
        return topic

    def qos_1_over(self) -> None:
        """One PUBLISH of QoS 1 gets its PUBACK now."""
        if self._qos_1:
            self._qos_1 -= 1

    def qos_2_over(self, packet_id: int) -> None:
        """The PUBLISH of QoS 2 with this identifier is refused by PUBREC or completed by PUBCOMP now."""
        self._qos_2.pop(packet_id, None)

    def clear(self) -> None:
        """Forget everything: the network connection is over [MQTT-3.3.2-7]."""
        self._aliases.clear()
        self.alias_bytes = 0
        self._qos_2.clear()

    def _resolve_alias(self, publish: Publish, said: Properties) -> None:
        alias = cast(int, said.pop(TOPIC_ALIAS, 0))
        if publish.topic and alias:
            self.alias_bytes += len(publish.topic.encode()) - len(self._aliases.get(alias, "").encode())
            self._aliases[alias] = publish.topic
        elif alias:
            topic = self._aliases.get(alias)
            if topic is None:
                raise ProtocolError("a topic alias that was never set")  # 3.3.2.3.4
            publish.topic = topic
        if not said:
            publish.properties = None
