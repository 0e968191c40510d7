"""What a start finds of MQTT in the database, after what belongs to nobody any more is swept out."""

from collections.abc import Iterator, Sequence
from itertools import chain
from sys import intern
from typing import Any, Final

import sqlalchemy as sa

from mfserver.durable import QUEUED, Backlog, Kept, KeptSession, KeptSubscription, KeptWill, SessionKey
from mfserver.records import ChannelId, ThingId
from mfserver.store.bodies import decode_message
from mfserver.store.schema import (
    SESSION_NUMBERS,
    channels,
    connections,
    counters,
    messages,
    retained,
    session_queue,
    session_received,
    session_subscriptions,
    sessions,
    things,
    wills,
)

__all__ = ["load_kept"]

#: Rows that are fetched at once; retained messages and wills among them may have a megabyte each.
_ROWS: Final = 256


def _delete_without(table: sa.Table, is_there: sa.ColumnElement[bool]) -> sa.Delete:
    return sa.delete(table).where(~sa.exists().where(is_there))


#: In an order in which each finds what those before it left over.
_SWEEP: Final[Sequence[sa.Delete]] = (
    _delete_without(sessions, things.c.id == sessions.c.thing),
    *(
        _delete_without(table, sessions.c.number == table.c.session)
        for table in (session_queue, session_received, session_subscriptions, wills)
    ),
    _delete_without(session_queue, messages.c.key == session_queue.c.message).where(
        session_queue.c.message.is_not(None)
    ),
    _delete_without(messages, session_queue.c.message == messages.c.key),
    _delete_without(retained, channels.c.id == retained.c.channel),
)


def load_kept(connection: sa.Connection) -> Kept:
    """Sweep, then read everything but the queues."""
    for statement in _SWEEP:
        connection.execute(statement)
    bodies = sa.select(retained.c.body)
    return Kept(
        sessions=[KeptSession(*row) for row in _rows(connection, sa.select(sessions))],
        subscriptions=_read_subscriptions(connection),
        received=_read_received(connection),
        backlogs=_read_backlogs(connection),
        wills={
            session: KeptWill(decode_message(body), delay, due)
            for session, delay, due, body in _rows(connection, sa.select(wills))
        },
        retained=[decode_message(body) for (body,) in _rows(connection, bodies)],
        channels=_read_channels(connection),
        next_session=_last_session(connection) + 1,
        next_message=(connection.scalar(sa.select(sa.func.max(messages.c.key))) or 0) + 1,
    )


def _read_subscriptions(connection: sa.Connection) -> dict[SessionKey, list[KeptSubscription]]:
    found: dict[SessionKey, list[KeptSubscription]] = {}
    for session, _, *values in _rows(connection, sa.select(session_subscriptions)):
        found.setdefault(session, []).append(KeptSubscription(*values))
    return found


def _read_received(connection: sa.Connection) -> dict[SessionKey, set[int]]:
    found: dict[SessionKey, set[int]] = {}
    for session, packet_id in _rows(connection, sa.select(session_received)):
        found.setdefault(session, set()).add(packet_id)
    return found


def _read_backlogs(connection: sa.Connection) -> dict[SessionKey, Backlog]:
    queue = session_queue.c
    droppable: dict[SessionKey, list[tuple[int, int, int]]] = {}
    entries = (
        sa.select(queue.session, queue.sequence, queue.message, queue.size)
        .where(queue.qos == 0, queue.state == QUEUED)
        .order_by(queue.session, queue.sequence)
    )
    for session, sequence, message, size in _rows(connection, entries):
        droppable.setdefault(session, []).append((sequence, message, size))
    sums = sa.select(
        queue.session, sa.func.count(), sa.func.sum(queue.size), sa.func.max(queue.sequence)
    ).group_by(queue.session)
    return {
        session: Backlog(count, int(size), last, tuple(droppable.get(session, ())))
        for session, count, size, last in _rows(connection, sums)
    }


def _read_channels(connection: sa.Connection) -> dict[ThingId, set[ChannelId]]:
    of_sessions = sa.select(sessions.c.thing)
    found: dict[ThingId, set[ChannelId]] = {thing: set() for (thing,) in _rows(connection, of_sessions)}
    pairs = sa.select(connections.c.thing, connections.c.channel).where(connections.c.thing.in_(of_sessions))
    for thing, channel in _rows(connection, pairs):
        found[thing].add(ChannelId(intern(channel)))  # many things share a channel
    return found


def _last_session(connection: sa.Connection) -> int:
    """The greatest number that a session ever had."""
    counted = sa.select(counters.c.last).where(counters.c.name == SESSION_NUMBERS)
    return connection.scalar(counted) or 0


def _rows(connection: sa.Connection, statement: sa.Select[Any]) -> Iterator[Any]:
    # One by one they take half as long again; all at once, memory without a bound.
    return chain.from_iterable(connection.execute(statement).partitions(_ROWS))
