"""What TLS itself says after the handshake, and what is read while others wait."""

from functools import partial
from time import sleep
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionLost

from tests.tls.records import (
    ALERT,
    ANSWERED_KEY_UPDATE,
    APPLICATION,
    HANDSHAKE,
    KEY_UPDATE,
    KeyLog,
    OldWriter,
    Writer,
)
from tests.tls.sockets import Client, Guest, House, SocketCase

LARGE = bytes(10_000_000)


class Talker:
    """A client after its handshake that writes its own records."""

    def __init__(self, house: House, context: SSL.Context, receive_buffer: int = 0) -> None:
        log = KeyLog(context)
        self.client = house.connect(context, receive_buffer=receive_buffer)
        self.guest = self.client.handshake()
        self.writer = Writer(log.secret, self.client.connection.get_cipher_name() or "")

    def put(self, *records: bytes) -> None:
        self.client.put(b"".join(records))

    def say(self, data: bytes) -> bytes:
        return self.writer.record(APPLICATION, data)


class KeyUpdateTests(SocketCase):
    """TLS 1.3, RFC 8446, 4.6.3: either side may change its keys at any time."""

    def setUp(self) -> None:
        super().setUp()
        self.talker = Talker(self.house, self.client_context())
        self.guest, self.writer = self.talker.guest, self.talker.writer

    def hears(self, data: bytes) -> None:
        self.house.until(lambda: self.guest.received == data or self.guest.lost)
        self.assertEqual((self.guest.received, self.guest.lost), (data, []))

    def test_data_between(self) -> None:
        put, say, writer = self.talker.put, self.talker.say, self.writer
        put(say(b"one "), writer.key_update(), say(b"two "), writer.key_update(), writer.key_update())
        put(say(b"three"))
        self.hears(b"one two three")

    def test_answered(self) -> None:
        """The client asks for our new keys, and reads with them what we write then."""
        for number in range(10):
            self.talker.put(self.writer.key_update(ANSWERED_KEY_UPDATE), self.talker.say(b"x"))
            self.hears(b"x" * (number + 1))
            self.guest.wire.write(b"y")
            self.house.until(partial(self.talker.client.has_received, b"y" * (number + 1)))

    def test_answered_while_nothing_can_be_sent(self) -> None:
        """A client that asks for our keys and does not read is still heard, and later reads it all."""
        talker = Talker(self.house, self.client_context(), receive_buffer=4096)
        talker.guest.wire.write(LARGE)
        self.house.rest()
        for number in range(10):
            talker.put(talker.writer.key_update(ANSWERED_KEY_UPDATE), talker.say(b"x"))
            self.house.until(partial(talker.guest.has_received, b"x" * (number + 1)))
        self.house.rest()
        talker.guest.wire.write(b"the end")
        self.house.until(lambda: len(talker.client.read()) == len(LARGE) + 7 or talker.client.ending)
        self.assertTrue(talker.client.received.endswith(b"the end"))

    def test_flood(self) -> None:
        """OpenSSL reads on as long as there is nothing but KeyUpdate: it is stopped, and others are heard."""
        other_client, other = self.connect()
        other_client.send(b"hello")
        self.talker.put(*[self.writer.key_update() for _ in range(2000)])
        self.talker.put(self.talker.say(b"never heard"))
        connection = self.guest.wire.getHandle()
        assert connection is not None
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.lost(self.guest), ConnectionAborted)
        self.assertEqual((self.guest.received, other.received, other.lost), (b"", b"hello", []))
        self.assertLess(connection.steps, 400)
        self.assertEqual(self.house.reports, [("a TLS client shakes hands without end", "127.0.0.1")])

    def test_now_and_then(self) -> None:
        """As many in all harm nobody, if they come as they do from clients that mean well."""
        connection = self.guest.wire.getHandle()
        assert connection is not None
        for number in range(40):
            self.talker.put(*[self.writer.key_update() for _ in range(40)], self.talker.say(b"x"))
            connection.since -= 1  # a second passes
            self.hears(b"x" * (number + 1))

    def test_padding(self) -> None:
        """A record may be longer than what it says; nothing of the next one is left behind."""
        self.talker.put(self.writer.record(APPLICATION, b"x", 16_000), self.talker.say(b"y"))
        self.hears(b"xy")

    def test_in_pieces(self) -> None:
        """A message in five records is one message."""
        for byte in KEY_UPDATE[:-1]:
            self.talker.put(self.writer.record(HANDSHAKE, bytes([byte])))
            self.house.turn(2)
        self.talker.put(self.writer.key_update(KEY_UPDATE[-1:]), self.talker.say(b"x"))
        self.hears(b"x")

    def test_half_of_one_while_we_write(self) -> None:
        """OpenSSL sends nothing before it has the rest. Nobody does that: the connection ends."""
        self.talker.put(self.writer.record(HANDSHAKE, KEY_UPDATE[:4]))
        self.house.rest()
        self.guest.wire.write(b"x")
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.lost(self.guest), ConnectionLost)

    def test_records_without_data(self) -> None:
        """A few are nothing; a flood of them ends the connection."""
        self.talker.put(*[self.talker.say(b"") for _ in range(20)], self.talker.say(b"x"))
        self.hears(b"x")
        self.talker.put(*[self.talker.say(b"") for _ in range(2000)])
        self.house.until(self.guest.is_lost)
        self.assertEqual((self.lost(self.guest), self.guest.received), (SSL.Error, b"x"))

    def test_other_messages(self) -> None:
        """What a client may not say after the handshake ends the connection."""
        for kind, message in (
            (HANDSHAKE, b"\x01\x00\x00\x02hi"),
            (HANDSHAKE, b"\x18\x00\x00\x01\x02"),
            (HANDSHAKE, b"\x04\x00\x00\x01\x00"),
            (HANDSHAKE, b""),
            (20, b"\x01"),
            (99, b"?"),
            (ALERT, b"\x02\x28"),
            (ALERT, b"\x01"),
        ):
            with self.subTest(kind=kind, message=message):
                talker = Talker(self.house, self.client_context())
                talker.put(talker.writer.record(kind, message))
                self.house.until(talker.guest.is_lost)
                self.assertEqual(self.lost(talker.guest), SSL.Error)
                self.assertEqual(talker.guest.received, b"")
        self.talker.put(self.talker.say(b"x"))
        self.hears(b"x")


