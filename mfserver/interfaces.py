"""Every joint of the house on one page: who is handed what, and what each may expect of it.

Read from the top: the rights of those who are let in, the way of a message, who lets in, and the store.
Where a method returns ``Deferred[X]`` it fires in the reactor's thread with an X, or fails with an error
of :mod:`mfserver.errors`.
"""

# zope.interface declares methods without self, and nobody calls these bodies.
# mypy: disable-error-code="empty-body"

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

from mfserver.certificates import CertificateQuery, CertificateRecord, NewCertificate
from mfserver.durable import Changes, Kept, KeptDelivery, SessionKey
from mfserver.message import Message
from mfserver.records import (
    ApiKey,
    Change,
    Channel,
    ChannelId,
    Claims,
    KeyId,
    Metadata,
    Page,
    Query,
    Thing,
    ThingId,
    User,
    UserId,
)

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

__all__ = [
    "IThing",
    "IUser",
    "ILiveConnection",
    "ISubscriber",
    "IBus",
    "IRights",
    "IPeer",
    "IAuthenticator",
    "IUserAuthenticator",
    "IPasswords",
    "ITokens",
    "IAttempts",
    "IChanges",
    "IUserStore",
    "IKeyStore",
    "IThingStore",
    "IChannelStore",
    "IConnectionStore",
    "ISessionStore",
    "ICertificateStore",
    "IRevocations",
    "IIssuer",
    "IStore",
]


# --- those who are let in -------------------------------------------------------------------------------


class IThing(Interface):
    """The avatar of a thing that proved who it is."""

    id: ThingId = Attribute("The thing's id.")
    channels: AbstractSet[ChannelId] = Attribute(
        "The channels it is connected to, now. A live view: look into it at every use and keep no copy."
    )


class IUser(Interface):
    """The avatar of a person, or of a program with the person's API key."""

    id: UserId = Attribute("The user's id.")
    email: str = Attribute("The user's e-mail address.")
    by_api_key: bool = Attribute("An API key let it in: it cannot make further keys.")


class ILiveConnection(Interface):
    """The mind of a thing's avatar: a network connection that ends when what let it in ends."""

    def end(reason: str) -> None:
        """Close at once, telling the peer why in its protocol's way: it is not authorized any more."""

    def channel_lost(channel: ChannelId) -> None:
        """The thing may not use this channel any more. Its deliveries have fallen silent already."""


class ICounted(Interface):
    """A protocol that tells itself when its connection is over."""

    released: Callable[[], None] | None = Attribute("Called once, at the end; None where nobody counts it.")


# --- the way of a message -------------------------------------------------------------------------------


