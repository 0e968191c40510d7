"""The API keys of people, in the database."""

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mfserver.errors import Conflict, NotFound
from mfserver.interfaces import IKeyStore
from mfserver.records import ApiKey, KeyId, UserId
from mfserver.store.database import Database
from mfserver.store.schema import api_keys, users
from mfserver.store.select import is_any_in

__all__ = ["Keys"]


@implementer(IKeyStore)
class Keys:
    """The API keys of people."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, key: ApiKey) -> Deferred[None]:
        def work(connection: sa.Connection) -> None:
            if not is_any_in(connection, users.c.id, [key.owner]):
                raise NotFound("no such user")
            row = {
                "id": key.id,
                "owner": key.owner,
                "issued_at": key.issued_at,
                "expires_at": key.expires_at,
            }
            try:
                connection.execute(sa.insert(api_keys).values(row))
            except IntegrityError as error:
                raise Conflict("the API key exists already") from error

        return self._database.write(work)

    def get(self, owner: UserId, key: KeyId) -> Deferred[ApiKey]:
        def work(connection: sa.Connection) -> ApiKey:
            row = connection.execute(sa.select(api_keys).where(*_is(owner, key))).one_or_none()
            if row is None:
                raise NotFound("no such API key")
            return ApiKey(row.id, row.owner, row.issued_at, row.expires_at)

        return self._database.read(work)

    def remove(self, owner: UserId, key: KeyId) -> Deferred[None]:
        def work(connection: sa.Connection) -> None:
            connection.execute(sa.delete(api_keys).where(*_is(owner, key)))

        return self._database.write(work)


def _is(owner: UserId, key: KeyId) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return api_keys.c.owner == owner, api_keys.c.id == key
