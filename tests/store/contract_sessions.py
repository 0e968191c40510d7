"""What every store promises of what MQTT keeps."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

from zope.interface.verify import verifyObject

from mfserver.durable import (
    NEVER,
    Changes,
    KeptDelivery,
    KeptSession,
    KeptSubscription,
    KeptWill,
    SessionKey,
)
from mfserver.errors import Overloaded
from mfserver.interfaces import ISessionStore
from mfserver.message import MQTT, Message
from mfserver.records import ChannelId, Thing
from tests.builds import attributes
from tests.store.contract import ANN, Promises, a_channel, a_thing

__all__ = ["KeptPromises", "SessionContract", "a_batch", "a_delivery", "a_message", "parts"]

#: Bytes that are no bound for these tests.
MUCH = 2**60


def a_message(
    key: int = 0, channel: str = "c", levels: tuple[str, ...] = ("a", "", "b"), **values: Any
) -> Message:
    """A message whose payload is its key."""
    origin = object()
    subtopic = ".".join(filter(None, levels))
    message = Message(
        channel,
        levels,
        subtopic,
        "publisher",
        MQTT,
        b"%d" % key,
        "text/plain",
        10**18,
        origin=origin,
        **values,
    )
    message.key = key
    message.encoded = {5: b"an encoded packet"}
    return message


def a_delivery(session: int, sequence: int, message: int, **values: Any) -> KeptDelivery:
    return KeptDelivery(
        SessionKey(session), sequence, a_message(message), **{"qos": 1, "size": 100, **values}
    )


def parts(message: Message) -> dict[str, object]:
    """What of a message has to come back."""
    return {name: getattr(message, name) for name in attributes(Message) if name not in ("origin", "encoded")}


def a_batch(*deliveries: KeptDelivery) -> Changes:
    changes = Changes()
    for delivery in deliveries:
        changes.queue(delivery)
    return changes


class KeptPromises(Promises):
    """What the contracts of MQTT's state stand on."""

    async def _sessions(self, *numbers: int, things: list[Thing] | None = None) -> list[Thing]:
        """Keep sessions of these numbers, each of a thing of its own."""
        things = things or [a_thing() for _ in numbers]
        await self.store.things.add(things)
        changes = Changes()
        for number, thing in zip(numbers, things, strict=True):
            key = SessionKey(number)
            changes.sessions[key] = KeptSession(key, thing.id, f"client {number}", 60)
        await self.store.sessions.apply(changes)
        return things

    async def _queued(
        self, session: int, after: int = 0, limit: int = 100, max_bytes: int = MUCH
    ) -> list[KeptDelivery]:
        found: list[KeptDelivery] = await self.store.sessions.queued(
            SessionKey(session), after, limit, max_bytes
        )
        return found

    async def _payloads(self, session: int) -> list[tuple[int, bytes]]:
        return [(it.sequence, it.message.payload) for it in await self._queued(session)]


