"""Certificates of things, in the database. They outlive their things, and stay when they are revoked."""

from collections.abc import Iterator
from dataclasses import astuple, fields
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mfserver.certificates import EXPIRED, REASONS, REVOKED, CertificateQuery, CertificateRecord
from mfserver.errors import Conflict, Invalid, NotFound
from mfserver.interfaces import ICertificateStore
from mfserver.records import Page, ThingId, UserId
from mfserver.store.database import Database
from mfserver.store.pages import check_certificate_query
from mfserver.store.schema import certificates, things
from mfserver.store.select import MAX_OFFSET, check_owned

__all__ = ["Certificates", "revoke_all"]

_FIELDS: Final = tuple(field.name for field in fields(CertificateRecord))
_RECORD: Final = sa.select(*(certificates.c[name] for name in _FIELDS))
#: Without the certificates themselves, which are most of a row.
_OUTLINE: Final = sa.select(*(sa.literal(b"") if name == "der" else certificates.c[name] for name in _FIELDS))
_IS_REVOKED: Final = certificates.c.revoked_at.is_not(None)
_IS_NOT_REVOKED: Final = certificates.c.revoked_at.is_(None)
_IS_NOT_RENEWED: Final = certificates.c.replaced_by.is_(None)


def revoke_all(connection: sa.Connection, owner: UserId, thing: ThingId, now: int) -> None:
    """Revoke every certificate of a thing that ceases to be. What has expired stays as it is.

    :param now: seconds since 1970.
    """
    is_meant = _is_of(owner, thing) & _IS_NOT_REVOKED & (certificates.c.not_after >= now)
    values = {"revoked_at": now, "reason": "cessationOfOperation"}
    connection.execute(sa.update(certificates).where(is_meant).values(values))


@implementer(ICertificateStore)
class Certificates:
    """Certificates of things."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, record: CertificateRecord, replaces: str | None = None) -> Deferred[None]:
        return self._database.write(lambda connection: _add(connection, record, replaces))

    def by_fingerprint(self, fingerprint: bytes) -> Deferred[CertificateRecord | None]:
        condition = certificates.c.fingerprint == fingerprint
        return self._database.read(lambda connection: _find(connection, condition))

    def get(self, owner: UserId, serial: str) -> Deferred[CertificateRecord]:
        return self._database.read(lambda connection: _get(connection, _is(owner, serial)))

    def page(self, owner: UserId, query: CertificateQuery) -> Deferred[Page[CertificateRecord]]:
        return self._database.scan(lambda connection: _page(connection, owner, query))

    def revoke(self, owner: UserId, serial: str, reason: str, now: int) -> Deferred[CertificateRecord]:
        """Do what the interface says.

        :raises Invalid: there is no such reason, and no list could ever tell it.
        """
        is_it = _is(owner, serial)

        def work(connection: sa.Connection) -> CertificateRecord:
            if reason not in REASONS:
                raise Invalid(f"reason must be one of {', '.join(REASONS)}", "reason")
            statement = sa.update(certificates).where(is_it, _IS_NOT_REVOKED)
            connection.execute(statement.values(revoked_at=now, reason=reason))
            return _get(connection, is_it)

        return self._database.write(work)

    def revoked(self, now: int) -> Deferred[list[CertificateRecord]]:
        return self._database.scan(lambda connection: _revoked(connection, now))

    def load_revoked(self, now: int) -> list[CertificateRecord]:
        """Do what the interface says. It leaves no thread and no open file: a daemon may fork.

        :raises ConfigurationError: the database cannot be used.
        """
        return self._database.write_now(lambda connection: _revoked(connection, now))

    def ending(self, now: int, before: int) -> Deferred[list[CertificateRecord]]:
        is_between = certificates.c.not_after >= now, certificates.c.not_after < before
        statement = _OUTLINE.where(_IS_NOT_REVOKED, _IS_NOT_RENEWED, *is_between)
        return self._database.scan(lambda connection: _records(connection, statement))


def _add(connection: sa.Connection, record: CertificateRecord, replaces: str | None) -> None:
    check_owned(connection, things, record.owner, [record.thing])
    if replaces is not None:
        is_it = _is(record.owner, replaces) & (certificates.c.thing == record.thing)
        statement = sa.update(certificates).where(is_it, _IS_NOT_REVOKED, _IS_NOT_RENEWED)
        if not connection.execute(statement.values(replaced_by=record.serial)).rowcount:
            _get(connection, is_it)
            raise Conflict("the certificate was revoked or renewed already")
    try:
        connection.execute(sa.insert(certificates).values(dict(zip(_FIELDS, astuple(record), strict=True))))
    except IntegrityError as error:
        raise Conflict("the certificate exists already") from error


def _page(connection: sa.Connection, owner: UserId, query: CertificateQuery) -> Page[CertificateRecord]:
    check_certificate_query(query)
    conditions = list(_conditions(owner, query))
    total = connection.scalar(sa.select(sa.func.count()).select_from(certificates).where(*conditions)) or 0
    statement = (
        _RECORD.where(*conditions)
        .order_by(certificates.c.sequence.desc())
        .offset(min(query.offset, MAX_OFFSET))
        .limit(query.limit)
    )
    return Page(total, query.offset, query.limit, _records(connection, statement))


def _conditions(owner: UserId, query: CertificateQuery) -> Iterator[sa.ColumnElement[bool]]:
    """What the indexes of an owner's certificates answer by themselves."""
    yield certificates.c.owner == owner if query.thing is None else _is_of(owner, query.thing)
    not_after = certificates.c.not_after
    if query.state == REVOKED:
        yield _IS_REVOKED
    elif query.state is not None:
        yield _IS_NOT_REVOKED
        yield not_after < query.now if query.state == EXPIRED else not_after >= query.now
    if query.ends_before is not None:
        yield not_after < query.ends_before


def _revoked(connection: sa.Connection, now: int) -> list[CertificateRecord]:
    return _records(connection, _OUTLINE.where(_IS_REVOKED, certificates.c.not_after >= now))


def _records(connection: sa.Connection, statement: sa.Select[Any]) -> list[CertificateRecord]:
    return [CertificateRecord(*row) for row in connection.execute(statement)]


def _find(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> CertificateRecord | None:
    row = connection.execute(_RECORD.where(condition)).one_or_none()
    return None if row is None else CertificateRecord(*row)


def _get(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> CertificateRecord:
    found = _find(connection, condition)
    if found is None:
        raise NotFound("no such certificate")
    return found


def _is(owner: UserId, serial: str) -> sa.ColumnElement[bool]:
    return (certificates.c.owner == owner) & (certificates.c.serial == serial)


def _is_of(owner: UserId, thing: ThingId) -> sa.ColumnElement[bool]:
    return (certificates.c.owner == owner) & (certificates.c.thing == thing)
