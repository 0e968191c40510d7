"""Small real collaborators for the adapters: who may in, a wire, a server's adapters wired together."""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from mfserver.adapters.http import HTTPAdapter
from mfserver.adapters.mqtt import MQTTProtocol
from mfserver.adapters.mqtt_adapter import MQTTAdapter
from mfserver.adapters.mqtt_ws import MQTTOverWS
from mfserver.adapters.upgrade import WebFactory
from mfserver.adapters.ws import WSAdapter
from mfserver.api.server import make_site
from mfserver.budget import Budget
from mfserver.cred.expiry import CertificateWatch
from mfserver.durable import NEVER
from mfserver.errors import NotAuthorized, Unauthenticated
from mfserver.interfaces import IAuthenticator, ILiveConnection, IPeer, IRights, IThing
from mfserver.mqtt.limits import Limits
from mfserver.records import ChannelId, Claims, ThingId
from mfserver.routing.journal import Journal
from mfserver.routing.retained import Retained
from mfserver.routing.router import Router
from mfserver.routing.sessions import Bounds, Sessions, Shared
from mfserver.turn import Turn
from tests.store.memory_sessions import MemorySessions

__all__ = ["Gate", "House", "Wire", "Thing"]


@implementer(IThing)
class Thing:
    """A thing whose channels a test may change."""

    def __init__(self, name: str, channels: set[str]) -> None:
        self.id = ThingId(name)
        self.channels: Any = {ChannelId(channel) for channel in channels}


@implementer(IAuthenticator, IRights)
class Gate:
    """Lets in whoever has a key of its list, and knows what it may.

    :ivar things: by key.
    :ivar held: when a list, authentications wait in it until the test fires them.
    :ivar remembers: things are known from memory; else each has to be looked up.
    :ivar peers: the certificates that came with the claims.
    :ivar on_login: told of each connection that is let in, before anybody else.
    :ivar logged_in: the connections of those who are in, by thing id.
    """

    def __init__(self) -> None:
        self.things: dict[str, Thing] = {}
        self.held: list[Callable[[], object]] | None = None
        self.logged_in: list[tuple[ThingId, ILiveConnection | None]] = []
        self.claims: list[Claims] = []
        self.remembers = True
        self.peers: list[IPeer | None] = []
        self.error: Exception | None = None
        self.on_login: Callable[[ILiveConnection], object] | None = None

    def authenticate(
        self, claims: Claims, peer: IPeer | None, connection: ILiveConnection | None
    ) -> "Deferred[tuple[IThing, Callable[[], None]]]":
        self.claims.append(claims)
        self.peers.append(peer)
        if self.held is None:
            return self._decide(claims, connection)
        waiting: Deferred[tuple[IThing, Callable[[], None]]] = Deferred()
        self.held.append(lambda: self._decide(claims, connection).chainDeferred(waiting))
        return waiting

    def recognise(self, claims: Claims, peer: IPeer | None) -> IThing | None:
        if not self.remembers or self.held is not None or self.error is not None or not claims.keys:
            return None
        if claims.keys[0] in self.things:
            self.claims.append(claims)
            self.peers.append(peer)
        return self.things.get(claims.keys[0])

    def _decide(self, claims: Claims, connection: ILiveConnection | None) -> "Deferred[Any]":
        if self.error is not None:
            return fail(self.error)
        if not claims.keys or claims.keys[0] not in self.things:
            return fail(Unauthenticated("unknown thing key"))
        thing = self.things[claims.keys[0]]
        if claims.needs_thing_id and claims.thing_id != thing.id:
            return fail(NotAuthorized("the thing id is another's"))
        entry = (thing.id, connection)
        self.logged_in.append(entry)
        if self.on_login is not None and connection is not None:
            self.on_login(connection)
        return succeed((thing, lambda: self.logged_in.remove(entry)))

    def hold(self, thing: ThingId) -> "Deferred[IThing]":
        return succeed(self.preload(thing, ()))

    def preload(self, thing: ThingId, channels: Iterable[ChannelId]) -> IThing:
        """The thing itself, whatever somebody found."""
        return next(one for one in self.things.values() if one.id == thing)

    def release(self, thing: ThingId) -> None:
        """It stays."""


