"""Things and their keys, in the database."""

import hmac
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mfserver.errors import Conflict, NotFound
from mfserver.interfaces import IThingStore
from mfserver.records import Metadata, Page, Query, Thing, ThingId, UserId
from mfserver.store.certificates import revoke_all
from mfserver.store.database import Database
from mfserver.store.functions import insert_missing
from mfserver.store.metadata import encode
from mfserver.store.pages import fold
from mfserver.store.schema import retired_keys, things
from mfserver.store.select import is_any_in, pieces, select_page

__all__ = ["Things", "make_thing"]


def make_thing(row: sa.Row[Any]) -> Thing:
    """The thing that a row of the table keeps."""
    return Thing(row.id, row.owner, row.key, row.name, row.metadata)


@implementer(IThingStore)
class Things:
    """Things and their keys."""

    def __init__(self, database: Database, digest: Callable[[str], bytes], now: Callable[[], float]) -> None:
        """Keep things in a database.

        :param digest: the HMAC of a key; called in any thread.
        :param now: seconds since 1970, which the certificates of a thing are revoked at with it.
        """
        self._database = database
        self._digest = digest
        self._now = now

    def add(self, things: Sequence[Thing]) -> Deferred[None]:
        return self._database.write(lambda connection: self._add(connection, things))

    def get(self, owner: UserId, thing: ThingId) -> Deferred[Thing]:
        return self._database.read(lambda connection: make_thing(_select(connection, owner, thing)))

    def by_key(self, key: str) -> Deferred[Thing | None]:
        def work(connection: sa.Connection) -> Thing | None:
            try:
                digest = self._digest(key)
            except UnicodeEncodeError:
                return None
            row = connection.execute(sa.select(things).where(things.c.key_digest == digest)).one_or_none()
            if row is None or not hmac.compare_digest(row.key.encode(), key.encode()):
                return None
            return make_thing(row)

        return self._database.read(work)

    def by_id(self, thing: ThingId) -> Deferred[Thing | None]:
        def work(connection: sa.Connection) -> Thing | None:
            row = connection.execute(sa.select(things).where(things.c.id == thing)).one_or_none()
            return None if row is None else make_thing(row)

        return self._database.read(work)

    def page(self, owner: UserId, query: Query) -> Deferred[Page[Thing]]:
        condition = things.c.owner == owner
        return self._database.scan(
            lambda connection: select_page(connection, things, condition, query, make_thing)
        )

    def update(
        self, owner: UserId, thing: ThingId, name: str | None, metadata: Metadata | None
    ) -> Deferred[None]:
        def work(connection: sa.Connection) -> None:
            values = {"name": name, "name_folded": fold(name), "metadata": encode(metadata)}
            if not connection.execute(sa.update(things).where(*_is(owner, thing)).values(values)).rowcount:
                raise NotFound("no such thing")

        return self._database.write(work)

    def set_key(self, owner: UserId, thing: ThingId, key: str) -> Deferred[None]:
        def work(connection: sa.Connection) -> None:
            digest = self._digest(key)
            known = _select(connection, owner, thing)
            if known.key_digest == digest:
                return
            self._check_free(connection, {digest: owner}, [key])
            insert_missing(connection, retired_keys, key_digest=known.key_digest, owner=owner)
            statement = sa.update(things).where(*_is(owner, thing)).values(key=key, key_digest=digest)
            connection.execute(statement)

        return self._database.write(work)

    def remove(self, owner: UserId, thing: ThingId) -> Deferred[bool]:
        now = int(self._now())

        def work(connection: sa.Connection) -> bool:
            try:
                known = _select(connection, owner, thing)
            except NotFound:
                return False
            insert_missing(connection, retired_keys, key_digest=known.key_digest, owner=owner)
            connection.execute(sa.delete(things).where(*_is(owner, thing)))
            revoke_all(connection, owner, thing, now)
            return True

        return self._database.write(work)

    def _add(self, connection: sa.Connection, new: Sequence[Thing]) -> None:
        rows = [
            {
                "id": thing.id,
                "owner": thing.owner,
                "key": thing.key,
                "key_digest": self._digest(thing.key),
                "name": thing.name,
                "name_folded": fold(thing.name),
                "metadata": encode(thing.metadata),
            }
            for thing in new
        ]
        if not rows:
            return
        # No key is a thing's id, whichever of the two comes first.
        ids = {thing.id for thing in new}
        if any(thing.key in ids for thing in new):
            raise Conflict("the key is taken")
        if is_any_in(connection, things.c.key_digest, map(self._digest, ids)):
            raise Conflict("the thing exists already")
        owners = {self._digest(thing.key): thing.owner for thing in new}
        self._check_free(connection, owners, [thing.key for thing in new])
        try:
            connection.execute(sa.insert(things), rows)
        except IntegrityError as error:
            raise Conflict("the key is taken, or the thing exists already") from error

    def _check_free(
        self, connection: sa.Connection, owners: dict[bytes, UserId], keys: Sequence[str]
    ) -> None:
        """Make sure that these keys may be had by those who ask for them.

        :param owners: by the digests of the keys, who asks.
        :raises Conflict: one is a thing's key, was another owner's, or is a thing's id.
        """
        if is_any_in(connection, things.c.key_digest, owners) or is_any_in(connection, things.c.id, keys):
            raise Conflict("the key is taken")
        for piece in pieces(owners):
            statement = sa.select(retired_keys).where(retired_keys.c.key_digest.in_(piece))
            for digest, owner in connection.execute(statement):
                if owners[digest] != owner:
                    raise Conflict("the key is taken")


def _is(owner: UserId, thing: ThingId) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return things.c.owner == owner, things.c.id == thing


def _select(connection: sa.Connection, owner: UserId, thing: ThingId) -> sa.Row[Any]:
    row = connection.execute(sa.select(things).where(*_is(owner, thing))).one_or_none()
    if row is None:
        raise NotFound("no such thing")
    return row
