"""Whatever bytes come, and however they are split."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt import constants, events
from mfserver.mqtt.connection import Connection, Limits
from mfserver.mqtt.encode import encode
from mfserver.mqtt.framing import NOTHING, Rest
from mfserver.mqtt.packets import (
    Connect,
)
from tests.mqtt.cases import BAD, GOOD, framed
from tests.mqtt.conversation import VERSIONS, Outcome, connected, feed
from tests.mqtt.strategies import packets


class Counted(bytearray):
    """A buffer that knows how many bytes were copied into it and out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.into = self.out = 0

    def __iadd__(self, data: bytes) -> "Counted":  # type: ignore[misc, override]
        self.into += len(memoryview(data))
        self.extend(memoryview(data))
        return self

    def __bytes__(self) -> bytes:
        self.out += len(self)
        return bytes(memoryview(self))


class SplitTests(SynchronousTestCase):
    """How bytes are split never matters."""

    def fresh(self, data: bytes, version: int) -> Connection:
        """A connection in the state in which these bytes can come."""
        if data[0] >> 4 == constants.CONNECT:
            return Connection(Limits(), 0.0)
        return connected(version)

    def check(self, name: str, version: int, data: bytes) -> Outcome:
        """Whole, byte by byte, and with a PINGREQ behind it."""
        whole = feed(self.fresh(data, version), [data])
        pieces = [data[i : i + 1] for i in range(len(data))]
        if len(data) < 1000:
            self.assertEqual(feed(self.fresh(data, version), pieces), whole, (name, version))
        self.assertEqual(feed(self.fresh(data, version), [data[:1], data[1:]]), whole, (name, version))
        trailing = feed(self.fresh(data, version), [data + b"\xc0\0"])
        if whole.closed:
            self.assertEqual(trailing, whole, (name, version))
        else:
            self.assertEqual(trailing.events, whole.events, (name, version))
            self.assertEqual(trailing.sent, whole.sent + b"\xd0\0", (name, version))
        return whole

    def test_good_cases(self) -> None:
        """What is right is understood the same in any pieces."""
        for case in GOOD:
            self.check(case.name, case.version, case.data)

    def test_bad_cases(self) -> None:
        """What is wrong ends the connection the same in any pieces, and what follows it is ignored."""
        for case in BAD:
            whole = self.check(case.name, case.version, case.data)
            self.assertTrue(whole.closed, (case.name, case.version))
            self.assertIs(whole.events[-1][0], events.ConnectionFailed, (case.name, case.version))
            if case.version != 5 and case.data[0] >> 4 != constants.CONNECT:
                self.assertEqual(whole.sent, b"", (case.name, case.version))

    def test_more_than_is_looked_at(self) -> None:
        """Of very many packets some are looked at in a call, the others in the next ones, in their order."""
        said = b"".join(framed(0x82, b"%c%c\0\1a\0" % divmod(number, 256)) for number in range(1, 1001))
        cases = [
            (b"", [b""], 0, 0),
            (b"", [b"\xc0\0"], 1, 0),
            (b"", [b"\xc0"], 0, 1),
            (b"\xc0", [b"\0", b"\xc0\0"], 2, 0),
        ]
        for tail, more, pings, held in cases:
            connection = connected(4)
            happened = connection.receive_data(said + tail, 1.0)
            self.assertEqual((len(happened), connection.is_behind), (256, True))
            self.assertEqual(connection.held, 744 * 8 + len(tail))
            for data in more:
                happened += connection.receive_data(data, 1.0)
            while connection.is_behind:
                happened += connection.receive_data(b"", 1.0)
            subscribed = [one.packet.packet_id for one in happened if type(one) is events.SubscribeReceived]
            self.assertEqual(subscribed, list(range(1, 1001)))
            self.assertEqual((connection.data_to_send(), connection.held), (b"\xd0\0" * pings, held))
        connection = connected(4)
        connection.receive_data(said, 1.0)
        connection.disconnect(0)
        self.assertEqual((connection.is_behind, connection.held), (False, 0))

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_a_conversation_in_any_pieces(self, data: st.DataObject) -> None:
        """CONNECT and whatever follows it mean the same however the network cuts them."""
        version = data.draw(st.sampled_from(VERSIONS))
        said = data.draw(st.lists(packets(version), max_size=4))
        stream = encode(Connect(version, "c"), 0) + b"".join(encode(packet, version) for packet in said)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
        borders = [0, *cuts, len(stream)]
        pieces = [stream[a:b] for a, b in pairwise(borders)]
        whole = feed(Connection(Limits(), 0.0), [stream])
        self.assertEqual(feed(Connection(Limits(), 0.0), pieces), whole)

    def test_each_byte_is_copied_a_bounded_number_of_times(self) -> None:
        """A stream costs as much as its length, not the square of it, whatever its packets and its pieces."""
        stream = b"".join(framed(0x30, b"\0\1t" + bytes(size)) for size in (0, 1, 3, 200, 50_000, 0, 50_000))
        for size in (1, 2, 3, 7, 1000, 40_000, len(stream)):
            connection = connected()
            connection._rest = Rest()
            kept = connection._rest._kept = Counted()
            happened: list[events.Event] = []
            for i in range(0, len(stream), size):
                happened += connection.receive_data(stream[i : i + size], 1.0)
            self.assertEqual((len(happened), connection.held), (7, 0))
            self.assertLessEqual(kept.into, 2 * len(stream), size)
            self.assertLessEqual(kept.out, 2 * len(stream), size)
            self.assertEqual(kept.out > 0, size < len(stream), size)

    def test_nothing_is_kept_in_common(self) -> None:
        """Whoever keeps bytes has a place of their own for them; what all others share stays empty."""
        one, other = connected(), connected()
        self.assertIs(NOTHING, one._rest)
        one.receive_data(b"\x30\7\0\1t", 1.0)
        other.receive_data(b"\xc0\0" * 300, 1.0)
        waiting = Connection(Limits(), 0.0)
        waiting.receive_data(encode(Connect(4, "c"), 0) + b"\xc0\0", 1.0)
        silent = Connection(Limits(), 0.0)
        silent.receive_data(encode(Connect(4, "c"), 0), 1.0)
        silent.receive_data(b"", 1.0)
        self.assertEqual([5, 88, 2, 0], [c.held for c in (one, other, waiting, silent)])
        self.assertIs(NOTHING, silent._rest)
        self.assertEqual((0, False), (len(NOTHING), NOTHING.is_left))