class OldMessageTests(SocketCase):
    """TLS 1.2: nobody shakes hands again."""

    version = SSL.TLS1_2_VERSION

    def test_flood(self) -> None:
        """Of ClientHellos, each of which is answered with an alert, whether the client reads or not."""
        for is_full in (False, True):
            with self.subTest(is_full=is_full):
                client = self.house.connect(self.client_context(), receive_buffer=4096)
                with self.assertRaises(SSL.WantReadError):
                    client.connection.do_handshake()
                hello = client.records()
                client.put(hello)
                self.house.until(partial(self.made, client))
                self.house.rest()
                guest = self.house.guests.made[-1]
                if is_full:
                    guest.wire.write(LARGE)
                    self.house.rest()
                writer = OldWriter(client.connection)
                client.put(b"".join(writer.record(HANDSHAKE, hello[5:]) for _ in range(3000)))
                sleep(0.01)
                connection = guest.wire.getHandle()
                assert connection is not None
                self.house.until(guest.is_lost)
                self.assertEqual(self.lost(guest), ConnectionAborted)
                self.assertLess(connection.steps, 400)
        self.assertEqual({kind for kind, _ in self.house.reports}, {"a TLS client shakes hands without end"})

    def test_full_network(self) -> None:
        """An alert that has to wait for room keeps nobody from being heard."""
        client, guest, _ = self.full()
        writer = OldWriter(client.connection)
        hello = b"\x01\x00\x00\x20" + bytes(32)
        client.put(writer.record(HANDSHAKE, hello) + writer.record(APPLICATION, b"hello"))
        self.house.rest()
        client.read()
        self.house.until(partial(guest.has_received, b"hello"))
        self.assertEqual(guest.lost, [])

    def made(self, client: Client) -> bool:
        client.read()
        return client.connection.get_state_string() == b"SSL negotiation finished successfully"


