"""What the tests of this room stand on: a certificate, a live connection, and a store that can be held up."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from mfserver.certificates import CertificateRecord
from mfserver.cred.access import Access
from mfserver.cred.expiry import CertificateWatch
from mfserver.errors import NotAuthorized
from mfserver.interfaces import ICertificateStore, IConnectionStore, ILiveConnection, IPeer, IThingStore
from mfserver.records import Channel, ChannelId, Thing, ThingId, User, UserId
from tests.store.memory import MemoryStore

__all__ = ["ALICE", "BOB", "CHANNEL", "CarefulPeer", "House", "LiveConnection", "SlowThings", "alices_thing"]

ALICE = User(UserId("10000000-0000-4000-8000-000000000001"), "alice@example.org", "hash")
BOB = User(UserId("10000000-0000-4000-8000-000000000002"), "bob@example.org", "hash")
CHANNEL = ChannelId("30000000-0000-4000-8000-000000000001")
SECRET = b"s" * 32


def alices_thing(number: int) -> Thing:
    """A thing of Alice's with an id and a key of its own."""
    return Thing(ThingId(f"20000000-0000-4000-8000-{number:012d}"), ALICE.id, f"key-of-the-thing-{number}")


@implementer(IPeer)
class CarefulPeer:
    """A certificate that counts how often it is verified.

    :param issuer: who issued it, of whatever type.
    """

    def __init__(
        self,
        name: str | None,
        not_valid_after: float = 1e12,
        *,
        fingerprint: bytes = bytes(32),
        uris: Sequence[str] = (),
        issuer: object = None,
    ) -> None:
        self.leaf: Any = None
        self.fingerprint = fingerprint
        self.not_valid_after = not_valid_after
        self.tls_version = "TLSv1.3"
        self.trouble: Exception | None = None
        self.verified: list[float] = []
        self.rests = 0
        self.on_verify: Callable[[], object] = lambda: None
        self._name = name
        self._uris = tuple(uris)
        self._issuer = issuer

    def common_name(self) -> str:
        if self._name is None:
            raise NotAuthorized("two common names")
        return self._name

    def uris(self) -> tuple[str, ...]:
        return self._uris

    def is_issued_by(self, issuers: Iterable[object]) -> bool:
        return any(issuer is self._issuer for issuer in issuers)

    def rest(self) -> None:
        self.rests += 1

    def verify(self, now: float) -> None:
        self.verified.append(now)
        self.on_verify()
        if self.trouble is not None:
            raise self.trouble


@implementer(ILiveConnection)
class LiveConnection:
    """Writes down what it is told, and may fail at it."""

    def __init__(self, told: list[tuple[str, str]] | None = None, trouble: Exception | None = None) -> None:
        self.told: list[tuple[str, str]] = [] if told is None else told
        self.trouble = trouble
        self.on_end: Callable[[], object] = lambda: None

    def end(self, reason: str) -> None:
        self.told.append(("end", reason))
        self.on_end()
        if self.trouble is not None:
            raise self.trouble

    def channel_lost(self, channel: ChannelId) -> None:
        self.told.append(("lost", channel))
        if self.trouble is not None:
            raise self.trouble


class SlowThings:
    """The look-ups of a store, answered as the store is when they begin, given back when the test says so.

    Not the whole of the interfaces: what access asks for.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.held: list[Callable[[], None]] = []
        self.asked = 0

    def by_key(self, key: str) -> Deferred[Thing | None]:
        self.asked += 1
        return self._hold(self._store.things.by_key(key))

    def by_id(self, thing: ThingId) -> Deferred[Thing | None]:
        self.asked += 1
        return self._hold(self._store.things.by_id(thing))

    def by_fingerprint(self, fingerprint: bytes) -> Deferred[CertificateRecord | None]:
        return self._hold(self._store.certificates.by_fingerprint(fingerprint))

    def channels_of(self, thing: ThingId) -> Deferred[frozenset[ChannelId]]:
        return self._hold(self._store.connections.channels_of(thing))

    def _hold(self, answer: Deferred[Any]) -> Deferred[Any]:
        held: Deferred[Any] = Deferred()
        self.held.append(lambda: _give(answer, held))
        return held

    def release(self) -> None:
        """Give every answer that is held now."""
        held, self.held = self.held, []
        for give in held:
            give()

    def release_all(self) -> None:
        """Give answers until nothing more is asked."""
        while self.held:
            self.release()


class House:
    """A store with two users and Alice's things 1 and 2 on her channel, and the access to them."""

    def __init__(self, slow: bool = False, things: Iterable[int] = (1, 2), **limits: int) -> None:
        self.store = MemoryStore()
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.slow = SlowThings(self.store)
        self.watch = CertificateWatch(self.clock, self.clock.seconds)
        self.store.users.add(ALICE)
        self.store.users.add(BOB)
        self.store.channels.add([Channel(CHANNEL, ALICE.id)])
        self.things = [alices_thing(number) for number in things]
        self.store.things.add(self.things)
        self.store.connections.connect(ALICE.id, [CHANNEL], [thing.id for thing in self.things])
        asked: Any = self.slow
        things_asked: IThingStore = asked if slow else self.store.things
        connections_asked: IConnectionStore = asked if slow else self.store.connections
        self.certificates: ICertificateStore = asked if slow else self.store.certificates
        self.access = Access(things_asked, connections_asked, SECRET, self.watch, **limits)


def _give(answer: Deferred[Any], held: Deferred[Any]) -> None:
    if not held.called:  # the one who asked may have gone
        answer.chainDeferred(held)
