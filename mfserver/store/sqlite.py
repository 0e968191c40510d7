"""What only SQLite needs: its file, its pragmas, its transactions, and the end of slow queries."""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import sqlalchemy as sa

from mfserver.errors import ConfigurationError
from mfserver.store.functions import SQLITE_JSON_CONTAINS
from mfserver.store.metadata import decode, text_contains

__all__ = ["PREFIX", "WRITER", "checkpoint", "deadline", "has_transaction", "make_engine", "make_private"]

PREFIX: Final = "sqlite:///"
#: Execution options of a connection that is going to write: it takes the write lock at BEGIN, since one that
#: took it later could find that what it has read is old.
WRITER: Final = {"mfserver_writes": True}

_PRAGMAS: Final = (
    "busy_timeout=5000",
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "trusted_schema=OFF",
    f"journal_size_limit={64 * 1024 * 1024}",
)
# Steps of SQLite's virtual machine between two looks at the clock.
_STEPS: Final = 1000

_limits = threading.local()


def make_private(path: str) -> None:
    """Make the database file if it is missing, and it and its companions readable by us alone.

    The umask does not matter. SQLite gives new companions (``-wal``, ``-shm``) the mode of the file.

    :raises ConfigurationError: the file can be neither made nor made private.
    """
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        for name in (path, f"{path}-wal", f"{path}-shm"):
            with suppress(FileNotFoundError):
                os.chmod(name, 0o600)
        if not os.path.isfile(path):
            raise ConfigurationError(f"{path} is not a file: name a file for the database", "--database")
        if not os.access(os.path.dirname(path) or ".", os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(0, "its directory cannot be written")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"the database {path} cannot be made or opened ({why}): make its directory, and writable by us",
            "--database",
        ) from error


def make_engine(path: str, connections: int) -> sa.Engine:
    """An engine for the database file at this path.

    :param connections: how many threads will use it at once.
    """
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=path),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=5,
        hide_parameters=True,  # keys and password hashes would stand in tracebacks
        # Metadata is handed over as text already: see metadata.encode.
        json_serializer=str,
        json_deserializer=decode,
    )
    sa.event.listen(engine, "connect", _connected)
    sa.event.listen(engine, "begin", _begin)
    return engine


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Interrupt what this thread asks of SQLite inside the block when it takes longer."""
    outer = _end()
    _limits.end = min(outer, time.monotonic() + seconds)
    try:
        yield
    finally:
        _limits.end = outer


def has_transaction(connection: sa.Connection) -> bool:
    """Whether the transaction lives: on a full disk SQLite may roll it back by itself."""
    driver: Any = connection.connection.driver_connection
    return bool(driver.in_transaction)


def checkpoint(engine: sa.Engine) -> None:
    """Move what stands in the write-ahead log into the database file."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _connected(driver: sqlite3.Connection, _record: object) -> None:
    # We say BEGIN ourselves: left to itself, sqlite3 commits where a SAVEPOINT ends.
    driver.isolation_level = None
    for pragma in _PRAGMAS:
        driver.execute(f"PRAGMA {pragma}").close()
    driver.create_function(SQLITE_JSON_CONTAINS, 2, text_contains, deterministic=True)
    driver.set_progress_handler(_is_late, _STEPS)


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("mfserver_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _end() -> float:
    end: float = getattr(_limits, "end", float("inf"))
    return end


def _is_late() -> bool:
    return time.monotonic() > _end()
