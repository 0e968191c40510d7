"""The straight way of the common packets: what it takes, what it leaves, and that nobody can tell."""

from collections import Counter
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt.connection import Connection, Limits
from mfserver.mqtt.decode_common import take_common
from mfserver.mqtt.encode import encode
from mfserver.mqtt.events import Event, PublishAcknowledged, PublishReceived
from mfserver.mqtt.packets import Puback, Publish
from mfserver.mqtt.receiving import Receiver
from tests.builds import attributes
from tests.campaign import Campaign
from tests.mqtt.cases import framed
from tests.mqtt.conversation import VERSIONS, connected
from tests.mqtt.mutations import mutate
from tests.mqtt.random_packets import any_packet
from tests.mqtt.test_fuzz import pieces

_LIMITS = Limits(max_payload=300, max_packet=700, receive_maximum=3)
_ID = b"\0\7"
#: Topic names as they stand in a packet: right, wrong, and of the lengths at which something changes.
_TOPICS = (
    b"t", b"t", b"channels/c/messages", "é/€".encode(), b"t" * 130, b"t" * 256, b"t" * 257,
    b"", b"a/+", b"#", b"a\0", b"\xff", b"\xed\xa0\x80",
)  # fmt: skip


def values(one: Any) -> Any:
    """An event as plain values, with all that is in it."""
    if isinstance(one, Exception):
        return type(one), str(one)
    kinds = [kind for kind in type(one).__mro__ if kind.__module__.startswith("mfserver.mqtt.")]
    names = sorted({name for kind in kinds for name in attributes(kind)} if kinds else ())
    return (type(one), *((name, values(getattr(one, name))) for name in names)) if names else one


def straightless(connection: Connection) -> Connection:
    """The same, but that every packet is too long for the straight way, and so goes the general one."""
    connection._receiver.max_packet = 0
    return connection


def nearly_common(random: Random, version: int) -> bytes:
    """A packet that is common but for what chance put in."""
    if random.random() < 0.3:
        extra = random.choice((b"", b"", b"", b"\0", b"\x10", b"\0\0", b"\x80"))
        first = random.choice((0x40, 0x40, 0x40, 0x41, 0x50, 0x62))
        return framed(first, random.choice((_ID, _ID, b"\0\0", b"\xff\xff", b"\1")) + extra)
    first = random.choice((0x30, 0x31, 0x32, 0x32, 0x33, 0x34, 0x38, 0x3A, 0x36))
    topic = random.choice(_TOPICS)
    body = (len(topic) + (random.random() < 0.02)).to_bytes(2, "big") + topic
    if first & 6:
        body += random.choice((_ID, _ID, _ID, b"\1\0", b"\0\0"))
    if version == 5 or random.random() < 0.1:
        body += random.choice((b"\0", b"\0", b"\0", b"\2\1\1", b"\3\x23\0\1", b"\x80\0"))
    body += bytes(random.choice((0, 0, 1, 2, 64, 127, 200, 299, 300, 301)))
    packet = framed(first, body)
    if random.random() < 0.05:  # a remaining length that is longer than needed, and one that lies
        packet = packet[:1] + bytes((packet[1] | 0x80, 0)) + packet[2:]
    elif random.random() < 0.05:
        packet = packet[:1] + bytes(((packet[1] + random.choice((-1, 1))) & 0xFF,)) + packet[2:]
    return packet


def both_ways(random: Random, reached: "Counter[str]") -> None:
    """Any bytes, in any pieces, with answers between them."""
    version = random.choice(VERSIONS)
    straight = connected(version, _LIMITS)
    general = straightless(connected(version, _LIMITS))
    for _ in range(random.choice((1, 2, 5))):
        data = b""
        for _ in range(random.choice((1, 3, 10))):
            packet = nearly_common(random, version)
            if random.random() < 0.1:
                packet = mutate(random, packet, encode(any_packet(random, version), version), version)
            data += packet
        for piece in pieces(random, data):
            found, expected = (one.receive_data(piece, 1.0) for one in (straight, general))
            assert [values(event) for event in found] == [values(event) for event in expected], (found, data)
            for event in found:
                reached[f"{version}: {type(event).__name__}"] += 1
                if isinstance(event, PublishReceived) and event.packet.qos == 1 and random.random() < 0.7:
                    straight.send_puback(event.packet.packet_id)
                    general._acknowledge(Puback(event.packet.packet_id))
                    general._receiver.qos_1_over()
            states = [
                (one.closed, one.held, one._receiver._qos_1, one.data_to_send())
                for one in (straight, general)
            ]
            assert states[0] == states[1], (states, data)
        if straight.closed:
            reached["ended"] += 1
            break


