"""The one server context that all TLS listeners share, and its replacement while they run.

pyOpenSSL forbids changing a context after its first connection, so a reload builds a new one and swaps it.
Live connections keep the old one; a new context resumes no session of an old one.
"""

import re
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from os import stat
from time import monotonic, time
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL, crypto
from twisted.logger import Logger

from mfserver.certificates import fingerprint
from mfserver.errors import ConfigurationError, NotAuthorized
from mfserver.interfaces import IRevocations

__all__ = ["ServerContext", "ServerConnection", "verify_dates"]

_Key: TypeAlias = (
    rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
)

_MINIMUM: Final = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
#: Of TLS 1.2, in the order we prefer: forward secrecy and authenticated encryption only (RFC 9325, 4.2).
_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"
#: Certificates between a thing's and a trust root.
_MAX_INTERMEDIATES: Final = 4
#: Intermediates that are remembered; their holders were let in by the trust roots.
_MAX_KNOWN: Final = 64
#: A session that was made in here is resumed nowhere else (SSL_CTX_set_session_id_context(3)).
_SESSION_ID_CONTEXT: Final = b"mfserver"
#: Steps of TLS's own state machine that a connection may take in a second: a handshake takes some 20, a
#: KeyUpdate 3, which costs us 25 microseconds. OpenSSL reads on behind what is no data, all in one call: who
#: sends nothing but KeyUpdate would have the reactor to itself.
_STEPS: Final = 200
_CERTIFICATE: Final = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")
# What cryptography may raise for a certificate that OpenSSL has read: not all of it is a ValueError.
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class ServerConnection(SSL.Connection):
    """A TLS connection that knows what its listener speaks.

    :ivar protocols: ALPN names, the preferred one first.
    :ivar generation: that of the context it was made with.
    :ivar steps: of TLS's own state machine since ``since``, in seconds of the monotonic clock.
    :ivar is_cut_off: it took too many; OpenSSL reports the end of the connection, as if the peer had closed.
    """

    protocols: tuple[bytes, ...] = ()
    generation: int = 0
    steps: int = 0
    since: float = 0.0
    is_cut_off: bool = False


