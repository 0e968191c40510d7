"""A listener with innocent clients and with liars, who send anything at any time, vanish and stop reading."""

import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random
from select import EPOLLIN, EPOLLOUT
from typing import Any

from OpenSSL import SSL
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from mfserver.tls.context import ServerContext
from mfserver.tls.limit import ConnectionLimit
from tests.tls.pki import Authority
from tests.tls.records import ALERT, APPLICATION, HANDSHAKE, KEY_UPDATE, KeyLog, Writer
from tests.tls.sockets import Client, Guest, House
from tests.tls.wire import client_context

__all__ = ["World"]

VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)
_RECORD_HEADS = tuple(bytes([kind]) for kind in (20, 21, 22, 23, 24, 0, 255))


def mutate(random: Random, data: bytes) -> bytes:
    """The same bytes with one mistake."""
    if not data:
        return random.randbytes(5)
    start, stop = sorted(random.randrange(len(data) + 1) for _ in range(2))
    changed = bytearray(data)
    way = random.randrange(7)
    if way == 0:
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    elif way == 1:
        del changed[start:stop]
    elif way == 2:
        changed[start:start] = data[start:stop]
    elif way == 3:
        changed[start:stop] = random.randbytes(stop - start)
    elif way == 4:
        del changed[start:]
    elif way == 5:
        changed[start:start] = random.choice(_RECORD_HEADS) + b"\x03\x03\x00\x00"
    else:
        changed[:5] = random.choice(_RECORD_HEADS) + b"\x03\x03" + random.randbytes(2)
    return bytes(changed)


class Innocent:
    """A client that makes no mistake, and hears back all that it says."""

    def __init__(self, house: House, context: SSL.Context) -> None:
        self.client = house.connect(context)
        self.guest = self.client.handshake()
        self.guest.on_data = Echo()
        self.said = bytearray()

    def say(self, data: bytes) -> None:
        self.said += data
        self.client.send(data)
        self.client.read()

    def is_answered(self) -> bool:
        return self.client.read() == self.said or bool(self.client.ending or self.guest.lost)

    def check(self) -> None:
        """Nothing of what others did has reached it."""
        assert not self.guest.lost, f"an innocent client is lost: {self.guest.lost}"
        assert not self.client.ending, f"an innocent client heard {self.client.ending!r}"
        assert self.client.received == self.said, "an innocent client heard something else"


class Echo:
    """Sends back what is new."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, guest: Guest) -> None:
        new = guest.received[self.done :]
        self.done = len(guest.received)
        guest.wire.write(new)


class Liar:
    """A client that may do anything."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.random = world.random
        version = self.random.choice(VERSIONS)
        identity = world.authority.client() if self.random.random() < 0.1 else None
        context = client_context(world.authority.certificate, identity, version=version)
        self.log = KeyLog(context)
        small = self.random.choice((0, 4096))
        self.client: Client = world.house.connect(context, receive_buffer=small)
        self.guest: Guest | None = None
        self.writer: Writer | None = None
        self.is_gone = False
        self.honesty = self.random.choice((0.0, 0.9, 1.0, 1.0, 1.0))

    def step(self) -> None:
        """Do one thing."""
        if self.is_gone:
            return
        acts = [*[self.shake] * 12, self.babble, self.go] if self.guest is None else self.late
        with suppress(SSL.Error):
            self.random.choice(acts)()

    @property
    def late(self) -> list[Callable[[], None]]:
        """What it does when its handshake is over."""
        return [*[self.talk] * 3, *[self.forge] * 3, self.babble, self.go, self.ask_for_much]

    def put(self, data: bytes) -> None:
        if self.random.random() >= self.honesty:
            data = mutate(self.random, data)
            self.world.reached["mutated"] += 1
        if self.random.random() < 0.1:
            for byte in data[:50]:
                self.client.put(bytes([byte]))
                self.world.house.turn()
            data = data[50:]
        self.client.put(data)

    def shake(self) -> None:
        """One flight of the handshake."""
        made = self.world.house.guests.made
        before = len(made)
        with suppress(BlockingIOError, ConnectionError):
            self.client.connection.bio_write(self.client.socket.recv(1 << 16) or b"")
        with suppress(SSL.WantReadError):
            self.client.connection.do_handshake()
        self.put(self.client.records())
        self.world.house.turn(3)
        port = self.client.socket.getsockname()[1]
        for guest in made[before:]:
            if guest.wire.getPeer().port == port:
                self.arrived(guest)

    def arrived(self, guest: Guest) -> None:
        self.world.reached["liars let in"] += 1
        self.guest = guest
        self.honesty = self.random.choice((0.0, 0.8, 1.0))
        guest.on_data = Echo()
        if self.log.secret:
            self.writer = Writer(self.log.secret, self.client.connection.get_cipher_name() or "")

    def babble(self) -> None:
        self.put(self.random.randbytes(self.random.choice((1, 5, 100, 20_000))))

    def talk(self) -> None:
        if self.random.random() < 0.7:
            self.client.read()
        self.put(self.client.records(bytes(self.random.choice((1, 100, 16_384, 100_000)))))

    def forge(self) -> None:
        """Records that no library writes."""
        writer, random = self.writer, self.random
        if writer is None:
            self.babble()
            return
        kind = random.choice((APPLICATION, HANDSHAKE, ALERT, 20, 99))
        message = random.choice(
            (b"", KEY_UPDATE, KEY_UPDATE[:4], b"\x01\x00", b"\x02\x28", b"\x01\x5a", b"x")
        )
        count = random.choice((1, 2, 40, 300))
        if random.random() < 0.5:
            self.put(b"".join(writer.key_update() for _ in range(count)))
        else:
            self.put(b"".join(writer.record(kind, message, random.choice((0, 100))) for _ in range(count)))
        self.world.reached["forged"] += 1

    def ask_for_much(self) -> None:
        """Have the server write more than the network takes, and do not read."""
        assert self.guest is not None
        self.guest.wire.write(bytes(self.random.choice((100_000, 8_000_000))))
        self.world.reached["much to write"] += 1

    def go(self) -> None:
        """End it somehow."""
        way = self.random.choice((self.client.reset, self.client.socket.close, self.shut, self.client.close))
        with suppress(OSError):
            way()
        self.is_gone = way != self.client.close
        self.world.reached["gone"] += 1

    def shut(self) -> None:
        self.client.socket.shutdown(socket.SHUT_WR)