class CommonTests(SynchronousTestCase):
    """:func:`~mfserver.mqtt.decode_common.take_common`."""

    def take(self, data: bytes, version: int = 4, **limits: Any) -> tuple[int, list[Event]]:
        """What it takes of these bytes."""
        happened: list[Event] = []
        pos = take_common(data, 0, version, Receiver(Limits(**limits)), happened)
        return pos, happened

    def test_nobody_can_tell(self) -> None:
        """Both ways make of any bytes the same events, the same answers, the same end."""
        campaign = Campaign("common packets, both ways", least=1500, share=0.05)
        campaign.run(both_ways)
        kinds = ("PublishReceived", "PublishAcknowledged", "ConnectionFailed")
        expected = [f"{version}: {kind}" for version in VERSIONS for kind in kinds]
        self.assertEqual([], campaign.missing(*expected, "ended"))

    def test_taken(self) -> None:
        """The common ones, many in one piece: all fields are right, and it ends where the last one does."""
        for version in VERSIONS:
            packets = [
                Publish("a/é", b"payload", 0),
                Publish("a/é", b"", 1, packet_id=0x0102),
                Publish("t" * 257, b"x" * 300, 1, retain=True, packet_id=65_535),
                Publish("t", b"x" * 16_000, 0, retain=True),
            ]
            data = b"".join(encode(packet, version) for packet in packets) + encode(Puback(0x0304), version)
            pos, happened = self.take(data, version)
            self.assertEqual(len(data), pos)
            *published, acknowledged = happened
            self.assertEqual(
                packets, [event.packet for event in published if isinstance(event, PublishReceived)]
            )
            assert isinstance(acknowledged, PublishAcknowledged)
            self.assertEqual((0x0304, 0), (acknowledged.packet_id, acknowledged.reason_code))

    def test_left(self) -> None:
        """What is not common, not whole or not right stays where it is, behind what was taken."""
        before = framed(0x40, _ID)
        for version, packet in (
            (4, framed(0x34, b"\0\1t" + _ID)),  # QoS 2
            (4, framed(0x3A, b"\0\1t" + _ID)),  # DUP
            (4, framed(0x38, b"\0\1tx")),  # DUP at QoS 0
            (4, framed(0x36, b"\0\1t" + _ID)),  # QoS 3
            (4, framed(0xC0, b"") + b"\0\0"),
            (4, framed(0x40, b"\0\0")),
            (4, framed(0x41, _ID)),
            (4, framed(0x40, _ID + b"\0")),
            (5, framed(0x40, _ID + b"\x10")),
            (4, framed(0x32, b"\0\1t\0\0")),
            (4, framed(0x32, b"\0\1t\0")),
            (4, framed(0x30, b"\0\5topi")),
            (5, framed(0x30, b"\0\2to")),  # no properties, not even their length
            (5, framed(0x30, b"\0\1t\2\1\1x")),
            (4, framed(0x30, b"\0\4topic")[:-1]),
            (4, b"\x30\x80"),
            (4, b"\x30\x80\x80\1"),
            (4, b"\x30\x85\0\0\1tx!"),  # a remaining length that is longer than needed
            (4, b"\x30\x80\x80\1" + bytes(16_384)),
            (4, b"\x30\1\0\0"),
            *((4, framed(0x30, len(topic).to_bytes(2, "big") + topic + b"xx")) for topic in _TOPICS[7:]),
        ):
            pos, happened = self.take(before + packet, version)
            self.assertEqual((4, 1), (pos, len(happened)), packet)

    def test_bounds(self) -> None:
        """As long as may be is taken; one byte more is left to be refused."""
        data = framed(0x30, b"\0\1t" + bytes(200))
        for limits, taken in (
            ({"max_payload": 200}, True),
            ({"max_payload": 199}, False),
            ({"max_packet": len(data)}, True),
            ({"max_packet": len(data) - 1}, False),
        ):
            pos, happened = self.take(data, **limits)
            self.assertEqual((len(data), 1) if taken else (0, 0), (pos, len(happened)), limits)
        self.assertEqual((0, []), self.take(framed(0x40, _ID), max_packet=3))

    def test_receive_maximum(self) -> None:
        """Of MQTT 5.0 those are taken that may be under way; the next one is left."""
        data = framed(0x32, b"\0\1t" + _ID + b"\0x")
        pos, happened = self.take(5 * data, 5, receive_maximum=3)
        self.assertEqual((3 * len(data), 3), (pos, len(happened)))
        pos, happened = self.take(5 * framed(0x32, b"\0\1t" + _ID + b"\0x"), 4, receive_maximum=3)
        self.assertEqual(5, len(happened))  # 3.x has none

    def test_a_topic_that_comes_again_is_the_same_text(self) -> None:
        """A short one is decoded once; a long one is not kept."""
        for length, same in ((256, True), (257, False)):
            data = encode(Publish("t" * length, b""), 4)
            _, happened = self.take(data + data)
            first, second = (event.packet.topic for event in happened if isinstance(event, PublishReceived))
            self.assertEqual(first, second)
            self.assertEqual(same, first is second)


class PubackTests(SynchronousTestCase):
    """The straight way of a PUBACK of ours."""

    def test_same_bytes(self) -> None:
        for version in VERSIONS:
            for packet_id in (1, 0x0102, 65_535):
                connection = connected(version)
                connection.send_puback(packet_id)
                self.assertEqual(encode(Puback(packet_id), version), connection.data_to_send())

    def test_no_more_of_them_wait_than_may(self) -> None:
        """65,536 bytes of them; one more ends the connection, as any other answer."""
        connection = connected(4)
        for _ in range(16_384):
            connection.send_puback(7)
        self.assertFalse(connection.closed)
        connection.send_puback(7)
        self.assertTrue(connection.closed)
        self.assertEqual(framed(0x40, _ID) * 16_384, connection.data_to_send())

    def test_a_client_that_takes_none(self) -> None:
        """Its Maximum Packet Size is less than a PUBACK: the connection ends, and it is not sent."""
        connection = connected(5)
        connection._sender._maximum = 3
        connection.send_puback(7)
        self.assertTrue(connection.closed)
        self.assertEqual(framed(0xE0, b"\x95"), connection.data_to_send())

    def test_before_connack_and_after_the_end(self) -> None:
        """There is nobody to send it to."""
        connection = Connection(Limits(), 0.0)
        connection.send_puback(7)
        self.assertEqual(b"", connection.data_to_send())
        connection = connected(4)
        connection.receive_eof()
        connection.send_puback(7)
        self.assertEqual(b"", connection.data_to_send())
