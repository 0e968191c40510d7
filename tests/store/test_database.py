"""Group commit, bounds, a full disk, and the end."""

import os
import sqlite3
import threading
from traceback import format_exc
from typing import Any

import sqlalchemy as sa
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from mfserver.certificates import CertificateQuery
from mfserver.errors import ConfigurationError, Conflict, Invalid, NotFound, Overloaded
from mfserver.records import Query
from mfserver.store import sqlite
from mfserver.store.database import MAX_GROUP, Database, Work
from mfserver.store.schema import retired_keys
from tests.store.contract import ANN, a_channel, a_thing, a_user
from tests.store.files import REACTOR, a_path, a_store, store_threads


def row_of(number: int) -> Work[int]:
    """Work that inserts one row and says which."""

    def work(connection: sa.Connection) -> int:
        connection.execute(sa.insert(retired_keys).values(key_digest=b"%032d" % number, owner="o"))
        return number

    return work


def count(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(retired_keys)) or 0


def fill(connection: sa.Connection) -> None:
    """Ask for two megabytes."""
    row = {"key_digest": b"large", "owner": "o" * 2**21}
    connection.execute(sa.insert(retired_keys).values(row))


def works(*several: Work[Any]) -> tuple[Work[Any], ...]:
    return several


class Gate:
    """Work that keeps its thread until it is told to go on, so that others queue up behind it."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._entered: Deferred[None] = Deferred()

    def __call__(self, connection: sa.Connection) -> None:
        REACTOR.callFromThread(self._entered.callback, None)
        assert self._opened.wait(60)

    def entered(self) -> Deferred[None]:
        return self._entered

    def open(self) -> None:
        self._opened.set()


@implementer(ILogObserver)
class Events:
    """Everything that is logged."""

    def __init__(self) -> None:
        self.seen: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        self.seen.append(event)


class DatabaseTestCase(TestCase):
    def setUp(self) -> None:
        self.others = store_threads()
        self.path = a_path(self)
        self.store = a_store(self, self.path)
        self.database = self.store.database
        self.events = Events()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)

    def logged(self, level: LogLevel) -> list[LogEvent]:
        return [event for event in self.events.seen if event.get("log_level") is level]


class GroupCommitTests(DatabaseTestCase):
    async def test_many_writes_need_few_commits(self) -> None:
        """What waits together is committed together, in groups of a bounded size."""
        gate = Gate()
        waiting: list[Deferred[Any]] = [self.database.write(gate)]
        await gate.entered()
        number = 2 * MAX_GROUP
        waiting += [self.database.write(row_of(n)) for n in range(number)]
        gate.open()
        self.assertEqual(await gatherResults(waiting), [None, *range(number)])
        self.assertEqual(self.database.commits, 3)
        self.assertEqual(await self.database.read(count), number)

    async def test_single_writes(self) -> None:
        """One after the other, each write has a commit of its own and is seen by the next read."""
        for number in range(3):
            await self.database.write(row_of(number))
            self.assertEqual(await self.database.read(count), number + 1)
        self.assertEqual(self.database.commits, 3)

    async def test_answer_comes_after_the_commit(self) -> None:
        """Whoever is answered finds the row in the file; before that, nobody does."""
        gate = Gate()
        written, held = self.database.write(row_of(1)), self.database.write(gate)
        await gate.entered()
        with sqlite3.connect(self.path) as stranger:
            self.assertFalse(written.called)
            self.assertEqual(stranger.execute("SELECT count(*) FROM retired_keys").fetchone(), (0,))
            gate.open()
            await written
            self.assertEqual(stranger.execute("SELECT count(*) FROM retired_keys").fetchone(), (1,))
        stranger.close()
        await held

    async def test_bad_neighbour(self) -> None:
        """One request of a group fails with its own error and leaves nothing; the others are committed."""

        def bad(connection: sa.Connection) -> None:
            row_of(100)(connection)
            raise NotFound("no such thing")

        def bug(connection: sa.Connection) -> None:
            row_of(101)(connection)
            raise ZeroDivisionError

        gate = Gate()
        held = self.database.write(gate)
        await gate.entered()
        requests = works(row_of(1), bad, row_of(2), row_of(2), bug, row_of(3))
        waiting = [self.database.write(work) for work in requests]
        gate.open()
        outcomes = await DeferredList(waiting, consumeErrors=True)
        await held
        found = [result if success else result.type for success, result in outcomes]
        self.assertEqual(found, [1, NotFound, 2, Conflict, ZeroDivisionError, 3])
        self.assertEqual(self.database.commits, 2)
        self.assertEqual(await self.database.read(count), 3)

    async def test_failed_commit(self) -> None:
        """When COMMIT fails, everybody in the group hears of it, nothing is kept; the next works."""

        def spoil(connection: sa.Connection) -> None:
            # A constraint that SQLite looks at when it commits.
            connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
            connection.exec_driver_sql("INSERT INTO connections VALUES ('nobody', 'nowhere')")

        gate = Gate()
        held = self.database.write(gate)
        await gate.entered()
        waiting = [self.database.write(work) for work in works(row_of(1), spoil, row_of(2))]
        gate.open()
        outcomes = await DeferredList(waiting, consumeErrors=True)
        await held
        self.assertEqual([success for success, _ in outcomes], [False] * 3)
        self.assertEqual(await self.database.write(row_of(3)), 3)
        self.assertEqual(await self.database.read(count), 1)

    async def test_cancelled_waiting(self) -> None:
        """Who does not wait any longer disturbs nobody; the write is done all the same."""
        gate = Gate()
        held = self.database.write(gate)
        await gate.entered()
        given_up, *others = [self.database.write(row_of(number)) for number in (1, 2)]
        given_up.cancel()
        await self.assertFailure(given_up, CancelledError)
        gate.open()
        await held
        await gatherResults(others)
        self.assertEqual(await self.database.read(count), 2)


class BoundTests(DatabaseTestCase):
    def _bounded(self, readers: int = 1) -> Database:
        database = Database(f"sqlite:///{self.path}", REACTOR, readers=readers, max_waiting=3)
        self.addCleanup(database.close)
        return database

    async def test_writes_past_the_mark(self) -> None:
        """Past the high-water mark a write is refused at once, and taken again when the others are done."""
        database, gate = self._bounded(), Gate()
        waiting: list[Deferred[Any]] = [
            database.write(gate),
            database.write(row_of(1)),
            database.write(row_of(2)),
        ]
        self.failureResultOf(database.write(row_of(3)), Overloaded)
        gate.open()
        await gatherResults(waiting)
        await database.write(row_of(4))
        self.assertEqual(await database.read(count), 3)

    async def test_reads_past_the_mark(self) -> None:
        """So is a read."""
        database, gate = self._bounded(), Gate()
        waiting: list[Deferred[Any]] = [database.read(gate), database.read(count), database.read(count)]
        self.failureResultOf(database.read(count), Overloaded)
        gate.open()
        await gatherResults(waiting)
        self.assertEqual(await database.read(count), 0)

    async def test_slow_read_is_interrupted(self) -> None:
        """A query that would take for ever is ended by its deadline; the next one is not."""

        def work(connection: sa.Connection) -> None:
            endless = (
                "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
            )
            with sqlite.deadline(0.01):
                connection.exec_driver_sql(endless)

        await self.assertFailure(self.database.read(work), Overloaded)
        self.assertEqual(await self.database.read(count), 0)
        self.assertEqual(self.logged(LogLevel.error), [])  # who asks for such things does not fill our log

    async def test_costly_metadata_filter(self) -> None:
        """A filter whose price is the product of two long arrays is refused."""
        nested = [[number] for number in range(1000)]
        await self.store.things.add([a_thing(metadata={"a": nested})])
        query = Query(metadata={"a": nested[::-1]})
        await self.assertFailure(self.store.things.page(ANN, query), Invalid)
        self.assertEqual((await self.store.things.page(ANN, Query(metadata={"a": nested[:9]}))).total, 1)

    async def test_lists_longer_than_a_statement(self) -> None:
        """A list of ids may be longer than the variables that a database allows in one statement."""
        sa.event.listen(
            self.database.engine,
            "checkout",
            lambda driver, *_: driver.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999),
        )
        things, channel = [a_thing() for _ in range(1001)], a_channel()
        ids = [thing.id for thing in things]
        await self.store.things.add(things)
        await self.store.channels.add([channel])
        await self.store.connections.connect(ANN, [channel.id], ids)
        await self.store.connections.disconnect(ANN, [channel.id], ids)

    async def test_too_many_pairs(self) -> None:
        """A request cannot ask for the product of two long lists."""
        ids = [str(number) for number in range(400)]
        await self.assertFailure(self.store.connections.connect(ANN, ids, ids), Invalid)  # type: ignore[arg-type]

    async def test_text_that_is_no_unicode(self) -> None:
        """A lone surrogate is refused wherever it stands, read or written."""
        await self.assertFailure(self.store.things.add([a_thing(name="\ud800")]), Invalid)
        await self.assertFailure(self.store.channels.add([a_channel(name="\ud800")]), Invalid)
        await self.assertFailure(self.store.users.by_email("\ud800"), Invalid)
        await self.assertFailure(self.store.things.page(ANN, Query(name="\ud800")), Invalid)

    async def test_number_that_is_too_large(self) -> None:
        """A number that no database holds is refused."""
        user = a_user(generation=2**63)
        await self.assertFailure(self.store.users.add(user), Invalid)

    async def test_lists_keep_nobody_from_logging_in(self) -> None:
        """While all threads for lists are busy, look-ups are answered; lists have a mark of their own."""
        database, gate = self._bounded(), Gate()
        waiting: list[Deferred[Any]] = [database.scan(gate), database.scan(count), database.scan(count)]
        await gate.entered()
        self.failureResultOf(database.scan(count), Overloaded)
        self.assertEqual(await database.read(count), 0)
        self.assertFalse(any(deferred.called for deferred in waiting))
        gate.open()
        await gatherResults(waiting)

    async def test_pages_are_lists(self) -> None:
        """Every page of the store is read by the threads for lists."""
        names: list[str] = []
        sa.event.listen(
            self.database.engine, "checkout", lambda *_: names.append(threading.current_thread().name)
        )
        thing, channel = a_thing(), a_channel()
        await self.store.things.add([thing])
        await self.store.channels.add([channel])
        certificates = self.store.certificates
        del names[:]
        await self.store.things.page(ANN, Query())
        await self.store.channels.page(ANN, Query())
        await self.store.connections.things_on(ANN, channel.id, Query(), True)
        await self.store.connections.channels_with(ANN, thing.id, Query(), True)
        await certificates.page(ANN, CertificateQuery(now=0))
        await certificates.revoked(0)
        await certificates.ending(0, 1)
        self.assertEqual(["scan" in name for name in names], [True] * 7)

    async def test_errors_name_no_key(self) -> None:
        """Neither an error nor what it came from shows a key or a password's hash."""
        thing = a_thing(key="this-is-a-secret-key")
        await self.store.things.add([thing])
        user = a_user()
        await self.store.users.add(user)
        for adding in (self.store.things.add([a_thing(key=thing.key)]), self.store.users.add(user)):
            try:
                await adding
            except Conflict:
                text = format_exc()
            self.assertNotIn(thing.key, text)
            self.assertNotIn(user.password_hash, text)
        self.assertIn("IntegrityError", text)