class ISubscriber(Interface):
    """Somebody who listens: an MQTT session, a WebSocket."""

    thing: IThing = Attribute("Whose it is; asked for its channels before every delivery.")

    def deliver(message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> None:
        """Take a message in.

        It neither blocks nor raises: a subscriber that cannot keep up bounds what waits for it itself.

        :param qos: the lower of what the message was published with and what the subscription grants.
        :param retain: the RETAIN flag that an MQTT client gets it with.
        :param identifiers: MQTT 5.0's identifiers of the subscriptions that it comes by.
        """

    def is_ready() -> bool:
        """Whether what it is handed now would leave at once: somebody is there who reads."""


class IBus(Interface):
    """Takes a message to every server that has subscribers; in one process, to this one."""

    def publish(message: Message) -> "Deferred[None] | None":
        """Send a message on its way.

        :return: None when everything that the message must survive in has been committed already, else a
            Deferred that fires then. Acknowledge to the publisher after that, never before.
        """


class IRights(Interface):
    """The rights of things that need not be connected: of those who have something kept for them."""

    def hold(thing: ThingId) -> "Deferred[IThing]":
        """The thing, whose channels are those that it may use now, connected or not; none once it is deleted.

        :raises Overloaded: its rights cannot be read.
        """

    def preload(thing: ThingId, channels: Iterable[ChannelId]) -> IThing:
        """A :meth:`hold` at once, for who knows the thing's channels of this moment: a start."""

    def release(thing: ThingId) -> None:
        """Nothing is kept for it any more; once for every :meth:`hold` and :meth:`preload`."""


# --- who lets in ----------------------------------------------------------------------------------------


class IPeer(Interface):
    """The certificate that the other end of a TLS connection proved to hold."""

    leaf: Any = Attribute("The peer certificate, a cryptography.x509.Certificate.")
    fingerprint: bytes = Attribute("SHA-256 of its DER, 32 bytes.")
    not_valid_after: float = Attribute("When it ends, in seconds since 1970.")
    tls_version: str = Attribute("The connection's: ``TLSv1.2`` or ``TLSv1.3``.")

    def common_name() -> str:
        """The subject's one common name, from the certificate's DER.

        :raises NotAuthorized: it has none, more than one, or one that is no text.
        """

    def uris() -> tuple[str, ...]:
        """The URIs among its subject alternative names, from the certificate's DER.

        :raises NotAuthorized: its extensions cannot be read.
        """

    def is_issued_by(issuers: Iterable[Any]) -> bool:
        """Whether one of these, each a cryptography.x509.Certificate, signed it: no other stands between."""

    def rest() -> None:
        """Somebody was let in by it for long: hold no more than what it is known by, and read the rest again
        from the connection when it is asked for. Once that is gone, what needs it raises ``NotAuthorized``.
        """

    def verify(now: float) -> None:
        """Ask our own records again: validity dates, revocation and today's trust roots.

        :param now: seconds since 1970.
        :raises NotAuthorized: the certificate is not to be trusted any more.
        """


class IRevocations(Interface):
    """What certificates are revoked: by us, or by the lists of others."""

    def check(fingerprint: bytes, serial: int, certificate: Callable[[], Any], now: float) -> None:
        """Ask, after every handshake and whenever a list has changed; it looks only into memory.

        :param fingerprint: SHA-256 of its DER.
        :param serial: its serial number.
        :param certificate: gives it, a cryptography.x509.Certificate that leads to a trust root, where lists
            of others are to be asked. What it raises is raised.
        :param now: seconds since 1970.
        :raises NotAuthorized: it is revoked, or a list that has to be asked is too old.
        """

    def revoked(records: Iterable[CertificateRecord]) -> None:
        """These are revoked from now on: their live connections end within a second.

        To be called after the commit and before the answer; the records' ``der`` is not looked at.
        """


class IIssuer(Interface):
    """The authority that signs certificates of things. It works off the reactor's thread, in bounded pools.

    Every method that fires raises ``Unavailable`` where there is no authority to sign with, or none that may
    now, and ``Overloaded`` where too many wait already. Nothing is kept of what it makes.
    """

    def issue(
        thing: Thing,
        *,
        days: float,
        named_by_key: bool,
        key_type: str,
        key_bits: int | None,
        password: str | None,
    ) -> "Deferred[NewCertificate]":
        """Make a key, and a certificate for it.

        :param days: until it ends, unless the authority ends before.
        :param named_by_key: the thing's key is the common name, in place of its id.
        :param key_type: ``ec`` or ``rsa``.
        :param key_bits: None for the default.
        :param password: what a PKCS #12 is encrypted with; None for no PKCS #12.
        :raises Invalid: its field is the parameter that cannot be used.
        """

    def sign(thing: Thing, request: bytes, *, days: float, named_by_key: bool) -> "Deferred[NewCertificate]":
        """Sign a certificate for the key of a signing request, in PEM or DER; nothing else of it counts.

        :raises Invalid: its field is ``csr``: it is no request, its key is weak, or did not sign it.
        :raises TooLarge: it is too long.
        """

    def renew(
        thing: Thing, record: CertificateRecord, request: bytes | None, *, days: float
    ) -> "Deferred[NewCertificate]":
        """Sign a new certificate in the place of one of ours, named as that one is.

        :param request: whose key is certified from now on; None for the one that the old one certifies.
        :raises Invalid: as :meth:`sign`, or the field is ``certificate`` and its key is too weak by now.
        """

    def revocation_list(records: Iterable[CertificateRecord], number: int) -> "Deferred[bytes]":
        """The list of those among these that this authority signed and that are revoked, in DER.

        :param number: larger than that of the list before.
        """

    def trust() -> bytes:
        """What the other end has to trust, in PEM. :raises Unavailable: there is no authority."""

    def chain(record: CertificateRecord) -> bytes:
        """A certificate of ours and the intermediates that it is shown with, where they are known; PEM."""


class IAuthenticator(Interface):
    """The one function that answers for all protocols which thing somebody is."""

    def authenticate(
        claims: Claims, peer: IPeer | None, connection: ILiveConnection | None
    ) -> "Deferred[tuple[IThing, Callable[[], None]]]":
        """Log a thing in.

        :param peer: the client certificate of the connection; None without one, and on plain connections.
        :param connection: what ends when the thing's right to be here ends; None for a single request.
        :return: the avatar, and what to call once when the connection or the request is over.
        :raises Unauthenticated: no key, or one that no thing has.
        :raises NotAuthorized: the claims contradict each other or the certificate, or one that is needed
            is missing.
        :raises SlowDown: too many failures from this address.
        """

    def recognise(claims: Claims, peer: IPeer | None) -> "IThing | None":
        """A thing for a single request that is over within this turn of the reactor, from memory alone.

        Everything is asked that :meth:`authenticate` asks. Nothing is waited for, and no failure counted.

        :param peer: as of :meth:`authenticate`.
        :return: None where that has to decide: somebody is refused, has to wait, or is not in memory.
        """


class IUserAuthenticator(Interface):
    """Which person a token stands for."""

    def authenticate(token: str) -> "Deferred[IUser]":
        """Find the owner of a login token or of an API key's value.

        :raises Unauthenticated: it is no token of ours, or expired, revoked, or ended by a new password.
        """


class IPasswords(Interface):
    """Hashes of passwords, made off the reactor's thread in a bounded pool."""

    def hash(password: str) -> "Deferred[str]":
        """The encoded hash to keep. :raises Overloaded: too many wait already."""

    def verify(password: str, password_hash: str | None) -> "Deferred[bool]":
        """Whether the password is the one. Without a hash it costs as much and is False.

        :raises Overloaded: too many wait already.
        """


class ITokens(Interface):
    """Signs the tokens of people."""

    def login(user: User) -> str:
        """A login token: a JWT of ten hours, which the next change of the password ends."""

    def api_key(key: ApiKey) -> str:
        """The value of an API key, valid until it expires or is revoked."""


class IAttempts(Interface):
    """Slows down who keeps failing; nobody is ever locked out.

    A subject is whatever failures are counted by: ``address 192.0.2.1``, ``account a@example.org``.
    """

    def admit(*subjects: str) -> "Deferred[None]":
        """Fire as soon as the failures of these subjects allow the next attempt; at once without any.

        :raises SlowDown: too many attempts of one of them wait already.
        """

    def is_free(*subjects: str) -> bool:
        """Whether :meth:`admit` would fire at once."""

    def failed(*subjects: str) -> None:
        """Count a failed attempt of each."""

    def succeeded(*subjects: str) -> None:
        """Forget the failures of each."""


class IChanges(Interface):
    """Hears what happened to the right of things to speak."""

    def changed(change: Change) -> None:
        """Forget what is remembered of it and end the live connections that it ends.

        Called in the reactor's thread after the commit and before the answer.
        """


# --- the store ------------------------------------------------------------------------------------------
#
# Every write fires after its commit. An owner sees only what is theirs: the rest is NotFound.


class IUserStore(Interface):
    """People."""

    def add(user: User) -> "Deferred[None]":
        """Keep a new user. :raises Conflict: the e-mail address is taken (compared without case)."""

    def by_id(user: UserId) -> "Deferred[User | None]":
        """The user with this id."""

    def by_email(email: str) -> "Deferred[User | None]":
        """The user with this e-mail address, compared without case."""

    def set_metadata(user: UserId, metadata: Metadata | None) -> "Deferred[None]":
        """Replace the metadata. :raises NotFound: no such user."""

    def set_password(user: UserId, password_hash: str, generation: int) -> "Deferred[None]":
        """Replace the password's hash, if the user's generation is still this one, and raise that by one.

        :raises NotFound: no such user.
        :raises Conflict: it was changed by somebody else meanwhile.
        """


class IKeyStore(Interface):
    """The API keys of people."""

    def add(key: ApiKey) -> "Deferred[None]":
        """Keep a new API key. :raises NotFound: no such owner."""

    def get(owner: UserId, key: KeyId) -> "Deferred[ApiKey]":
        """One API key. :raises NotFound: none of this owner's."""

    def remove(owner: UserId, key: KeyId) -> "Deferred[None]":
        """Revoke an API key; it may be absent."""


class IThingStore(Interface):
    """Things and their keys.

    A key is unique over all owners, never a thing's id, and never freed for another owner: one that was
    changed, or whose thing was deleted, stays taken for everybody but its owner.
    """

    def add(things: Sequence[Thing]) -> "Deferred[None]":
        """Keep new things, all or none. :raises Conflict: a key is taken, or stands twice among them."""

    def get(owner: UserId, thing: ThingId) -> "Deferred[Thing]":
        """One thing. :raises NotFound: none of this owner's."""

    def by_key(key: str) -> "Deferred[Thing | None]":
        """The thing whose key this is: looked up by its HMAC, then compared in full, in constant time."""

    def by_id(thing: ThingId) -> "Deferred[Thing | None]":
        """A thing, whoever its owner is."""

    def page(owner: UserId, query: Query) -> "Deferred[Page[Thing]]":
        """A page of the owner's things."""

    def update(
        owner: UserId, thing: ThingId, name: str | None, metadata: Metadata | None
    ) -> "Deferred[None]":
        """Replace name and metadata. :raises NotFound: none of this owner's."""

    def set_key(owner: UserId, thing: ThingId, key: str) -> "Deferred[None]":
        """Change the key.

        :raises NotFound: none of this owner's.
        :raises Conflict: the key is taken.
        """

    def remove(owner: UserId, thing: ThingId) -> "Deferred[bool]":
        """Delete a thing and its connections, and revoke its certificates (cessationOfOperation).

        :return: whether there was one of this owner's.
        """


class IChannelStore(Interface):
    """Channels."""

    def add(channels: Sequence[Channel]) -> "Deferred[None]":
        """Keep new channels, all or none."""

    def get(owner: UserId, channel: ChannelId) -> "Deferred[Channel]":
        """One channel. :raises NotFound: none of this owner's."""

    def page(owner: UserId, query: Query) -> "Deferred[Page[Channel]]":
        """A page of the owner's channels."""

    def update(
        owner: UserId, channel: ChannelId, name: str | None, metadata: Metadata | None
    ) -> "Deferred[None]":
        """Replace name and metadata. :raises NotFound: none of this owner's."""

    def remove(owner: UserId, channel: ChannelId) -> "Deferred[bool]":
        """Delete a channel and its connections. :return: whether there was one of this owner's."""


class IConnectionStore(Interface):
    """Which thing may use which channel. Both ends have the same owner."""

    def connect(owner: UserId, channels: Sequence[ChannelId], things: Sequence[ThingId]) -> "Deferred[None]":
        """Connect every pair, all or none.

        :raises NotFound: a channel or a thing is none of this owner's.
        :raises Conflict: a pair is connected already.
        """

    def disconnect(
        owner: UserId, channels: Sequence[ChannelId], things: Sequence[ThingId]
    ) -> "Deferred[None]":
        """Disconnect every pair, all or none.

        :raises NotFound: a channel or a thing is none of this owner's, or a pair is not connected.
        """

    def channels_of(thing: ThingId) -> "Deferred[frozenset[ChannelId]]":
        """Every channel that this thing is connected to; none for a thing that is not there."""

    def things_on(
        owner: UserId, channel: ChannelId, query: Query, connected: bool
    ) -> "Deferred[Page[Thing]]":
        """The owner's things that are, or are not, connected to a channel.

        :raises NotFound: no such channel.
        """

    def channels_with(
        owner: UserId, thing: ThingId, query: Query, connected: bool
    ) -> "Deferred[Page[Channel]]":
        """The owner's channels that a thing is, or is not, connected to.

        :raises NotFound: no such thing.
        """


class ISessionStore(Interface):
    """MQTT sessions with their subscriptions and queues, wills, and retained messages."""

    def load() -> Kept:
        """Everything but the queues; blocks, before the reactor runs.

        What belongs to things and channels that are gone is deleted first.
        """

    def apply(changes: Changes) -> "Deferred[None]":
        """Commit a batch, all or none. It is the caller's again, unchanged, when the Deferred fires.

        :raises Overloaded: it cannot be written now. Asked again later, nothing is done twice.
        """

    def queued(session: SessionKey, after: int, limit: int, max_bytes: int) -> "Deferred[list[KeptDelivery]]":
        """The deliveries of a session, in their order; what is not committed is not seen.

        :param after: the sequence number before the first.
        :param limit: deliveries at most.
        :param max_bytes: with one more the list would be larger than this, as ``size`` counts; the first
            comes however large it is.
        :raises Overloaded: it cannot be read now.
        """


class ICertificateStore(Interface):
    """The certificates that were issued for things; never a private key."""

    def add(record: CertificateRecord, replaces: str | None = None) -> "Deferred[None]":
        """Keep a certificate that is about to be handed out.

        :param replaces: the serial number of the owner's certificate that it renews.
        :raises NotFound: the thing is none of this owner's, or there is no certificate to renew.
        :raises Conflict: the serial number is taken, or what it renews was revoked or renewed already.
        """

    def by_fingerprint(fingerprint: bytes) -> "Deferred[CertificateRecord | None]":
        """The certificate with this fingerprint, in whatever state."""

    def get(owner: UserId, serial: str) -> "Deferred[CertificateRecord]":
        """One certificate. :raises NotFound: none of this owner's."""

    def page(owner: UserId, query: CertificateQuery) -> "Deferred[Page[CertificateRecord]]":
        """A page of the owner's certificates, the youngest first."""

    def revoke(owner: UserId, serial: str, reason: str, now: int) -> "Deferred[CertificateRecord]":
        """Revoke a certificate; one that is revoked stays as it is.

        :param now: seconds since 1970.
        :return: the certificate as it is now.
        :raises NotFound: none of this owner's.
        """

    def revoked(now: int) -> "Deferred[list[CertificateRecord]]":
        """Every revoked certificate that has not expired, without its ``der`` (``b""``)."""

    def load_revoked(now: int) -> list[CertificateRecord]:
        """The same; blocks, before the reactor runs."""

    def ending(now: int, before: int) -> "Deferred[list[CertificateRecord]]":
        """The active certificates that end before a time and were not renewed, without their ``der``."""


class IStore(Interface):
    """One database: its repositories, and its beginning and end."""

    users: IUserStore = Attribute("People.")
    keys: IKeyStore = Attribute("API keys.")
    things: IThingStore = Attribute("Things.")
    channels: IChannelStore = Attribute("Channels.")
    connections: IConnectionStore = Attribute("Who may use what.")
    sessions: ISessionStore = Attribute("What MQTT keeps.")
    certificates: ICertificateStore = Attribute("Certificates of things.")

    def open() -> None:
        """Open the database and migrate it to this version's schema; blocks, before the reactor runs.

        :raises ConfigurationError: it cannot be opened, or belongs to a newer version.
        """

    def close() -> "Deferred[None]":
        """Commit what waits, then close. Writes asked for later fail with Overloaded."""
