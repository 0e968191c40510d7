"""What MQTT keeps, in the database: batches of changes, and the queues of sessions."""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final

import sqlalchemy as sa
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mfserver.durable import RELEASED, Changes, Kept, KeptDelivery, SessionKey
from mfserver.interfaces import ISessionStore
from mfserver.message import MQTT, Message
from mfserver.store.bodies import decode_message, encode_message
from mfserver.store.database import Database
from mfserver.store.functions import add_rows, execute_rows, find_values, insert_missing, put_rows
from mfserver.store.kept import load_kept
from mfserver.store.schema import (
    SESSION_NUMBERS,
    counters,
    messages,
    retained,
    session_queue,
    session_received,
    session_subscriptions,
    sessions,
    wills,
)
from mfserver.store.select import PIECE, pieces

__all__ = ["Sessions"]


def _delete(table: sa.Table, *columns: str) -> sa.Delete:
    return sa.delete(table).where(*(table.c[name] == sa.bindparam(name) for name in columns))


# Parameters stand in the order of the rows that each is executed with. Names of parameters that are set
# must not be those of columns.
_UNSUBSCRIBE: Final = _delete(session_subscriptions, "session", "filter_digest")
_FORGET_RECEIVED: Final = _delete(session_received, "session", "packet_id")
_FINISH: Final = _delete(session_queue, "session", "sequence")
_DROP_WILL: Final = _delete(wills, "session")
_CLEAR_RETAINED: Final = _delete(retained, "channel", "levels_digest")
_CLEAR_CHANNEL: Final = _delete(retained, "channel")
_MOVE: Final = (
    sa.update(session_queue)
    .values(packet_id=sa.bindparam("new_packet_id"), state=sa.bindparam("new_state"))
    .where(
        session_queue.c.session == sa.bindparam("its_session"),
        session_queue.c.sequence == sa.bindparam("its_sequence"),
    )
)
_HELD: Final = sa.select(session_queue.c.message).where(
    session_queue.c.session == sa.bindparam("its_session"),
    session_queue.c.sequence == sa.bindparam("its_sequence"),
    session_queue.c.message.is_not(None),
)
_RELEASE: Final = _MOVE.values(message=sa.null())
_DROP_UNUSED: Final = _delete(messages, "key").where(
    ~sa.exists().where(session_queue.c.message == messages.c.key)
)
_RAISE_COUNTER: Final = sa.update(counters).where(counters.c.name == SESSION_NUMBERS)