class FullDiskTests(DatabaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.pages = 60
        sa.event.listen(self.database.engine, "checkout", self._limit)

    def _limit(self, driver: Any, _record: object, _proxy: object) -> None:
        driver.execute(f"PRAGMA max_page_count={self.pages}")

    async def test_full_disk_is_an_error_and_not_the_end(self) -> None:
        """Who cannot be written hears of it, it is logged once, and with room all is well again."""
        await self.database.write(row_of(1))
        for _ in range(3):
            await self.assertFailure(self.database.write(fill), Overloaded)
        self.assertEqual(await self.database.read(count), 1)
        (event,) = self.logged(LogLevel.error)
        self.assertEqual(event["why"], "database or disk is full")
        self.pages = 10_000
        await self.database.write(fill)
        self.assertEqual(await self.database.read(count), 2)
        (event,) = self.logged(LogLevel.info)
        self.assertEqual(event["count"], 3)

    async def test_neighbours_of_a_write_that_does_not_fit(self) -> None:
        """Only what does not fit fails; its neighbours are committed and stay so."""
        gate = Gate()
        held = self.database.write(gate)
        await gate.entered()
        waiting = [self.database.write(work) for work in works(row_of(1), fill, row_of(2))]
        gate.open()
        outcomes = await DeferredList(waiting, consumeErrors=True)
        await held
        self.assertEqual([success for success, _ in outcomes], [True, False, True])
        await self.store.close()
        with sqlite3.connect(self.path) as stranger:
            found = stranger.execute("SELECT count(*) FROM retired_keys").fetchone()
        stranger.close()
        self.assertEqual(found, (2,))


class TransactionLossTests(DatabaseTestCase):
    async def test_transaction_that_sqlite_gave_up(self) -> None:
        """When SQLite rolls back by itself, only who made it fails, and nobody goes on uncommitted."""

        def lose(connection: sa.Connection) -> None:
            driver: Any = connection.connection.driver_connection
            driver.execute("ROLLBACK")
            raise sa.exc.OperationalError("", None, Exception("disk I/O error"))

        gate = Gate()
        held = self.database.write(gate)
        await gate.entered()
        waiting = [self.database.write(work) for work in works(row_of(1), lose, row_of(2))]
        gate.open()
        outcomes = await DeferredList(waiting, consumeErrors=True)
        await held
        found = [result if success else result.type for success, result in outcomes]
        self.assertEqual(found, [1, Overloaded, 2])
        self.assertEqual(await self.database.read(count), 2)
        self.assertEqual(await self.database.write(row_of(3)), 3)

    async def test_database_locked_by_another_program(self) -> None:
        """While somebody else holds the lock for too long, writes fail and reads go on."""

        def impatient(driver: Any, _record: object, _proxy: object) -> None:
            driver.execute("PRAGMA busy_timeout=20")

        sa.event.listen(self.database.engine, "checkout", impatient)
        stranger = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(stranger.close)
        stranger.execute("BEGIN IMMEDIATE")
        await self.assertFailure(self.database.write(row_of(1)), Overloaded)
        self.assertEqual(await self.database.read(count), 0)
        stranger.execute("ROLLBACK")
        self.assertEqual(await self.database.write(row_of(1)), 1)


class CloseTests(DatabaseTestCase):
    async def test_close_commits_what_waits(self) -> None:
        """Everything asked for before close() is committed and answered; what comes later is refused."""
        gate, reading = Gate(), Gate()
        answers: list[object] = []
        waiting: list[Deferred[Any]] = [self.database.write(gate).addCallback(answers.append)]
        waiting += [self.database.write(row_of(n)).addCallback(answers.append) for n in range(MAX_GROUP + 5)]
        waiting += [self.database.read(reading).addCallback(answers.append)]
        await gatherResults([gate.entered(), reading.entered()])
        closed = [self.store.close(), self.store.close()]
        self.failureResultOf(self.database.write(row_of(9999)), Overloaded)
        self.failureResultOf(self.database.read(count), Overloaded)
        gate.open()
        reading.open()
        await gatherResults(closed)
        self.assertEqual(len(answers), MAX_GROUP + 7)
        self.assertEqual(store_threads() - self.others, set())
        self.assertEqual(sorted(os.listdir(os.path.dirname(self.path))), ["store.db"])
        again = a_store(self, self.path)
        self.assertEqual(await again.database.read(count), MAX_GROUP + 5)

    async def test_close_without_a_write(self) -> None:
        """A store that did nothing, or was never opened, closes at once."""
        self.assertIsNone(self.successResultOf(self.store.close()))
        self.assertIsNone(self.successResultOf(Database("sqlite:///nowhere/x", REACTOR).close()))
        self.failureResultOf(self.database.write(count), Overloaded)

    async def test_close_beside_a_stranger(self) -> None:
        """A reader of another program does not keep us from closing."""
        with sqlite3.connect(self.path, isolation_level=None) as stranger:
            stranger.execute("BEGIN")
            stranger.execute("SELECT count(*) FROM things").fetchone()
            await self.store.channels.add([a_channel()])
            sa.event.listen(
                self.database.engine, "checkout", lambda driver, *_: driver.execute("PRAGMA busy_timeout=20")
            )
            await self.store.close()
        stranger.close()
        self.assertEqual((await a_store(self, self.path).channels.page(ANN, Query())).total, 1)

    async def test_close_of_a_broken_file(self) -> None:
        """A file that cannot be tidied is said to be so, and everything ends all the same."""
        await self.database.write(row_of(1))

        def refuse(*_: object) -> None:
            raise sa.exc.OperationalError("", None, Exception("disk I/O error"))

        sa.event.listen(self.database.engine, "checkout", refuse)
        await self.store.close()
        (event,) = self.logged(LogLevel.warn)
        self.assertEqual(event["why"], "disk I/O error")

    async def test_no_thread_before_the_first_request(self) -> None:
        """A daemon may fork after open(): neither threads nor open files are carried along."""
        self.assertEqual(store_threads() - self.others, set())
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        files = [os.readlink(link) for link in links if os.path.lexists(link)]
        self.assertEqual([name for name in files if name.startswith(self.path)], [])

    async def test_reactor_does_not_wait(self) -> None:
        """While the writer is busy, the reactor serves others and reads are answered."""
        gate = Gate()
        held = self.database.write(gate)
        await gate.entered()
        await deferLater(REACTOR, 0)
        self.assertEqual(await self.database.read(count), 0)
        gate.open()
        await held


class URLTests(TestCase):
    def test_other_urls(self) -> None:
        """Only a file will do: a database in memory is another one for each thread."""
        for url in ("postgresql://host/db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "/x.db", ""):
            error = self.assertRaises(ConfigurationError, Database, url, REACTOR)
            self.assertEqual(error.option, "--database")
