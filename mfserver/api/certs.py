"""Certificates over HTTP, under Mainflux's names where it has some.

A thing's id has 36 characters with dashes and a serial number is hexadecimal: one path serves both.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from mfserver.api.bodies import (
    CertIssued,
    CertOrder,
    CertShown,
    CertsPage,
    Renewal,
    Revocation,
    Revoked,
    SigningRequest,
)
from mfserver.api.call import Call, Reply
from mfserver.api.pages import PART, read_part
from mfserver.ca.bundle import DER, MEDIA_TYPES, PEM, PKCS12
from mfserver.ca.crl import encode_crl_pem
from mfserver.certificates import REASONS, CertificateRecord, NewCertificate
from mfserver.errors import Invalid
from mfserver.provisioning.certificates import Certificates, Order
from mfserver.provisioning.fields import is_id
from mfserver.provisioning.revocation_list import KEPT_FOR
from mfserver.records import Page

__all__ = ["CertCalls", "CERTIFICATES", "FORMAT", "LIST_FORMAT", "LIST_TYPES", "REASON", "TYPES"]

#: The query parameters of the list of certificates.
CERTIFICATES: Final = {
    **PART,
    "thing": "a thing's id: its certificates alone",
    "state": "active, revoked or expired",
    "ends_within": "a time such as 30d or 720h: what has ended by then",
}
#: The query parameter of one certificate, and what it may be answered with besides JSON.
FORMAT: Final = {"format": "pem or der; JSON unless given"}
TYPES: Final = (MEDIA_TYPES[PEM], MEDIA_TYPES[DER])
#: The same of the revocation list (RFC 2585, 4.2; RFC 7468 for its text).
LIST_FORMAT: Final = {"format": "der or pem; der unless given"}
LIST_TYPES: Final = ("application/pkix-crl", "application/x-pem-file")
#: The query parameter of a revocation.
REASON: Final = {"reason": f"one of {', '.join(REASONS)}; the first unless given"}

_list_in_pem = lru_cache(maxsize=1)(encode_crl_pem)


class CertCalls:
    """What calls do with :class:`~mfserver.provisioning.certificates.Certificates`."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    async def issue(self, call: Call[CertOrder]) -> Reply:
        body = call.body
        is_bundle = body.format == PKCS12
        if body.format not in (None, PEM, PKCS12):
            raise Invalid(f"neither {PEM} nor {PKCS12}", "format")
        if is_bundle != (body.password is not None):
            raise Invalid(f"{PKCS12} needs one, and nothing else has one", "password")
        order = Order(body.thing_id, body.valid, body.cn, body.key_type, body.key_bits, body.password)
        return _created(await self._certificates.issue(call.user.id, call.address, order))

    async def sign(self, call: Call[SigningRequest]) -> Reply:
        order = Order(call.body.thing_id, call.body.valid, call.body.cn)
        return _created(await self._certificates.sign(call.user.id, call.address, call.body.csr, order))

    async def renew(self, call: Call[Renewal]) -> Reply:
        body = call.body
        new = await self._certificates.renew(
            call.user.id, call.address, call.places["id"], body.csr, body.valid
        )
        return _created(new)

    async def page(self, call: Call[None]) -> Reply:
        offset, limit = read_part(call)
        filters = {name: call.query.get(name) or None for name in ("thing", "state", "ends_within")}
        page = await self._certificates.page(call.user.id, offset=offset, limit=limit, **filters)
        return Reply(self._show_page(page))

    async def get(self, call: Call[None]) -> Reply:
        """One certificate, or with a thing's id those of the thing."""
        place, form = call.places["id"], _form(call, None)
        if is_id(place):
            page = await self._certificates.of_thing(call.user.id, place, *read_part(call))
            return Reply(self._show_page(page))
        record = await self._certificates.get(call.user.id, place)
        if form == DER:
            return Reply(record.der, media_type=MEDIA_TYPES[DER])
        chain = self._certificates.issuer.chain(record)
        if form == PEM:
            return Reply(chain, media_type=MEDIA_TYPES[PEM])
        return Reply(self._show(record, chain))

    async def revoke(self, call: Call[Revocation]) -> Reply:
        return await self._revoke(call, call.body.reason)

    async def remove(self, call: Call[None]) -> Reply:
        """Mainflux's way to revoke."""
        return await self._revoke(call, call.query.get("reason"))

    async def revocation_list(self, call: Call[None]) -> Reply:
        form = _form(call, DER)
        revoked = await self._certificates.revocation_list.get()
        if form == PEM:
            return Reply(_list_in_pem(revoked), media_type=LIST_TYPES[1], fresh_for=KEPT_FOR)
        return Reply(revoked, media_type=LIST_TYPES[0], fresh_for=KEPT_FOR)

    async def trust(self, call: Call[None]) -> Reply:
        return Reply(self._certificates.issuer.trust(), media_type=MEDIA_TYPES[PEM])

    async def _revoke(self, call: Call[Any], reason: str | None) -> Reply:
        record = await self._certificates.revoke(call.user.id, call.places["id"], reason)
        assert record.revoked_at is not None and record.reason is not None
        return Reply(Revoked(_time(record.revoked_at), record.reason))

    def _show_page(self, page: Page[CertificateRecord]) -> CertsPage:
        return CertsPage(page.total, page.offset, page.limit, [self._show(each) for each in page.entries])

    def _show(self, record: CertificateRecord, chain: bytes | None = None) -> CertShown:
        return CertShown(
            cert_serial=record.serial,
            thing_id=record.thing,
            state=record.state(self._certificates.now()),
            fingerprint=record.fingerprint.hex(),
            issued_at=_time(record.issued_at),
            valid_from=_time(record.not_before),
            expiration=_time(record.not_after),
            revocation_time=None if record.revoked_at is None else _time(record.revoked_at),
            reason=record.reason,
            replaced_by=record.replaced_by,
            cert=None if chain is None else chain.decode(),
        )


def _created(new: NewCertificate) -> Reply:
    """A key inside a bundle is not shown beside it."""
    key = new.private_key if new.bundle is None else None
    shown = CertIssued(
        thing_id=new.record.thing,
        cert=new.chain.decode(),
        cert_serial=new.record.serial,
        ca_cert=new.trust.decode(),
        expiration=_time(new.record.not_after),
        cert_key=None if key is None else key.decode(),
        p12=new.bundle,
    )
    return Reply(shown, location=f"/certs/{new.record.serial}")


def _form(call: Call[Any], default: str | None) -> str | None:
    """PEM or DER. :raises Invalid: something else is asked for."""
    form = call.query.get("format", default)
    if form not in (default, PEM, DER):
        raise Invalid(f"neither {PEM} nor {DER}", "format")
    return form


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
