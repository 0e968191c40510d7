"""What a hostile client can make one session hold, or the server do in one turn."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.durable import NEVER
from mfserver.mqtt.properties import USER_PROPERTY
from mfserver.routing.sessions import Bounds
from mfserver.store.bodies import encode_message
from tests.routing.cases import mqtt
from tests.routing.house import House, Phone

KIB = 1024


class LongPropertiesTests(SynchronousTestCase):
    """The payload is not all that a message takes."""

    def setUp(self) -> None:
        self.house = House(Bounds(messages=1000, size=100 * KIB, memory=50 * KIB, retained=20))

    def publish(self, qos: int) -> None:
        """Twenty messages of no payload, with ten thousand bytes of a user property each."""
        said: dict[int, object] = {USER_PROPERTY: [("name", "v" * 10_000)]}
        for _ in range(20):
            self.house.router.publish(mqtt("channels/c/messages/t", qos, None, b"", properties=said))

    def test_on_the_disk(self) -> None:
        """The bound on the bytes of a queue holds for properties as well."""
        phone, _ = self.house.open(expiry=NEVER, subscribe="#")
        self.house.close(phone)
        self.publish(1)
        self.assertEqual(9, phone.session.count)
        self.assertEqual(11, self.house.shared.dropped)

    def test_in_memory(self) -> None:
        """So does the bound on what waits in memory."""
        phone: Phone = self.house.open(expiry=0, subscribe="#")[0]
        phone.is_writable = False
        self.publish(0)
        self.assertEqual(4, len(phone.session.state.waiting))


class RetainedSizeTests(SynchronousTestCase):
    """The bound on retained messages is the same whatever was written of them meanwhile."""

    def test_size_returns_to_nothing(self) -> None:
        """Writing a topic to the disk makes its texts larger, which Python tells of; we do not."""
        house = House()
        for level in ("\u00fc" * 1000, "\U0001f600" * 1000):
            topic = f"channels/\u00fc/messages/{level}"
            house.router.publish(mqtt(topic, 1, None, b"x", retain=True))
            node = house.retained._channels["\u00fc"]
            encode_message(mqtt(topic))
            for each in (node, *node.children.values()):
                if each.message is not None:
                    encode_message(each.message)
            house.router.publish(mqtt(topic, 1, None, b"", retain=True))
            self.assertEqual((0, 0), (len(house.retained), house.retained.size))
