"""Channels: what people may do to theirs."""

from collections.abc import Sequence
from dataclasses import dataclass

from mfserver.errors import Invalid, NotFound
from mfserver.interfaces import IChanges, IChannelStore
from mfserver.provisioning.fields import MAX_BULK, check_metadata, check_name, is_id, new_id
from mfserver.records import Change, Channel, ChannelId, Metadata, Page, Query, UserId

__all__ = ["Channels", "NewChannel"]


@dataclass(frozen=True, slots=True)
class NewChannel:
    """A channel to create."""

    name: str | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Channels:
    """The rules for channels."""

    store: IChannelStore
    changes: IChanges

    async def create(self, owner: UserId, new: NewChannel) -> Channel:
        """Create one channel. :raises Invalid: a field is malformed."""
        _check(new, "")
        return (await self._add(owner, [new]))[0]

    async def create_all(self, owner: UserId, new: Sequence[NewChannel]) -> list[Channel]:
        """Create up to :data:`MAX_BULK` channels, all or none.

        :raises Invalid: there is none or too many, or a field is malformed; the error names its index.
        """
        if not 0 < len(new) <= MAX_BULK:
            raise Invalid(f"between 1 and {MAX_BULK} channels are created at once", "channels")
        for index, channel in enumerate(new):
            _check(channel, f"[{index}].")
        return await self._add(owner, new)

    async def get(self, owner: UserId, channel: str) -> Channel:
        """:raises NotFound: none of this owner's."""
        return await self.store.get(owner, _id(channel))

    async def page(self, owner: UserId, query: Query) -> Page[Channel]:
        """A page of the owner's channels."""
        return await self.store.page(owner, query)

    async def update(self, owner: UserId, channel: str, name: str | None, metadata: Metadata | None) -> None:
        """Replace name and metadata.

        :raises Invalid: a field is malformed.
        :raises NotFound: none of this owner's.
        """
        check_name(name)
        check_metadata(metadata)
        await self.store.update(owner, _id(channel), name, metadata)

    async def remove(self, owner: UserId, channel: str) -> None:
        """Delete a channel: its subscriptions fall silent. It may be absent."""
        if is_id(channel) and await self.store.remove(owner, ChannelId(channel)):
            self.changes.changed(Change(channels=(ChannelId(channel),)))

    async def _add(self, owner: UserId, new: Sequence[NewChannel]) -> list[Channel]:
        """Store what has been checked, with ids made up."""
        channels = [Channel(ChannelId(new_id()), owner, each.name, each.metadata) for each in new]
        await self.store.add(channels)
        return channels


def _check(new: NewChannel, where: str) -> None:
    """:raises Invalid: a field is malformed."""
    check_name(new.name, where)
    check_metadata(new.metadata, where)


def _id(channel: str) -> ChannelId:
    """:raises NotFound: nothing of ours has such an id."""
    if not is_id(channel):
        raise NotFound("no such channel")
    return ChannelId(channel)
