"""Connections and access checks over HTTP."""

from mfserver.api import channels, things
from mfserver.api.bodies import Identity, KeyToken, Pairs, ThingIdBody
from mfserver.api.call import Call, Reply
from mfserver.api.pages import read_connected, read_page
from mfserver.provisioning.connections import Connections

__all__ = ["ConnectionCalls"]


class ConnectionCalls:
    """What calls do with :class:`~mfserver.provisioning.connections.Connections`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def connect(self, call: Call[Pairs]) -> Reply:
        await self._connections.connect(call.user.id, call.body.channel_ids, call.body.thing_ids)
        return Reply()

    async def disconnect(self, call: Call[Pairs]) -> Reply:
        await self._connections.disconnect(call.user.id, call.body.channel_ids, call.body.thing_ids)
        return Reply()

    async def connect_one(self, call: Call[None]) -> Reply:
        await self._connections.connect(call.user.id, [call.places["channel"]], [call.places["thing"]])
        return Reply()

    async def disconnect_one(self, call: Call[None]) -> Reply:
        await self._connections.disconnect(call.user.id, [call.places["channel"]], [call.places["thing"]])
        return Reply()

    async def things_on(self, call: Call[None]) -> Reply:
        page = await self._connections.things_on(
            call.user.id, call.places["id"], read_page(call), read_connected(call)
        )
        return Reply(things.show_page(page))

    async def channels_with(self, call: Call[None]) -> Reply:
        page = await self._connections.channels_with(
            call.user.id, call.places["id"], read_page(call), read_connected(call)
        )
        return Reply(channels.show_page(page))

    async def access_by_key(self, call: Call[KeyToken]) -> Reply:
        thing = await self._connections.access_by_key(call.address, call.places["id"], call.body.token)
        return Reply(Identity(thing))

    async def access_by_id(self, call: Call[ThingIdBody]) -> Reply:
        await self._connections.access_by_id(call.user.id, call.places["id"], call.body.thing_id)
        return Reply()
