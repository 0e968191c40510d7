"""What MQTT keeps, in the database alone: a full disk, what is left over, and what a batch may cost."""

import os
import re
import sqlite3
from collections import Counter
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import CompileError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mfserver.durable import (
    RELEASED,
    Changes,
    KeptDelivery,
    KeptSession,
    KeptSubscription,
    KeptWill,
    SessionKey,
)
from mfserver.errors import ConfigurationError, Overloaded
from mfserver.records import ThingId
from mfserver.store.functions import add_rows, execute_rows, put_rows
from mfserver.store.schema import session_queue, session_received
from tests.store.contract import a_thing
from tests.store.contract_sessions import a_batch, a_delivery, a_message
from tests.store.files import a_path, a_store, store_threads
from tests.store.memory_sessions import MemorySessions

ONE = SessionKey(1)
#: Deliveries of a large batch.
LARGE = 10_000
#: Steps of SQLite's virtual machine that are counted at once.
STEP = 100


class KeptCase(TestCase):
    def setUp(self) -> None:
        self.others = store_threads()
        self.path = a_path(self)
        self.store = a_store(self, self.path)
        self.sessions = self.store.sessions

    def _execute(self, *statements: str) -> list[tuple[Any, ...]]:
        stranger = sqlite3.connect(self.path)
        with stranger:
            rows = [row for statement in statements for row in stranger.execute(statement)]
        stranger.close()
        return rows

    def _keys(self) -> list[int]:
        return [key for (key,) in self._execute("SELECT key FROM messages ORDER BY key")]

    async def _open_session(self) -> None:
        thing = a_thing()
        await self.store.things.add([thing])
        changes = Changes()
        changes.sessions[ONE] = KeptSession(ONE, thing.id, "", 60)
        await self.sessions.apply(changes)


