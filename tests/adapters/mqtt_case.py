"""What the tests of MQTT clients share: a house, and packets instead of bytes."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt.decode import decode, decode_remaining_length
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Subscription,
)
from tests.adapters.fakes import House, Wire

__all__ = ["MQTTTestCase", "disconnects", "packets"]


def packets(data: bytes, version: int = 5) -> list[Packet]:
    """Everything that was written, decoded."""
    found = []
    while data:
        length, start = decode_remaining_length(data, 1)
        found.append(decode(data[: start + length], version))
        data = data[start + length :]
    return found


def disconnects(wire: Wire, version: int = 5) -> list[int]:
    """The reason codes of the DISCONNECTs that were written."""
    return disconnects_in(packets(wire.take(), version))


def disconnects_in(answer: list[Packet]) -> list[int]:
    """The reason code of each DISCONNECT."""
    return [one.reason_code for one in answer if isinstance(one, Disconnect)]


def pubacks(answer: list[Packet]) -> list[tuple[int, int]]:
    """Packet identifier and reason code of each PUBACK."""
    return [(one.packet_id, one.reason_code) for one in answer if isinstance(one, Puback)]


def publishes(answer: list[Packet]) -> list[Publish]:
    """Each PUBLISH."""
    return [one for one in answer if isinstance(one, Publish)]


class MQTTTestCase(SynchronousTestCase):
    """A house with two things on one channel.

    :ivar connack: the last one.
    :ivar sent_at_once: what came behind the last CONNACK or SUBACK.
    """

    connack: Connack
    sent_at_once: list[Packet]

    def setUp(self) -> None:
        self.house = House()
        self.alice = self.house.thing("alice", "c", "d")
        self.bob = self.house.thing("bob", "c")

    def connect(self, name: str, version: int = 5, client_id: str = "", **options: Any) -> Wire:
        """A connected client; what it was told at once has been read."""
        wire = self.house.mqtt_wire()
        packet = Connect(
            version, client_id or name, user_name=name, password=f"key-of-{name}".encode(), **options
        )
        wire.protocol.dataReceived(encode(packet, version))
        self.house.end_turn()
        answer, *self.sent_at_once = packets(wire.take(), version)
        assert isinstance(answer, Connack)
        self.assertEqual(0, answer.reason_code)
        self.connack = answer
        return wire

    def subscribe(
        self, wire: Wire, *filters: str, version: int = 5, qos: int = 1, **options: Any
    ) -> list[int]:
        """Subscribe. :return: the reason codes."""
        packet = Subscribe(7, [Subscription(one, qos=qos, **options) for one in filters])
        wire.protocol.dataReceived(encode(packet, version))
        self.house.end_turn()
        answer, *self.sent_at_once = packets(wire.take(), version)
        assert isinstance(answer, Suback)
        self.assertEqual(7, answer.packet_id)
        return answer.reason_codes

    def publish(
        self, wire: Wire, topic: str, payload: bytes = b"x", qos: int = 0, version: int = 5, **fields: Any
    ) -> list[Packet]:
        """Publish, and let the turn end. :return: what came back at once."""
        packet = Publish(topic, payload, qos=qos, packet_id=9 if qos else 0, **fields)
        answer = packets(wire.receive(encode(packet, version)), version)
        self.house.end_turn()
        return answer

    def delivered(self, wire: Wire, version: int = 5) -> list[tuple[str, bytes, int]]:
        """The PUBLISH packets that came: topic, payload, QoS."""
        found = packets(wire.take(), version)
        return [(one.topic, one.payload, one.qos) for one in found if isinstance(one, Publish)]
