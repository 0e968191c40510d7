"""Certificates: what people may do to those of their things. Private keys are shown once and not kept."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mfserver.certificates import REASONS, REVOKED, CertificateQuery, CertificateRecord, NewCertificate
from mfserver.errors import Invalid, NotFound
from mfserver.interfaces import ICertificateStore, IIssuer, IRevocations, IThingStore
from mfserver.provisioning.fields import is_id
from mfserver.provisioning.revocation_list import RevocationList
from mfserver.provisioning.turnstile import Turnstile
from mfserver.records import MAX_PAGE, Page, Thing, ThingId, UserId

__all__ = ["Certificates", "Order", "read_days", "read_serial", "DEFAULT_DAYS", "MAX_DAYS"]

#: How long a certificate lives unless something else is asked for.
DEFAULT_DAYS: Final = 90
#: The longest that may be asked for.
MAX_DAYS: Final = 3650

#: What stands in a common name, by the word that asks for it.
_COMMON_NAMES: Final = ("id", "key")
#: Bits of EC keys; who asks for more and names no type means RSA, as in Mainflux.
_MAX_EC_BITS: Final = 521
# Of the certificates that may be under way or wait in all; one of RSA 4096 takes a core for seconds.
_MADE_PER_ADDRESS: Final = 4

_SERIAL: Final = re.compile("0*([1-9a-f][0-9a-f]{0,39})")
_PART: Final = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_DURATION: Final = re.compile(rf"(?:{_PART}d)?(?:{_PART}h)?(?:{_PART}m)?(?:{_PART}s)?")
_SECONDS: Final = (86_400, 3_600, 60, 1)


@dataclass(frozen=True, slots=True)
class Order:
    """A certificate that is wanted.

    :ivar common_name: ``id`` or ``key``: which of the thing's stands there. With its key the certificate is
        understood by other Mainflux servers, and is a secret.
    :ivar key_type: ``ec`` or ``rsa``; None for what has so many bits.
    :ivar key_bits: None for the type's default.
    :ivar password: what a PKCS #12 is encrypted with; None for none.
    """

    thing: str
    valid: str | float | None = None
    common_name: str | None = None
    key_type: str | None = None
    key_bits: int | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Certificates:
    """The rules for certificates of things.

    Every ``address`` is the client's, as :func:`mfserver.address.network` names it.

    :ivar now: seconds since 1970.
    :ivar days: how long a certificate lives unless something else is asked for.
    :ivar turnstile: how many certificates may be made for one address together; more get ``SlowDown``.
    """

    store: ICertificateStore
    things: IThingStore
    issuer: IIssuer
    revocations: IRevocations
    revocation_list: RevocationList
    now: Callable[[], float]
    days: float = DEFAULT_DAYS
    turnstile: Turnstile = field(default_factory=lambda: Turnstile(_MADE_PER_ADDRESS))

    async def issue(self, owner: UserId, address: str, order: Order) -> NewCertificate:
        """Make a key and a certificate.

        :raises Invalid: a field is malformed.
        :raises NotFound: the thing is none of this owner's.
        :raises Unavailable: there is no authority to sign with.
        """
        days, named_by_key = self._days(order.valid), _is_named_by_key(order.common_name)
        key_type = (order.key_type or ("rsa" if (order.key_bits or 0) > _MAX_EC_BITS else "ec")).lower()
        thing = await self._thing(owner, order.thing)
        with self.turnstile.passed(address):
            new = await self.issuer.issue(
                thing,
                days=days,
                named_by_key=named_by_key,
                key_type=key_type,
                key_bits=order.key_bits,
                password=order.password,
            )
        await self.store.add(new.record)
        return new

    async def sign(self, owner: UserId, address: str, request: str, order: Order) -> NewCertificate:
        """Sign a certificate for the key of a signing request; nothing else of that counts.

        :param request: in PEM.
        :param order: its key type, bits and password are not looked at.
        :raises Invalid: as :meth:`issue`, and its field is ``csr``.
        """
        days, named_by_key = self._days(order.valid), _is_named_by_key(order.common_name)
        thing = await self._thing(owner, order.thing)
        with self.turnstile.passed(address):
            new = await self.issuer.sign(thing, _bytes(request), days=days, named_by_key=named_by_key)
        await self.store.add(new.record)
        return new

    async def renew(
        self, owner: UserId, address: str, serial: str, request: str | None, valid: str | float | None
    ) -> NewCertificate:
        """Sign a new certificate in the place of one, which stays good until it ends or is revoked.

        :param request: in PEM: whose key is certified from now on; None for the same key.
        :raises NotFound: there is no such certificate of this owner's, or its thing is gone.
        :raises Conflict: it was revoked or renewed already.
        """
        days = self._days(valid)
        old = await self.get(owner, serial)
        thing = await self._thing(owner, old.thing)
        with self.turnstile.passed(address):
            data = None if request is None else _bytes(request)
            new = await self.issuer.renew(thing, old, data, days=days)
        await self.store.add(new.record, replaces=old.serial)
        return new

    async def revoke(self, owner: UserId, serial: str, reason: str | None) -> CertificateRecord:
        """Revoke a certificate, which ends its live connections; one that is revoked stays as it is.

        :param reason: one of :data:`~mfserver.certificates.REASONS`; None for ``unspecified``.
        :raises Invalid: there is no such reason.
        :raises NotFound: none of this owner's.
        """
        reason = reason or REASONS[0]
        if reason not in REASONS:
            raise Invalid(f"not one of {', '.join(REASONS)}", "reason")
        record = await self.store.revoke(owner, read_serial(serial), reason, int(self.now()))
        self.revocation_list.forget()
        self.revocations.revoked([record])
        return record

    async def thing_deleted(self, owner: UserId, thing: ThingId) -> None:
        """End the live connections of certificates that were revoked with their thing."""
        offset, now = 0, int(self.now())
        while True:
            query = CertificateQuery(now=now, offset=offset, limit=MAX_PAGE, thing=thing, state=REVOKED)
            page = await self.store.page(owner, query)
            ended = [record for record in page.entries if record.not_after >= now]
            if ended:
                self.revocation_list.forget()
                self.revocations.revoked(ended)
            offset += MAX_PAGE
            if offset >= page.total:
                return

    async def get(self, owner: UserId, serial: str) -> CertificateRecord:
        """:raises NotFound: none of this owner's."""
        return await self.store.get(owner, read_serial(serial))

    async def page(
        self,
        owner: UserId,
        *,
        offset: int,
        limit: int,
        thing: str | None = None,
        state: str | None = None,
        ends_within: str | None = None,
    ) -> Page[CertificateRecord]:
        """A page of the owner's certificates, the youngest first.

        :param state: ``active``, ``revoked`` or ``expired``.
        :param ends_within: a time as :func:`read_days` takes it.
        :raises Invalid: a parameter is malformed.
        """
        if thing is not None and not is_id(thing):
            return Page(0, offset, limit, ())
        now = int(self.now())
        within = None if ends_within is None else read_days(ends_within, "ends_within") * 86_400
        query = CertificateQuery(
            now=now,
            offset=offset,
            limit=limit,
            thing=None if thing is None else ThingId(thing),
            state=state,
            ends_before=None if within is None else now + int(within),
        )
        return await self.store.page(owner, query)

    async def of_thing(self, owner: UserId, thing: str, offset: int, limit: int) -> Page[CertificateRecord]:
        """A page of a thing's certificates; those of one that was deleted are still there.

        :raises NotFound: there is no such thing of this owner's, and never was one with a certificate.
        """
        page = await self.page(owner, offset=offset, limit=limit, thing=thing)
        if not page.total:
            await self._thing(owner, thing)
        return page

    async def _thing(self, owner: UserId, thing: str) -> Thing:
        if not is_id(thing):
            raise NotFound("no such thing")
        return await self.things.get(owner, ThingId(thing))

    def _days(self, valid: str | float | None) -> float:
        return self.days if valid is None else read_days(valid, "valid")