@implementer(ISessionStore)
class Sessions:
    """MQTT sessions with their subscriptions and queues, wills, and retained messages.

    A delivery in the state RELEASED keeps no message: it is read back with an empty one, whose key is 0.
    Wills and retained messages stand in no queue by themselves: they are read back with the key 0, too.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> Kept:
        """Do what the interface says. It leaves no thread and no open file: a daemon may fork.

        :raises ConfigurationError: the database cannot be used.
        """
        return self._database.write_now(load_kept)

    def apply(self, changes: Changes) -> Deferred[None]:
        return self._database.write(lambda connection: _apply(connection, changes))

    def queued(
        self, session: SessionKey, after: int, limit: int, max_bytes: int
    ) -> Deferred[list[KeptDelivery]]:
        return self._database.read(
            lambda connection: _read_queue(connection, session, after, limit, max_bytes)
        )


def _read_queue(
    connection: sa.Connection, session: SessionKey, after: int, limit: int, max_bytes: int
) -> list[KeptDelivery]:
    statement = (
        sa.select(session_queue, messages.c.body)
        .outerjoin(messages, messages.c.key == session_queue.c.message)
        .where(session_queue.c.session == session, session_queue.c.sequence > after)
        .order_by(session_queue.c.sequence)
        .limit(limit)
    )
    found: list[KeptDelivery] = []
    # Row by row: what is past the bound does not come into memory.
    with connection.execute(statement, execution_options={"stream_results": True}) as rows:
        for row in rows:
            max_bytes -= row.size
            if found and max_bytes < 0:
                break
            found.append(_make_delivery(row))
    return found


def _make_delivery(row: sa.Row[Any]) -> KeptDelivery:
    return KeptDelivery(
        row.session,
        row.sequence,
        Message("", (), "", "", MQTT, b"", "", 0)
        if row.body is None
        else decode_message(row.body, row.message),
        row.qos,
        row.retain,
        tuple(map(int, row.identifiers.split())),
        row.packet_id,
        row.state,
        row.size,
    )


# --- in the writer's thread ---


def _apply(connection: sa.Connection, changes: Changes) -> None:
    """Write a batch. What costs time is done for all rows of a kind at once: everybody waits for it."""
    _apply_sessions(connection, changes)
    _apply_retained(connection, changes)
    _add_queued(connection, changes.queued.values())
    unused = _release(connection, changes)
    execute_rows(connection, _FINISH, list(changes.done))
    unused.update(changes.done.values())
    # After all that may have been written of them.
    _remove_sessions(connection, [key for key, session in changes.sessions.items() if session is None])
    execute_rows(connection, _DROP_UNUSED, [(key,) for key in unused])


def _apply_sessions(connection: sa.Connection, changes: Changes) -> None:
    if changes.sessions:
        _raise_counter(connection, max(changes.sessions))
    put_rows(
        connection,
        sessions,
        [
            (session.key, session.thing, session.client_id, session.expiry, session.ends_at)
            for session in changes.sessions.values()
            if session is not None
        ],
    )
    put_rows(
        connection,
        session_subscriptions,
        [
            (
                key,
                _digest(topic_filter),
                topic_filter,
                it.qos,
                it.no_local,
                it.retain_as_published,
                it.identifier,
            )
            for (key, topic_filter), it in changes.subscriptions.items()
            if it is not None
        ],
    )
    gone = [(key, _digest(name)) for (key, name), it in changes.subscriptions.items() if it is None]
    execute_rows(connection, _UNSUBSCRIBE, gone)
    add_rows(connection, session_received, [key for key, waits in changes.received.items() if waits])
    execute_rows(connection, _FORGET_RECEIVED, [key for key, waits in changes.received.items() if not waits])
    put_rows(
        connection,
        wills,
        [
            (key, will.delay, will.due, encode_message(will.message))
            for key, will in changes.wills.items()
            if will is not None
        ],
    )
    execute_rows(connection, _DROP_WILL, [(key,) for key, will in changes.wills.items() if will is None])


def _raise_counter(connection: sa.Connection, number: int) -> None:
    insert_missing(connection, counters, name=SESSION_NUMBERS, last=number)
    connection.execute(_RAISE_COUNTER.where(counters.c.last < number).values(last=number))


def _apply_retained(connection: sa.Connection, changes: Changes) -> None:
    put_rows(
        connection,
        retained,
        [
            (channel, _digest_levels(levels), encode_message(message))
            for (channel, levels), message in changes.retained.items()
            if message is not None
        ],
    )
    cleared = [
        (channel, _digest_levels(levels))
        for (channel, levels), message in changes.retained.items()
        if message is None
    ]
    execute_rows(connection, _CLEAR_RETAINED, cleared)
    execute_rows(connection, _CLEAR_CHANNEL, [(channel,) for channel in changes.channels_gone])


def _add_queued(connection: sa.Connection, queued: Iterable[KeptDelivery]) -> None:
    needed: dict[int, Message] = {}
    rows: list[tuple[Any, ...]] = []
    for it in queued:
        message: int | None = it.message.key
        if it.state == RELEASED:
            message = None
        else:
            needed[it.message.key] = it.message
        identifiers = " ".join(map(str, it.identifiers)) if it.identifiers else ""
        rows.append(
            (
                it.session,
                it.sequence,
                message,
                it.qos,
                it.retain,
                identifiers,
                it.packet_id,
                it.state,
                it.size,
            )
        )
    # A message never changes: one that is there is left alone.
    add_rows(connection, messages, [(key, encode_message(message)) for key, message in needed.items()])
    put_rows(connection, session_queue, rows)


def _release(connection: sa.Connection, changes: Changes) -> set[int]:
    """Note how far deliveries are. :return: the keys of messages that some of them do not need any more."""
    moved: list[tuple[int, int, int, int]] = []
    released: list[tuple[int, int, int, int]] = []
    for (session, sequence), (packet_id, state) in changes.moved.items():
        (released if state == RELEASED else moved).append((packet_id, state, session, sequence))
    # One by one: for an IN of pairs SQLite would read the queues of all sessions.
    unused = set(find_values(connection, _HELD, [row[2:] for row in released]))
    execute_rows(connection, _MOVE, moved)
    execute_rows(connection, _RELEASE, released)
    return unused


def _remove_sessions(connection: sa.Connection, gone: Sequence[SessionKey]) -> None:
    """Remove sessions, all that belongs to them, and the messages that no other queue holds."""
    other = session_queue.alias()
    for piece in pieces(gone, PIECE // 2):  # it stands twice in a statement
        theirs = sa.select(session_queue.c.message).where(session_queue.c.session.in_(piece))
        held = sa.exists().where(other.c.message == messages.c.key, other.c.session.not_in(piece))
        connection.execute(sa.delete(messages).where(messages.c.key.in_(theirs), ~held))
        for table in (session_queue, session_received, session_subscriptions, wills):
            connection.execute(sa.delete(table).where(table.c.session.in_(piece)))
        connection.execute(sa.delete(sessions).where(sessions.c.number.in_(piece)))


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def _digest_levels(levels: tuple[str, ...]) -> bytes:
    # No level holds a slash; one in front tells no level from an empty one.
    return _digest("".join(f"/{level}" for level in levels))
