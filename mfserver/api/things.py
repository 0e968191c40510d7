"""Things over HTTP."""

from collections.abc import Iterable

from mfserver.api.bodies import (
    Identity,
    KeyToken,
    ThingBody,
    ThingKey,
    ThingsCreated,
    ThingShown,
    ThingsPage,
    ThingUpdate,
)
from mfserver.api.call import Call, Reply
from mfserver.api.pages import read_page
from mfserver.provisioning.things import NewThing, Things
from mfserver.records import Page, Thing

__all__ = ["ThingCalls", "show_page"]


class ThingCalls:
    """What calls do with :class:`~mfserver.provisioning.things.Things`."""

    def __init__(self, things: Things) -> None:
        self._things = things

    async def create(self, call: Call[ThingBody]) -> Reply:
        thing = await self._things.create(call.user.id, call.address, _new(call.body))
        return Reply(location=f"/things/{thing.id}")

    async def create_all(self, call: Call[list[ThingBody]]) -> Reply:
        new = [_new(body) for body in call.body]
        return Reply(ThingsCreated(_show(await self._things.create_all(call.user.id, call.address, new))))

    async def page(self, call: Call[None]) -> Reply:
        return Reply(show_page(await self._things.page(call.user.id, read_page(call))))

    async def get(self, call: Call[None]) -> Reply:
        return Reply(_show([await self._things.get(call.user.id, call.places["id"])])[0])

    async def update(self, call: Call[ThingUpdate]) -> Reply:
        await self._things.update(call.user.id, call.places["id"], call.body.name, call.body.metadata)
        return Reply()

    async def change_key(self, call: Call[ThingKey]) -> Reply:
        await self._things.change_key(call.user.id, call.address, call.places["id"], call.body.key)
        return Reply()

    async def remove(self, call: Call[None]) -> Reply:
        await self._things.remove(call.user.id, call.places["id"])
        return Reply()

    async def identify(self, call: Call[KeyToken]) -> Reply:
        return Reply(Identity(await self._things.identify(call.address, call.body.token)))


def show_page(page: Page[Thing]) -> ThingsPage:
    """A page of things as JSON shows it."""
    return ThingsPage(page.total, page.offset, page.limit, _show(page.entries))


def _new(body: ThingBody) -> NewThing:
    return NewThing(body.name, body.key, body.metadata)


def _show(things: Iterable[Thing]) -> list[ThingShown]:
    return [
        ThingShown(each.id, each.key, each.name, None if each.metadata is None else dict(each.metadata))
        for each in things
    ]
