"""What an application is given once the handshake is complete, and while the context is replaced."""

from time import time

from OpenSSL import SSL
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import ISSLTransport, ITCPTransport
from twisted.internet.protocol import Factory
from twisted.web.resource import Resource
from twisted.web.server import Site

from mfserver.ca.x509 import name
from mfserver.tls.peer import peer_of
from mfserver.tls.transport import LINGER
from tests.tls.listen_case import ListenCase
from tests.tls.pki import KEY, Authority, write
from tests.tls.socket_wire import SocketListener
from tests.tls.wire import Applications, MemoryWire


class ProtocolNegotiationTests(ListenCase):
    """ALPN (RFC 7301) is chosen per listener, in one shared context."""

    def negotiate(self, spoken: tuple[bytes, ...], offered: list[bytes] | None) -> bytes | None:
        listener = self.listen(*spoken)
        wire = listener.connect(self.client(protocols=offered))
        wire.handshake()
        [application] = listener.applications.made
        negotiated: bytes | None = application.transport.negotiatedProtocol  # type: ignore[union-attr]
        self.assertEqual(wire.client.get_alpn_proto_negotiated(), negotiated or b"")
        return negotiated

    def test_each_listener_its_own(self) -> None:
        """Two listeners of one context speak what each of them speaks."""
        offered = [b"http/1.1", b"mqtt"]
        self.assertEqual(self.negotiate((b"mqtt",), offered), b"mqtt")
        self.assertEqual(self.negotiate((b"http/1.1",), offered), b"http/1.1")

    def test_our_preference(self) -> None:
        """Of several, the listener's first."""
        self.assertEqual(self.negotiate((b"mqtt", b"http/1.1"), [b"http/1.1", b"mqtt"]), b"mqtt")

    def test_no_overlap(self) -> None:
        """A client that offers only what nobody speaks goes on without ALPN."""
        self.assertIsNone(self.negotiate((b"mqtt",), [b"h2", b"x-amzn-mqtt-ca"]))

    def test_not_offered(self) -> None:
        """A client without ALPN is served without."""
        self.assertIsNone(self.negotiate((b"mqtt",), None))

    def test_who_negotiated_another_name_gets_who_speaks_it(self) -> None:
        """MQTT on the port of HTTPS: nobody else's client, and not a byte of it, reaches either factory."""
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            for offered, others in (
                ([b"mqtt"], True),
                ([b"x-amzn-mqtt-ca", b"mqtt"], True),
                ([b"mqtt", b"http/1.1"], False),
                ([b"http/1.1"], False),
                ([b"MQTT"], False),
                (None, False),
            ):
                with self.subTest(version=version, offered=offered):
                    mqtt = Applications()
                    listener = self.make_listener([b"http/1.1"], others={b"mqtt": mqtt})
                    wire = listener.connect(self.client(self.authority.client(), version, offered))
                    wire.handshake()
                    wire.client.send(b"hello")
                    wire.pump()
                    heard = [[one.received for one in made.made] for made in (mqtt, listener.applications)]
                    self.assertEqual(heard, [[b"hello"], []] if others else [[], [b"hello"]])
                    application = [*mqtt.made, *listener.applications.made][0]
                    self.assertIsNotNone(peer_of(application.transport))

    def test_who_refuses_the_other_protocol(self) -> None:
        """A factory that builds none closes the connection, and nobody else is asked instead."""
        nobody = Nobody()
        listener = self.make_listener([b"http/1.1"], others={b"mqtt": nobody})
        wire = listener.connect(self.client(protocols=[b"mqtt"]))
        wire.handshake()
        self.assertTrue(wire.is_aborted)
        self.assertEqual(listener.applications.made, [])

    def test_every_factory_begins_and_ends_once(self) -> None:
        mqtt = Applications()
        listener = self.make_listener([b"http/1.1"], others={b"mqtt": mqtt, b"x-mqtt": mqtt})
        self.assertEqual((mqtt.numPorts, listener.applications.numPorts), (1, 1))
        listener.stop()
        self.assertEqual((mqtt.numPorts, listener.applications.numPorts), (0, 0))

    def test_web_site_is_not_asked(self) -> None:
        """twisted.web's own list of protocols, h2 among them, changes nothing in the shared context."""
        listener = self.make_listener((b"http/1.1",), factory=Site(Resource()))
        wire = listener.connect(self.client(protocols=[b"h2", b"http/1.1"]))
        wire.handshake()
        self.assertEqual(wire.client.get_alpn_proto_negotiated(), b"http/1.1")
        wire.client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        self.assertIn(b"404 Not Found", wire.pump())
        self.assertEqual(self.negotiate((b"mqtt",), [b"h2", b"mqtt"]), b"mqtt")


class Nobody(Factory):
    """Has a protocol for nobody."""

    noisy = False

    def buildProtocol(self, addr: object) -> None:
        return None


class TransportCase(ListenCase):
    """An application and its transport, the handshake over."""

    def setUp(self) -> None:
        super().setUp()
        self.wire = self.listener.connect(self.client(self.authority.client()))
        self.wire.handshake()
        [self.application] = self.listener.applications.made
        assert self.application.transport is not None
        self.transport = self.application.transport


