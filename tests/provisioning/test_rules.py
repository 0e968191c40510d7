"""The rules of provisioning where HTTP does not reach them, or reaches them too late to see."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mfserver.errors import Conflict, Invalid, NotFound, SlowDown, Unauthenticated
from mfserver.provisioning.channels import Channels
from mfserver.provisioning.connections import Connections
from mfserver.provisioning.fields import MAX_DEPTH, MAX_METADATA, check_email, check_metadata, is_id, new_id
from mfserver.provisioning.keys import LOGIN, Issued, Keys
from mfserver.provisioning.things import NewThing, Things
from mfserver.provisioning.users import Users
from mfserver.records import Change, Channel, ChannelId, KeyId, Thing, ThingId, User, UserId
from tests.provisioning.fakes import Attempts, Changes, Passwords, Person, Tokens
from tests.store.memory import MemoryStore

T = TypeVar("T")
OWNER = UserId(new_id())


class RulesTestCase(SynchronousTestCase):
    """A store in memory with one user."""

    def setUp(self) -> None:
        self.store = MemoryStore()
        self.passwords, self.attempts, self.changes = Passwords(), Attempts(), Changes()
        self.tokens = Tokens(self.store.users)
        self.users = Users(self.store.users, self.passwords, self.tokens, self.attempts)
        self.things = Things(self.store.things, self.changes, self.attempts)
        self.successResultOf(self.store.users.add(User(OWNER, "a@example.org", "hash of 12345678")))

    def run_rule(self, rule: Coroutine[Any, Any, T]) -> "Deferred[T]":
        return Deferred.fromCoroutine(rule)


class CrowdTests(RulesTestCase):
    """One address fills no queue that everybody stands in."""

    def test_share(self) -> None:
        """The ninth password of one address at once is refused; another address is not, nor the next one."""
        waiting: list[Deferred[str]] = []

        def hash_later(password: str) -> "Deferred[str]":
            waiting.append(Deferred())
            return waiting[-1]

        self.passwords.hash = hash_later  # type: ignore[method-assign]

        def register(number: int, address: str) -> "Deferred[UserId]":
            return self.run_rule(
                self.users.register(address, None, f"{number}@example.org", "12345678", None)
            )

        crowd = [register(number, "a") for number in range(8)]
        self.failureResultOf(register(8, "a"), SlowDown)
        other = register(9, "b")
        for hashed in waiting:
            hashed.callback("hash")
        for made in [*crowd, other]:
            self.successResultOf(made)
        self.assertNoResult(register(10, "a"))


class PasswordRaceTests(RulesTestCase):
    """Two changes of one password at once."""

    def test_second_fails(self) -> None:
        """Both knew the old password, one wins, and the other is told."""
        hashes: list[Deferred[str]] = []

        def hash_later(password: str) -> "Deferred[str]":
            hashes.append(Deferred())
            return hashes[-1]

        self.passwords.hash = hash_later  # type: ignore[method-assign]
        first = self.run_rule(self.users.change_password("a", OWNER, "12345678", "first one"))
        second = self.run_rule(self.users.change_password("a", OWNER, "12345678", "second one"))
        for number, waiting in enumerate(hashes):
            waiting.callback(f"hash {number}")
        self.successResultOf(first)
        self.failureResultOf(second, Conflict)
        user = self.successResultOf(self.store.users.by_id(OWNER))
        assert user is not None
        self.assertEqual((user.password_hash, user.generation), ("hash 0", 1))


class AbsentUserTests(RulesTestCase):
    """A token that outlives its user."""

    def test_absent(self) -> None:
        nobody = UserId(new_id())
        keys = Keys(self.store.keys, self.store.users, self.tokens, lambda: 0.0)
        self.failureResultOf(self.run_rule(self.users.profile(nobody)), NotFound)
        self.failureResultOf(self.run_rule(self.users.set_metadata(nobody, {})), NotFound)
        self.failureResultOf(self.run_rule(keys.issue(Person(nobody, "b@b"), LOGIN, None)), Unauthenticated)


class OrderTests(RulesTestCase):
    """Commit, invalidate, answer."""

    def test_told_between_commit_and_answer(self) -> None:
        """When a change is told, the store has it already, and nobody has been answered."""
        thing, channel = Thing(ThingId(new_id()), OWNER, "x" * 16), Channel(ChannelId(new_id()), OWNER)
        self.successResultOf(self.store.things.add([thing]))
        self.successResultOf(self.store.channels.add([channel]))
        connections = Connections(self.store.connections, self.things, self.changes)
        order: list[object] = []

        def changed(change: Change) -> None:
            now = self.successResultOf(self.store.connections.channels_of(thing.id))
            order.append((change, channel.id in now))

        self.changes.changed = changed  # type: ignore[method-assign]
        for rule in (
            connections.connect(OWNER, [channel.id], [thing.id]),
            connections.disconnect(OWNER, [channel.id], [thing.id]),
        ):
            self.run_rule(rule).addCallback(order.append)
        pair = (thing.id,), (channel.id,)
        connected, disconnected = Change(*pair, connected=True), Change(*pair)
        self.assertEqual(order, [(connected, True), None, (disconnected, False), None])

    def test_nothing_is_told_of_what_failed(self) -> None:
        """A store that refuses changed nothing."""
        self.successResultOf(self.store.close())
        self.failureResultOf(self.run_rule(self.things.change_key(OWNER, "a", new_id(), "x" * 16)))
        self.failureResultOf(self.run_rule(self.things.remove(OWNER, new_id())))
        self.assertEqual((self.changes.heard, self.attempts.failures), ([], {}))


class ImpossibleTests(RulesTestCase):
    """What cannot be ours is absent without asking the store, which may choke on it."""

    def test_remove(self) -> None:
        self.successResultOf(self.store.close())
        channels = Channels(self.store.channels, self.changes)
        keys = Keys(self.store.keys, self.store.users, self.tokens, lambda: 0.0)
        for rule in self.things.remove(OWNER, "\0"), channels.remove(OWNER, "\0"), keys.revoke(OWNER, "\0"):
            self.successResultOf(self.run_rule(rule))

    def test_identify(self) -> None:
        self.store.things.by_key = self.fail  # type: ignore[assignment]
        self.failureResultOf(self.run_rule(self.things.identify("a", "\0")), Unauthenticated)


class SecretTests(SynchronousTestCase):
    """Keys and tokens stand in no log and no traceback."""

    def test_repr(self) -> None:
        for thing in NewThing(key="secret"), Issued(KeyId("1"), "secret", 0, None):
            self.assertNotIn("secret", repr(thing))


class FieldTests(SynchronousTestCase):
    """What may stand in fields."""

    def test_email(self) -> None:
        """Addresses that people have pass; the longest and one longer."""
        for email in "a@b", "first.last+tag@sub.example.org", "o'neil@x-y.example", "A" * 64 + "@b.example":
            check_email(email)
        longest = "a@" + ".".join(["b" * 62] * 4)
        self.assertEqual(len(longest), 253)
        check_email(longest + "c")
        for email in longest + "cc", "a@b.", "a@.b", "a@b..c", "@b", "a@", "a@b\n", "a" * 65 + "@b", "a@b@c":
            self.assertRaises(Invalid, check_email, email)

    def test_depth(self) -> None:
        """Objects and arrays count alike, up to the bound itself."""
        deep: Any = 1
        for level in range(MAX_DEPTH - 2):
            deep = {"a": deep} if level % 2 else [deep]
        check_metadata({"a": deep})
        self.assertRaises(Invalid, check_metadata, {"a": [deep]})

    def test_nul(self) -> None:
        """PostgreSQL keeps none, in a name or in a value; text that only looks like one in JSON is kept."""
        for text in "\0", "a\0", "\\\0", "\\\\\0":
            for metadata in {text: 1}, {"a": [text]}:
                error = self.assertRaises(Invalid, check_metadata, metadata)
                self.assertIn("NUL", str(error))
        for text in "\\u0000", "\\\\u0000", "u0000":
            check_metadata({"a": text, text: 1})

    def test_length_comes_first(self) -> None:
        """A walk through a megabyte of brackets would stop the reactor for what is refused anyhow."""
        deep: Any = []
        for _ in range(MAX_DEPTH):
            deep = [deep]
        error = self.assertRaises(Invalid, check_metadata, {"a": [deep, "\0", "x" * MAX_METADATA]})
        self.assertIn("longer than", str(error))
        for _ in range(100_000):
            deep = [deep]
        self.assertRaises(Invalid, check_metadata, {"a": deep})

    @settings(max_examples=50, deadline=None)
    @given(st.text(max_size=40))
    def test_ids(self, text: str) -> None:
        """Nothing but what we make up is an id."""
        self.assertFalse(is_id(text))
        made = new_id()
        self.assertTrue(is_id(made))
        self.assertFalse(is_id(made + "\n"))
