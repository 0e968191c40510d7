"""Which thing may use which channel, in the database."""

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mfserver.errors import Conflict, Invalid, NotFound
from mfserver.interfaces import IConnectionStore
from mfserver.records import Channel, ChannelId, Page, Query, Thing, ThingId, UserId
from mfserver.store.channels import make_channel
from mfserver.store.database import Database
from mfserver.store.schema import channels, connections, things
from mfserver.store.select import check_owned, pieces, select_page
from mfserver.store.things import make_thing

__all__ = ["MAX_PAIRS", "Connections"]

#: Pairs of one request: all wait while they are written.
MAX_PAIRS: Final = 100_000


@implementer(IConnectionStore)
class Connections:
    """Which thing may use which channel."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def connect(
        self, owner: UserId, channels: Sequence[ChannelId], things: Sequence[ThingId]
    ) -> Deferred[None]:
        def work(connection: sa.Connection) -> None:
            ends = _ends(connection, owner, channels, things)
            rows = [{"channel": channel, "thing": thing} for channel in ends[0] for thing in ends[1]]
            try:
                if rows:
                    connection.execute(sa.insert(connections), rows)
            except IntegrityError as error:
                raise Conflict("connected already") from error

        return self._database.write(work)

    def disconnect(
        self, owner: UserId, channels: Sequence[ChannelId], things: Sequence[ThingId]
    ) -> Deferred[None]:
        def work(connection: sa.Connection) -> None:
            ends = _ends(connection, owner, channels, things)
            gone = 0
            for some in pieces(ends[0]):
                for others in pieces(ends[1]):
                    condition = connections.c.channel.in_(some), connections.c.thing.in_(others)
                    gone += connection.execute(sa.delete(connections).where(*condition)).rowcount
            if gone < len(ends[0]) * len(ends[1]):
                raise NotFound("not connected")

        return self._database.write(work)

    def channels_of(self, thing: ThingId) -> Deferred[frozenset[ChannelId]]:
        statement = sa.select(connections.c.channel).where(connections.c.thing == thing)
        return self._database.read(lambda connection: frozenset(connection.scalars(statement)))

    def things_on(
        self, owner: UserId, channel: ChannelId, query: Query, connected: bool
    ) -> Deferred[Page[Thing]]:
        def work(connection: sa.Connection) -> Page[Thing]:
            check_owned(connection, channels, owner, [channel])
            on_it = sa.select(connections.c.thing).where(connections.c.channel == channel)
            is_wanted = things.c.id.in_(on_it) if connected else things.c.id.not_in(on_it)
            return select_page(connection, things, (things.c.owner == owner) & is_wanted, query, make_thing)

        return self._database.scan(work)

    def channels_with(
        self, owner: UserId, thing: ThingId, query: Query, connected: bool
    ) -> Deferred[Page[Channel]]:
        def work(connection: sa.Connection) -> Page[Channel]:
            check_owned(connection, things, owner, [thing])
            with_it = sa.select(connections.c.channel).where(connections.c.thing == thing)
            is_wanted = channels.c.id.in_(with_it) if connected else channels.c.id.not_in(with_it)
            mine = (channels.c.owner == owner) & is_wanted
            return select_page(connection, channels, mine, query, make_channel)

        return self._database.scan(work)


def _ends(
    connection: sa.Connection, owner: UserId, some: Sequence[ChannelId], others: Sequence[ThingId]
) -> tuple[list[ChannelId], list[ThingId]]:
    """The different channels and things among these, all of them the owner's."""
    ends = list(dict.fromkeys(some)), list(dict.fromkeys(others))
    if len(ends[0]) * len(ends[1]) > MAX_PAIRS:
        raise Invalid(f"more than {MAX_PAIRS} connections at once")
    check_owned(connection, channels, owner, ends[0])
    check_owned(connection, things, owner, ends[1])
    return ends