class AnyBytesTests(SynchronousTestCase):
    """Nothing that a client sends makes a connection raise."""

    @settings(max_examples=150, deadline=None)
    @given(
        st.sampled_from((0, 3, 4, 5)), st.booleans(), st.lists(st.binary(min_size=1, max_size=40), max_size=4)
    )
    def test_any_bytes_in_any_state(self, version: int, waiting: bool, chunks: list[bytes]) -> None:
        """Before CONNECT, before CONNACK and after it: events or an end, never an exception."""
        connection = connected(version) if version else Connection(Limits(), 0.0)
        if waiting:
            connection = Connection(Limits(max_packet=16), 0.0)
            connection.receive_data(encode(Connect(version or 5, "c"), 0), 0.0)
        outcome = feed(connection, chunks)
        failed = any(kind is events.ConnectionFailed for kind, _ in outcome.events)
        said_goodbye = any(kind is events.DisconnectReceived for kind, _ in outcome.events)
        self.assertEqual(connection.closed, failed or said_goodbye)

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(VERSIONS), st.integers(1, 15), st.data())
    def test_any_body_of_any_type(self, version: int, packet_type: int, data: st.DataObject) -> None:
        """Right fixed headers with anything behind them."""
        flags = (
            2 if packet_type in (6, 8, 10) else data.draw(st.sampled_from((0, 2))) if packet_type == 3 else 0
        )
        connection = connected(version)
        happened = connection.receive_data(
            framed(packet_type << 4 | flags, data.draw(st.binary(max_size=50))), 1.0
        )
        self.assertLessEqual(len(happened), 1)
