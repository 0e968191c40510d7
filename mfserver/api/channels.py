"""Channels over HTTP."""

from collections.abc import Iterable

from mfserver.api.bodies import ChannelBody, ChannelsCreated, ChannelShown, ChannelsPage
from mfserver.api.call import Call, Reply
from mfserver.api.pages import read_page
from mfserver.provisioning.channels import Channels, NewChannel
from mfserver.records import Channel, Page

__all__ = ["ChannelCalls", "show_page"]


class ChannelCalls:
    """What calls do with :class:`~mfserver.provisioning.channels.Channels`."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def create(self, call: Call[ChannelBody]) -> Reply:
        channel = await self._channels.create(call.user.id, _new(call.body))
        return Reply(location=f"/channels/{channel.id}")

    async def create_all(self, call: Call[list[ChannelBody]]) -> Reply:
        new = [_new(body) for body in call.body]
        return Reply(ChannelsCreated(_show(await self._channels.create_all(call.user.id, new))))

    async def page(self, call: Call[None]) -> Reply:
        return Reply(show_page(await self._channels.page(call.user.id, read_page(call))))

    async def get(self, call: Call[None]) -> Reply:
        return Reply(_show([await self._channels.get(call.user.id, call.places["id"])])[0])

    async def update(self, call: Call[ChannelBody]) -> Reply:
        await self._channels.update(call.user.id, call.places["id"], call.body.name, call.body.metadata)
        return Reply()

    async def remove(self, call: Call[None]) -> Reply:
        await self._channels.remove(call.user.id, call.places["id"])
        return Reply()


def show_page(page: Page[Channel]) -> ChannelsPage:
    """A page of channels as JSON shows it."""
    return ChannelsPage(page.total, page.offset, page.limit, _show(page.entries))


def _new(body: ChannelBody) -> NewChannel:
    return NewChannel(body.name, body.metadata)


def _show(channels: Iterable[Channel]) -> list[ChannelShown]:
    return [
        ChannelShown(each.id, each.name, None if each.metadata is None else dict(each.metadata))
        for each in channels
    ]
