"""Every rule of decoding, and that nothing but an MQTTError ever comes out of it."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt.constants import CONNECT
from mfserver.mqtt.decode import decode
from mfserver.mqtt.errors import MalformedPacket, MQTTError
from mfserver.mqtt.packets import Connect, Packet, Pingreq, Publish, Will
from tests.mqtt.cases import BAD, GOOD, framed


class DecodeTests(SynchronousTestCase):
    """``decode``, one whole packet."""

    def test_every_good_case_is_its_packet(self) -> None:
        """What the specification allows is read as it means it."""
        for case in GOOD:
            self.assertEqual(decode(case.data, case.version), case.packet, (case.name, case.version))

    def test_every_bad_case_raises_its_error(self) -> None:
        """What the specification forbids is refused with the error that says so."""
        for case in BAD:
            error = self.assertRaises(MQTTError, decode, case.data, case.version)
            self.assertIs(type(error), case.error, (case.name, case.version, str(error)))

    def test_a_part_of_a_packet_is_no_packet(self) -> None:
        """However a packet is cut off, what is left is malformed."""
        for case in GOOD:
            for length in range(min(len(case.data), 100)):
                self.assertRaises(MalformedPacket, decode, case.data[:length], case.version)

    def test_a_packet_and_more_is_no_packet(self) -> None:
        """Bytes behind the packet are malformed."""
        for case in GOOD:
            self.assertRaises(MalformedPacket, decode, case.data + b"\0", case.version)

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from((3, 4, 5)), st.integers(16, 255), st.binary(max_size=60))
    def test_any_bytes_raise_only_mqtt_errors(self, version: int, first: int, body: bytes) -> None:
        """No input makes the decoder fail in any other way."""
        try:
            packet: Packet | None = decode(framed(first, body), version)
        except MQTTError:
            packet = None
        self.assertTrue(packet is None or type(packet).__name__.upper()[:3] in "PUBCONSUBUNSPINDISAUT")

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from([case for case in GOOD if len(case.data) < 200]), st.data())
    def test_a_changed_byte_raises_only_mqtt_errors(self, case: object, data: st.DataObject) -> None:
        """Neither does a packet of which one byte is another."""
        good = next(other for other in GOOD if other is case)
        position = data.draw(st.integers(0, len(good.data) - 1))
        changed = bytearray(good.data)
        changed[position] = data.draw(st.integers(0, 255))
        try:
            packet: Packet | None = decode(bytes(changed), good.version)
        except MQTTError:
            packet = None
        self.assertTrue(packet is None or isinstance(packet, Packet))


class PacketTests(SynchronousTestCase):
    """What packets look like to the rest of the house."""

    def test_repr_shows_no_secret(self) -> None:
        """Neither a password nor a payload gets into a log by way of a packet's repr."""
        packet = Connect(5, "c", user_name="u", password=b"secret", will=Will("t", b"hidden"))
        self.assertNotIn("secret", repr(packet))
        self.assertNotIn("hidden", repr(packet))
        self.assertIn("client_id='c'", repr(packet))
        self.assertIn("password=None", repr(Connect(5, "c")))
        self.assertNotIn("hidden", repr(Publish("t", b"hidden")))

    def test_packets_compare_by_value_and_kind(self) -> None:
        """Two packets are equal when they say the same."""
        self.assertNotEqual(Publish("t", b"a"), Publish("t", b"b"))
        self.assertNotEqual(Pingreq(), Publish("t", b"b"))
        self.assertRaises(TypeError, hash, Pingreq())

    def test_errors_hold_no_text_of_the_peer(self) -> None:
        """The text of an error is the same whatever the topic or the client identifier was."""
        for case in BAD:
            error = self.assertRaises(MQTTError, decode, case.data, case.version)
            self.assertNotRegex(str(error), r"a/b|share/|HTTP|[^ -~]")

    def test_connect_says_its_version_itself(self) -> None:
        """A CONNECT decodes to its own version whatever the caller believes."""
        for case in GOOD:
            if case.data[0] >> 4 == CONNECT:
                self.assertEqual(decode(case.data, 9 - case.version), case.packet)