class TransportTests(TransportCase):
    """What an application may do with its transport."""

    def test_interfaces(self) -> None:
        """It says that it is TLS over TCP."""
        self.assertTrue(ISSLTransport.providedBy(self.transport))
        self.assertTrue(ITCPTransport.providedBy(self.transport))

    def test_both_ways(self) -> None:
        """Many small writes of one turn leave in one TLS record."""
        for _ in range(100):
            self.transport.write(b"x")
        self.listener.advance(0)
        sent = self.wire.taken()
        self.assertLess(len(sent), 100 + 64)
        self.wire.client.bio_write(sent)
        self.assertEqual(self.wire.pump(), b"x" * 100)

    def test_large_write(self) -> None:
        """A megabyte arrives whole."""
        data = bytes(range(256)) * 4096
        self.transport.write(data)
        received = b""
        while len(received) < len(data):
            part = self.wire.pump()
            self.assertTrue(part)
            received += part
        self.assertEqual(received, data)

    def test_lose_connection(self) -> None:
        """What was written arrives before the close, and a peer that answers ends it at once."""
        self.transport.write(b"bye")
        self.transport.loseConnection()
        self.assertEqual(self.wire.pump(), b"bye")
        self.wire.client.shutdown()
        self.wire.pump()
        self.assertTrue(self.wire.is_closed)
        self.assertIsNotNone(self.application.lost)
        self.assertEqual(self.listener.timed_calls(), 0)

    def test_linger(self) -> None:
        """A peer that never answers a close is aborted after half a minute."""
        self.transport.loseConnection()
        self.transport.loseConnection()
        self.listener.advance(LINGER - 0.1)
        self.assertIsNone(self.application.lost)
        self.listener.advance(0.2)
        self.assertTrue(self.wire.is_aborted)
        self.listener.advance(0)
        self.assertIsNotNone(self.application.lost)

    def test_abort(self) -> None:
        """An abort ends it at once; another one, or a close, later does nothing."""
        abort = self.transport.abortConnection  # type: ignore[attr-defined]
        abort()
        self.listener.advance(0)
        self.assertIsNotNone(self.application.lost)
        abort()
        self.transport.loseConnection()
        self.transport.write(b"too late")
        self.assertEqual(self.listener.timed_calls(), 0)

    def test_end_without_close_notify(self) -> None:
        """A TCP connection that just ends is a lost one, without a traceback."""
        self.wire.cut()
        self.listener.advance(0)
        assert self.application.lost is not None
        self.application.lost.trap(ConnectionLost)

    def test_peer_outlives_connection(self) -> None:
        """Who it was can still be asked when it is over."""
        self.wire.cut()
        self.listener.advance(0)
        peer = peer_of(self.transport)
        assert peer is not None
        self.assertEqual(peer.common_name(), KEY)

    def test_half_of_a_record(self) -> None:
        """Nothing is delivered before a whole record is there, and a forged one ends the connection."""
        self.wire.client.send(b"secret")
        record = self.wire.client.bio_read(2**16)
        self.wire.feed(record[:-1])
        self.assertEqual(self.application.received, b"")
        self.wire.feed(bytes([record[-1] ^ 1]))
        self.assertEqual(self.application.received, b"")
        self.assertTrue(self.wire.is_closed)


class MemoryTransportTests(TransportCase):
    """What only Twisted's transport is asked."""

    def test_backpressure(self) -> None:
        """A producer hears when the peer reads no more."""
        producer = Producer()
        assert isinstance(self.wire, MemoryWire)
        self.transport.registerProducer(producer, True)  # type: ignore[attr-defined]
        self.wire.socket.producer.pauseProducing()  # type: ignore[union-attr]
        self.wire.socket.producer.resumeProducing()  # type: ignore[union-attr]
        self.transport.unregisterProducer()  # type: ignore[attr-defined]
        self.assertEqual(producer.heard, ["pause", "resume"])


class Producer:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def pauseProducing(self) -> None:
        self.heard.append("pause")

    def resumeProducing(self) -> None:
        self.heard.append("resume")

    def stopProducing(self) -> None:
        self.heard.append("stop")


class SwapTests(ListenCase):
    """Live connections stay when the context is swapped."""

    def test_live_connection_stays(self) -> None:
        """A connection of the old context goes on; a new one has the new certificate."""
        wire = self.listener.connect(self.client(self.authority.client()))
        wire.handshake()
        [application] = self.listener.applications.made
        renewed = self.authority.server()
        write(self.context._certificate.rpartition("/")[0], renewed, self.authority.certificate)
        self.assertTrue(self.context.reload())
        wire.client.send(b"still here")
        wire.pump()
        self.assertEqual(application.received, b"still here")
        second = self.listener.connect(self.client())
        second.handshake()
        shown = second.client.get_peer_certificate(as_cryptography=True)
        self.assertEqual(shown, renewed.certificate)

    def test_leaf_is_verified_again(self) -> None:
        """After a swap a live leaf passes only if today's trust roots still vouch for it."""
        wire = self.listener.connect(self.client(self.authority.client(name(KEY, "A thing"))))
        wire.handshake()
        peer = peer_of(self.listener.applications.made[0].transport)
        assert peer is not None
        self.assertTrue(self.context.reload())
        peer.verify(time())
        write(
            self.context._certificate.rpartition("/")[0],
            self.authority.server(),
            Authority("Other").certificate,
        )
        self.assertTrue(self.context.reload())
        with self.assertRaisesRegex(Exception, "trust root"):
            peer.verify(time())


class SocketProtocolNegotiationTests(ProtocolNegotiationTests):
    """As through Twisted."""

    listener_type = SocketListener


class SocketTransportTests(TransportTests):
    """As through Twisted."""

    listener_type = SocketListener


class SocketSwapTests(SwapTests):
    """As through Twisted."""

    listener_type = SocketListener
