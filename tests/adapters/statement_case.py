"""What the tests of MQTT's normative statements share: clients that say and hear packets."""

from typing import Any, TypeVar

from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt import properties
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Packet,
    Properties,
    Publish,
    Suback,
    Subscribe,
    Subscription,
)
from tests.adapters.fakes import House
from tests.adapters.mqtt_case import packets

__all__ = ["TOPIC", "VERSIONS", "Client", "StatementTestCase", "codes", "only", "properties_of"]

#: A topic on the channel that both things may use.
TOPIC = "channels/c/messages"

#: The versions whose specifications number their statements.
VERSIONS = (4, 5)

P = TypeVar("P", bound=Packet)


def only(kind: type[P], said: list[Packet]) -> list[P]:
    """The packets of one kind."""
    return [one for one in said if isinstance(one, kind)]


def codes(said: list[Packet]) -> list[int | None]:
    """The reason code of each packet; None of those that have none."""
    return [getattr(one, "reason_code", None) for one in said]


def properties_of(packet: Packet) -> Properties:
    """The properties of a packet; none of those that cannot have any."""
    return getattr(packet, "properties", None) or {}


class Client:
    """One network connection of a client.

    :ivar answer: what came back for its CONNECT.
    """

    def __init__(self, house: House, version: int, connect: Connect | bytes) -> None:
        self.version = version
        self.wire = house.mqtt_wire()
        self._house = house
        self.answer = self.send(connect)

    @property
    def closed(self) -> bool:
        """Whether the server ended the connection."""
        return self.wire.disconnecting

    @property
    def connack(self) -> Connack:
        """The CONNACK that it was answered with, which stands before everything else."""
        first = self.answer[0]
        assert isinstance(first, Connack)
        return first

    def send(self, *said: Packet | bytes) -> list[Packet]:
        """Say something in one write. :return: what comes back until the turn ends."""
        parts = [one if isinstance(one, bytes) else encode(one, self.version) for one in said]
        self.wire.protocol.dataReceived(b"".join(parts))
        return self.heard()

    def heard(self) -> list[Packet]:
        """What has come since the last time."""
        self._house.end_turn()
        return packets(self.wire.take(), self.version)

    def messages(self) -> list[Publish]:
        """The messages that have come since the last time."""
        return only(Publish, self.heard())

    def subscribe(self, *filters: str, qos: int = 2, **options: Any) -> list[Packet]:
        """Subscribe. :return: what comes back behind the SUBACK."""
        identifier = options.pop("identifier", 0)
        said = {properties.SUBSCRIPTION_IDENTIFIER: identifier} if identifier else None
        subscriptions = [Subscription(one, qos=qos, **options) for one in filters]
        suback, *rest = self.send(Subscribe(7, subscriptions, said))
        assert isinstance(suback, Suback), suback
        assert suback.reason_codes == [qos] * len(filters), suback
        return rest

    def publish(
        self, topic: str = TOPIC, payload: bytes = b"x", qos: int = 0, packet_id: int = 9, **fields: Any
    ) -> list[Packet]:
        """Publish. :return: what comes back."""
        return self.send(Publish(topic, payload, qos, packet_id=packet_id if qos else 0, **fields))

    def lose(self) -> None:
        """The network connection is over, without a word."""
        self.wire.lose()
        self._house.end_turn()


class StatementTestCase(SynchronousTestCase):
    """A house with two things on channel c."""

    def setUp(self) -> None:
        self.house = House()
        self.alice = self.house.thing("alice", "c", "d")
        self.bob = self.house.thing("bob", "c", "d")

    def connect(
        self, name: str, version: int = 5, client_id: str | None = None, kept: int = 0, **fields: Any
    ) -> Client:
        """An accepted client.

        :param kept: seconds that its session outlives it by; in 3.1.1 for ever.
        """
        client = self.ask(self.who(name, version, client_id, kept, **fields))
        self.assertEqual((0, False), (client.connack.reason_code, client.closed))
        return client

    def begin(self, name: str, version: int, client_id: str, **said: int) -> Client:
        """An accepted client whose session is new, and kept for 100 seconds; in 3.1.1 for ever.

        :param said: properties of its CONNECT.
        """
        self.connect(name, version, client_id).lose()
        fields = (
            {"properties": {getattr(properties, one): value for one, value in said.items()}} if said else {}
        )
        return self.connect(name, version, client_id, 100, **fields)

    def resume(self, name: str, version: int, client_id: str) -> Client:
        """An accepted client that comes back to its session."""
        client = self.connect(name, version, client_id, 100)
        self.assertTrue(client.connack.session_present)
        return client

    def who(
        self, name: str, version: int = 5, client_id: str | None = None, kept: int = 0, **fields: Any
    ) -> Connect:
        """The CONNECT of a thing with its key."""
        if kept and version == 5:
            said = fields.setdefault("properties", {})
            said[properties.SESSION_EXPIRY_INTERVAL] = kept
        fields.setdefault("clean_start", not kept)
        identifier = name if client_id is None else client_id
        return Connect(version, identifier, user_name=name, password=f"key-of-{name}".encode(), **fields)

    def ask(self, connect: Connect) -> Client:
        """A client that is accepted or not."""
        return Client(self.house, connect.version, connect)

    def raw(self, version: int, data: bytes) -> Client:
        """A client that sends these bytes first."""
        return Client(self.house, version, data)

    def assert_refused(self, client: Client, answer: list[Packet], reason_code: int) -> None:
        """The connection is closed; MQTT 5.0 is told why in a DISCONNECT, 3.1.1 nothing."""
        self.assertEqual([reason_code] if client.version == 5 else [], codes(answer[-1:]))
        self.assertTrue(client.closed)
