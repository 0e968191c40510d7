"""What must survive is committed in groups, in order, and those who wait are told, always."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mfserver.durable import (
    PUBLISHED,
    Changes,
    KeptDelivery,
    KeptSession,
    KeptSubscription,
    KeptWill,
    SessionKey,
)
from mfserver.errors import Overloaded
from mfserver.records import ThingId
from mfserver.routing.journal import Journal
from tests.routing.cases import mqtt
from tests.store.memory_sessions import MemorySessions

KEY = SessionKey(1)


@implementer(ILogObserver)
class Observer:
    """Keeps what the log is told."""

    def __init__(self, events: list[LogEvent]) -> None:
        self._events = events

    def __call__(self, event: LogEvent) -> None:
        self._events.append(event)


class Counted(MemorySessions):
    """Keeps the batches that it is asked to commit."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Changes] = []

    def apply(self, changes: Changes) -> "Deferred[None]":
        self.asked.append(changes)
        return super().apply(changes)


class Dead(MemorySessions):
    """Raises, which a store should not."""

    def apply(self, changes: Changes) -> "Deferred[None]":
        raise ValueError("a mistake of ours")


def delivery(sequence: int, qos: int = 1, payload: bytes = b"", key: SessionKey = KEY) -> KeptDelivery:
    message = mqtt("channels/c/messages/t", qos, payload=payload)
    return KeptDelivery(key, sequence, message, qos, size=len(payload) + 256)


