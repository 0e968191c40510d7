"""Readers and one writer, each in threads of their own, so that the reactor never waits for a disk.

Lists, which may look at every row of an owner, have readers of their own, beside those of single rows:
nobody who asks for costly lists keeps anybody from logging in.

The writer takes everything that waits and commits it as one group, since a commit costs a flush of the disk
whatever stands in it. Each request of a group runs in a SAVEPOINT: one that fails spoils nobody. Nobody is
answered before the COMMIT, and when that fails, everybody in the group hears of it.
"""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from mfserver.errors import ConfigurationError, Conflict, Invalid, Overloaded
from mfserver.store import sqlite
from mfserver.store.migrate import migrate

__all__ = ["MAX_GROUP", "MAX_SCANS", "MAX_WAITING", "READ_SECONDS", "Database"]

T = TypeVar("T")
Work = Callable[[sa.Connection], T]

#: Requests of one commit.
MAX_GROUP: Final = 500
#: Writes that may wait for theirs, and reads that may wait for a thread.
MAX_WAITING: Final = 10_000
#: Lists that may wait for a thread.
MAX_SCANS: Final = 200
#: Seconds that a read may take.
READ_SECONDS: Final = 5.0


class _Request(NamedTuple):
    work: Work[Any]
    answer: "Deferred[Any]"


class _Failed(NamedTuple):
    error: Exception


class _TransactionLost(Exception):
    """The database rolled back by itself, as SQLite may on a full disk."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Thread(threading.Thread):
    """One that does not keep a process alive that forgot to close its database."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.daemon = True


class _Readers(ThreadPool):
    threadFactory = _Thread


