"""Encoding is the inverse of decoding, and refuses what does not fit."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt.data import encode_variable
from mfserver.mqtt.decode import decode
from mfserver.mqtt.encode import encode, encode_publish_parts
from mfserver.mqtt.errors import MalformedPacket
from mfserver.mqtt.packets import Connect, Packet, Puback, Publish
from mfserver.mqtt.properties import message_properties
from tests.mqtt.cases import GOOD
from tests.mqtt.strategies import packets


class EncodeTests(SynchronousTestCase):
    """``encode``."""

    def test_every_good_case_encodes_to_its_bytes(self) -> None:
        """What is of the shortest form comes out as it went in, the rest means the same."""
        for case in GOOD:
            encoded = encode(case.packet, case.version)
            if case.shortest:
                self.assertEqual(encoded, case.data, (case.name, case.version))
            else:
                self.assertLessEqual(len(encoded), len(case.data), (case.name, case.version))

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from((3, 4, 5)).flatmap(lambda v: st.tuples(st.just(v), packets(v))))
    def test_what_is_encoded_decodes_to_the_same(self, drawn: tuple[int, Packet]) -> None:
        """Every packet of every version survives the way over the wire."""
        version, packet = drawn
        self.assertEqual(decode(encode(packet, version), version), packet)

    def test_variable_byte_integers_are_of_the_shortest_form(self) -> None:
        """The borders of MQTT 5.0, table 1-1 [MQTT-1.5.5-1]."""
        for value, encoded in (
            (0, "00"), (127, "7f"), (128, "8001"), (16_383, "ff7f"), (16_384, "808001"),
            (2_097_151, "ffff7f"), (2_097_152, "80808001"), (268_435_455, "ffffff7f"),
        ):  # fmt: skip
            self.assertEqual(encode_variable(value).hex(), encoded)
        self.assertRaises(MalformedPacket, encode_variable, 268_435_456)
        self.assertRaises(MalformedPacket, encode_variable, -1)

    def test_what_does_not_fit_is_refused(self) -> None:
        """A field that the wire cannot hold is an error of the package, not one of Python's."""
        for packet in (
            Publish("\0", b""),
            Publish("\ud800", b""),
            Publish("x" * 65_536, b""),
            Publish("é" * 32_768, b""),
            Publish("t", b"", 1, packet_id=65_536),
            Publish("t", b"", properties={0x21: 1}),
            Publish("t", b"", properties={0x7F: 1}),
            Publish("t", b"", properties={2: -1}),
            Publish("t", b"", properties={9: b"x" * 65_536}),
            Connect(5, "c", keep_alive=65_536),
            Puback(65_536),
        ):
            self.assertRaises(MalformedPacket, encode, packet, 5)


class EncodedPublishTests(SynchronousTestCase):
    """A PUBLISH that is encoded once for all who get it."""

    def test_the_parts_make_the_packet(self) -> None:
        """At QoS 0 the head is everything; above, the packet identifier goes between head and tail."""
        section: dict[int, object] = {3: "text/plain", 0x26: [("k", "v")]}
        for version in (3, 4, 5):
            said = section if version == 5 else None
            for retain in (False, True):
                parts = encode_publish_parts(version, "t/u", b"payload", 0, retain, section)
                self.assertEqual(parts.tail, b"")
                self.assertEqual(parts.size, len(parts.head))
                self.assertEqual(
                    decode(parts.head, version), Publish("t/u", b"payload", retain=retain, properties=said)
                )
                parts = encode_publish_parts(version, "t/u", b"payload", 1, retain, section)
                data = parts.head + b"\1\2" + parts.tail
                self.assertEqual(parts.size, len(data))
                expected = Publish("t/u", b"payload", 1, retain=retain, packet_id=258, properties=said)
                self.assertEqual(decode(data, version), expected)

    def test_only_the_properties_of_the_message_travel_on(self) -> None:
        """Topic alias, subscription identifiers and will delay are between one client and one server."""
        travelling: dict[int, object] = {1: 1, 2: 7, 3: "c", 8: "r", 9: b"d", 0x26: [("k", "v")]}
        self.assertEqual(message_properties({**travelling, 0x23: 1, 0x0B: [1], 0x18: 5}), travelling)
        self.assertIsNone(message_properties({0x23: 1}))
        self.assertIsNone(message_properties(None))
