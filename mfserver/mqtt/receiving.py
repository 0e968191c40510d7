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

    :ivar unacknowledged: those of QoS 1 that wait for our PUBACK.
    """

    __slots__ = ("_aliases", "_limits", "unacknowledged")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._aliases: dict[int, str] = {}
        self.unacknowledged = 0

    def publish(self, publish: Publish, version: int) -> None:
        """Check a PUBLISH and count it; put the topic name where a topic alias stands (3.3.2.3.4).

        :raises MQTTError: it asks for what we have not got, or is one too many.
        """
        self._limits.check_publish(publish)
        if publish.properties is not None:
            self._resolve_alias(publish, publish.properties)
        if publish.qos:
            self.unacknowledged += 1
            if version == MQTT_5_0 and self.unacknowledged > self._limits.receive_maximum:
                raise ReceiveMaximumExceeded("the receive maximum is exceeded")  # [MQTT-3.3.4-7]

    def acknowledged(self) -> None:
        """One of QoS 1 gets its PUBACK now."""
        self.unacknowledged = max(0, self.unacknowledged - 1)

    def clear(self) -> None:
        """Forget the topic aliases: the network connection is over."""
        self._aliases.clear()

    def _resolve_alias(self, publish: Publish, said: Properties) -> None:
        alias = cast(int, said.pop(TOPIC_ALIAS, 0))
        if publish.topic and alias:
            self._aliases[alias] = publish.topic
        elif alias:
            topic = self._aliases.get(alias)
            if topic is None:
                raise ProtocolError("a topic alias that was never set")  # 3.3.2.3.4
            publish.topic = topic
        if not said:
            publish.properties = None
