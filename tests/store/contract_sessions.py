"""What every store promises of what MQTT keeps."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

from zope.interface.verify import verifyObject

from mfserver.durable import (
    NEVER,
    PUBLISHED,
    RELEASED,
    Backlog,
    Changes,
    KeptDelivery,
    KeptSession,
    KeptSubscription,
    KeptWill,
    SessionKey,
)
from mfserver.errors import Overloaded
from mfserver.interfaces import ISessionStore
from mfserver.message import COAP, MQTT, Message
from mfserver.records import ChannelId, Thing
from tests.store.contract import ANN, Promises, a_channel, a_thing

__all__ = ["SessionContract", "a_batch", "a_delivery", "a_message", "parts"]

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
    message.encoded[5] = b"an encoded packet"
    return message


def a_delivery(session: int, sequence: int, message: int, **values: Any) -> KeptDelivery:
    return KeptDelivery(
        SessionKey(session), sequence, a_message(message), **{"qos": 1, "size": 100, **values}
    )


def parts(message: Message) -> dict[str, object]:
    """What of a message has to come back."""
    return {name: getattr(message, name) for name in Message.__slots__ if name not in ("origin", "encoded")}


def a_batch(*deliveries: KeptDelivery) -> Changes:
    changes = Changes()
    for delivery in deliveries:
        changes.queue(delivery)
    return changes


class SessionContract(Promises):
    """Batches of changes, queues, and what a start finds."""

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

    # --- queues ---

    async def test_messages_come_back_exactly(self) -> None:
        """All of a message comes back, to the types of its properties, but its origin and encoded packets."""
        properties: dict[int, object] = {
            0x01: 1,
            0x02: 2**32 - 1,
            0x03: "text/ü",
            0x08: "answers/\U0001f600",
            0x09: b"\x00\xff\xfe",
            0x26: [("name", "value"), ("name", ""), ("", "ä")],
        }
        several = [
            Message("c", (), "", "", COAP, b"", "", 0),
            Message(
                "c",
                ("",),
                "",
                "p",
                MQTT,
                bytes(range(256)),
                "",
                2**62,
                2,
                True,
                properties,
                object(),
                2**63 - 1,
            ),
            Message("c", ("ä", "", "$x"), "ä.$x", "p", MQTT, b"\xff", "a/b", 1, 0, False, {}, None, 5),
            Message("c", ("a",), "a", "p", MQTT, b"x" * 2**20, "a/b", 1, 0, False, {0x26: []}),
        ]
        changes = Changes()
        for number, message in enumerate(several, 1):
            message.key = number
            message.encoded[5] = b"a packet"
            changes.queue(KeptDelivery(SessionKey(1), number, message, 1))
        await self.store.sessions.apply(changes)
        found = [delivery.message for delivery in await self._queued(1)]
        self.assertEqual([parts(message) for message in found], [parts(message) for message in several])
        self.assertEqual(
            [(message.origin, message.encoded) for message in found], [(None, {})] * len(several)
        )
        values = found[1].properties
        assert values is not None
        self.assertEqual([type(value) for value in values.values()], [int, int, str, str, bytes, list])
        pairs: Any = values[0x26]
        self.assertEqual({type(pair) for pair in pairs}, {tuple})

    async def test_queue_keeps_its_order(self) -> None:
        """Deliveries come in the order of their sequence, with all that they were queued with."""
        one = a_delivery(1, 3, 1, qos=2, retain=True, identifiers=(1, 268_435_455), packet_id=65_535)
        one.state = PUBLISHED
        two = a_delivery(1, 10, 2, qos=0, size=2**31)
        await self.store.sessions.apply(a_batch(two, a_delivery(2, 1, 2), one))
        await self.store.sessions.apply(a_batch(a_delivery(1, 2**40, 3)))
        first, second, third = await self._queued(1)
        for found, queued in ((first, one), (second, two)):
            message = found.message
            self.assertEqual(replace(found, message=queued.message), queued)
            self.assertEqual(parts(message), parts(queued.message))
            self.assertIs(type(found.retain), bool)
        self.assertEqual((third.sequence, third.identifiers), (2**40, ()))

    async def test_queue_in_pieces(self) -> None:
        """A queue is read from where one is, up to a number of deliveries."""
        await self.store.sessions.apply(a_batch(*(a_delivery(1, n, n) for n in range(1, 8))))
        self.assertEqual([it.sequence for it in await self._queued(1, 0, 3)], [1, 2, 3])
        self.assertEqual([it.sequence for it in await self._queued(1, 3, 3)], [4, 5, 6])
        self.assertEqual([it.sequence for it in await self._queued(1, 6, 3)], [7])
        self.assertEqual(await self._queued(1, 7, 3), [])
        self.assertEqual(await self._queued(99), [])

    async def test_queue_in_bytes(self) -> None:
        """No more bytes come than were asked for, but always one delivery, however large."""
        await self.store.sessions.apply(a_batch(*(a_delivery(1, n, n) for n in range(1, 8))))
        self.assertEqual([it.sequence for it in await self._queued(1, 0, 9, 300)], [1, 2, 3])
        self.assertEqual([it.sequence for it in await self._queued(1, 0, 9, 299)], [1, 2])
        self.assertEqual([it.sequence for it in await self._queued(1, 4, 9, 0)], [5])

    async def test_message_of_several_queues(self) -> None:
        """A message stays while any queue holds it, and goes with the last."""
        await self.store.sessions.apply(a_batch(*(a_delivery(session, 1, 7) for session in (1, 2, 3))))
        changes = Changes()
        changes.finish(SessionKey(1), 1, 7)
        changes.finish(SessionKey(2), 1, 7)
        changes.queue(a_delivery(4, 1, 7))
        await self.store.sessions.apply(changes)
        self.assertEqual([await self._payloads(n) for n in (1, 2)], [[], []])
        self.assertEqual([await self._payloads(n) for n in (3, 4)], [[(1, b"7")]] * 2)
        changes = Changes()
        changes.finish(SessionKey(3), 1, 7)
        changes.queue(a_delivery(5, 1, 7))
        await self.store.sessions.apply(changes)
        self.assertEqual([await self._payloads(n) for n in (4, 5)], [[(1, b"7")]] * 2)

    async def test_keys_are_above_those_that_are_kept(self) -> None:
        """The next message's key is above that of every message that stands in a queue."""
        await self._sessions(1)
        await self.store.sessions.apply(a_batch(a_delivery(1, 1, 5), a_delivery(1, 2, 2**40)))
        self.assertEqual(self.store.sessions.load().next_message, 2**40 + 1)
        changes = Changes()
        changes.finish(SessionKey(1), 2, 2**40)
        await self.store.sessions.apply(changes)
        self.assertEqual(self.store.sessions.load().next_message, 6)

    async def test_deliveries_move(self) -> None:
        """How far a delivery is, is kept; noting it twice, or of one that is not there, is nothing."""
        await self.store.sessions.apply(
            a_batch(a_delivery(1, 1, 1), a_delivery(1, 2, 2), a_delivery(2, 1, 1))
        )
        for _ in range(2):
            changes = Changes()
            changes.move(SessionKey(1), 2, 7, PUBLISHED)
            changes.move(SessionKey(1), 3, 8, PUBLISHED)
            changes.move(SessionKey(1), 4, 9, RELEASED)
            await self.store.sessions.apply(changes)
        found = await self._queued(1)
        self.assertEqual(
            [(it.sequence, it.packet_id, it.state) for it in found], [(1, 0, 0), (2, 7, PUBLISHED)]
        )
        self.assertEqual((await self._queued(2))[0].packet_id, 0)

    async def test_released_delivery_keeps_no_message(self) -> None:
        """After PUBREC only the packet identifier matters: the message goes when nobody else needs it."""
        await self._sessions(1, 2)
        await self.store.sessions.apply(
            a_batch(a_delivery(1, 1, 1, qos=2), a_delivery(1, 2, 2, qos=2), a_delivery(2, 1, 2, qos=2))
        )
        changes = a_batch(a_delivery(1, 3, 3, qos=2, size=50))
        changes.move(SessionKey(1), 3, 9, RELEASED)
        changes.move(SessionKey(1), 1, 7, RELEASED)
        changes.move(SessionKey(1), 2, 8, RELEASED)
        await self.store.sessions.apply(changes)
        found = await self._queued(1)
        self.assertEqual(
            [(it.packet_id, it.state, it.qos) for it in found], [(n, RELEASED, 2) for n in (7, 8, 9)]
        )
        self.assertEqual([(it.message.payload, it.message.key) for it in found], [(b"", 0)] * 3)
        self.assertEqual(await self._payloads(2), [(1, b"2")])
        kept = self.store.sessions.load()
        self.assertEqual(kept.next_message, 3)
        self.assertEqual(kept.backlogs[SessionKey(1)], Backlog(3, 250, 3))
        changes = Changes()
        changes.finish(SessionKey(1), 1, 0)
        changes.finish(SessionKey(1), 2, 2)
        changes.finish(SessionKey(1), 3, 3)
        await self.store.sessions.apply(changes)
        self.assertEqual((await self._queued(1), await self._payloads(2)), ([], [(1, b"2")]))

    async def test_two_that_share_a_message_are_released_at_once(self) -> None:
        """A message whose last queues release it in one batch is not kept."""
        await self._sessions(1, 2)
        await self.store.sessions.apply(a_batch(a_delivery(1, 1, 4, qos=2), a_delivery(2, 1, 4, qos=2)))
        changes = Changes()
        changes.move(SessionKey(1), 1, 1, RELEASED)
        changes.move(SessionKey(2), 1, 1, RELEASED)
        await self.store.sessions.apply(changes)
        self.assertEqual(self.store.sessions.load().next_message, 1)

    async def test_batch_is_applied_twice(self) -> None:
        """Whoever does not know whether a batch was committed applies it again: nothing changes."""
        await self._sessions(1, 2)
        await self.store.sessions.apply(
            a_batch(a_delivery(1, 1, 1), a_delivery(1, 2, 2), a_delivery(1, 3, 3))
        )
        changes = a_batch(a_delivery(1, 4, 4), a_delivery(2, 1, 4))
        changes.finish(SessionKey(1), 1, 1)
        changes.move(SessionKey(1), 2, 9, RELEASED)
        changes.subscriptions[SessionKey(1), "a"] = KeptSubscription("a", 1)
        changes.received[SessionKey(1), 5] = True
        changes.wills[SessionKey(1)] = KeptWill(a_message())
        changes.retained["c", ("a",)] = a_message(levels=("a",))
        seen = []
        for _ in range(2):
            await self.store.sessions.apply(changes)
            kept = self.store.sessions.load()
            seen.append(
                [
                    await self._payloads(1),
                    await self._payloads(2),
                    kept.backlogs,
                    kept.subscriptions,
                    kept.received,
                    list(kept.wills),
                    kept.next_message,
                ]
            )
        self.assertEqual(seen[0][0], [(2, b""), (3, b"3"), (4, b"4")])
        self.assertEqual(*seen)

    async def test_backlogs(self) -> None:
        """A start learns how much waits, and what of it may be dropped: QoS 0 not sent, the oldest first."""
        await self._sessions(1, 2)
        await self.store.sessions.apply(
            a_batch(
                a_delivery(1, 4, 44, qos=0, size=7),
                a_delivery(1, 2, 22, qos=0, size=1),
                a_delivery(1, 3, 33, qos=1, size=2**40),
                a_delivery(1, 9, 99, qos=0, size=3, state=PUBLISHED),
                a_delivery(2, 1, 22, qos=2, size=5, state=PUBLISHED),
            )
        )
        self.assertEqual(
            self.store.sessions.load().backlogs,
            {
                SessionKey(1): Backlog(4, 2**40 + 11, 9, ((2, 22, 1), (4, 44, 7))),
                SessionKey(2): Backlog(1, 5, 1),
            },
        )

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