class RowTests(KeptCase):
    async def test_messages_go_with_their_last_queue(self) -> None:
        """No message stays that no queue holds: delivered, released, or of a session that is gone."""
        await self.sessions.apply(
            a_batch(
                *(a_delivery(session, n, n) for session in (1, 2) for n in range(1, 6)), a_delivery(1, 6, 6)
            )
        )
        changes = Changes()
        changes.finish(ONE, 1, 1)
        changes.finish(ONE, 2, 2)
        changes.finish(SessionKey(2), 2, 2)
        changes.move(ONE, 3, 1, RELEASED)
        changes.move(ONE, 4, 2, RELEASED)
        changes.move(SessionKey(2), 4, 2, RELEASED)
        await self.sessions.apply(changes)
        self.assertEqual(self._keys(), [1, 3, 5, 6])
        changes = Changes()
        changes.sessions[ONE] = None
        await self.sessions.apply(changes)
        self.assertEqual(self._keys(), [1, 3, 5])
        changes.sessions[SessionKey(2)] = None
        await self.sessions.apply(changes)
        self.assertEqual(self._keys(), [])

    async def test_nothing_is_left_of_a_session(self) -> None:
        """Without waiting for the next start, no row of a session that is gone is left."""
        await self._open_session()
        changes = a_batch(a_delivery(1, 1, 1))
        changes.subscriptions[ONE, "a"] = KeptSubscription("a", 1)
        changes.received[ONE, 1] = True
        changes.wills[ONE] = KeptWill(a_message())
        await self.sessions.apply(changes)
        tables = (
            "sessions",
            "session_subscriptions",
            "session_received",
            "session_queue",
            "messages",
            "wills",
        )
        counts = [f"SELECT count(*) FROM {table}" for table in tables]
        self.assertEqual(self._execute(*counts), [(1,)] * len(tables))
        changes = Changes()
        changes.sessions[ONE] = None
        await self.sessions.apply(changes)
        self.assertEqual(self._execute(*counts), [(0,)] * len(tables))

    async def test_released_in_the_batch_that_queued_it(self) -> None:
        """A delivery that is released before it was ever written costs no message."""
        changes = a_batch(a_delivery(1, 1, 1))
        changes.move(ONE, 1, 5, RELEASED)
        await self.sessions.apply(changes)
        self.assertEqual(self._keys(), [])
        self.assertEqual([it.packet_id for it in await self.sessions.queued(ONE, 0, 9, 9)], [5])

    async def test_start_sweeps_out_orphans(self) -> None:
        """A message without a queue, and a delivery without its message, are gone at the next start."""
        await self._open_session()
        await self.sessions.apply(a_batch(*(a_delivery(1, n, n) for n in range(1, 4))))
        self._execute("DELETE FROM session_queue WHERE sequence = 1", "DELETE FROM messages WHERE key = 2")
        kept = self.sessions.load()
        self.assertEqual(self._keys(), [3])
        self.assertEqual(kept.backlogs[ONE].count, 1)
        self.assertEqual([it.sequence for it in await self.sessions.queued(ONE, 0, 9, 999)], [3])

    async def test_batch_longer_than_a_statement(self) -> None:
        """A batch may hold more than the variables that a database allows in one statement."""
        sa.event.listen(
            self.store.database.engine,
            "checkout",
            lambda driver, *_: driver.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999),
        )
        number = 1001
        await self.sessions.apply(a_batch(*(a_delivery(n, 1, n) for n in range(1, number))))
        changes = Changes()
        for n in range(1, number):
            changes.move(SessionKey(n), 1, 1, RELEASED)
            changes.sessions[SessionKey(n + number)] = None
        await self.sessions.apply(changes)
        self.assertEqual(self._keys(), [])

    async def test_large_batches(self) -> None:
        """10,000 deliveries are queued, released and finished while others hardly notice.

        Many at once, and each for what it costs in a batch of a tenth: counted, not timed.
        """
        work: Counter[str] = Counter()

        def step() -> bool:
            work["steps"] += STEP
            return False

        engine = self.store.database.engine
        sa.event.listen(engine, "checkout", lambda driver, *_: driver.set_progress_handler(step, STEP))
        sa.event.listen(engine, "before_cursor_execute", lambda *_: work.update(["statements"]))
        small, large = [await self._large_batches(number, work) for number in (LARGE // 10, LARGE)]
        for few, many, single in zip(small, large, (0, LARGE, 0), strict=True):
            self.assertLess(many["statements"], single + 20)  # each that is released is asked for its message
            self.assertGreater(few["steps"], LARGE // 10)
            self.assertLess(many["steps"], 11 * few["steps"])

    async def _large_batches(self, number: int, work: "Counter[str]") -> "list[Counter[str]]":
        """Queue, release and finish so many. :return: what each made of work."""
        batch, released, finished = Changes(), Changes(), Changes()
        for n in range(1, number + 1):
            session = SessionKey(n % 100)
            batch.queue(KeptDelivery(session, n, a_message(n), 2, size=100))
            released.move(session, n, 1, RELEASED)
            finished.finish(session, n, n)
        found = []
        for changes in (batch, released, finished):
            work.clear()
            await self.sessions.apply(changes)
            found.append(work.copy())
        self.assertEqual(self._execute("SELECT count(*) FROM session_queue"), [(0,)])
        return found


class StartTests(KeptCase):
    def test_nothing_is_carried_through_a_fork(self) -> None:
        """Neither threads nor open files are left by a load: a daemon may fork after it."""
        self.sessions.load()
        self.assertEqual(store_threads() - self.others, set())
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        files = [os.readlink(link) for link in links if os.path.lexists(link)]
        self.assertEqual([name for name in files if name.startswith(self.path)], [])

    def test_database_that_cannot_be_read(self) -> None:
        """A start that finds its tables damaged says so in one line."""
        self._execute("DROP TABLE retained")
        error = self.assertRaises(ConfigurationError, self.sessions.load)
        self.assertIn("cannot be used", str(error))

    async def test_sweep_is_whole_or_nothing(self) -> None:
        """What is swept out before a start fails is there again at the next."""
        changes = Changes()
        changes.sessions[ONE] = KeptSession(ONE, ThingId("nobody"), "", 60)
        await self.sessions.apply(changes)
        self._execute("ALTER TABLE retained RENAME TO hidden")
        self.assertRaises(ConfigurationError, self.sessions.load)
        self.assertEqual(self._execute("SELECT count(*) FROM sessions"), [(1,)])
        self._execute("ALTER TABLE hidden RENAME TO retained")
        self.assertEqual(list(self.sessions.load().sessions), [])


class FullDiskTests(KeptCase):
    async def test_batch_that_does_not_fit(self) -> None:
        """On a full disk nothing of a batch is kept; with room again it is applied as it is."""
        await self._open_session()
        await self.sessions.apply(a_batch(a_delivery(1, 1, 1)))
        (pages,) = self._execute("PRAGMA page_count")[0]
        limit = [pages + 20]
        sa.event.listen(
            self.store.database.engine,
            "checkout",
            lambda driver, *_: driver.execute(f"PRAGMA max_page_count={limit[0]}"),
        )
        large = a_delivery(1, 3, 3)
        large.message.payload = b"x" * 2**20
        changes = a_batch(a_delivery(1, 2, 2), large)
        changes.finish(ONE, 1, 1)
        changes.subscriptions[ONE, "a"] = KeptSubscription("a", 1)
        for _ in range(3):
            await self.assertFailure(self.sessions.apply(changes), Overloaded)
            self.assertEqual([it.sequence for it in await self.sessions.queued(ONE, 0, 9, 2**30)], [1])
        small = Changes()
        small.finish(ONE, 1, 1)
        await self.sessions.apply(small)
        limit[0] = 100_000
        for _ in range(2):
            await self.sessions.apply(changes)
        found = await self.sessions.queued(ONE, 0, 9, 2**30)
        # Lengths alone: the difference of two megabytes would take for ever to be shown.
        self.assertEqual([len(it.message.payload) for it in found], [1, 2**20])
        self.assertEqual(self._keys(), [2, 3])
        await self.store.close()
        self.assertEqual([it.topic_filter for it in self.sessions.load().subscriptions[ONE]], ["a"])


class Recorder:
    """A connection that notes what it is told."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self.dialect = dialect
        self.told: list[tuple[str, list[tuple[Any, ...]]]] = []

    def exec_driver_sql(self, text: str, rows: list[tuple[Any, ...]]) -> None:
        self.told.append((re.sub(r"::\w+", "", text), rows))


class PostgreSQLTests(SynchronousTestCase):
    def test_rows(self) -> None:
        """PostgreSQL is told the same in its own words, with parameters in their order."""
        recorder = Recorder(postgresql.dialect(paramstyle="format"))
        connection = cast("sa.Connection", recorder)
        put_rows(connection, session_queue, [(1, 2, 3, 1, True, "", 0, 0, 9)])
        add_rows(connection, session_received, [(1, 2)])
        (put, put_values), (add, _) = recorder.told
        self.assertIn(
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (session, sequence) DO UPDATE", put
        )
        self.assertIn("SET message = excluded.message, qos = excluded.qos,", put)
        self.assertEqual(put_values, [(1, 2, 3, 1, True, "", 0, 0, 9)])
        self.assertIn("VALUES (%s, %s) ON CONFLICT DO NOTHING", add)

    def test_no_rows(self) -> None:
        """Nothing is told where there is nothing to do."""
        recorder = Recorder(postgresql.dialect(paramstyle="format"))
        connection = cast("sa.Connection", recorder)
        put_rows(connection, session_queue, [])
        add_rows(connection, session_queue, [])
        execute_rows(connection, sa.delete(session_queue), [])
        self.assertEqual(recorder.told, [])

    def test_parameters_without_an_order(self) -> None:
        """A driver that wants names is refused before it mixes values up."""
        connection = cast("sa.Connection", Recorder(postgresql.dialect(paramstyle="pyformat")))
        self.assertRaises(CompileError, add_rows, connection, session_received, [(1, 2)])


class MemorySessionTests(SynchronousTestCase):
    """What the twin does for other tests besides."""

    def setUp(self) -> None:
        self.sessions = MemorySessions()

    def _queued(self) -> list[int]:
        found = self.successResultOf(self.sessions.queued(ONE, 0, 9, 2**30))
        return [delivery.sequence for delivery in found]

    def test_commits_are_held(self) -> None:
        """A held batch is committed by release(), in its order, and is not seen before."""
        self.sessions.hold = True
        finished = Changes()
        finished.finish(ONE, 1, 1)
        waiting = [
            self.sessions.apply(changes)
            for changes in (a_batch(a_delivery(1, 1, 1), a_delivery(1, 2, 2)), finished)
        ]
        for deferred in waiting:
            self.assertNoResult(deferred)
        self.assertEqual((self._queued(), self.sessions.commits), ([], 0))
        self.sessions.release()
        for deferred in waiting:
            self.successResultOf(deferred)
        self.assertEqual((self._queued(), self.sessions.commits), ([2], 2))
        self.assertNoResult(self.sessions.apply(Changes()))

    def test_commits_fail(self) -> None:
        """While it is to fail, nothing is committed, held or not."""
        self.sessions.fail = Overloaded("the disk is full")
        changes = a_batch(a_delivery(1, 1, 1))
        self.failureResultOf(self.sessions.apply(changes), Overloaded)
        self.sessions.hold = True
        held = self.sessions.apply(changes)
        self.sessions.release()
        self.failureResultOf(held, Overloaded)
        self.assertEqual(self._queued(), [])
        self.sessions.fail, self.sessions.hold = None, False
        self.successResultOf(self.sessions.apply(changes))
        self.assertEqual(self._queued(), [1])

    def test_alone_it_has_every_thing(self) -> None:
        """Without tables of things and channels, nothing is swept out."""
        changes = Changes()
        changes.sessions[ONE] = KeptSession(ONE, ThingId("thing"), "", 60)
        changes.retained["c", ()] = a_message()
        self.successResultOf(self.sessions.apply(changes))
        kept = self.sessions.load()
        self.assertEqual((len(kept.sessions), len(kept.retained)), (1, 1))
