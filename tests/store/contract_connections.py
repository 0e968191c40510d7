"""What every store promises of connections; see :mod:`tests.store.contract`."""

from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.internet.defer import gatherResults

from mfserver.errors import Conflict, NotFound
from mfserver.records import ChannelId, Query, Thing, ThingId

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object

from tests.store.contract import ANN, BOB, Promises, a_channel, a_thing, an_id


class ConnectionContract(Promises):
    """Which thing may use which channel."""

    async def _channels_of(self, thing: Thing) -> frozenset[ChannelId]:
        found: frozenset[ChannelId] = await self.store.connections.channels_of(thing.id)
        return found

    async def test_every_pair_is_connected(self) -> None:
        """Each thing is connected to each channel; an id that stands twice counts once."""
        things, channels = await self._things("a", "b"), await self._channels("c", "d")
        ids = [channel.id for channel in channels] * 2, [thing.id for thing in things] * 2
        await self.store.connections.connect(ANN, *ids)
        for thing in things:
            self.assertEqual(await self._channels_of(thing), frozenset(ids[0]))
        await self.store.connections.disconnect(ANN, *ids)
        for thing in things:
            self.assertEqual(await self._channels_of(thing), frozenset())

    async def test_empty_lists(self) -> None:
        """No pair is no error."""
        (thing,), (channel,) = await self._things("a"), await self._channels("c")
        for change in (self.store.connections.connect, self.store.connections.disconnect):
            await change(ANN, [], [])
            await change(ANN, [], [thing.id])
            await change(ANN, [channel.id], [])
            await self.assertFailure(change(BOB, [], [thing.id]), NotFound)

    async def test_connect_all_or_none(self) -> None:
        """One pair that is connected, or one end that is another's, and nothing is connected."""
        things, channels = await self._things("a", "b"), await self._channels("c")
        (their_thing,) = await self._things("x", owner=BOB)
        (their_channel,) = await self._channels("y", owner=BOB)
        connect = self.store.connections.connect
        await connect(ANN, [channels[0].id], [things[0].id])
        both = [thing.id for thing in things]
        await self.assertFailure(connect(ANN, [channels[0].id], both[::-1]), Conflict)
        await self.assertFailure(connect(ANN, [channels[0].id], [both[1], their_thing.id]), NotFound)
        await self.assertFailure(connect(ANN, [channels[0].id, their_channel.id], [both[1]]), NotFound)
        await self.assertFailure(connect(BOB, [their_channel.id], [both[1]]), NotFound)
        await self.assertFailure(connect(ANN, [ChannelId(an_id(7))], [both[1]]), NotFound)
        self.assertEqual(await self._channels_of(things[1]), frozenset())
        self.assertEqual(await self._channels_of(their_thing), frozenset())

    async def test_disconnect_all_or_none(self) -> None:
        """One pair that is not connected, or one end that is another's, and nothing is disconnected."""
        things, channels = await self._things("a", "b"), await self._channels("c", "d")
        (their_thing,) = await self._things("x", owner=BOB)
        change, first = self.store.connections, things[0].id
        await change.connect(ANN, [channels[0].id], [first])
        for some, others in (
            ([channels[0].id, channels[1].id], [first]),
            ([channels[0].id], [first, things[1].id]),
            ([channels[0].id], [first, their_thing.id]),
        ):
            await self.assertFailure(change.disconnect(ANN, some, others), NotFound)
        await self.assertFailure(change.disconnect(BOB, [channels[0].id], [first]), NotFound)
        self.assertEqual(await self._channels_of(things[0]), {channels[0].id})

    async def test_unknown_thing_has_no_channels(self) -> None:
        """A thing that is not there is connected to nothing."""
        self.assertEqual(await self._channels_of(a_thing()), frozenset())

    async def test_removing_an_end_disconnects(self) -> None:
        """A thing or channel that is deleted takes its connections along, and no others."""
        things, channels = await self._things("a", "b"), await self._channels("c", "d")
        ids = [channel.id for channel in channels], [thing.id for thing in things]
        await self.store.connections.connect(ANN, *ids)
        await self.store.channels.remove(ANN, ids[0][0])
        for thing in things:
            self.assertEqual(await self._channels_of(thing), {ids[0][1]})
        await self.store.things.remove(ANN, ids[1][0])
        self.assertEqual(await self._channels_of(things[0]), frozenset())
        self.assertEqual(await self._channels_of(things[1]), {ids[0][1]})
        await self.store.things.add([replace(things[0], key="a-key-made-for-it")])
        self.assertEqual(await self._channels_of(things[0]), frozenset())

    async def test_lists_of_the_connected_and_the_others(self) -> None:
        """Both lists hold the owner's alone, in pages that can be filtered."""
        things, channels = await self._things("a", "b", "c"), await self._channels("x", "y", "z")
        await self._things("a", owner=BOB)
        await self._channels("x", owner=BOB)
        await self.store.connections.connect(ANN, [channels[0].id], [things[0].id, things[1].id])
        await self.store.connections.connect(ANN, [channels[1].id], [things[0].id])
        lists = self.store.connections
        for query, connected, expected in (
            (Query(), True, ["a", "b"]),
            (Query(), False, ["c"]),
            (Query(name="B"), True, ["b"]),
            (Query(descending=True, limit=1, order="name"), True, ["b"]),
        ):
            page = await lists.things_on(ANN, channels[0].id, query, connected)
            self.assertEqual([thing.name for thing in page.entries], expected)
        for connected, expected in ((True, ["x", "y"]), (False, ["z"])):
            found = await lists.channels_with(ANN, things[0].id, Query(), connected)
            self.assertEqual(
                ([entry.name for entry in found.entries], found.total), (expected, len(expected))
            )
        await self.assertFailure(lists.things_on(BOB, channels[0].id, Query(), True), NotFound)
        await self.assertFailure(lists.channels_with(BOB, things[0].id, Query(), False), NotFound)

    async def test_long_lists(self) -> None:
        """Thousands of ids in one request are one request."""
        things = [replace(a_thing(), id=ThingId(an_id(number))) for number in range(1200)]
        channels = [a_channel() for _ in range(3)]
        await gatherResults([self.store.things.add(things), self.store.channels.add(channels)])
        ids = [channel.id for channel in channels], [thing.id for thing in things]
        await self.store.connections.connect(ANN, *ids)
        page = await self.store.connections.things_on(ANN, channels[0].id, Query(offset=1100), True)
        self.assertEqual((page.total, len(page.entries)), (1200, 10))
        await self.assertFailure(self.store.connections.connect(ANN, ids[0][:1], ids[1][-1:]), Conflict)
        await self.store.connections.disconnect(ANN, *ids)
        self.assertEqual(await self._channels_of(things[-1]), frozenset())
        await self.assertFailure(
            self.store.things.add([*[a_thing() for _ in range(600)], things[0]]), Conflict
        )