class Wire(StringTransport):
    """A transport on which a test reads, writes and loses the connection.

    :ivar aborted: the protocol cut it off.
    :ivar lost: the test lost it.
    """

    producer: Any

    def __init__(self, protocol: Any) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.7", 4711))
        self.protocol = protocol
        self.aborted = False
        self.lost = False
        protocol.makeConnection(self)

    def receive(self, data: bytes) -> bytes:
        """Let the protocol have bytes. :return: what it wrote until now."""
        self.protocol.dataReceived(data)
        return self.take()

    def take(self) -> bytes:
        """What was written since the last time."""
        written: bytes = self.value()
        self.clear()
        return written

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True

    def unregisterProducer(self) -> None:
        self.producer = None  # again, and without one: as TCP and TLS take it
        self.streaming = None

    def pauseProducing(self) -> None:
        if not self.disconnecting:  # as TCP takes it
            super().pauseProducing()

    def resumeProducing(self) -> None:
        if not self.disconnecting:
            super().resumeProducing()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """As on TCP."""

    def lose(self) -> None:
        """The connection is over."""
        self.lost = True
        self.protocol.connectionLost(Failure(ConnectionDone()))


class House:
    """The adapters of one server, on a clock that stands still."""

    MAX_MESSAGE = 1000

    def __init__(self) -> None:
        self.clock = Clock()
        self.gate = Gate()
        self.wires: list[Wire] = []
        self.turn = Turn(self.clock)
        self.budget = Budget(5_000)
        self.reports: list[tuple[str, str]] = []
        self.over_limit = False
        self.store = MemorySessions()
        self.journal = Journal(self.store, self.clock)
        self.retained = Retained(100, 100_000, self.journal.retained, self.now)
        self.router = Router(5, self.journal, self.retained)
        shared = Shared(
            self.journal,
            self.store,
            Bounds(messages=100, size=100_000, memory=3000),
            now=self.now,
            clock=self.clock,
            report=self.report,
        )
        self.sessions = Sessions(self.router, self.retained, self.gate, shared, max_kept=10)
        self.mqtt = MQTTAdapter(
            self.gate,
            self.sessions,
            longest_expiry=NEVER,
            limits=Limits(max_payload=self.MAX_MESSAGE, max_queued_bytes=3000, receive_maximum=2),
            turn=self.turn,
            budget=self.budget,
            is_over_limit=lambda _: self.over_limit,
            report=self.report,
            clock=self.clock,
            now=self.now,
        )
        self.ws = WSAdapter(
            self.gate,
            self.router,
            max_message=self.MAX_MESSAGE,
            max_queued=3000,
            budget=self.budget,
            report=self.report,
            now=self.now,
            reactor=self.clock,
        )
        self.http = HTTPAdapter(self.gate, self.router, max_message=self.MAX_MESSAGE, now=self.now)
        self.mqtt_over_ws = MQTTOverWS(self.mqtt, reactor=self.clock)
        routes = [*self.http.routes(), *self.ws.routes(), *self.mqtt_over_ws.routes()]
        self.watch = CertificateWatch(self.clock, self.clock.seconds)
        self.web = WebFactory(make_site(routes, self.clock), lambda _: self.over_limit, self.watch)

    def now(self) -> int:
        """The wall clock, in nanoseconds since 1970: it began with the clock."""
        return 1_600_000_000_000_000_000 + int(self.clock.seconds() * 1e9)

    def report(self, kind: str, detail: str) -> None:
        """Keep what the log is told."""
        self.reports.append((kind, detail))

    def thing(self, name: str, *channels: str) -> Thing:
        """A thing with the key ``key-of-<name>``."""
        self.gate.things[f"key-of-{name}"] = thing = Thing(name, set(channels))
        return thing

    def mqtt_wire(self) -> Wire:
        """A new MQTT connection."""
        return self._kept(Wire(MQTTProtocol(self.mqtt)))

    def web_wire(self) -> Wire:
        """A new connection on the web port."""
        return self._kept(Wire(self.web.buildProtocol(IPv4Address("TCP", "192.0.2.7", 4711))))

    def _kept(self, wire: Wire) -> Wire:
        self.wires.append(wire)
        return wire

    def end_turn(self) -> None:
        """Let the reactor's turn end."""
        self.clock.advance(0)
