"""What every store promises of the queues of sessions."""

from dataclasses import replace
from typing import Any

from mfserver.durable import (
    PUBLISHED,
    RELEASED,
    Backlog,
    Changes,
    KeptDelivery,
    KeptSubscription,
    KeptWill,
    SessionKey,
)
from mfserver.message import COAP, MQTT, Message
from tests.store.contract_sessions import KeptPromises, a_batch, a_delivery, a_message, parts

__all__ = ["QueueContract"]


class QueueContract(KeptPromises):
    """Deliveries come, move and go, and their messages with them."""

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
            Message("c", ("a",), "a", "p", MQTT, b"x" * 5000, "a/b", 1, 0, False, {0x26: []}),
        ]
        changes = Changes()
        for number, message in enumerate(several, 1):
            message.key = number
            message.encoded = {5: b"a packet"}
            changes.queue(KeptDelivery(SessionKey(1), number, message, 1))
        await self.store.sessions.apply(changes)
        found = [delivery.message for delivery in await self._queued(1)]
        self.assertEqual([parts(message) for message in found], [parts(message) for message in several])
        self.assertEqual(
            [(message.origin, message.encoded) for message in found], [(None, None)] * len(several)
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

    async def test_last_state_counts(self) -> None:
        """A delivery that is queued in its place again is as it was queued last."""
        await self.store.sessions.apply(a_batch(a_delivery(1, 1, 1)))
        values: dict[str, Any] = {"qos": 2, "retain": True, "identifiers": (3,), "packet_id": 5, "size": 7}
        last = a_delivery(1, 1, 1, state=PUBLISHED, **values)
        await self.store.sessions.apply(a_batch(last))
        (found,) = await self._queued(1)
        self.assertEqual(replace(found, message=last.message), last)

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
