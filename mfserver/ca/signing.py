"""Signs certificates off the reactor's thread: what takes seconds in one pool, what is quick in another."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

from cryptography import x509
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from mfserver.ca import bundle
from mfserver.ca.crl import build_crl
from mfserver.ca.issuer import Issued, Issuer, record
from mfserver.ca.keys import EC
from mfserver.certificates import CertificateRecord, NewCertificate
from mfserver.errors import ConfigurationError, Unavailable
from mfserver.interfaces import IIssuer
from mfserver.records import Thing

__all__ = ["Signing", "Workers", "NO_AUTHORITY"]

T = TypeVar("T")

#: What people are told where there is no key to sign with; files are named in the log alone.
NO_AUTHORITY: Final = (
    "this server has no authority to issue certificates with: its operator gives one with --ca and --ca-key,"
    " or with mfserver ca import"
)


class Workers(Protocol):
    """Threads, as :class:`mfserver.ca.pool.Pool` has them."""

    def defer(self, work: Callable[[], T]) -> Deferred[T]:
        """What the work returns or raises. :raises Overloaded: too much waits already."""


@implementer(IIssuer)
class Signing:
    """An authority at work.

    :param now: the time, in seconds since 1970.
    :param slow: makes keys of RSA and bundles, which take a core for up to seconds.
    :param quick: makes everything else, at about a millisecond each.
    :ivar issuer: who signs from now on; None where there is nobody.
    """

    def __init__(self, now: Callable[[], float], slow: Workers, quick: Workers) -> None:
        self.issuer: Issuer | None = None
        self._now = now
        self._slow = slow
        self._quick = quick

    @property
    def authorities(self) -> tuple[x509.Certificate, ...]:
        """The certificate of who signs, if there is somebody."""
        return () if self.issuer is None else (self.issuer.certificate,)

    def issue(
        self,
        thing: Thing,
        *,
        days: float,
        named_by_key: bool,
        key_type: str,
        key_bits: int | None,
        password: str | None,
    ) -> "Deferred[NewCertificate]":
        def work(issuer: Issuer, now: datetime) -> NewCertificate:
            issued = issuer.issue(
                thing.id,
                now=now,
                thing_key=thing.key if named_by_key else None,
                key_type=key_type,
                key_bits=key_bits,
                days=days,
            )
            return _new(issuer, issued, thing, password)

        is_quick = key_type == EC and password is None
        return self._defer(self._quick if is_quick else self._slow, work)

    def sign(
        self, thing: Thing, request: bytes, *, days: float, named_by_key: bool
    ) -> "Deferred[NewCertificate]":
        key = thing.key if named_by_key else None

        def work(issuer: Issuer, now: datetime) -> NewCertificate:
            return _new(issuer, issuer.sign(request, thing.id, now=now, thing_key=key, days=days), thing)

        return self._defer(self._quick, work)

    def renew(
        self, thing: Thing, record: CertificateRecord, request: bytes | None, *, days: float
    ) -> "Deferred[NewCertificate]":
        def work(issuer: Issuer, now: datetime) -> NewCertificate:
            key = thing.key if _is_named_by_key(record) else None
            if request is None:
                issued = issuer.renew(record.der, thing.id, now=now, thing_key=key, days=days)
            else:
                issued = issuer.sign(request, thing.id, now=now, thing_key=key, days=days)
            return _new(issuer, issued, thing)

        return self._defer(self._quick, work)

    def revocation_list(self, records: Iterable[CertificateRecord], number: int) -> "Deferred[bytes]":
        return self._defer(self._quick, lambda issuer, now: build_crl(issuer, records, number, now))

    def trust(self) -> bytes:
        return self._authority().trust

    def chain(self, record: CertificateRecord) -> bytes:
        issuer = self.issuer
        is_ours = issuer is not None and issuer.fingerprint == record.issuer
        return bundle.encode(bundle.PEM, record.der, issuer.intermediates if issuer and is_ours else ())

    def _authority(self) -> Issuer:
        if self.issuer is None:
            raise Unavailable(NO_AUTHORITY)
        return self.issuer

    def _defer(self, pool: Workers, work: Callable[[Issuer, datetime], T]) -> "Deferred[T]":
        try:
            issuer = self._authority()
        except Unavailable as error:
            return fail(error)
        now = datetime.fromtimestamp(self._now(), UTC)

        def translated() -> T:
            try:
                return work(issuer, now)
            except ConfigurationError as error:  # it has expired, or may not sign this
                raise Unavailable(f"this server's authority cannot do it: {error}") from error

        return pool.defer(translated)


def _new(issuer: Issuer, issued: Issued, thing: Thing, password: str | None = None) -> NewCertificate:
    encrypted = None
    if password is not None:
        encrypted = bundle.encode(
            bundle.PKCS12,
            issued.der,
            issuer.intermediates,
            private_key=issued.private_key,
            password=password,
            label=thing.id,
        )
    return NewCertificate(
        record(issued, thing.owner), issued.chain, issuer.trust, issued.private_key, encrypted
    )


def _is_named_by_key(record: CertificateRecord) -> bool:
    """Whether its common name is another one than the thing's id: the key that the thing had."""
    names = x509.load_der_x509_certificate(record.der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return [name.value for name in names] != [record.thing]
