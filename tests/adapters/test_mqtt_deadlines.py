"""What time ends an MQTT connection, in memory."""

from collections.abc import Callable

from twisted.python.failure import Failure

from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import Connack, Connect, Pingreq, Pingresp
from tests.adapters.mqtt_case import MQTTTestCase, disconnects, packets


class DeadlineTests(MQTTTestCase):
    """Silence ends a connection, on the clock."""

    def test_connect(self) -> None:
        """CONNECT has to be there ten seconds after the connection, however its bytes trickle in."""
        wire = self.house.mqtt_wire()
        self.house.clock.advance(9.9)
        wire.receive(b"\x10")
        self.assertFalse(wire.disconnecting)
        self.house.clock.advance(0.2)
        self.assertTrue(wire.disconnecting)
        self.assertEqual(1, len(self.house.reports))

    def test_authentication_is_our_time(self) -> None:
        """While we decide, no deadline of the client's runs."""
        self.house.gate.held = []
        wire = self.house.mqtt_wire()
        wire.receive(encode(Connect(5, "a", user_name="alice", password=b"key-of-alice", keep_alive=1), 5))
        self.house.clock.advance(60)
        self.assertFalse(wire.disconnecting)
        self.house.gate.held.pop()()
        self.assertEqual([Connack], [type(one) for one in packets(wire.take())])
        self.house.clock.advance(1)
        self.assertFalse(wire.disconnecting)

    def test_keep_alive(self) -> None:
        """Nothing within one and a half times the keep alive closes it: 0x8D in 5.0."""
        for version in (3, 4, 5):
            wire = self.connect("alice", version, keep_alive=10)
            self.house.clock.pump([5.0, 5.0, 4.9])
            self.assertFalse(wire.disconnecting)
            self.house.clock.advance(0.2)
            self.assertEqual([0x8D] if version == 5 else [], disconnects(wire, version))
            self.assertTrue(wire.disconnecting)
            wire.lose()

    def test_packets_prolong(self) -> None:
        """Each packet starts the keep alive anew."""
        wire = self.connect("alice", keep_alive=10)
        for _ in range(5):
            self.house.clock.advance(14)
            self.assertEqual([Pingresp], [type(one) for one in packets(wire.receive(encode(Pingreq(), 5)))])
        self.house.clock.advance(15.2)
        self.assertTrue(wire.disconnecting)

    def test_no_keep_alive(self) -> None:
        """A keep alive of 0 is none."""
        wire = self.connect("alice", keep_alive=0)
        self.house.clock.advance(100_000)
        self.assertFalse(wire.disconnecting)


class TimerTests(MQTTTestCase):
    """What the reactor calls late finds nothing to do."""

    def test_deadline_of_what_is_over(self) -> None:
        """A connection that is over looks at no deadline and ignores what still comes."""
        wire = self.connect("alice", keep_alive=10)
        protocol = wire.protocol
        wire.lose()
        late: tuple[Callable[[], object], ...] = (
            protocol._watch_deadline,
            protocol.flush,
            protocol.stopProducing,
            lambda: protocol.read(True),
            lambda: protocol.dataReceived(encode(Pingreq(), 5)),
            lambda: protocol.close(0x87, "late"),
        )
        for call in late:
            call()
        self.assertEqual(b"", wire.take())
        self.assertEqual([], self.house.clock.getDelayedCalls())

    def test_lost_without_reason(self) -> None:
        """As a WebSocket below tells it."""
        wire = self.connect("alice")
        wire.protocol.connectionLost(Failure(ConnectionResetError()))
        self.assertEqual([], self.house.gate.logged_in)
