"""Connections: which thing may use which channel, and who may ask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mfserver.errors import Invalid, NotAuthorized, NotFound, Unauthenticated
from mfserver.interfaces import IChanges, IConnectionStore
from mfserver.provisioning.fields import is_id
from mfserver.provisioning.things import Things
from mfserver.records import Change, Channel, ChannelId, Page, Query, Thing, ThingId, UserId

__all__ = ["Connections", "MAX_PAIRS"]

#: Pairs of a channel and a thing that one request connects or disconnects.
MAX_PAIRS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Connections:
    """The rules for connections.

    :ivar things: answers for the keys of things, and counts the ones that nobody has.
    """

    store: IConnectionStore
    things: Things
    changes: IChanges

    async def connect(self, owner: UserId, channels: Sequence[str], things: Sequence[str]) -> None:
        """Connect every channel with every thing, all or none. The same id twice counts once.

        :raises Invalid: a list is empty, or there are more than :data:`MAX_PAIRS` pairs.
        :raises NotFound: one of them is none of this owner's.
        :raises Conflict: a pair is connected already.
        """
        some_channels, some_things = _pairs(channels, things)
        await self.store.connect(owner, some_channels, some_things)
        self.changes.changed(Change(some_things, some_channels, connected=True))

    async def disconnect(self, owner: UserId, channels: Sequence[str], things: Sequence[str]) -> None:
        """Disconnect every channel from every thing, all or none: the things fall silent there at once.

        :raises Invalid: a list is empty, or there are more than :data:`MAX_PAIRS` pairs.
        :raises NotFound: one of them is none of this owner's, or a pair is not connected.
        """
        some_channels, some_things = _pairs(channels, things)
        await self.store.disconnect(owner, some_channels, some_things)
        self.changes.changed(Change(some_things, some_channels))

    async def things_on(self, owner: UserId, channel: str, query: Query, connected: bool) -> Page[Thing]:
        """The owner's things that are, or are not, connected to a channel. :raises NotFound: no such one."""
        if not is_id(channel):
            raise NotFound("no such channel")
        return await self.store.things_on(owner, ChannelId(channel), query, connected)

    async def channels_with(self, owner: UserId, thing: str, query: Query, connected: bool) -> Page[Channel]:
        """The owner's channels that a thing is, or is not, connected to. :raises NotFound: no such one."""
        if not is_id(thing):
            raise NotFound("no such thing")
        return await self.store.channels_with(owner, ThingId(thing), query, connected)

    async def access_by_key(self, address: str, channel: str, key: str) -> ThingId:
        """Which thing may use a channel with this key.

        :raises NotAuthorized: no thing has the key, or it is not connected; the two look alike.
        :raises SlowDown: too many unknown keys from this address.
        """
        try:
            thing = await self.things.identify(address, key)
        except Unauthenticated as error:
            raise _refusal() from error
        if channel not in await self.store.channels_of(thing):
            raise _refusal()
        return thing

    async def access_by_id(self, owner: UserId, channel: str, thing: str) -> None:
        """Whether a thing of the owner's may use a channel.

        :raises NotAuthorized: it may not, or there is no such thing or channel of the owner's.
        """
        try:
            identity = (await self.things.get(owner, thing)).id
        except NotFound as error:
            raise _refusal() from error
        if channel not in await self.store.channels_of(identity):
            raise _refusal()


def _refusal() -> NotAuthorized:
    return NotAuthorized("the thing may not use this channel")


def _pairs(
    channels: Sequence[str], things: Sequence[str]
) -> tuple[tuple[ChannelId, ...], tuple[ThingId, ...]]:
    """The two lists without repetitions.

    :raises Invalid: a list is empty, or they make too many pairs.
    :raises NotFound: one is nothing that an id of ours looks like.
    """
    some_channels = tuple(ChannelId(each) for each in dict.fromkeys(channels))
    some_things = tuple(ThingId(each) for each in dict.fromkeys(things))
    for field, some in ("channel_ids", some_channels), ("thing_ids", some_things):
        if not some:
            raise Invalid("an empty list", field)
        for each in some:
            if not is_id(each):
                raise NotFound(f"no such id in {field}")
    if len(some_channels) * len(some_things) > MAX_PAIRS:
        raise Invalid(f"more than {MAX_PAIRS} pairs at once", "channel_ids")
    return some_channels, some_things
