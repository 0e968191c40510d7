"""Certificates of things, in a dictionary: it passes the contract of the real one."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from zope.interface import implementer

from mfserver.certificates import ACTIVE, REASONS, REVOKED, CertificateQuery, CertificateRecord
from mfserver.errors import Conflict, Invalid, NotFound
from mfserver.interfaces import ICertificateStore
from mfserver.records import Page, Thing, ThingId, UserId
from mfserver.store.pages import check_certificate_query
from tests.store.fired import fired

__all__ = ["MemoryCertificates"]


@implementer(ICertificateStore)
class MemoryCertificates:
    """An :class:`~mfserver.interfaces.ICertificateStore` beside a dictionary of things."""

    def __init__(self, things: Mapping[ThingId, Thing], check_open: Callable[[], None]) -> None:
        self._things = things
        self._check_open = check_open
        self._known: dict[str, CertificateRecord] = {}

    @fired
    def add(self, record: CertificateRecord, replaces: str | None = None) -> None:
        self._check_open()
        thing = self._things.get(record.thing)
        if thing is None or thing.owner != record.owner:
            raise NotFound("no such thing")
        renewed = None if replaces is None else self._get(record.owner, replaces)
        if renewed is not None and renewed.thing != record.thing:
            raise NotFound("no such certificate")
        if renewed is not None and (renewed.revoked_at, renewed.replaced_by) != (None, None):
            raise Conflict("the certificate was revoked or renewed already")
        prints = {known.fingerprint for known in self._known.values()}
        if record.serial in self._known or record.fingerprint in prints:
            raise Conflict("the certificate exists already")
        if renewed is not None:
            self._known[renewed.serial] = replace(renewed, replaced_by=record.serial)
        self._known[record.serial] = record

    @fired
    def by_fingerprint(self, fingerprint: bytes) -> CertificateRecord | None:
        return next((known for known in self._known.values() if known.fingerprint == fingerprint), None)

    @fired
    def get(self, owner: UserId, serial: str) -> CertificateRecord:
        return self._get(owner, serial)

    @fired
    def page(self, owner: UserId, query: CertificateQuery) -> Page[CertificateRecord]:
        check_certificate_query(query)
        found = [
            known
            for known in reversed(self._known.values())
            if known.owner == owner
            and query.thing in {None, known.thing}
            and query.state in {None, known.state(query.now)}
            and (query.ends_before is None or known.not_after < query.ends_before)
        ]
        shown = found[query.offset : query.offset + query.limit]
        return Page(len(found), query.offset, query.limit, shown)

    @fired
    def revoke(self, owner: UserId, serial: str, reason: str, now: int) -> CertificateRecord:
        self._check_open()
        if reason not in REASONS:
            raise Invalid("no such reason", "reason")
        known = self._get(owner, serial)
        if known.revoked_at is None:
            self._known[serial] = replace(known, revoked_at=now, reason=reason)
        return self._known[serial]

    @fired
    def revoked(self, now: int) -> list[CertificateRecord]:
        return self.load_revoked(now)

    def load_revoked(self, now: int) -> list[CertificateRecord]:
        return [
            replace(known, der=b"")
            for known in self._known.values()
            if known.state(now) == REVOKED and now <= known.not_after
        ]

    @fired
    def ending(self, now: int, before: int) -> list[CertificateRecord]:
        return [
            replace(known, der=b"")
            for known in self._known.values()
            if known.state(now) == ACTIVE and known.not_after < before and known.replaced_by is None
        ]

    def revoke_all(self, thing: ThingId, now: int) -> None:
        """The thing ceases to be."""
        for serial, known in self._known.items():
            if known.thing == thing and known.state(now) == ACTIVE:
                self._known[serial] = replace(known, revoked_at=now, reason="cessationOfOperation")

    def _get(self, owner: UserId, serial: str) -> CertificateRecord:
        known = self._known.get(serial)
        if known is None or known.owner != owner:
            raise NotFound("no such certificate")
        return known