def read_days(text: str | float, name: str) -> float:
    """Read a length of time: ``90`` or ``90d`` in days, ``2160h`` as Go and Mainflux write it, ``1d12h30m``.

    :param name: the field that errors name.
    :raises Invalid: it is no such thing, or not between one second and :data:`MAX_DAYS`.
    """
    if isinstance(text, str):
        match = _DURATION.fullmatch(f"{text}d" if text.isascii() and text.isdigit() else text)
        if match is None or not text:
            raise Invalid('not a time such as "90d", "2160h" or a number of days', name)
        parts = zip(match.groups(), _SECONDS, strict=True)
        seconds = sum(float(number) * length for number, length in parts if number)
    else:
        seconds = text * 86_400
    if not 1 <= seconds <= MAX_DAYS * 86_400:  # a NaN is refused, too
        raise Invalid(f"not between a second and {MAX_DAYS} days", name)
    return seconds / 86_400


def read_serial(text: str) -> str:
    """A serial number as records write it, from how openssl and others do: capitals, colons, leading zeros.

    :raises NotFound: nothing of ours has such a number.
    """
    match = _SERIAL.fullmatch(text.replace(":", "").lower())
    if match is None:
        raise NotFound("no such certificate")
    return match[1]


def _is_named_by_key(common_name: str | None) -> bool:
    if common_name is None:
        return False
    if common_name not in _COMMON_NAMES:
        raise Invalid(f"not one of {', '.join(_COMMON_NAMES)}", "cn")
    return common_name == "key"


def _bytes(request: str) -> bytes:
    """JSON can hold lone surrogates; no request does."""
    return request.encode("utf-8", "surrogatepass")