@implementer(ILogObserver)
class World:
    """One execution.

    :raises AssertionError: something happened to somebody who did nothing wrong, or is left behind.
    """

    def __init__(
        self, random: Random, reached: "Counter[str]", context: ServerContext, authority: Authority
    ) -> None:
        self.random = random
        self.reached = reached
        self.authority = authority
        self.limit = ConnectionLimit(10_000, 10_000)
        self.house = House(context, limit=self.limit)
        self.innocents = [
            Innocent(self.house, client_context(authority.certificate, version=version))
            for version in VERSIONS
        ]
        self.liars: list[Liar] = []
        self.failures: list[Any] = []

    def run(self) -> None:
        globalLogPublisher.addObserver(self)
        try:
            for _ in range(self.random.choice((20, 60))):
                self.step()
            self.end()
        finally:
            globalLogPublisher.removeObserver(self)
            self.house.close()
        self.check_end()

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.critical:
            self.failures.append(event.get("log_failure"))

    def step(self) -> None:
        random = self.random
        if len(self.liars) < 4 and random.random() < 0.3:
            self.liars.append(Liar(self))
        if self.liars:
            random.choice(self.liars).step()
        if random.random() < 0.3:
            self.interfere()
        self.house.turn(random.randrange(3))
        for innocent in self.innocents:
            if random.random() < 0.4:
                innocent.say(random.randbytes(random.choice((1, 30, 20_000))))
            if random.random() < 0.5:
                # Nothing may be there to read or to send: an error that another connection left
                # behind in OpenSSL would be taken for this one's.
                innocent.guest.wire.ready(random.choice((EPOLLIN, EPOLLOUT)))
            assert not innocent.guest.lost, "an innocent client is lost"
        if random.random() < 0.05:
            self.house.reactor.advance(random.choice((1, 11, 31)))

    def interfere(self) -> None:
        """The application does something to a liar's connection."""
        guests = [liar.guest for liar in self.liars if liar.guest is not None and not liar.guest.lost]
        if guests:
            wire = self.random.choice(guests).wire
            way = self.random.choice(
                (wire.pauseProducing, wire.resumeProducing, wire.loseConnection, wire.abortConnection)
            )
            way()
            self.reached[way.__name__] += 1

    def end(self) -> None:
        """The innocents get all that is theirs; and nobody turns in circles."""
        for innocent in self.innocents:
            innocent.say(b"the end")
            self.house.until(innocent.is_answered)
            innocent.check()
        self.house.rest()
        assert not self.failures, f"a mistake of ours: {self.failures}"
        self.reached["told of"] += len(self.house.reports)

    def check_end(self) -> None:
        for guest in self.house.guests.made:
            assert len(guest.lost) == 1, "a protocol hears of its end once"
            self.reached[f"lost: {type(guest.lost[0].value).__name__}"] += 1
        assert self.limit.total == 0, f"{self.limit.total} connections are still counted"
        assert not self.house.reactor.readers and not self.house.reactor.getDelayedCalls()
