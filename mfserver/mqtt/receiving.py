"""What one client publishes: within our Receive Maximum, and with its topic aliases resolved."""

from typing import cast

from mfserver.mqtt.constants import MQTT_5_0
from mfserver.mqtt.errors import ProtocolError, ReceiveMaximumExceeded
from mfserver.mqtt.limits import Limits
from mfserver.mqtt.packets import Properties, Publish
from mfserver.mqtt.properties import TOPIC_ALIAS

__all__ = ["Receiver"]


class Receiver:
    """Takes in the PUBLISHes of one network connection.

    :ivar alias_bytes: of the topics that have a topic alias.
    """

    __slots__ = ("_aliases", "_limits", "_qos_1", "_qos_2", "alias_bytes")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._aliases: dict[int, str] = {}
        self.alias_bytes = 0
        # What counts against the Receive Maximum (4.9): how many of QoS 1, and which of QoS 2.
        self._qos_1 = 0
        self._qos_2: set[int] = set()

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
            self._qos_2.add(publish.packet_id)  # a repeated one counts once
        if self._qos_1 + len(self._qos_2) > self._limits.receive_maximum:
            raise ReceiveMaximumExceeded("the receive maximum is exceeded")  # [MQTT-3.3.4-7]

    def qos_1_over(self) -> None:
        """One PUBLISH of QoS 1 gets its PUBACK now."""
        self._qos_1 = max(0, self._qos_1 - 1)

    def qos_2_over(self, packet_id: int) -> None:
        """The PUBLISH of QoS 2 with this identifier is refused by PUBREC or completed by PUBCOMP now."""
        self._qos_2.discard(packet_id)

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
