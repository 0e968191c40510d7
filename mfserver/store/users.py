"""People, in the database."""

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mfserver.errors import Conflict, NotFound
from mfserver.interfaces import IUserStore
from mfserver.records import Metadata, User, UserId
from mfserver.store.database import Database
from mfserver.store.metadata import encode
from mfserver.store.schema import users

__all__ = ["Users"]


@implementer(IUserStore)
class Users:
    """People."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, user: User) -> Deferred[None]:
        def work(connection: sa.Connection) -> None:
            row = {
                "id": user.id,
                "email": user.email,
                "email_folded": user.email.casefold(),
                "password_hash": user.password_hash,
                "metadata": encode(user.metadata),
                "generation": user.generation,
            }
            try:
                connection.execute(sa.insert(users).values(row))
            except IntegrityError as error:
                raise Conflict("the e-mail address is taken") from error

        return self._database.write(work)

    def by_id(self, user: UserId) -> Deferred[User | None]:
        return self._database.read(lambda connection: _select(connection, users.c.id == user))

    def by_email(self, email: str) -> Deferred[User | None]:
        condition = users.c.email_folded == email.casefold()
        return self._database.read(lambda connection: _select(connection, condition))

    def set_metadata(self, user: UserId, metadata: Metadata | None) -> Deferred[None]:
        def work(connection: sa.Connection) -> None:
            statement = sa.update(users).where(users.c.id == user).values(metadata=encode(metadata))
            if not connection.execute(statement).rowcount:
                raise NotFound("no such user")

        return self._database.write(work)

    def set_password(self, user: UserId, password_hash: str, generation: int) -> Deferred[None]:
        def work(connection: sa.Connection) -> None:
            statement = (
                sa.update(users)
                .where(users.c.id == user, users.c.generation == generation)
                .values(password_hash=password_hash, generation=generation + 1)
            )
            if connection.execute(statement).rowcount:
                return
            if _select(connection, users.c.id == user) is None:
                raise NotFound("no such user")
            raise Conflict("the password was changed meanwhile")

        return self._database.write(work)


def _select(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> User | None:
    row = connection.execute(sa.select(users).where(condition)).one_or_none()
    if row is None:
        return None
    return User(row.id, row.email, row.password_hash, row.metadata, row.generation)
