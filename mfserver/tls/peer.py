"""Who is at the other end of a TLS connection, as its certificate says."""

import warnings
from collections.abc import Iterable, Sequence
from sys import intern
from typing import Final
from weakref import ref

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from zope.interface import Attribute, Interface, implementer

from mfserver.certificates import fingerprint
from mfserver.errors import NotAuthorized
from mfserver.interfaces import IPeer
from mfserver.tls.context import ServerContext, verify_dates

__all__ = ["Peer", "IPeerTransport", "peer_of"]

#: Characters of a common name (RFC 5280, ub-common-name).
MAX_COMMON_NAME: Final = 64
# In DER: the object identifier 2.5.4.3, and the tags of UTF8String, PrintableString, TeletexString (which
# old OpenSSL chose for "~" and "_") and IA5String. cryptography reads octets and dates as text too.
_COMMON_NAME: Final = b"\x06\x03\x55\x04\x03"
_TEXT: Final = (0x0C, 0x13, 0x14, 0x16)
# Protocols that are each other's transports: TLS, HTTP, WebSocket, MQTT and what may stand between.
_MAX_LAYERS: Final = 8

# cryptography warns of each length that an attribute should not have, and clients choose the length.
warnings.filterwarnings("ignore", category=UserWarning, module=r"mfserver\.tls\.peer")


class IPeerTransport(Interface):
    """A TLS transport that a listener of ours made."""

    peer: "Peer | None" = Attribute("Whose certificate was shown; None if none was.")


@implementer(IPeer)
class Peer:
    """A client certificate whose key the other end proved to hold.

    :ivar tls_version: ``"TLSv1.2"`` or ``"TLSv1.3"``. Under 1.2 the certificate crossed the network in clear.
    """

    __slots__ = (
        "_chain",
        "_common_name",
        "_connection",
        "_context",
        "_leaf",
        "_not_valid_before",
        "_serial",
        "_uris",
        "_verified",
        "fingerprint",
        "not_valid_after",
        "tls_version",
    )

    def __init__(
        self,
        leaf: x509.Certificate,
        chain: Sequence[x509.Certificate],
        tls_version: str,
        context: ServerContext,
        generation: int,
        connection: SSL.Connection | None = None,
    ) -> None:
        """
        :param chain: the intermediates between the leaf and its trust root; empty on a resumed session.
        :param context: whose trust roots count, today's.
        :param generation: that of the context whose handshake verified the chain; 0 on a resumed session,
            of which we verify it ourselves.
        :param connection: where OpenSSL has the leaf as long as it lives; without one :meth:`rest` keeps it.
        :raises ValueError: the leaf has dates or a serial number that cannot be read.
        """
        self._leaf: x509.Certificate | None = leaf
        self.fingerprint = fingerprint(leaf.public_bytes(Encoding.DER))
        self._serial = leaf.serial_number
        self._not_valid_before = leaf.not_valid_before_utc.timestamp()
        self.not_valid_after = leaf.not_valid_after_utc.timestamp()
        self.tls_version = intern(tls_version)  # OpenSSL's name is a new text each time
        self._chain = tuple(chain)
        self._context = context
        self._verified = generation
        self._common_name: str | None = None
        self._uris: tuple[str, ...] | None = None
        self._connection = None if connection is None else ref(connection)

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate; at rest it is read from OpenSSL's connection, which takes ten microseconds.

        :raises NotAuthorized: that connection is gone, or shows another one.
        """
        if self._leaf is not None:
            return self._leaf
        connection = self._connection() if self._connection is not None else None
        leaf = connection.get_peer_certificate(as_cryptography=True) if connection is not None else None
        if leaf is None or fingerprint(leaf.public_bytes(Encoding.DER)) != self.fingerprint:
            raise NotAuthorized("the connection does not show the client certificate any more")
        return leaf

    def rest(self) -> None:
        # OpenSSL keeps the certificate as long as the connection: a second one would cost as much as all else
        # that we know of an idle client.
        if self._connection is not None:
            self._leaf = self._common_name = self._uris = None

    def common_name(self) -> str:
        if self._common_name is None:  # every request on this connection asks
            self._common_name = self._read_common_name()
        return self._common_name

    def uris(self) -> tuple[str, ...]:
        if self._uris is None:
            self._uris = self._read_uris()
        return self._uris

    def _read_common_name(self) -> str:
        # cryptography parses the subject only now, and what it raises for a broken one varies.
        try:
            subject = self._copy().subject
            names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            encoded = subject.public_bytes()
        except Exception as error:
            raise NotAuthorized("the certificate's subject cannot be read") from error
        if len(names) != 1:
            raise NotAuthorized("the certificate must have exactly one common name")
        name: object = names[0].value
        if not isinstance(name, str) or not 0 < len(name) <= MAX_COMMON_NAME:
            raise NotAuthorized(f"a common name has 1 to {MAX_COMMON_NAME} characters")
        if not name.isascii() or not name.isprintable():
            raise NotAuthorized("the certificate's common name is no printable text")
        value = bytes([len(name)]) + name.encode("ascii")
        if not any(_COMMON_NAME + bytes([tag]) + value in encoded for tag in _TEXT):
            raise NotAuthorized("the certificate's common name is of a type that is no text")
        return name

    def _read_uris(self) -> tuple[str, ...]:
        try:
            extensions = self._copy().extensions
            names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
        except x509.ExtensionNotFound:
            return ()
        except Exception as error:  # parsed only now, as the subject is
            raise NotAuthorized("the certificate's extensions cannot be read") from error

    def _copy(self) -> x509.Certificate:
        """The leaf once more: what is read in it stays with it, kilobytes for as long as the connection."""
        return x509.load_der_x509_certificate(self.leaf.public_bytes(Encoding.DER))

    def is_issued_by(self, issuers: Iterable[x509.Certificate]) -> bool:
        leaf = self.leaf
        for issuer in issuers:
            try:
                leaf.verify_directly_issued_by(issuer)
            except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
                continue
            return True
        return False

    def verify(self, now: float) -> None:
        # OpenSSL looks at no dates when it resumes a session, and shows no chain. A chain that it did verify
        # is looked at again only after a reload; whether somebody in it was revoked, always.
        generation = self._context.generation
        if self._verified != generation:
            self._chain = self._context.verify(self.leaf, self._chain, now)
            self._verified = generation
            return
        if not self._not_valid_before <= now <= self.not_valid_after:
            verify_dates(self.leaf, now)  # which says what is wrong
        self._context.verify_unrevoked(self.fingerprint, self._serial, lambda: self.leaf, self._chain, now)


def peer_of(transport: object) -> Peer | None:
    """The certificate shown on the connection under this transport, or protocol that acts as one.

    :return: None on plain TCP, when no certificate was shown, and for what is no transport of ours.
    """
    for _ in range(_MAX_LAYERS):
        if IPeerTransport.providedBy(transport):
            return transport.peer
        transport = getattr(transport, "transport", None)
        if transport is None:
            break
    return None
