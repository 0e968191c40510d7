"""Which thing a client certificate names.

The first identity that is present decides, and none is passed over for a weaker one:

1. its fingerprint stands in our records: its record names the thing, and must be neither revoked nor expired;
2. a URI of ours stands among its alternative names: there must be one alone, and our authority must have
   issued the certificate itself;
3. its common name is a thing key.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from mfserver.certificates import ACTIVE, REVOKED, THING_URI, CertificateRecord, thing_uri
from mfserver.cred.changes import RecentChanges
from mfserver.errors import ConfigurationError, NotAuthorized, Overloaded
from mfserver.interfaces import ICertificateStore, IPeer
from mfserver.records import ThingId, is_thing_key

__all__ = ["CN", "FINGERPRINT", "METHODS", "SAN", "Identities", "Identity"]

#: How a certificate may name its thing, the first one that is present first.
FINGERPRINT: Final = "fingerprint"
SAN: Final = "san"
CN: Final = "cn"
METHODS: Final = (FINGERPRINT, SAN, CN)

# How often a look-up is made again because what it found had changed meanwhile.
_TRIES: Final = 10


@dataclass(frozen=True, slots=True)
class Identity:
    """What a certificate says: a thing's id, or with :data:`CN` its key, which is a secret.

    :ivar method: one of :data:`METHODS`.
    """

    method: str
    thing: ThingId | None = None
    key: str | None = None

    def __repr__(self) -> str:
        return f"<Identity by {self.method}>"


class Identities:
    """Finds what certificates say, and remembers what our records say of them.

    :param issuers: today's certificates of our authority, each a cryptography.x509.Certificate: more than one
        while it is being replaced.
    :param now: the time in seconds since 1970.
    :param methods: those of :data:`METHODS` that count; another is as if it were absent, but that a
        certificate which is revoked in our records is always refused.
    :param size: how many certificates are remembered.
    """

    def __init__(
        self,
        certificates: ICertificateStore,
        issuers: Callable[[], Iterable[Any]],
        now: Callable[[], float],
        *,
        methods: Collection[str] = METHODS,
        size: int = 10_000,
    ) -> None:
        if not methods or not set(methods) <= set(METHODS):
            raise ConfigurationError(f"a certificate names its thing by {', '.join(METHODS)}", "--identity")
        self._store = certificates
        self._issuers = issuers
        self._now = now
        self._methods = frozenset(methods)
        self._size = max(1, size)
        self._known: OrderedDict[bytes, CertificateRecord | None] = OrderedDict()  # the last one used is last
        self._changes = RecentChanges()

    async def identity(self, peer: IPeer) -> Identity:
        """What this certificate says, which nobody has verified.

        :raises NotAuthorized: the identity that counts is revoked, expired, doubled, no thing's, or not ours;
            or there is none.
        :raises Overloaded: what our records say of it changes faster than it can be read.
        """
        return self._decide(peer, await self._record(peer.fingerprint))

    def known(self, peer: IPeer) -> Identity | None:
        """:meth:`identity` from memory alone; None where our records have to be read.

        :raises NotAuthorized: as there.
        """
        if peer.fingerprint not in self._known:
            return None
        self._known.move_to_end(peer.fingerprint)
        return self._decide(peer, self._known[peer.fingerprint])

    def _decide(self, peer: IPeer, record: CertificateRecord | None) -> Identity:
        """The first identity that is present, or why it does not count."""
        state = ACTIVE if record is None else record.state(self._now())
        if record is not None and (FINGERPRINT in self._methods or state == REVOKED):
            if state != ACTIVE:
                raise NotAuthorized(f"the client certificate {'is' if state == REVOKED else 'has'} {state}")
            return Identity(FINGERPRINT, thing=record.thing)
        if SAN in self._methods:
            uris = [uri for uri in peer.uris() if uri.lower().startswith(THING_URI)]
            if uris:
                return Identity(SAN, thing=self._named(uris, peer))
        if CN in self._methods:
            name = peer.common_name()
            if is_thing_key(name):
                return Identity(CN, key=name)
        raise NotAuthorized("the client certificate names no thing")

    def forget(self, fingerprints: Iterable[bytes]) -> None:
        """What our records say of these has changed. To be called after the commit and before the answer."""
        fingerprints = list(fingerprints)
        self._changes.note_names([fingerprint.hex() for fingerprint in fingerprints])
        for fingerprint in fingerprints:
            self._known.pop(fingerprint, None)

    def _named(self, uris: Sequence[str], peer: IPeer) -> ThingId:
        """The thing in the one URI of ours."""
        uri, *others = uris
        if others:
            raise NotAuthorized("the client certificate names two things")
        thing = ThingId(uri[len(THING_URI) :])
        if uri != thing_uri(thing):  # a name in capitals is ours, too, and none that we gave
            raise NotAuthorized("the client certificate names no thing")
        if not peer.is_issued_by(self._issuers()):
            raise NotAuthorized("the client certificate names a thing that its authority cannot speak for")
        return thing

    async def _record(self, fingerprint: bytes) -> CertificateRecord | None:
        """What our records say; also that they say nothing is remembered."""
        if fingerprint in self._known:
            self._known.move_to_end(fingerprint)
            return self._known[fingerprint]
        for _ in range(_TRIES):
            with self._changes.look_up() as look_up:
                record = await self._store.by_fingerprint(fingerprint)
                if not look_up.is_stale(fingerprint.hex()):
                    return self._remember(fingerprint, record)
        raise Overloaded("the records of this certificate are changing")

    def _remember(self, fingerprint: bytes, record: CertificateRecord | None) -> CertificateRecord | None:
        if record is not None:
            record = replace(record, der=b"")
        self._known[fingerprint] = record
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        return record
