"""What every store promises; run against the database and against its twin in memory.

A class that mixes :class:`StoreContract` in is a trial TestCase whose ``setUp`` sets ``store``.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from twisted.internet.defer import gatherResults
from zope.interface.verify import verifyObject

from mfserver.errors import Conflict, Invalid, NotFound, Overloaded
from mfserver.interfaces import (
    IChannelStore,
    IConnectionStore,
    IKeyStore,
    IStore,
    IThingStore,
    IUserStore,
)
from mfserver.records import ApiKey, Channel, ChannelId, KeyId, Query, Thing, ThingId, User, UserId

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object

__all__ = ["ANN", "BOB", "ConnectionContract", "StoreContract", "a_channel", "a_thing", "a_user"]

ANN = UserId("11111111-1111-4111-8111-111111111111")
BOB = UserId("22222222-2222-4222-8222-222222222222")


def a_user(email: str = "ann@example.org", **values: Any) -> User:
    return User(UserId(str(uuid4())), email, "$argon2id$hash", **values)


def a_thing(owner: UserId = ANN, key: str | None = None, **values: Any) -> Thing:
    return Thing(ThingId(str(uuid4())), owner, key or str(uuid4()), **values)


def a_channel(owner: UserId = ANN, **values: Any) -> Channel:
    return Channel(ChannelId(str(uuid4())), owner, **values)


def an_id(number: int) -> str:
    return str(UUID(int=number))


class Promises(TestCase):
    """What both halves of the contract stand on."""

    store: Any

    async def _things(self, *names: str | None, owner: UserId = ANN) -> list[Thing]:
        things = [a_thing(owner, name=name) for name in names]
        await self.store.things.add(things)
        return things

    async def _channels(self, *names: str | None, owner: UserId = ANN) -> list[Channel]:
        channels = [a_channel(owner, name=name) for name in names]
        await self.store.channels.add(channels)
        return channels

    async def _names(self, **query: Any) -> list[str | None]:
        page = await self.store.things.page(ANN, Query(**query))
        return [thing.name for thing in page.entries]


class StoreContract(Promises):
    """Users, API keys, things and channels."""

    async def test_interfaces(self) -> None:
        """Every repository is what the page of joints says."""
        verifyObject(IStore, self.store)
        verifyObject(IUserStore, self.store.users)
        verifyObject(IKeyStore, self.store.keys)
        verifyObject(IThingStore, self.store.things)
        verifyObject(IChannelStore, self.store.channels)
        verifyObject(IConnectionStore, self.store.connections)

    # --- users ---

    async def test_user_comes_back(self) -> None:
        """A user is found by id and by e-mail address, as it was given."""
        user = a_user("Ann@Example.org", metadata={"a": [1, 2.5, None, True, {"ä": "\u2028"}]}, generation=3)
        await self.store.users.add(user)
        self.assertEqual(await self.store.users.by_id(user.id), user)
        self.assertEqual(await self.store.users.by_email("aNN@eXAMPLE.ORG"), user)

    async def test_unknown_user(self) -> None:
        """Nobody is found where nobody is."""
        self.assertIsNone(await self.store.users.by_id(ANN))
        self.assertIsNone(await self.store.users.by_email("ann@example.org"))

    async def test_email_is_taken_without_case(self) -> None:
        """One address has one account, however it is written, beyond ASCII too."""
        await self.store.users.add(a_user("Änn@example.org"))
        await self.assertFailure(self.store.users.add(a_user("änn@EXAMPLE.org")), Conflict)

    async def test_user_id_is_taken(self) -> None:
        """Two users never share an id."""
        user = a_user()
        await self.store.users.add(user)
        await self.assertFailure(self.store.users.add(replace(user, email="other@example.org")), Conflict)

    async def test_user_metadata_is_replaced(self) -> None:
        """Metadata is replaced as a whole, also by nothing."""
        user = a_user(metadata={"old": 1})
        await self.store.users.add(user)
        await self.store.users.set_metadata(user.id, {"new": 2})
        self.assertEqual((await self.store.users.by_id(user.id)).metadata, {"new": 2})
        await self.store.users.set_metadata(user.id, None)
        self.assertIsNone((await self.store.users.by_id(user.id)).metadata)
        await self.assertFailure(self.store.users.set_metadata(ANN, {}), NotFound)

    async def test_password_changes_once_per_generation(self) -> None:
        """Of two changes that saw the same generation, one wins and the other hears of it."""
        user = a_user()
        await self.store.users.add(user)
        await self.store.users.set_password(user.id, "new", 0)
        self.assertEqual(
            await self.store.users.by_id(user.id), replace(user, password_hash="new", generation=1)
        )
        await self.assertFailure(self.store.users.set_password(user.id, "late", 0), Conflict)
        self.assertEqual((await self.store.users.by_id(user.id)).password_hash, "new")
        await self.assertFailure(self.store.users.set_password(ANN, "new", 0), NotFound)

    # --- API keys ---

    async def test_api_key_belongs_to_its_owner(self) -> None:
        """An API key is seen and revoked by its owner alone; revoking twice is nothing."""
        user, other = a_user(), a_user("bob@example.org")
        await self.store.users.add(user)
        await self.store.users.add(other)
        key, endless = ApiKey(KeyId("k"), user.id, 10, 2**40), ApiKey(KeyId("l"), user.id, 10)
        await self.store.keys.add(key)
        await self.store.keys.add(endless)
        self.assertEqual(await self.store.keys.get(user.id, key.id), key)
        self.assertEqual(await self.store.keys.get(user.id, endless.id), endless)
        await self.assertFailure(self.store.keys.get(other.id, key.id), NotFound)
        await self.store.keys.remove(other.id, key.id)
        await self.store.keys.get(user.id, key.id)
        for _ in range(2):
            await self.store.keys.remove(user.id, key.id)
        await self.assertFailure(self.store.keys.get(user.id, key.id), NotFound)

    async def test_api_key_needs_an_owner_and_an_id_of_its_own(self) -> None:
        """An API key of nobody is refused, and so is one that exists."""
        await self.assertFailure(self.store.keys.add(ApiKey(KeyId("k"), ANN, 10)), NotFound)
        user = a_user()
        await self.store.users.add(user)
        await self.store.keys.add(ApiKey(KeyId("k"), user.id, 10))
        await self.assertFailure(self.store.keys.add(ApiKey(KeyId("k"), user.id, 11)), Conflict)

    # --- things ---

    async def test_thing_comes_back(self) -> None:
        """A thing is found by its owner and by its key, as it was given."""
        thing = a_thing(name="Pumpe \u00df", metadata={"site": {"n": 1}})
        await self.store.things.add([thing])
        self.assertEqual(await self.store.things.get(ANN, thing.id), thing)
        self.assertEqual(await self.store.things.by_key(thing.key), thing)
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

    # --- channels ---

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

    # --- lists ---

    async def test_page(self) -> None:
        """A page is a part of the owner's list and says how long the whole is."""
        await self._things("bob", owner=BOB)
        names = [f"n{number}" for number in range(7)]
        await self._things(*names)
        page = await self.store.things.page(ANN, Query(offset=2, limit=3))
        self.assertEqual((page.total, page.offset, page.limit), (7, 2, 3))
        self.assertEqual([thing.name for thing in page.entries], names[2:5])
        for offset in (7, 2**70):
            page = await self.store.things.page(ANN, Query(offset=offset))
            self.assertEqual((page.total, list(page.entries), page.offset), (7, [], offset))

    async def test_order(self) -> None:
        """Lists stand in the order of creation, of names without case, or of ids; and the other way round."""
        names = ["b", None, "C", "a", "B", "Ä", "\U0001f600"]
        things = await self._things(*names)
        by_name = [None, "a", "b", "B", "C", "Ä", "\U0001f600"]
        by_id = [thing.name for thing in sorted(things, key=lambda thing: thing.id)]
        for order, expected in ((None, names), ("name", by_name), ("id", by_id)):
            self.assertEqual(await self._names(order=order), expected)
            self.assertEqual(await self._names(order=order, descending=True), expected[::-1])

    async def test_name_filter(self) -> None:
        """A name is found by any part of it, without case, taken literally."""
        names = ["100% Straße", "100_ strasse", "ÄRGER", "a\\b'\"", "nul\x00after", None]
        await self._things(*names)
        cases = {
            "STRASSE": names[:2],
            "0%": names[:1],
            "0_": names[1:2],
            "ärg": names[2:3],
            "\\b'\"": names[3:4],
            "\x00AFT": names[4:5],
            "nul\x00b": [],
            "%": names[:1],
            "": names,
            "nothing" * 5000: [],
        }
        for name, expected in cases.items():
            self.assertEqual(await self._names(name=name), expected, name)

    async def test_metadata_filter(self) -> None:
        """Metadata is found by what it contains: members, elements and numbers by value, at any depth."""
        known = {"a": 1, "b": [1, {"c": [True, None, "x"]}, [2]], "d": {"e": {"f": 2.5}}, "s": "1"}
        await self.store.things.add([a_thing(metadata=known), a_thing(), a_thing(metadata={})])
        found: list[dict[str, Any]] = [
            {"a": 1.0},
            {"b": []},
            {"b": [{"c": ["x", True]}]},
            {"b": [1, 1, [2.0]]},
            {"d": {}},
            {"d": {"e": {"f": 2.5}}, "s": "1"},
            known,
        ]
        missed: list[dict[str, Any]] = [
            {"a": True},
            {"a": "1"},
            {"s": 1},
            {"b": 1},
            {"b": {}},
            {"b": [2]},
            {"b": [{"c": [1]}]},
            {"b": [{"c": [False]}]},
            {"d": []},
            {"d": {"e": {"f": 2.5, "g": None}}},
            {"z": None},
            {"' OR 1=1 --": 1},
        ]
        for filters, total in ((found, 1), (missed, 0), ([{}], 3)):
            for wanted in filters:
                page = await self.store.things.page(ANN, Query(metadata=wanted))
                self.assertEqual((page.total, len(page.entries)), (total, total), wanted)

    async def test_unanswerable_query(self) -> None:
        """A query that could answer with everything, or in no order, is refused."""
        bad: Sequence[dict[str, Any]] = (
            {"offset": -1},
            {"limit": 0},
            {"limit": -1},
            {"limit": 101},
            {"order": "key"},
            {"metadata": [1]},
        )
        for values in bad:
            await self.assertFailure(self.store.things.page(ANN, Query(**values)), Invalid)
            await self.assertFailure(self.store.channels.page(ANN, Query(**values)), Invalid)

    async def test_metadata_that_is_no_json(self) -> None:
        """What would not come back as it was is refused, and nothing of it is kept."""
        deep: Any = 1
        for _ in range(100):
            deep = [deep]
        bottomless: Any = 1
        for _ in range(100_000):
            bottomless = [bottomless]
        values = (float("nan"), float("inf"), {1, 2}, b"bytes", "\ud800", deep, bottomless)
        for value in values:
            await self.assertFailure(self.store.things.add([a_thing(metadata={"x": value})]), Invalid)
        await self.assertFailure(self.store.channels.add([a_channel(metadata=[1])]), Invalid)
        self.assertEqual((await self.store.things.page(ANN, Query())).total, 0)

    async def test_after_close(self) -> None:
        """A closed store takes nothing more, and may be closed again."""
        await self.store.close()
        await self.assertFailure(self.store.things.add([a_thing()]), Overloaded)
        await self.store.close()


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