class SessionContract(KeptPromises):
    """Sessions and what belongs to them, retained messages, and what a start finds."""

    def test_interface(self) -> None:
        """It is what the page of joints says."""
        verifyObject(ISessionStore, self.store.sessions)

    def test_nothing(self) -> None:
        """A new store keeps nothing, and numbers begin at 1."""
        kept = self.store.sessions.load()
        self.assertEqual((list(kept.sessions), list(kept.retained)), ([], []))
        self.assertEqual(
            [kept.subscriptions, kept.received, kept.backlogs, kept.wills, kept.channels], [{}] * 5
        )
        self.assertEqual((kept.next_session, kept.next_message), (1, 1))

    async def test_empty_batch(self) -> None:
        """A batch of nothing is committed, too."""
        self.assertIsNone(await self.store.sessions.apply(Changes()))

    # --- sessions ---

    async def test_sessions_come_back(self) -> None:
        """A session comes back as it was kept last, whatever a client calls itself."""
        thing = a_thing()
        await self.store.things.add([thing])
        first = KeptSession(SessionKey(1), thing.id, "", 0)
        second = KeptSession(SessionKey(2**40), thing.id, "ü\U0001f600" * 6000, NEVER, 2**33)
        changes = Changes()
        changes.sessions = {first.key: first, second.key: replace(second)}
        await self.store.sessions.apply(changes)
        changes = Changes()
        first = KeptSession(SessionKey(1), thing.id, "", 7, 99)
        changes.sessions[first.key] = first
        await self.store.sessions.apply(changes)
        self.assertCountEqual(self.store.sessions.load().sessions, [first, second])

    async def test_numbers_are_not_used_again(self) -> None:
        """The next session's number is above those of sessions that are gone, or were never written."""
        await self._sessions(5, 9)
        changes = Changes()
        changes.sessions[SessionKey(9)] = None
        await self.store.sessions.apply(changes)
        self.assertEqual(self.store.sessions.load().next_session, 10)
        changes = Changes()
        changes.sessions[SessionKey(20)] = None
        await self.store.sessions.apply(changes)
        changes = Changes()
        changes.sessions[SessionKey(7)] = None
        await self.store.sessions.apply(changes)
        self.assertEqual(self.store.sessions.load().next_session, 21)

    async def test_subscriptions_come_back(self) -> None:
        """Every option of a subscription is kept; the last one counts; one that is gone is gone."""
        await self._sessions(1, 2)
        one, two = SessionKey(1), SessionKey(2)
        long = "channels/c/messages/" + "ä" * 32_000
        first = KeptSubscription("channels/c/messages/#", 2, True, True, 268_435_455)
        second = KeptSubscription(long + "a", 0)
        third = KeptSubscription(long + "b", 1, retain_as_published=True)
        changes = Changes()
        for subscription in (first, second, third):
            changes.subscriptions[one, subscription.topic_filter] = subscription
        changes.subscriptions[two, first.topic_filter] = replace(first, qos=0)
        await self.store.sessions.apply(changes)
        found = self.store.sessions.load().subscriptions
        self.assertCountEqual(found[one], [first, second, third])
        self.assertEqual(found[two], [replace(first, qos=0)])
        changes = Changes()
        changes.subscriptions[one, first.topic_filter] = replace(first, qos=1, no_local=False)
        changes.subscriptions[one, second.topic_filter] = None
        changes.subscriptions[two, first.topic_filter] = None
        changes.subscriptions[two, "channels/never"] = None
        await self.store.sessions.apply(changes)
        found = self.store.sessions.load().subscriptions
        self.assertCountEqual(found[one], [replace(first, qos=1, no_local=False), third])
        self.assertNotIn(two, found)

    async def test_received_identifiers_come_back(self) -> None:
        """QoS 2 messages that are not released are remembered; noting one twice is nothing."""
        await self._sessions(1, 2)
        one, two = SessionKey(1), SessionKey(2)
        for _ in range(2):
            changes = Changes()
            changes.received = {(one, 1): True, (one, 65_535): True, (two, 1): True}
            await self.store.sessions.apply(changes)
        self.assertEqual(self.store.sessions.load().received, {one: {1, 65_535}, two: {1}})
        for _ in range(2):
            changes = Changes()
            changes.received = {(one, 1): False, (two, 1): False, (one, 2): True}
            await self.store.sessions.apply(changes)
        self.assertEqual(self.store.sessions.load().received, {one: {2, 65_535}})

    async def test_wills_come_back(self) -> None:
        """A will is kept with its message, delay and due time, and replaced as a whole."""
        await self._sessions(1, 2, 3)
        one, two = SessionKey(1), SessionKey(2)
        changes = Changes()
        changes.wills[one] = KeptWill(a_message(), NEVER)
        changes.wills[two] = KeptWill(a_message(), 5, 2**33)
        changes.wills[SessionKey(3)] = None
        await self.store.sessions.apply(changes)
        changes = Changes()
        last = a_message(levels=("last",), qos=2, retain=True)
        changes.wills[one] = KeptWill(last, 0, 7)
        changes.wills[two] = None
        await self.store.sessions.apply(changes)
        found = self.store.sessions.load().wills
        self.assertEqual(list(found), [one])
        self.assertEqual((found[one].delay, found[one].due), (0, 7))
        self.assertEqual(parts(found[one].message), parts(last))

    async def test_gone_session_takes_all_with_it(self) -> None:
        """Of a session that is gone nothing is left, not even what the same batch holds of it."""
        await self._sessions(1, 2)
        one, two = SessionKey(1), SessionKey(2)
        for gone in (False, True):
            changes = a_batch(a_delivery(1, 1 + gone, 10 + gone), a_delivery(1, 3, 12), a_delivery(2, 1, 12))
            for key in (one, two):
                changes.subscriptions[key, f"filter {gone}"] = KeptSubscription(f"filter {gone}", 1)
                changes.received[key, 1 + gone] = True
                changes.wills[key] = KeptWill(a_message())
            if gone:
                changes.sessions[one] = None
            await self.store.sessions.apply(changes)
        kept = self.store.sessions.load()
        self.assertEqual([session.key for session in kept.sessions], [two])
        for found in (kept.subscriptions, kept.received, kept.wills, kept.backlogs):
            self.assertEqual(list(found), [two])
        self.assertEqual(await self._queued(1), [])
        self.assertEqual(await self._payloads(2), [(1, b"12")])
        self.assertEqual(kept.next_message, 13)

    # --- retained messages ---

    async def _retained(self) -> list[tuple[str, tuple[str, ...], bytes]]:
        found = [(it.channel, it.levels, it.payload) for it in self.store.sessions.load().retained]
        return sorted(found)

    async def test_retained_messages(self) -> None:
        """The last message of each exact topic is kept until it is cleared."""
        channel = a_channel()
        await self.store.channels.add([channel])
        topics: list[tuple[str, ...]] = [(), ("",), ("a",), ("a", ""), ("", "a"), ("a", "b"), ("ä" * 20_000,)]
        for round in (1, 2):
            changes = Changes()
            for number, levels in enumerate(topics):
                changes.retained[channel.id, levels] = a_message(10 * round + number, channel.id, levels)
            await self.store.sessions.apply(changes)
        expected = [(str(channel.id), levels, b"%d" % (20 + n)) for n, levels in enumerate(topics)]
        self.assertEqual(await self._retained(), sorted(expected))
        changes = Changes()
        changes.retained[channel.id, ()] = None
        changes.retained[channel.id, ("a", "")] = None
        changes.retained[channel.id, ("never",)] = None
        await self.store.sessions.apply(changes)
        self.assertEqual(await self._retained(), sorted(set(expected) - {expected[0], expected[3]}))

    async def test_what_stands_in_no_queue_has_no_key(self) -> None:
        """Only in a queue does a message keep its key: after a start it may be given to another."""
        channel = a_channel()
        await self.store.channels.add([channel])
        await self._sessions(1)
        changes = a_batch(a_delivery(1, 1, 7))
        changes.retained[channel.id, ("a",)] = a_message(9, channel.id, ("a",))
        changes.wills[SessionKey(1)] = KeptWill(a_message(9))
        await self.store.sessions.apply(changes)
        kept = self.store.sessions.load()
        self.assertEqual([it.key for it in (kept.retained[0], kept.wills[SessionKey(1)].message)], [0, 0])
        self.assertEqual([it.message.key for it in await self._queued(1)], [7])
        self.assertEqual(kept.next_message, 8)

    async def test_channels_gone(self) -> None:
        """With a channel go its retained messages, and those of the batch that says so."""
        gone, other = a_channel(), a_channel()
        await self.store.channels.add([gone, other])
        changes = Changes()
        for channel in (gone, other):
            changes.retained[channel.id, ("a",)] = a_message(1, channel.id, ("a",))
        await self.store.sessions.apply(changes)
        changes = Changes()
        changes.channels_gone.add(gone.id)
        changes.retained[gone.id, ("b",)] = a_message(2, gone.id, ("b",))
        changes.retained[other.id, ("b",)] = a_message(2, other.id, ("b",))
        await self.store.sessions.apply(changes)
        found = [(channel, levels) for channel, levels, _ in await self._retained()]
        self.assertEqual(found, [(other.id, ("a",)), (other.id, ("b",))])

    # --- a start ---

    async def test_start_sweeps_out_what_lost_its_thing(self) -> None:
        """Sessions of things that were deleted are gone at the next start, with all that is theirs."""
        things = await self._sessions(1, 2)
        changes = a_batch(a_delivery(1, 1, 1), a_delivery(1, 2, 2), a_delivery(2, 1, 1), a_delivery(3, 1, 3))
        for number in (1, 2, 3):  # the third has no session
            key = SessionKey(number)
            changes.subscriptions[key, "a"] = KeptSubscription("a", 1)
            changes.received[key, 1] = True
            changes.wills[key] = KeptWill(a_message())
        await self.store.sessions.apply(changes)
        await self.store.things.remove(ANN, things[0].id)
        kept = self.store.sessions.load()
        two = SessionKey(2)
        self.assertEqual([session.key for session in kept.sessions], [two])
        for found in (kept.subscriptions, kept.received, kept.wills, kept.backlogs):
            self.assertEqual(list(found), [two])
        self.assertEqual([await self._payloads(n) for n in (1, 2, 3)], [[], [(1, b"1")], []])
        self.assertEqual((kept.next_session, kept.next_message), (3, 2))
        self.assertEqual(kept.channels, {things[1].id: set()})

    async def test_start_sweeps_out_what_lost_its_channel(self) -> None:
        """Retained messages of channels that were deleted are gone at the next start."""
        gone, other = a_channel(), a_channel()
        await self.store.channels.add([gone, other])
        changes = Changes()
        for id in (gone.id, other.id, str(uuid4())):
            changes.retained[id, ("a",)] = a_message(1, id, ("a",))
        await self.store.sessions.apply(changes)
        await self.store.channels.remove(ANN, gone.id)
        self.assertEqual(await self._retained(), [(other.id, ("a",), b"1")])

    async def test_start_knows_the_channels_of_things(self) -> None:
        """Of every thing that has a session the start learns the channels, of others nothing."""
        things = await self._sessions(1, 2, 3)
        other = a_thing()
        await self.store.things.add([other])
        channels = [a_channel(), a_channel()]
        ids = [channel.id for channel in channels]
        await self.store.channels.add(channels)
        await self.store.connections.connect(ANN, ids, [things[0].id, other.id])
        await self.store.connections.connect(ANN, ids[:1], [things[1].id])
        expected: dict[Any, set[ChannelId]] = {
            things[0].id: set(ids),
            things[1].id: set(ids[:1]),
            things[2].id: set(),
        }
        self.assertEqual(self.store.sessions.load().channels, expected)

    async def test_second_start(self) -> None:
        """A start changes nothing that belongs to somebody."""
        await self._sessions(1)
        await self.store.sessions.apply(a_batch(a_delivery(1, 1, 1)))
        first, second = self.store.sessions.load(), self.store.sessions.load()
        self.assertEqual(first, second)
        self.assertEqual(await self._payloads(1), [(1, b"1")])

    async def test_closed(self) -> None:
        """A closed store takes no batch."""
        await self.store.close()
        await self.assertFailure(self.store.sessions.apply(Changes()), Overloaded)
