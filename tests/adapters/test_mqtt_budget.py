"""What all MQTT clients together make the server hold is bounded."""

from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import Connect, Publish
from tests.adapters.mqtt_case import MQTTTestCase, packets

PACKET = encode(Publish("channels/c/messages", bytes(900)), 5)


class BudgetTests(MQTTTestCase):
    """A house that holds 1,000 bytes."""

    def setUp(self) -> None:
        super().setUp()
        self.house.budget.maximum = 1_000

    def test_too_much(self) -> None:
        """Who makes it too much is told 0x89 and closed; the others go on."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.subscribe(bob, "channels/c/messages")
        alice.receive(PACKET[:800])
        self.assertEqual(800, self.house.budget.used)
        (answer,) = packets(bob.receive(PACKET[:300]))
        self.assertEqual(0x89, answer.reason_code)  # type: ignore[attr-defined]
        self.assertTrue(bob.disconnecting)
        alice.receive(PACKET[800:])
        self.assertEqual(0, self.house.budget.used)
        self.assertEqual(1, len(self.house.reports))

    def test_given_back(self) -> None:
        """A client that goes gives back what was held for it, a stranger too."""
        stranger = self.house.mqtt_wire()
        stranger.receive(encode(Connect(5, "x" * 500), 5)[:400])
        self.assertEqual(400, self.house.budget.used)
        stranger.lose()
        self.assertEqual(0, self.house.budget.used)

    def test_counted(self) -> None:
        """Half a packet counts until it is whole or its client is gone."""
        alice, bob = self.connect("alice"), self.connect("bob")
        alice.receive(PACKET[:700])
        bob.receive(PACKET[:300])
        self.assertEqual(1000, self.house.budget.used)
        alice.receive(PACKET[700:] + PACKET[:100])
        self.assertEqual(400, self.house.budget.used)
        alice.lose()
        bob.protocol.end("over")
        bob.lose()
        self.assertEqual(0, self.house.budget.used)

    def test_behind_connect(self) -> None:
        """What is held behind a CONNECT counts until it is looked at."""
        self.house.gate.held = []
        wire = self.house.mqtt_wire()
        wire.receive(encode(Connect(5, "a", user_name="alice", password=b"key-of-alice"), 5) + PACKET)
        self.assertEqual(len(PACKET), self.house.budget.used)
        self.house.gate.held.pop()()
        self.assertEqual(0, self.house.budget.used)
