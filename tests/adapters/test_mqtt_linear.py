"""What one client can make the whole server do is linear in what it sends; counted in calls, not timed."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from mfserver.budget import Budget
from mfserver.message import Message
from mfserver.mqtt.encode import encode
from mfserver.mqtt.limits import Limits
from mfserver.mqtt.packets import (
    Connect,
    Pingreq,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Subscription,
    Unsubscribe,
)
from mfserver.routing.bus import LocalBus
from mfserver.routing.retained import Retained
from tests.adapters.fakes import House, Wire
from tests.adapters.mqtt_case import MQTTTestCase, disconnects
from tests.builds import pure_only
from tests.collecting import not_collecting

_TOPIC: Final = "channels/c/messages"
_DEEP: Final = _TOPIC + "/a" * 120
_QUOTA_EXCEEDED: Final = 0x97


def _subscribe(times: int) -> bytes:
    """A topic filter, many times in one SUBSCRIBE."""
    return encode(Subscribe(1, [Subscription(_TOPIC, 1)] * times), 5)


def _deep_filters(times: int) -> bytes:
    """The same two deep topic filters, subscribed to and given up again and again."""
    filters = [_DEEP, _TOPIC + "/+" * 120]
    pair = encode(Subscribe(1, [Subscription(one) for one in filters]), 5) + encode(
        Unsubscribe(2, filters), 5
    )
    return pair * (times // 8)


def _retained(times: int) -> bytes:
    """Retained messages of as many deep topics."""
    return b"".join(encode(Publish(f"{_DEEP}/{n}", b"x", retain=True), 5) for n in range(times // 20))


_KINDS: Final[tuple[Callable[[int], bytes], ...]] = (
    _subscribe,
    _deep_filters,
    _retained,
    lambda times: encode(Pingreq(), 5) * times,
    lambda times: encode(Unsubscribe(1, [_TOPIC] * times), 5),
    lambda times: encode(Publish(_TOPIC, b""), 5) * times,
    lambda times: encode(Publish(_TOPIC, b"", 2, True, packet_id=1), 5) * times,
    lambda times: encode(Puback(7), 5) * times,
    lambda times: encode(Pubrec(7), 5) * times,
    lambda times: encode(Pubrel(7), 5) * times,
)


class Counting(Retained):
    """Retained messages that count how many are handed out.

    :ivar given: messages.
    """

    given = 0

    def give_out(self, node: Any) -> Message | None:
        self.given += 1
        return super().give_out(node)


class LinearTests(SynchronousTestCase):
    """One client with a session that outlives its connection."""

    def setUp(self) -> None:
        self.house = house = House()
        house.mqtt.limits = Limits()
        house.mqtt.budget = house.budget = Budget(1 << 20)
        house.retained._max_bytes = 1 << 24
        house.thing("alice", "c")

    def connect(self) -> Wire:
        """A connection."""
        wire = self.house.mqtt_wire()
        packet = Connect(5, "a", user_name="alice", password=b"key-of-alice", properties={0x11: 100})
        wire.receive(encode(packet, 5))
        self.house.clock.advance(1)
        wire.take()
        return wire

    def calls(self, data: bytes) -> int:
        """How many functions are called, in Python or in C, until all of this is answered."""
        self.setUp()
        wire = self.connect()
        calls = 0

        def count(_frame: FrameType, event: str, _argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        before = sys.getprofile()
        with not_collecting():
            sys.setprofile(count)
            try:
                for start in range(0, len(data), 4096):
                    wire.protocol.dataReceived(data[start : start + 4096])
                    self.house.end_turn()
            finally:
                sys.setprofile(before)
        self.assertFalse(wire.disconnecting, self.house.reports)
        return calls

    @pure_only
    def test_twice_the_packets_are_twice_the_work(self) -> None:
        """Whatever a client repeats costs each time the same."""
        for index, kind in enumerate(_KINDS):
            once, twice = self.calls(kind(400)), self.calls(kind(800))
            self.assertGreater(once, 200, index)
            self.assertLessEqual(twice, 2.2 * once, index)

    def test_a_filter_that_stands_there_often_brings_nothing_before_its_client_reads(self) -> None:
        """Nothing is found for who does not read, and who asks without end is told so."""
        house = self.house
        house.sessions.retained = retained = Counting(100, 100_000, lambda *_: None, house.now)
        for number in range(20):
            retained.keep(Message("c", (str(number),), str(number), "t", "mqtt", b"x", "", 0, 0, True))
        wire = self.connect()
        wire.protocol.pauseProducing()  # it does not read
        many = encode(Subscribe(1, [Subscription(f"{_TOPIC}/#")] * 4000), 5)
        wire.protocol.dataReceived(many)
        house.clock.advance(1)
        self.assertEqual((0, False), (retained.given, wire.disconnecting))
        for _ in range(5):
            wire.protocol.dataReceived(many)
        house.clock.advance(1)
        self.assertEqual((0, [_QUOTA_EXCEEDED]), (retained.given, disconnects(wire)))


class AliasTests(MQTTTestCase):
    """What a topic alias stands for."""

    def test_a_topic_behind_an_alias_is_read_once(self) -> None:
        """Eight bytes do not cost what 65,000 do: what an alias stands for is not parsed again each time."""
        messages: list[Message] = []
        self.house.router.bus = LocalBus(messages.append)
        wire = self.connect("alice")
        first = Publish("channels/c/messages/" + "x" * 1000, b"", properties={0x23: 1})
        wire.receive(encode(first, 5))
        wire.receive(encode(Publish("", b"", properties={0x23: 1}), 5))
        self.assertEqual(len(messages), 2)
        self.assertIs(messages[0].levels, messages[1].levels)
