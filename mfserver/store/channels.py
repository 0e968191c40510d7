"""Channels, in the database."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mfserver.errors import Conflict, NotFound
from mfserver.interfaces import IChannelStore
from mfserver.records import Channel, ChannelId, Metadata, Page, Query, UserId
from mfserver.store.database import Database
from mfserver.store.metadata import encode
from mfserver.store.pages import fold
from mfserver.store.schema import channels
from mfserver.store.select import select_page

__all__ = ["Channels", "make_channel"]


def make_channel(row: sa.Row[Any]) -> Channel:
    """The channel that a row of the table keeps."""
    return Channel(row.id, row.owner, row.name, row.metadata)


@implementer(IChannelStore)
class Channels:
    """Channels."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, channels: Sequence[Channel]) -> Deferred[None]:
        return self._database.write(lambda connection: _add(connection, channels))

    def get(self, owner: UserId, channel: ChannelId) -> Deferred[Channel]:
        def work(connection: sa.Connection) -> Channel:
            row = connection.execute(sa.select(channels).where(*_is(owner, channel))).one_or_none()
            if row is None:
                raise NotFound("no such channel")
            return make_channel(row)

        return self._database.read(work)

    def page(self, owner: UserId, query: Query) -> Deferred[Page[Channel]]:
        condition = channels.c.owner == owner
        return self._database.scan(
            lambda connection: select_page(connection, channels, condition, query, make_channel)
        )

    def update(
        self, owner: UserId, channel: ChannelId, name: str | None, metadata: Metadata | None
    ) -> Deferred[None]:
        def work(connection: sa.Connection) -> None:
            values = {"name": name, "name_folded": fold(name), "metadata": encode(metadata)}
            statement = sa.update(channels).where(*_is(owner, channel)).values(values)
            if not connection.execute(statement).rowcount:
                raise NotFound("no such channel")

        return self._database.write(work)

    def remove(self, owner: UserId, channel: ChannelId) -> Deferred[bool]:
        statement = sa.delete(channels).where(*_is(owner, channel))
        return self._database.write(lambda connection: connection.execute(statement).rowcount > 0)


def _add(connection: sa.Connection, new: Sequence[Channel]) -> None:
    rows = [
        {
            "id": channel.id,
            "owner": channel.owner,
            "name": channel.name,
            "name_folded": fold(channel.name),
            "metadata": encode(channel.metadata),
        }
        for channel in new
    ]
    if not rows:
        return
    try:
        connection.execute(sa.insert(channels), rows)
    except IntegrityError as error:
        raise Conflict("the channel exists already") from error


def _is(owner: UserId, channel: ChannelId) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return channels.c.owner == owner, channels.c.id == channel
