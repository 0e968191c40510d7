"""What MQTT keeps, in dictionaries: it passes the contract of the real one; commits can be held, or fail."""

from collections import Counter
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mfserver.durable import (
    QUEUED,
    RELEASED,
    Backlog,
    Changes,
    Kept,
    KeptDelivery,
    KeptSession,
    KeptSubscription,
    KeptWill,
    SessionKey,
)
from mfserver.errors import Overloaded
from mfserver.interfaces import ISessionStore
from mfserver.message import MQTT, Message
from mfserver.records import ChannelId, ThingId
from mfserver.store.bodies import decode_message, encode_message

__all__ = ["MemorySessions"]

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class _Row:
    """A delivery whose message, unless it is released, stands elsewhere."""

    delivery: KeptDelivery
    message: int | None


class _All(Container[object]):
    """Everything there can be."""

    def __contains__(self, _: object) -> bool:
        return True


@implementer(ISessionStore)
class MemorySessions:
    """An :class:`~mfserver.interfaces.ISessionStore`; by itself it has every thing and every channel.

    :ivar hold: while it is set, batches wait for :meth:`release` before they are committed.
    :ivar fail: while it is an error, commits fail with it and do nothing.
    :ivar waiting: batches that are held back. To forget them is a crash.
    :ivar commits: batches committed so far.
    """

    def __init__(
        self,
        things: Container[ThingId] | None = None,
        channels: Container[ChannelId] | None = None,
        connections: Iterable[tuple[ThingId, ChannelId]] = (),
        check_open: Callable[[], None] = lambda: None,
    ) -> None:
        self.hold = False
        self.fail: Exception | None = None
        self.waiting: list[tuple[Changes, Deferred[None]]] = []
        self.commits = 0
        self._things: Container[object] = _All() if things is None else things
        self._channels: Container[object] = _All() if channels is None else channels
        self._connections = connections
        self._check_open = check_open
        self._sessions: dict[SessionKey, KeptSession] = {}
        self._subscriptions: dict[tuple[SessionKey, str], KeptSubscription] = {}
        self._received: set[tuple[SessionKey, int]] = set()
        self._queues: dict[SessionKey, dict[int, _Row]] = {}
        self._messages: dict[int, bytes] = {}
        self._holders: Counter[int] = Counter()
        self._left: set[int] = set()  # keys of messages that a queue gave up
        self._wills: dict[SessionKey, tuple[KeptWill, bytes]] = {}
        self._retained: dict[tuple[str, tuple[str, ...]], bytes] = {}
        self._last_session = 0

    def load(self) -> Kept:
        for key, session in list(self._sessions.items()):
            if session.thing not in self._things:
                del self._sessions[key]
        places = [*self._subscriptions, *self._received]
        for key in {*self._queues, *self._wills, *(place[0] for place in places)} - self._sessions.keys():
            self._remove(key)
        self._drop_unheld()
        for channel, levels in list(self._retained):
            if channel not in self._channels:
                del self._retained[channel, levels]
        channels: dict[ThingId, set[ChannelId]] = {it.thing: set() for it in self._sessions.values()}
        for thing, channel_id in self._connections:
            if thing in channels:
                channels[thing].add(channel_id)
        return Kept(
            sessions=[replace(session) for session in self._sessions.values()],
            subscriptions={
                key: [it for (session, _), it in self._subscriptions.items() if session == key]
                for key in {key for key, _ in self._subscriptions}
            },
            received={
                key: {packet_id for session, packet_id in self._received if session == key}
                for key in {key for key, _ in self._received}
            },
            backlogs={key: self._backlog(key) for key in self._queues},
            wills={
                key: replace(will, message=decode_message(body)) for key, (will, body) in self._wills.items()
            },
            retained=[decode_message(body) for body in self._retained.values()],
            channels=channels,
            next_session=self._last_session + 1,
            next_message=max(self._messages, default=0) + 1,
        )

    def apply(self, changes: Changes) -> Deferred[None]:
        try:
            self._check_open()
        except Overloaded as error:
            return fail(error)
        if self.hold:
            answer: Deferred[None] = Deferred()
            self.waiting.append((changes, answer))
            return answer
        return self._commit(changes)

    def release(self) -> None:
        """Commit, or fail, the batches that wait now, in their order. It does not change :attr:`hold`."""
        waiting, self.waiting = self.waiting, []
        for changes, answer in waiting:
            self._commit(changes).chainDeferred(answer)

    def queued(
        self, session: SessionKey, after: int, limit: int, max_bytes: int
    ) -> Deferred[list[KeptDelivery]]:
        found: list[KeptDelivery] = []
        for row in self._rows(session):
            if row.delivery.sequence > after and len(found) < limit:
                max_bytes -= row.delivery.size
                if found and max_bytes < 0:
                    break
                found.append(self._delivery(row))
        return succeed(found)

    def _commit(self, changes: Changes) -> Deferred[None]:
        if self.fail is not None:
            return fail(self.fail)
        self._apply(changes)
        self.commits += 1
        return succeed(None)

    def _apply(self, changes: Changes) -> None:
        self._last_session = max(self._last_session, *changes.sessions, 0)
        for session_key, session in changes.sessions.items():
            if session is not None:
                self._sessions[session_key] = replace(session)
        for place, subscription in changes.subscriptions.items():
            _put(self._subscriptions, place, subscription)
        for received, waits in changes.received.items():
            (self._received.add if waits else self._received.discard)(received)
        for session_key, will in changes.wills.items():
            _put(self._wills, session_key, None if will is None else (will, encode_message(will.message)))
        for topic, message in changes.retained.items():
            _put(self._retained, topic, None if message is None else encode_message(message))
        for channel, levels in list(self._retained):
            if channel in changes.channels_gone:
                del self._retained[channel, levels]
        for delivery in changes.queued.values():
            key = delivery.message.key
            if delivery.state != RELEASED and key not in self._messages:
                self._messages[key] = encode_message(delivery.message)
            self._put_delivery(replace(delivery), key)
        for (session_key, sequence), (packet_id, state) in changes.moved.items():
            row = self._queues.get(session_key, {}).get(sequence)
            if row is not None:
                self._put_delivery(replace(row.delivery, packet_id=packet_id, state=state), row.message)
        for session_key, sequence in changes.done:
            self._take_delivery(session_key, sequence)
        for session_key, session in changes.sessions.items():
            if session is None:
                self._remove(session_key)
        self._drop_unheld()

    def _drop_unheld(self) -> None:
        for message in self._left:
            if not self._holders[message]:
                del self._messages[message], self._holders[message]
        self._left.clear()

    def _remove(self, key: SessionKey) -> None:
        self._sessions.pop(key, None)
        self._wills.pop(key, None)
        self._subscriptions = {at: it for at, it in self._subscriptions.items() if at[0] != key}
        self._received = {at for at in self._received if at[0] != key}
        for sequence in list(self._queues.get(key, ())):
            self._take_delivery(key, sequence)

    def _put_delivery(self, delivery: KeptDelivery, message: int | None) -> None:
        self._take_delivery(delivery.session, delivery.sequence)
        message = None if delivery.state == RELEASED else message
        self._queues.setdefault(delivery.session, {})[delivery.sequence] = _Row(delivery, message)
        if message is not None:
            self._holders[message] += 1

    def _take_delivery(self, session: SessionKey, sequence: int) -> None:
        queue = self._queues.get(session, {})
        row = queue.pop(sequence, None)
        if row is not None and row.message is not None:
            self._holders[row.message] -= 1
            self._left.add(row.message)
        if not queue:
            self._queues.pop(session, None)

    def _rows(self, session: SessionKey) -> list[_Row]:
        return [row for _, row in sorted(self._queues.get(session, {}).items())]

    def _delivery(self, row: _Row) -> KeptDelivery:
        if row.message is None:
            return replace(row.delivery, message=Message("", (), "", "", MQTT, b"", "", 0))
        return replace(row.delivery, message=decode_message(self._messages[row.message], row.message))

    def _backlog(self, session: SessionKey) -> Backlog:
        rows = self._rows(session)
        return Backlog(
            len(rows),
            sum(row.delivery.size for row in rows),
            rows[-1].delivery.sequence,
            tuple(
                (row.delivery.sequence, row.message or 0, row.delivery.size)
                for row in rows
                if row.delivery.qos == 0 and row.delivery.state == QUEUED
            ),
        )


def _put(table: dict[K, V], key: K, value: V | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