class Database:
    """One database.

    All methods are called in the reactor's thread. Work is run inside a transaction and, save by
    :meth:`write_now`, in another thread; it may use nothing but the connection it is given.

    :ivar commits: groups committed so far.
    """

    _log = Logger()

    def __init__(self, url: str, reactor: Any, readers: int = 4, max_waiting: int = MAX_WAITING) -> None:
        """Remember where the database is.

        :param url: ``sqlite:///`` and a path.
        :param reactor: an IReactorFromThreads.
        :param readers: threads that look up; half as many read lists.
        :param max_waiting: writes, and reads, that may wait.
        :raises ConfigurationError: it is no such URL.
        """
        self.path = url.removeprefix(sqlite.PREFIX)
        if self.path in {url, "", ":memory:"}:
            raise ConfigurationError("the database must be sqlite:///PATH", "--database")
        self.commits = 0
        self._readers = {
            "read": _Readers(0, readers, "store-read"),
            "scan": _Readers(0, (readers + 1) // 2, "store-scan"),
        }
        self.engine = sqlite.make_engine(self.path, 1 + sum(pool.max for pool in self._readers.values()))
        self._reactor = reactor
        self._room = {"read": max_waiting, "scan": min(max_waiting, MAX_SCANS), "write": max_waiting}
        self._queue: SimpleQueue[_Request | None] = SimpleQueue()
        self._writer: threading.Thread | None = None
        self._failed = dict.fromkeys(self._room, 0)
        self._is_closing = False
        self._closed: list[Deferred[None]] = []

    def open(self) -> None:
        """Make or find the database and migrate it. It leaves no thread and no open file: a daemon may fork.

        :raises ConfigurationError: it cannot be opened, is none of ours, or belongs to a newer version.
        """
        sqlite.make_private(self.path)
        self.write_now(lambda connection: migrate(connection, self.path))

    def write_now(self, work: Work[T]) -> T:
        """Run work in this thread, before the reactor runs; it leaves no thread and no open file either.

        :raises ConfigurationError: the database cannot be used: nothing was done.
        """
        try:
            with self.engine.connect().execution_options(**sqlite.WRITER) as connection, connection.begin():
                return work(connection)
        except exc.DBAPIError as error:
            text = f"the database {self.path} cannot be used ({error.orig}): repair it, or name another file"
            raise ConfigurationError(text, "--database") from error
        finally:
            self.engine.dispose()

    def read(self, work: Work[T]) -> "Deferred[T]":
        """Run work in a reader's thread, in one snapshot that shows every acknowledged write.

        :raises Overloaded: too many wait already, it took longer than :data:`READ_SECONDS`, or the database
            cannot be read.
        """
        return self._ask("read", work)

    def scan(self, work: Work[T]) -> "Deferred[T]":
        """Do the same with work that takes longer."""
        return self._ask("scan", work)

    def write(self, work: Work[T]) -> "Deferred[T]":
        """Run work in the writer's thread; fire with what it returned, after the COMMIT.

        Work is run again when the transaction that it was part of is lost by another's fault.
        What work raises undoes what it did, and is what the Deferred fails with.

        :raises Overloaded: too many wait already, or nothing could be written: nothing was done.
        """
        answer: Deferred[T] = Deferred()
        if not self._admit("write"):
            return fail(Overloaded("too many writes wait"))
        self._queue.put(_Request(work, answer))
        return answer

    def close(self) -> "Deferred[None]":
        """Commit what waits, finish what is being read, then close every file and end every thread."""
        closed: Deferred[None] = Deferred()
        self._closed.append(closed)
        is_first, self._is_closing = not self._is_closing, True
        if self._writer is None:
            self._end()
        elif is_first:
            self._queue.put(None)
        return closed

    # --- in the reactor's thread ---

    def _ask(self, kind: str, work: Work[T]) -> "Deferred[T]":
        answer: Deferred[T] = Deferred()
        if not self._admit(kind):
            return fail(Overloaded("too many reads wait"))
        self._readers[kind].callInThread(self._read, kind, work, answer)
        return answer

    def _admit(self, kind: str) -> bool:
        if self._is_closing or not self._room[kind]:
            return False
        self._room[kind] -= 1
        if self._writer is None:
            # Not earlier: threads would not survive the fork of a daemon.
            for pool in self._readers.values():
                pool.start()
            writer = _Thread(target=self._write, name="store-write")
            writer.start()
            self._writer = writer
        return True

    def _answer(self, kind: str, answers: "list[tuple[Deferred[Any], Any]]") -> None:
        self._room[kind] += len(answers)
        for answer, result in answers:
            if isinstance(result, _Failed):
                answer.errback(self._translate(kind, result.error))
            else:
                self._note_success(kind)
                answer.callback(result)

    def _translate(self, kind: str, error: Exception) -> Exception:
        """Say what went wrong without words of a database. What is no fault of it stays as it is."""
        if isinstance(error, UnicodeEncodeError):
            return Invalid("text that is not Unicode")
        if isinstance(error, OverflowError):
            return Invalid("a number that is too large")
        if isinstance(error, exc.IntegrityError):
            return Conflict("it exists already")
        if isinstance(error, exc.DBAPIError) and "user-defined function" in str(error.orig):
            return Invalid("the metadata filter costs too much", "metadata")
        if isinstance(error, exc.DBAPIError) and str(error.orig) == "interrupted":
            return Overloaded("what was asked takes too long")
        if isinstance(error, exc.DBAPIError | exc.TimeoutError):
            if not self._failed[kind]:
                self._log.error("The database cannot {kind}: {why}", kind=kind, why=_reason(error))
            self._failed[kind] += 1
            return Overloaded("the database is not available")
        return error

    def _note_success(self, kind: str) -> None:
        if self._failed[kind]:
            self._log.info(
                "The database can {kind} again; {count} failed.", kind=kind, count=self._failed[kind]
            )
            self._failed[kind] = 0

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        closed, self._closed = self._closed, []
        for waiting in closed:
            waiting.callback(None)

    # --- in the threads ---

    def _read(self, kind: str, work: Work[T], answer: "Deferred[T]") -> None:
        result: T | _Failed
        try:
            with sqlite.deadline(READ_SECONDS), self.engine.connect() as connection:
                result = work(connection)
        except Exception as error:
            result = _Failed(error)
        self._reactor.callFromThread(self._answer, kind, [(answer, result)])

    def _write(self) -> None:
        while group := self._next_group():
            self._commit(group)
        for pool in self._readers.values():
            pool.stop()
        try:
            sqlite.checkpoint(self.engine)
        except Exception as error:  # whatever it is, close() has to end
            text = "The database could not be tidied: {why}"
            self._reactor.callFromThread(self._log.warn, text, why=_reason(error))
        self.engine.dispose()
        self._reactor.callFromThread(self._end)

    def _next_group(self) -> list[_Request]:
        """Wait for a request and take what waits behind it; nothing at the end."""
        request = self._queue.get()
        group: list[_Request] = []
        while request is not None:
            group.append(request)
            if len(group) == MAX_GROUP:
                return group
            try:
                request = self._queue.get_nowait()
            except Empty:
                return group
        if group:
            self._queue.put(None)  # the end stood behind a last group
        return group

    def _commit(self, group: list[_Request]) -> None:
        try:
            with self.engine.connect().execution_options(**sqlite.WRITER) as connection, connection.begin():
                answers = [(request.answer, _attempt(connection, request.work)) for request in group]
            self.commits += 1
        except _TransactionLost as lost:
            if len(group) > 1:  # who is to blame cannot be told apart in a group
                for request in group:
                    self._commit([request])
                return
            answers = [(group[0].answer, _Failed(lost.error))]
        except Exception as error:
            answers = [(request.answer, _Failed(error)) for request in group]
        self._reactor.callFromThread(self._answer, "write", answers)


def _attempt(connection: sa.Connection, work: Work[T]) -> T | _Failed:
    """Do the work in a SAVEPOINT.

    :raises _TransactionLost: it failed, and so has the whole transaction.
    """
    savepoint = connection.begin_nested()
    try:
        result = work(connection)
        savepoint.commit()
        return result
    except Exception as error:
        if not sqlite.has_transaction(connection):
            raise _TransactionLost(error) from error
        savepoint.rollback()
        return _Failed(error)


def _reason(error: Exception) -> str:
    """The driver's own words, which hold neither SQL nor values."""
    return str(getattr(error, "orig", None) or type(error).__name__)
