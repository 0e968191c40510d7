"""MQTT clients as the adapter sees them: bytes on a wire, in memory."""

from tests.adapters.mqtt_case import MQTTTestCase


class PublishTests(MQTTTestCase):
    """Who listens on a channel hears what is published there."""

    def test_one_to_another(self) -> None:
        """QoS 1 is acknowledged to the publisher and arrives at QoS 1."""
        alice, bob = self.connect("alice"), self.connect("bob", version=4)
        self.assertEqual([1], self.subscribe(bob, "channels/c/messages/#", version=4))
        (puback,) = self.publish(alice, "channels/c/messages/a", b"hello", qos=1)
        self.assertEqual(9, puback.packet_id)  # type: ignore[attr-defined]
        self.assertEqual([("channels/c/messages/a", b"hello", 1)], self.delivered(bob, version=4))