class Reluctant:
    """OpenSSL's connection, which wants to write when it is first asked to read."""

    def __init__(self, connection: SSL.Connection) -> None:
        self.connection = connection
        self.asked = 0

    def recv(self, size: int) -> bytes:
        self.asked += 1
        if self.asked == 1:
            raise SSL.WantWriteError
        return self.connection.recv(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


class ReadTests(SocketCase):
    """What comes in, and who is asked to wait."""

    def setUp(self) -> None:
        super().setUp()
        self.client, self.guest = self.connect()
        self.wire = self.guest.wire

    def test_as_it_comes(self) -> None:
        """Records of every size, some of them in many pieces."""
        sent = b""
        for size in (1, 2, 100, 1000, 16_383, 16_384, 16_385, 100_000):
            data = bytes([size % 251]) * size
            sent += data
            records = self.client.records(data)
            for start in range(0, len(records), 5000):
                self.client.put(records[start : start + 5000])
                self.house.turn()
        self.house.until(lambda: len(self.guest.received) >= len(sent))
        self.assertTrue(self.guest.received == sent)

    def test_many_at_once(self) -> None:
        """A thousand small records at once are all read, and so is what comes next."""
        self.client.put(b"".join(self.client.records(b"%03d" % number) for number in range(1000)))
        self.house.until(lambda: len(self.guest.received) == 3000)
        self.assertEqual(self.guest.received[-3:], b"999")
        self.house.rest()
        self.client.send(b"end")
        self.house.until(lambda: self.guest.received.endswith(b"end"))

    def test_nobody_has_the_reactor_alone(self) -> None:
        """Of one connection a bounded number of bytes is read in one turn."""
        other_client, other = self.connect()
        self.client.put(self.client.records(bytes(2_000_000)))
        other_client.send(b"x")
        sleep(0.01)
        self.house.turn(2)
        self.assertEqual(other.received, b"x")
        self.assertLessEqual(len(self.guest.received), 2 * 65_536)
        self.assertTrue(self.guest.received)

    def test_paused(self) -> None:
        """Nothing is read meanwhile, nobody turns in circles, and all of it comes after."""
        self.wire.pauseProducing()
        self.wire.pauseProducing()
        self.client.send(b"wait")
        self.house.rest()
        self.wire.ready(1)  # as it may be called in the turn of the pause
        self.assertFalse(self.house.reactor.is_ready())
        self.assertEqual(self.guest.received, b"")
        self.wire.resumeProducing()
        self.wire.resumeProducing()
        self.house.until(lambda: self.guest.received == b"wait")

    def test_paused_by_what_came(self) -> None:
        """Nothing more of the same turn is delivered to a protocol that asked for a pause."""
        self.guest.on_data = lambda guest: guest.wire.pauseProducing()
        self.client.put(self.client.records(bytes(50_000)))
        self.house.until(lambda: self.guest.received)
        self.house.rest()
        self.assertEqual(len(self.guest.received), 16_384)
        for count in (2, 3, 4):
            self.wire.resumeProducing()
            self.house.rest()
            self.assertEqual(len(self.guest.received), min(count * 16_384, 50_000))

    def test_written_while_paused(self) -> None:
        self.wire.pauseProducing()
        self.wire.write(LARGE)
        self.client.send(b"wait")
        self.house.until(lambda: len(self.client.read()) == len(LARGE))
        self.house.rest()
        self.assertEqual(self.guest.received, b"")
        self.wire.resumeProducing()
        self.house.until(lambda: self.guest.received == b"wait")

    def test_closed_by_the_peer_while_paused(self) -> None:
        """It is seen when reading goes on."""
        self.wire.pauseProducing()
        self.client.send(b"last words")
        self.client.close()
        self.house.rest()
        self.assertEqual((self.guest.received, self.guest.lost), (b"", []))
        self.wire.resumeProducing()
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.guest.received, b"last words")

    def test_resumed_after_the_end(self) -> None:
        """Nothing is read when the peer said that there is no more."""
        self.guest.on_data = lambda guest: guest.wire.write(LARGE)
        self.client.put(self.client.records(b"a question"))
        self.client.close()
        self.house.rest()
        self.wire.resumeProducing()
        self.house.rest()
        self.assertFalse(self.house.reactor.is_ready())

    def test_reading_that_has_to_write_first(self) -> None:
        """OpenSSL may want to answer before it reads on: it is asked again when there is room."""
        wire: Any = self.wire
        wire._tls = Reluctant(wire._tls)
        self.client.send(b"hello")
        self.house.until(partial(self.guest.has_received, b"hello"))
        self.house.rest()
        self.assertFalse(self.house.reactor.is_ready())
        self.client.send(b", again")
        self.house.until(partial(self.guest.has_received, b"hello, again"))

    def test_spurious_calls(self) -> None:
        """An event that is not true does no harm: nothing is read, nothing is lost."""
        for events in (1, 4, 5):
            self.wire.ready(events)
        self.wire.handshake()
        self.house.port.ready(1)
        self.house.rest()
        self.assertEqual((self.guest.received, self.guest.lost), (b"", []))

    def test_questions(self) -> None:
        """Who it is, and how the socket is set, can be asked as long as it lasts."""
        client = self.house.connect(self.client_context(self.authority.client()))
        guest: Guest = client.handshake()
        self.assertIsNotNone(guest.wire.getPeerCertificate())
        self.assertEqual(guest.wire.getHost().port, self.house.port.getHost().port)
        self.assertEqual(guest.wire.getPeer().port, client.socket.getsockname()[1])
        self.assertTrue(guest.wire.getTcpNoDelay() and guest.wire.getTcpKeepAlive())
        guest.wire.setTcpNoDelay(False)
        guest.wire.setTcpKeepAlive(False)
        self.assertFalse(guest.wire.getTcpNoDelay() or guest.wire.getTcpKeepAlive())
        guest.wire.setTcpNoDelay(True)
        self.assertTrue(guest.wire.getTcpNoDelay())
        self.assertEqual((guest.wire.fileno(), guest.wire.logPrefix()), (guest.wire.fd, "TLS"))


class OldReadTests(ReadTests):
    """As under TLS 1.3."""

    version = SSL.TLS1_2_VERSION
