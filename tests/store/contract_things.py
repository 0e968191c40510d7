"""What every store promises of things and channels; see :mod:`tests.store.contract`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mfserver.errors import Conflict, NotFound
from mfserver.records import Channel, Query, Thing, ThingId

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object

from tests.store.contract import ANN, BOB, Promises, a_channel, a_thing


class ThingContract(Promises):
    """Things, their keys, and channels."""

    async def test_thing_comes_back(self) -> None:
        """A thing is found by its owner, by its key and by its id, as it was given."""
        thing = a_thing(name="Pumpe \u00df", metadata={"site": {"n": 1}})
        await self.store.things.add([thing])
        self.assertEqual(await self.store.things.get(ANN, thing.id), thing)
        self.assertEqual(await self.store.things.by_key(thing.key), thing)
        self.assertEqual(await self.store.things.by_id(thing.id), thing)
        await self.assertFailure(self.store.things.get(BOB, thing.id), NotFound)

    async def test_only_the_whole_key_counts(self) -> None:
        """A part of a key, its id, another case of it and text that is no Unicode are nobody's."""
        thing = a_thing(key="abcdefghijklmnopqrstuvwxyz")
        await self.store.things.add([thing])
        for key in (
            thing.key[:-1],
            thing.key[1:],
            thing.key + "a",
            thing.key.upper(),
            thing.id,
            "",
            "%",
            "\ud800",
            "ä",
        ):
            self.assertIsNone(await self.store.things.by_key(key), key)

    async def test_only_the_whole_id_counts(self) -> None:
        """A part of an id, a key, and an id of a thing that was deleted are nobody's."""
        thing, gone = await self._things("a", "b")
        await self.store.things.remove(ANN, gone.id)
        for id in (thing.id[:-1], thing.id.upper() + "x", thing.key, "", "%", gone.id):
            self.assertIsNone(await self.store.things.by_id(ThingId(id)), id)

    async def test_things_are_added_all_or_none(self) -> None:
        """A conflict in a list leaves nothing of the list behind."""
        (known,) = await self._things("known")
        cases: Sequence[Sequence[Thing]] = (
            [a_thing(), a_thing(BOB, key=known.key)],
            [a_thing(key="twice" * 4), a_thing(key="twice" * 4)],
            [a_thing(), replace(a_thing(), id=known.id)],
            [replace(a_thing(), id=ThingId("same")), replace(a_thing(), id=ThingId("same"))],
            [a_thing(), a_thing(key=known.id)],
            [a_thing(), replace(a_thing(), id=ThingId(known.key))],
        )
        for things in cases:
            await self.assertFailure(self.store.things.add(things), Conflict)
        twin = a_thing()
        await self.assertFailure(self.store.things.add([twin, a_thing(key=twin.id)]), Conflict)
        for owner, total in ((ANN, 1), (BOB, 0)):
            self.assertEqual((await self.store.things.page(owner, Query())).total, total)

    async def test_no_things_are_added(self) -> None:
        """An empty list is no thing."""
        await self.store.things.add([])
        self.assertEqual((await self.store.things.page(ANN, Query())).total, 0)

    async def test_changed_key_stays_taken_for_others(self) -> None:
        """A key that was changed is its owner's for ever, since certificates may carry it. IDENTITY.md."""
        (mine,) = await self._things("mine")
        (theirs,) = await self._things("theirs", owner=BOB)
        await self.store.things.set_key(ANN, mine.id, "a-new-key-of-anns")
        self.assertIsNone(await self.store.things.by_key(mine.key))
        self.assertEqual((await self.store.things.by_key("a-new-key-of-anns")).id, mine.id)
        await self.assertFailure(self.store.things.add([a_thing(BOB, key=mine.key)]), Conflict)
        await self.assertFailure(self.store.things.set_key(BOB, theirs.id, mine.key), Conflict)
        await self.store.things.add([a_thing(ANN, key=mine.key)])
        self.assertEqual((await self.store.things.by_key(theirs.key)).id, theirs.id)

    async def test_deleted_key_stays_taken_for_others(self) -> None:
        """So does the key of a thing that was deleted, as often as its owner uses it again."""
        key = "the-key-that-comes-back"
        for _ in range(2):
            thing = a_thing(key=key)
            await self.store.things.add([thing])
            self.assertTrue(await self.store.things.remove(ANN, thing.id))
            self.assertIsNone(await self.store.things.by_key(key))
            await self.assertFailure(self.store.things.add([a_thing(BOB, key=key)]), Conflict)

    async def test_key_is_changed_back(self) -> None:
        """An owner may return to a key, which then is no other owner's either."""
        (thing,) = await self._things("thing")
        await self.store.things.set_key(ANN, thing.id, "for-a-little-while")
        await self.store.things.set_key(ANN, thing.id, thing.key)
        self.assertEqual(await self.store.things.by_key(thing.key), thing)
        await self.assertFailure(self.store.things.add([a_thing(BOB, key="for-a-little-while")]), Conflict)

    async def test_key_is_changed_to_itself(self) -> None:
        """A thing's own present key is no conflict, and is not retired by it."""
        (thing,) = await self._things("thing")
        await self.store.things.set_key(ANN, thing.id, thing.key)
        self.assertEqual(await self.store.things.by_key(thing.key), thing)

    async def test_key_cannot_be_set(self) -> None:
        """A key of another thing, a thing's id, and another's thing are refused; nothing changes."""
        thing, other = await self._things("a", "b")
        for key in (other.key, other.id, thing.id):
            await self.assertFailure(self.store.things.set_key(ANN, thing.id, key), Conflict)
        await self.assertFailure(self.store.things.set_key(BOB, thing.id, "a-key-of-bob-maybe"), NotFound)
        self.assertEqual(await self.store.things.get(ANN, thing.id), thing)
        await self.store.things.add([a_thing(BOB, key="a-key-of-bob-maybe")])

    async def test_thing_is_updated(self) -> None:
        """Name and metadata are replaced; key and place in the list stay; others cannot."""
        thing, _ = await self._things("a", "b")
        await self.store.things.update(ANN, thing.id, "C", {"x": 1})
        self.assertEqual(
            await self.store.things.get(ANN, thing.id), replace(thing, name="C", metadata={"x": 1})
        )
        self.assertEqual(await self._names(), ["C", "b"])
        self.assertEqual(await self._names(name="c"), ["C"])
        await self.assertFailure(self.store.things.update(BOB, thing.id, "D", None), NotFound)
        self.assertEqual((await self.store.things.get(ANN, thing.id)).name, "C")

    async def test_thing_is_removed_once(self) -> None:
        """Only the owner removes a thing, and hears whether it was there."""
        (thing,) = await self._things("a")
        self.assertFalse(await self.store.things.remove(BOB, thing.id))
        self.assertTrue(await self.store.things.remove(ANN, thing.id))
        self.assertFalse(await self.store.things.remove(ANN, thing.id))
        await self.assertFailure(self.store.things.get(ANN, thing.id), NotFound)

    async def test_channel_comes_back(self) -> None:
        """A channel is found and changed by its owner alone."""
        channel = a_channel(name="c", metadata={"x": {}})
        await self.store.channels.add([channel])
        self.assertEqual(await self.store.channels.get(ANN, channel.id), channel)
        await self.store.channels.update(ANN, channel.id, None, None)
        self.assertEqual(await self.store.channels.get(ANN, channel.id), Channel(channel.id, ANN))
        await self.assertFailure(self.store.channels.get(BOB, channel.id), NotFound)
        await self.assertFailure(self.store.channels.update(BOB, channel.id, "d", None), NotFound)
        self.assertFalse(await self.store.channels.remove(BOB, channel.id))
        self.assertTrue(await self.store.channels.remove(ANN, channel.id))
        self.assertFalse(await self.store.channels.remove(ANN, channel.id))

    async def test_channels_are_added_all_or_none(self) -> None:
        """A channel that exists leaves nothing of its list behind; an empty list is no channel."""
        (known,) = await self._channels("c")
        await self.assertFailure(self.store.channels.add([a_channel(), replace(known, owner=BOB)]), Conflict)
        await self.assertFailure(self.store.channels.add([a_channel(), *[a_channel()] * 2]), Conflict)
        await self.store.channels.add([])
        page = await self.store.channels.page(ANN, Query())
        self.assertEqual((page.total, page.entries), (1, [known]))