class JournalCase(SynchronousTestCase):
    """One journal over a store whose commits the test lets through."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = Counted()
        self.journal = Journal(self.store, self.clock)
        self.journal.session(KeptSession(KEY, ThingId("alice"), "phone", 10))
        self.clock.advance(1)
        self.answers: list[str] = []

    def ask(self, name: str = "") -> None:
        """Wait for what was recorded until now."""
        committed = self.journal.committed()
        if committed is None:
            self.answers.append(f"{name} at once")
        else:
            committed.addCallbacks(
                lambda _: self.answers.append(name), lambda it: self.answers.append(f"{name} {it.value}")
            )

    def backlog(self) -> Any:
        return self.store.load().backlogs.get(KEY)


class JournalTests(JournalCase):
    """Groups, their order, and who waits for them."""

    def test_nothing_to_wait_for(self) -> None:
        """All is on the disk: nobody has to wait."""
        self.assertIsNone(self.journal.committed())
        self.assertEqual(1, self.store.commits)

    def test_group(self) -> None:
        """What is recorded in one turn is one commit, at its end."""
        for sequence in (1, 2, 3):
            self.journal.queue(delivery(sequence))
            self.ask(str(sequence))
        self.assertEqual(1, self.store.commits)
        self.clock.advance(0)
        self.assertEqual(["1", "2", "3"], self.answers)
        self.assertEqual((2, 3), (self.store.commits, self.backlog().count))

    def test_behind_one_under_way(self) -> None:
        """What comes during a commit goes with the next one, and its waiters with that."""
        self.store.hold = True
        self.journal.queue(delivery(1))
        self.ask("first")
        self.clock.advance(0)
        self.ask("still the first")
        self.journal.queue(delivery(2))
        self.ask("second")
        self.clock.advance(5)
        self.assertEqual(1, len(self.store.waiting))
        self.store.release()
        self.assertEqual(["first", "still the first"], self.answers)
        self.clock.advance(0)
        self.store.release()
        self.assertEqual("second", self.answers[-1])

    def test_came_and_went(self) -> None:
        """Who waits for what is over before the next commit is told with that commit, though it is empty.

        A subscriber that acknowledges faster than the disk must not leave the publisher without its PUBACK.
        """
        self.store.hold = True
        self.journal.queue(delivery(1))
        self.ask("first")
        self.clock.advance(0)
        self.journal.queue(delivery(2))
        self.ask("second")
        self.journal.finish(KEY, 2, 2)
        self.ask("third")
        self.store.release()
        self.clock.advance(1)
        self.assertEqual(["first", "second", "third"], self.answers)
        self.assertEqual((2, []), (self.store.commits, self.store.waiting))

    def test_lazy(self) -> None:
        """What nobody waits for is committed too, a little later; who asks does not wait for that."""
        self.journal.queue(delivery(1))
        self.clock.advance(0.5)
        self.assertEqual(1, self.backlog().count)
        self.journal.finish(KEY, 1, 1)
        self.clock.advance(0)
        self.ask("now")
        self.clock.advance(0)
        self.assertEqual((["now"], None), (self.answers, self.backlog()))

    def test_clock_set_back(self) -> None:
        """A commit does not wait for hours because somebody set the clock back."""
        self.journal.queue(delivery(1))
        self.clock.rightNow -= 3600
        self.journal.queue(delivery(2))
        self.clock.advance(1)
        self.assertEqual(2, self.backlog().count)

    def test_told_while_telling(self) -> None:
        """Who is told and records and asks again waits for the next commit; who only asks is told now."""
        self.journal.queue(delivery(1))
        committed = self.journal.committed()
        assert committed is not None

        def again(_: None) -> None:
            self.ask("nothing new")
            self.journal.queue(delivery(2))
            self.ask("new")

        committed.addCallback(again)
        self.store.hold = True
        self.clock.advance(0)
        self.store.release()
        self.assertEqual(["nothing new"], self.answers)
        self.clock.advance(0)
        self.store.release()
        self.assertEqual(["nothing new", "new"], self.answers)

    def test_position(self) -> None:
        """It grows with what is waited for: not with QoS 0, nor with what is over."""
        position = self.journal.position
        self.journal.queue(delivery(1, qos=0))
        self.journal.finish(KEY, 7, 7)
        self.journal.retained("c", ("t",), mqtt("channels/c/messages/t", 0, payload=b"x", retain=True))
        self.assertEqual(position, self.journal.position)
        self.journal.queue(delivery(2))
        self.journal.retained("c", ("t",), None)
        self.assertEqual(position + 2, self.journal.position)

    def test_numbers(self) -> None:
        """Sessions and messages get numbers that none had; a message keeps its own."""
        journal = Journal(self.store, self.clock, next_session=5, next_message=9)
        journal.number_from(3, 20)
        self.assertEqual([5, 6], [journal.new_session(), journal.new_session()])
        first, second = delivery(1), delivery(2)
        journal.queue(first)
        journal.queue(second)
        journal.queue(KeptDelivery(KEY, 3, first.message, 1))
        self.assertEqual((20, 21), (first.message.key, second.message.key))

    def test_everything(self) -> None:
        """Each kind of change reaches the store."""
        journal, will = self.journal, KeptWill(mqtt("channels/c/messages/will", payload=b"w"), 5)
        journal.subscription(KEY, "channels/c/messages/#", KeptSubscription("channels/c/messages/#", 1))
        journal.received(KEY, 7, True)
        journal.queue(delivery(1))
        journal.will(KEY, will)
        message = mqtt("channels/c/messages/t", payload=b"r", retain=True)
        journal.retained("c", ("t",), message)
        self.clock.advance(1)
        journal.move(KEY, 1, 4, PUBLISHED)
        self.clock.advance(1)
        kept = self.store.load()
        self.assertEqual({7}, kept.received[KEY])
        self.assertEqual(1, kept.subscriptions[KEY][0].qos)
        self.assertEqual((b"w", 5), (kept.wills[KEY].message.payload, kept.wills[KEY].delay))
        self.assertEqual([b"r"], [it.payload for it in kept.retained])
        (moved,) = self.successResultOf(self.store.queued(KEY, 0, 10, 1000))
        self.assertEqual((4, PUBLISHED), (moved.packet_id, moved.state))
        journal.channel_gone("c")
        journal.session_ended(KEY)
        self.clock.advance(1)
        kept = self.store.load()
        self.assertEqual(
            ([], {}, {}, {}, {}, []),
            (kept.sessions, kept.subscriptions, kept.received, kept.backlogs, kept.wills, kept.retained),
        )

    def test_congested(self) -> None:
        """Publishers are to wait while bytes or changes without end wait for the commit under way."""
        self.store.hold = True
        self.journal.queue(delivery(1))
        self.clock.advance(0)
        self.assertFalse(self.journal.congested)
        payload = bytes(1 << 20)
        for sequence in range(2, 19):
            self.journal.queue(delivery(sequence, payload=payload))
        self.assertTrue(self.journal.congested)
        self.store.release()
        self.clock.advance(1)
        self.assertFalse(self.journal.congested)
        for packet_id in range(20_001):
            self.assertFalse(self.journal.congested)
            self.journal.received(KEY, packet_id % 9, True)
        self.assertTrue(self.journal.congested)

    def test_retained_bytes(self) -> None:
        """Retained messages count there, too."""
        self.store.hold = True
        self.journal.queue(delivery(1))
        self.clock.advance(0)
        for name in range(17):
            message = mqtt(f"channels/c/messages/{name}", payload=bytes(1 << 20), retain=True)
            self.journal.retained("c", message.levels, message)
        self.assertTrue(self.journal.congested)


class DiskTests(JournalCase):
    """The disk is full, or broken."""

    def setUp(self) -> None:
        super().setUp()
        self.events: list[LogEvent] = []
        observer = Observer(self.events)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def lines(self) -> list[str]:
        """The levels of what the log of the journal was told."""
        return [
            event["log_level"].name
            for event in self.events
            if event.get("log_namespace") == "mfserver.routing.journal.Journal"
        ]

    def test_full(self) -> None:
        """A batch is tried again each second, said once, until there is room; nobody is told before."""
        self.store.fail = Overloaded("no room")
        self.journal.queue(delivery(1))
        self.ask("first")
        self.clock.pump([0, *[0.5] * 10])
        self.journal.queue(delivery(2))
        self.ask("second")
        self.assertEqual(([], True, ["warn"]), (self.answers, self.journal.stalled, self.lines()))
        self.store.fail = None
        self.clock.advance(1)
        self.assertEqual((False, ["warn", "info"]), (self.journal.stalled, self.lines()))
        self.clock.advance(0)
        self.assertEqual((["first", "second"], 2), (self.answers, self.backlog().count))

    def test_once_each_second(self) -> None:
        """It does not write more often while the disk is full."""
        self.store.fail = Overloaded("no room")
        asked = self.store.asked
        asked.clear()
        self.journal.queue(delivery(1))
        self.clock.advance(0.2)
        for sequence in range(2, 12):
            self.journal.queue(delivery(sequence))
            self.ask()
            self.clock.advance(1)
        self.assertEqual(11, len(asked))
        self.assertEqual({id(asked[0])}, set(map(id, asked)))

    def test_broken(self) -> None:
        """Whoever waits for what can never be written is told so, and the next batch is written."""
        self.store.fail = ValueError("a mistake of ours")
        self.journal.queue(delivery(1))
        self.ask("first")
        self.clock.advance(0)
        self.assertEqual(["first it could not be stored"], self.answers)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.store.fail = None
        self.journal.queue(delivery(2))
        self.ask("second")
        self.clock.advance(0)
        self.assertEqual("second", self.answers[-1])

    def test_raises(self) -> None:
        """A store that raises does not stop the journal for ever."""
        self.journal = Journal(Dead(), self.clock)
        for name in ("first", "second"):
            self.journal.queue(delivery(1))
            self.ask(name)
            self.clock.advance(0)
        self.assertEqual(["first it could not be stored", "second it could not be stored"], self.answers)
        self.assertEqual(2, len(self.flushLoggedErrors(ValueError)))

    def test_answer_fails(self) -> None:
        """What goes wrong behind a commit is of its waiter alone."""
        self.journal.queue(delivery(1))
        committed = self.journal.committed()
        assert committed is not None
        committed.addCallback(lambda _: 1 / 0)
        self.ask("next")
        self.clock.advance(0)
        self.assertEqual(["next"], self.answers)
        self.failureResultOf(committed, ZeroDivisionError)


class RandomTests(SynchronousTestCase):
    """Any order of recording, asking and committing."""

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.sampled_from(["queue", "finish", "undo", "ask", "turn", "release", "fail", "mend"]),
            max_size=40,
        )
    )
    def test_always_told_in_order(self, steps: list[str]) -> None:
        """Everybody is told once, in the order of asking, and not before it is on the disk."""
        clock, store = Clock(), MemorySessions()
        journal = Journal(store, clock)
        journal.session(KeptSession(KEY, ThingId("alice"), "phone", 10))
        store.hold = True
        last, waiting, told = 0, dict[int, KeptDelivery](), list[int]()
        asked = 0

        def tell(_: None, number: int, needed: set[int]) -> None:
            rows = self.successResultOf(store.queued(KEY, 0, 1000, 1 << 30))
            self.assertLessEqual(needed & set(waiting), {row.sequence for row in rows})
            told.append(number)

        for step in steps:
            if step == "queue":
                last += 1
                waiting[last] = delivery(last)
                journal.queue(waiting[last])
            elif step in ("finish", "undo") and waiting:
                sequence = min(waiting) if step == "finish" else max(waiting)
                journal.finish(KEY, sequence, waiting.pop(sequence).message.key)
            elif step == "ask":
                asked += 1
                committed = journal.committed()
                if committed is None:
                    tell(None, asked, set(waiting))
                else:
                    committed.addCallback(tell, asked, set(waiting))
            elif step == "turn":
                clock.advance(1)
            elif step == "release":
                store.release()
            elif step in ("fail", "mend"):
                store.fail = Overloaded("no room") if step == "fail" else None
        store.fail = None
        for _ in range(5):
            clock.advance(1)
            store.release()
        self.assertEqual(list(range(1, asked + 1)), told)
        self.assertIsNone(journal.committed())
        backlog = store.load().backlogs.get(KEY)
        self.assertEqual(len(waiting), backlog.count if backlog else 0)