class ServerContext:
    """The TLS of all listeners: a certificate, its key, and whose clients to trust.

    :ivar context: the current context. Make connections with :meth:`connection`, never change it.
    :ivar generation: grows by one with each new context; 0 before :meth:`load`.
    :ivar roots: today's trust roots.
    :ivar not_valid_after: when the server's certificate ends, in seconds since 1970.
    :ivar on_swap: called after each reload that gave a new context.
    :ivar handshakes_failed: connections that ended before there was a protocol for them.
    :ivar peers_refused: those among them whose certificate our own records refused after the handshake.
    """

    _log = Logger()

    context: SSL.Context

    def __init__(
        self,
        certificate: str,
        key: str,
        ca: str,
        *,
        request_client_certificates: bool,
        minimum: str = "1.2",
        revocations: IRevocations | None = None,
        now: Callable[[], float] = time,
    ) -> None:
        """Name the files, all in PEM; none is opened before :meth:`load`.

        :param certificate: the server's certificate, then those that lead to its root, if any.
        :param ca: the trust roots of client certificates; not looked at unless those are requested.
        :param request_client_certificates: a client may do without one, but one that does not verify ends
            the handshake. Otherwise none is asked for.
        :param minimum: the lowest version of TLS, ``"1.2"`` or ``"1.3"``.
        :param revocations: asked about every client certificate, after every handshake and again.
        :param now: the time in seconds since 1970.
        """
        if minimum not in _MINIMUM:
            raise ConfigurationError(f"TLS {minimum} is neither 1.2 nor 1.3", "--tls-min")
        self.request_client_certificates = request_client_certificates
        self.generation = 0
        self.roots: Sequence[x509.Certificate] = ()
        self.not_valid_after = 0.0
        self.on_swap: list[Callable[[], None]] = []
        self.handshakes_failed = 0
        self.peers_refused = 0
        self._certificate = certificate
        self._key = key
        self._ca = ca
        self._minimum = _MINIMUM[minimum]
        self._revocations = revocations
        self._now = now
        # The last one seen is last.
        self._known: OrderedDict[x509.Certificate, x509.Certificate] = OrderedDict()
        self._stamps: list[tuple[int, int, int] | None] = []

    def load(self) -> None:
        """Read the files and build the first context.

        :raises ConfigurationError: a file is missing, unreadable or not what it should be, the key is not
            the certificate's, or a trust root is no authority.
        """
        # Before reading: a change during it is seen as one after it.
        self._stamps = self._stamp()
        chain = self._read_certificates(self._certificate, "--cert")
        key = self._read_key()
        if _spki(key.public_key()) != _spki(chain[0].public_key()):
            raise ConfigurationError(f"{self._key} is not the key of {self._certificate}", "--key")
        roots = self._read_roots() if self.request_client_certificates else []
        try:
            context = self._build(chain, key, roots)
        except SSL.Error as error:  # a key too short, a signature too weak
            raise ConfigurationError(
                f"OpenSSL refuses {self._certificate}: {_reason(error)}", "--cert"
            ) from error
        self._warn_of_dates(chain[0])
        self.context = context
        self.roots = roots
        self.not_valid_after = chain[0].not_valid_after_utc.timestamp()
        self.generation += 1

    def reload(self) -> bool:
        """Read the files again and swap in a new context, or keep the old one and log why. Never raises.

        :return: whether there is a new context.
        """
        try:
            self.load()
        except ConfigurationError as error:
            self._log.warn("TLS stays as it was: {reason}", reason=str(error))
            return False
        self._log.info("TLS has a new context from {certificate}", certificate=self._certificate)
        for swapped in self.on_swap:
            try:
                swapped()
            except Exception:
                self._log.failure("could not tell of the new TLS context")
        return True

    def changed(self) -> bool:
        """Whether a file is another one than when they were last read or tried."""
        return self._stamp() != self._stamps

    def connection(
        self, protocols: tuple[bytes, ...], carrier: socket.socket | None = None
    ) -> ServerConnection:
        """A server's end of a connection.

        :param protocols: the ALPN names that its listener speaks. A client that offers none of them goes
            on without ALPN, to what the listener's clients without it get: refusing (RFC 7301, 3.2) would
            shut out the odd lists of old clients.
        :param carrier: the socket that it runs on; None for one in memory.
        """
        connection = ServerConnection(self.context, carrier)
        connection.protocols = protocols
        connection.generation = self.generation
        connection.set_accept_state()
        return connection

    def remember(self, intermediates: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
        """Know the intermediates of a chain that OpenSSL has verified: a resumed session brings none.

        :return: the same, each as the object that all its chains share.
        """
        shared = tuple(self._known.setdefault(certificate, certificate) for certificate in intermediates)
        for certificate in shared:
            self._known.move_to_end(certificate)
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return shared

    def verify(
        self, leaf: x509.Certificate, chain: Sequence[x509.Certificate], now: float
    ) -> tuple[x509.Certificate, ...]:
        """Decide from our own records whether to trust a client certificate, as a handshake would.

        :param chain: certificates that came with it, in any order; without any, those that are remembered
            are tried.
        :param now: seconds since 1970.
        :return: the intermediates between it and a trust root.
        :raises NotAuthorized: it is not to be trusted, is revoked, or cannot be read.
        """
        try:
            verify_dates(leaf, now)
            _verify_usage(leaf)
            between = () if self._is_issued_by_root(leaf, now) else self._verify_chain(leaf, chain, now)
            digest = fingerprint(leaf.public_bytes(Encoding.DER))
            self.verify_unrevoked(digest, leaf.serial_number, _giving(leaf), between, now)
        except _UNREADABLE as error:
            raise NotAuthorized("the client certificate cannot be read") from error
        return between

    def verify_unrevoked(
        self,
        digest: bytes,
        serial: int,
        leaf: Callable[[], x509.Certificate],
        between: Sequence[x509.Certificate],
        now: float,
    ) -> None:
        """Ask whether a certificate, or an intermediate between it and its trust root, is revoked.

        :param digest: the leaf's fingerprint, and
        :param serial: its serial number, which who asks at every request has.
        :param leaf: gives it where lists of others are to be asked. What it raises is raised.
        :raises NotAuthorized: one is.
        """
        if self._revocations is not None:
            self._revocations.check(digest, serial, leaf, now)
            for each in between:
                digest = fingerprint(each.public_bytes(Encoding.DER))
                self._revocations.check(digest, each.serial_number, _giving(each), now)

    def _is_issued_by_root(self, leaf: x509.Certificate, now: float) -> bool:
        for root in self.roots:
            try:
                leaf.verify_directly_issued_by(root)
                verify_dates(root, now)
            except (InvalidSignature, NotAuthorized, *_UNREADABLE):
                continue
            return True
        return False

    def _verify_chain(
        self, leaf: x509.Certificate, chain: Sequence[x509.Certificate], now: float
    ) -> tuple[x509.Certificate, ...]:
        candidates = chain or tuple(self._known)
        if not self.roots or not candidates:
            raise NotAuthorized("the client certificate is not issued by a trust root")
        store = crypto.X509Store()
        for root in self.roots:
            store.add_cert(crypto.X509.from_cryptography(root))
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        store.set_time(datetime.fromtimestamp(now, UTC))
        untrusted = [crypto.X509.from_cryptography(certificate) for certificate in candidates]
        verification = crypto.X509StoreContext(store, crypto.X509.from_cryptography(leaf), untrusted)
        try:
            verified = verification.get_verified_chain()
        except (crypto.X509StoreContextError, crypto.Error) as error:
            raise NotAuthorized("the client certificate does not lead to a trust root") from error
        return self.remember([certificate.to_cryptography() for certificate in verified[1:-1]])

    def _build(self, chain: list[x509.Certificate], key: _Key, roots: list[x509.Certificate]) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(self._minimum)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
        context.set_cipher_list(_CIPHERS)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        # Sessions live in tickets that the clients keep: many clients fill no cache of ours.
        context.set_session_id(_SESSION_ID_CONTEXT)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.use_certificate(chain[0])
        for certificate in chain[1:]:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(key)
        context.check_privatekey()
        context.set_alpn_select_callback(_select_protocol)
        context.set_info_callback(_count_step)
        if self.request_client_certificates:
            store = context.get_cert_store()
            assert store is not None
            for root in roots:
                store.add_cert(crypto.X509.from_cryptography(root))
                context.add_client_ca(root)
            # A root may itself be issued by an authority that is not trusted here.
            store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
            context.set_verify_depth(_MAX_INTERMEDIATES)
            context.set_verify(SSL.VERIFY_PEER)
        else:
            context.set_verify(SSL.VERIFY_NONE)
        return context

    def _read_roots(self) -> list[x509.Certificate]:
        roots = self._read_certificates(self._ca, "--ca")
        for root in roots:
            if not _is_authority(root):
                raise ConfigurationError(
                    f"{self._ca} holds a certificate that is no certificate authority", "--ca"
                )
        return roots

    def _read_certificates(self, path: str, option: str) -> list[x509.Certificate]:
        data = _read(path, option)
        try:
            certificates = x509.load_pem_x509_certificates(data)
            for certificate in certificates:
                certificate.public_key()
                certificate.extensions  # noqa: B018 - what cannot be parsed is found here
        except _UNREADABLE as error:
            raise ConfigurationError(f"{path} holds no certificate in PEM", option) from error
        if len(certificates) != len(_CERTIFICATE.findall(data)):  # the parser skips what is cut off
            raise ConfigurationError(f"{path} holds half a certificate", option)
        return certificates

    def _read_key(self) -> _Key:
        data = _read(self._key, "--key")
        try:
            key = load_pem_private_key(data, password=None)
        except TypeError as error:
            raise ConfigurationError(f"{self._key} is encrypted: take its passphrase off", "--key") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ConfigurationError(f"{self._key} holds no private key in PEM", "--key") from error
        if not isinstance(key, _Key):
            raise ConfigurationError(f"{self._key} is no key that TLS can sign with", "--key")
        return key

    def _warn_of_dates(self, leaf: x509.Certificate) -> None:
        try:
            verify_dates(leaf, self._now())
        except NotAuthorized:
            self._log.warn(
                "{path} is valid from {begin} to {end}: clients will refuse it",
                path=self._certificate,
                begin=leaf.not_valid_before_utc,
                end=leaf.not_valid_after_utc,
            )

    def _stamp(self) -> list[tuple[int, int, int] | None]:
        paths = [self._certificate, self._key]
        if self.request_client_certificates:
            paths.append(self._ca)
        return [_stamp(path) for path in paths]


def verify_dates(certificate: x509.Certificate, now: float) -> None:
    """Look at the validity dates alone.

    :param now: seconds since 1970.
    :raises NotAuthorized: it is too early or too late.
    """
    if now < certificate.not_valid_before_utc.timestamp():
        raise NotAuthorized("the certificate is not valid yet")
    if now > certificate.not_valid_after_utc.timestamp():
        raise NotAuthorized("the certificate has expired")


def _verify_usage(leaf: x509.Certificate) -> None:
    """What OpenSSL asks of a TLS client: usages that are present must say so (RFC 5280, 4.2.1.12)."""
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise NotAuthorized("the certificate is not for clients")


def _giving(certificate: x509.Certificate) -> Callable[[], x509.Certificate]:
    return lambda: certificate


def _is_authority(certificate: x509.Certificate) -> bool:
    extensions = certificate.extensions
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
    except x509.ExtensionNotFound:
        return False
    try:
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _select_protocol(
    connection: SSL.Connection, offered: list[bytes]
) -> "bytes | SSL._NoOverlappingProtocols":
    """Our first protocol that the client offers (RFC 7301, 3.2), or going on without."""
    if isinstance(connection, ServerConnection):
        for protocol in connection.protocols:
            if protocol in offered:
                return protocol
    return SSL.NO_OVERLAPPING_PROTOCOLS


def _count_step(connection: SSL.Connection, where: int, _result: int) -> None:
    """Have OpenSSL read no further where the steps of a second are too many."""
    if isinstance(connection, ServerConnection) and not where & SSL.SSL_CB_EXIT:
        connection.steps += 1
        if connection.steps > _STEPS:
            now = monotonic()
            if now < connection.since + 1:
                connection.is_cut_off = True
                connection.set_shutdown(connection.get_shutdown() | SSL.RECEIVED_SHUTDOWN)
            else:
                connection.steps, connection.since = 0, now


def _read(path: str, option: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", option) from error


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _spki(key: object) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return encoded


def _reason(error: SSL.Error) -> str:
    """OpenSSL's own words for what went wrong last."""
    errors = error.args[0] if error.args else None
    return str(errors[-1][2]) if isinstance(errors, list) and errors else "no reason given"
