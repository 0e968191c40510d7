"""What every store promises; run against the database and against its twin in memory.

A class that mixes one of the contracts in is a trial TestCase whose ``setUp`` sets ``store``. Here stand the
beginning, people and their keys; things, lists, connections and certificates have files of their own.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from zope.interface.verify import verifyObject

from mfserver.errors import Conflict, NotFound, Overloaded
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

__all__ = ["ANN", "BOB", "NOW", "AccountContract", "Promises", "a_channel", "a_thing", "a_user", "an_id"]

ANN = UserId("11111111-1111-4111-8111-111111111111")
BOB = UserId("22222222-2222-4222-8222-222222222222")
#: What the time is, in seconds since 1970.
NOW = 1_700_000_000


def a_user(email: str = "ann@example.org", **values: Any) -> User:
    return User(UserId(str(uuid4())), email, "$argon2id$hash", **values)


def a_thing(owner: UserId = ANN, key: str | None = None, **values: Any) -> Thing:
    return Thing(ThingId(str(uuid4())), owner, key or str(uuid4()), **values)


def a_channel(owner: UserId = ANN, **values: Any) -> Channel:
    return Channel(ChannelId(str(uuid4())), owner, **values)


def an_id(number: int) -> str:
    return str(UUID(int=number))


class Promises(TestCase):
    """What all contracts stand on."""

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


class AccountContract(Promises):
    """Users and API keys, and what all repositories share."""

    async def test_interfaces(self) -> None:
        """Every repository is what the page of joints says."""
        verifyObject(IStore, self.store)
        verifyObject(IUserStore, self.store.users)
        verifyObject(IKeyStore, self.store.keys)
        verifyObject(IThingStore, self.store.things)
        verifyObject(IChannelStore, self.store.channels)
        verifyObject(IConnectionStore, self.store.connections)

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

    async def test_after_close(self) -> None:
        """A closed store takes nothing more, and may be closed again."""
        await self.store.close()
        await self.assertFailure(self.store.things.add([a_thing()]), Overloaded)
        await self.store.close()
