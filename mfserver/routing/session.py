"""One MQTT session (MQTT 5.0, 4.1): what is on its way to one client, whether that is connected or not.

A session that outlives its connection keeps everything at QoS 1 and 2 on the disk from the moment it is
accepted; in memory stands only what is being sent, and nothing while nobody is connected. One that ends with
its connection touches no disk.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mfserver.durable import PUBLISHED, RELEASED, Backlog, KeptDelivery, SessionKey
from mfserver.interfaces import ISessionStore, ISubscriber, IThing
from mfserver.message import Message
from mfserver.mqtt.constants import PACKET_IDENTIFIER_NOT_FOUND, SUCCESS
from mfserver.mqtt.session import Delivery
from mfserver.mqtt.session import Session as State
from mfserver.records import ChannelId
from mfserver.routing.journal import Journal

__all__ = ["Bounds", "Client", "ClientSession", "Shared"]

#: What a message costs besides its payload: objects, rows, topic.
_OVERHEAD: Final = 256
#: Deliveries that are read from the disk at once, and wait in memory at most.
_PAGE: Final = 100
#: Seconds until a queue that could not be read is asked for again.
_RETRY: Final = 1.0


class Bounds:
    """What one session may hold.

    :ivar messages: that wait on the disk.
    :ivar size: their bytes; one message may always wait alone, however long.
    :ivar memory: bytes of messages that wait in memory for one client.
    :ivar retained: retained messages that wait for one client in memory.
    :ivar queue_qos0: whether messages at QoS 0 wait for a client that is away.
    """

    __slots__ = ("memory", "messages", "queue_qos0", "retained", "size")

    def __init__(
        self,
        *,
        messages: int = 100_000,
        size: int = 64 << 20,
        memory: int = 1 << 20,
        retained: int = 100_000,
        queue_qos0: bool = False,
    ) -> None:
        self.messages = messages
        self.size = size
        self.memory = memory
        self.retained = retained
        self.queue_qos0 = queue_qos0


class Shared:
    """What all sessions share.

    :param now: the wall clock, in nanoseconds since 1970.
    :param clock: an ``IReactorTime``.
    :param report: tells the log of a kind of mistake and its details, without repeating itself.
    :ivar dropped: messages that found no room.
    """

    def __init__(
        self,
        journal: Journal,
        store: ISessionStore,
        bounds: Bounds,
        *,
        now: Callable[[], int],
        clock: Any,
        report: Callable[[str, str], None],
    ) -> None:
        self.journal = journal
        self.store = store
        self.bounds = bounds
        self.now = now
        self.clock = clock
        self.report = report
        self.dropped = 0


class Client(Protocol):
    """The connected end of a session."""

    @property
    def is_writable(self) -> bool:
        """Whether it takes more now; :meth:`ClientSession.pump` is called when it does again."""

    def send_publish(self, delivery: Delivery, dup: bool) -> bool:
        """Send a PUBLISH. :return: False where this client can never have it: it is longer than it takes."""

    def send_pubrel(self, packet_id: int, reason_code: int) -> None:
        """Send a PUBREL."""

    def taken_over(self) -> None:
        """Another network connection of the same client took the session (MQTT 5.0, 3.1.4); end."""

    def too_slow(self) -> None:
        """More waits than may; end."""


@implementer(ISubscriber)
class ClientSession:
    """One client's session.

    :ivar key: its number on the disk; 0 for one that ends with its connection.
    :ivar thing: whose rights are asked at every delivery.
    :ivar expiry: seconds that it outlives its connection by.
    :ivar holder: the connection that has it, from its CONNECT on; None for none.
    :ivar client: the same, once its CONNECT is answered.
    :ivar state: packet identifiers, what is in flight, and what waits in memory.
    :ivar count: messages of it on the disk; :attr:`size` their bytes.
    :ivar is_over: it has ended.
    """

    _log = Logger()

    def __init__(
        self,
        shared: Shared,
        key: SessionKey,
        thing: IThing,
        client_id: str,
        expiry: int,
        backlog: Backlog | None = None,
    ) -> None:
        backlog = backlog or Backlog()
        self.key = key
        self.thing = thing
        self.client_id = client_id
        self.expiry = expiry
        self.holder: Client | None = None
        self.client: Client | None = None
        self.state = State(1)
        self.count = backlog.count
        self.size = backlog.size
        self.is_over = False
        self._shared = shared
        self._last = backlog.last
        # Everything up to here that is on the disk stands in memory too, or is over.
        self._loaded = backlog.last
        self._is_loading = False
        self._is_pumping = False
        self._resend: deque[Delivery] = deque()
        self._feed: deque[tuple[Message, int, tuple[int, ...]]] = deque()
        self._droppable: deque[tuple[int, int, int]] = deque(backlog.droppable)
        self._overflowed = 0

    @property
    def is_kept(self) -> bool:
        """Whether it is on the disk."""
        return self.key != 0

    # --- the connection -----------------------------------------------------------------------------------

    def attach(self, client: Client, send_quota: int) -> None:
        """The client's CONNECT is answered: send again what it has not acknowledged, then what waits.

        :param send_quota: QoS 1 and 2 messages that it may have to acknowledge at once.
        """
        self.client = client
        self.state.send_quota = send_quota
        if self.is_kept:
            self._loaded = 0 if self.count else self._last
        self.pump()

    def detach(self) -> None:
        """The network connection is over. What is on the disk is all that a session that is kept keeps."""
        self.holder = self.client = None
        self._feed.clear()
        self._resend.clear()
        waiting, self._is_loading = list(self.state.waiting), False
        self.state.in_flight.clear()
        self.state.discard(lambda _: True)
        if self.is_kept and self._shared.bounds.queue_qos0:
            for delivery in waiting:
                if not delivery.qos and not delivery.sequence:
                    self._store(delivery)

    def end(self) -> None:
        """It is over."""
        self.is_over = True
        self.detach()
        self.state.clear()

    # --- ISubscriber --------------------------------------------------------------------------------------

    def is_ready(self) -> bool:
        client = self.client
        return (
            client is not None
            and client.is_writable
            and not self.state.waiting
            and self._loaded == self._last
            and len(self.state.in_flight) < self.state.send_quota
        )

    def deliver(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> None:
        size = len(message.payload) + _OVERHEAD
        delivery = Delivery(message, qos, retain, identifiers, size)
        if qos and self.is_kept:
            self._keep(delivery)  # [MQTT-3.1.2-23], of 3.1.1 [MQTT-3.1.2-5]
        elif self.client is not None:
            self._hand_over(delivery)
        elif self.is_kept and self._shared.bounds.queue_qos0:
            self._store(delivery)

    def feed(self, messages: Iterable[Message], qos: int, identifiers: tuple[int, ...]) -> None:
        """Deliver the retained messages of a new subscription, as fast as the client reads."""
        for message in messages:
            lower = min(qos, message.qos)
            if self.is_kept and lower:
                self.deliver(message, lower, True, identifiers)
            elif len(self._feed) < self._shared.bounds.retained:
                self._feed.append((message, lower, identifiers))
            elif self.client is not None:
                self.client.too_slow()
                return
        self.pump()

    def channel_lost(self, channel: ChannelId) -> None:
        """What came from a channel while the thing might use it, and still waits, is not its any more."""
        for delivery in self.state.discard(lambda delivery: delivery.message.channel == channel):
            if delivery.sequence:
                self._finish(delivery)
        self.pump()

    # --- what the client acknowledges -----------------------------------------------------------------------

    def puback(self, packet_id: int) -> None:
        """A QoS 1 message arrived, or was refused: the two are the same [MQTT-4.4.0-2]."""
        delivery = self.state.puback(packet_id)
        if delivery is not None:
            self._finish(delivery)
            self.pump()

    def pubrec(self, packet_id: int, reason_code: int) -> None:
        """A QoS 2 message arrived. PUBREL follows when that is on the disk: it would be sent twice else."""
        delivery = self.state.pubrec(packet_id, reason_code)
        client = self.client
        if client is None:
            return
        if delivery is None:
            client.send_pubrel(packet_id, PACKET_IDENTIFIER_NOT_FOUND)
        elif not delivery.released:  # [MQTT-4.4.0-2]
            self._finish(delivery)
            self.pump()
        else:
            self._release(delivery)

    def pubcomp(self, packet_id: int) -> None:
        """A QoS 2 message is through."""
        delivery = self.state.pubcomp(packet_id)
        if delivery is not None:
            self._finish(delivery)
            self.pump()

    # --- what the client publishes --------------------------------------------------------------------------

    def received(self, packet_id: int) -> None:
        """A QoS 2 PUBLISH was accepted [MQTT-4.3.3-10]."""
        self.state.received.add(packet_id)
        if self.is_kept:
            self._shared.journal.received(self.key, packet_id, True)

    def released(self, packet_id: int) -> bool:
        """It was released [MQTT-4.3.3-12]. :return: whether there was one."""
        if packet_id not in self.state.received:
            return False
        self.state.received.discard(packet_id)
        if self.is_kept:
            self._shared.journal.received(self.key, packet_id, False)
        return True

    # --- on its way -----------------------------------------------------------------------------------------

    def _hand_over(self, delivery: Delivery) -> None:
        """Send what is not kept, or let it wait in memory."""
        client = self.client
        assert client is not None
        state = self.state
        if client.is_writable and not state.waiting:
            if not delivery.qos:
                self._send(delivery)
                return
            if not self._resend and state.begin(delivery):
                self._send(delivery)
                return
        memory = self._shared.bounds.memory
        while state.waiting and state.waiting_bytes + delivery.size > memory:
            if state.drop_oldest_qos0() is None:
                break
            self._drop()
        if not state.waiting or state.waiting_bytes + delivery.size <= memory:
            state.enqueue(delivery)
        elif delivery.qos:
            client.too_slow()
        else:
            self._drop()

    def _keep(self, delivery: Delivery) -> None:
        """Put a message on the disk, and send it at once where it is its turn."""
        if not self._has_room(delivery.size):
            self._overflow()
            return
        shared, state, client = self._shared, self.state, self.client
        is_complete = self._loaded == self._last
        kept = self._numbered(delivery)
        if client is None or not is_complete or state.waiting_bytes + delivery.size > shared.bounds.memory:
            shared.journal.queue(kept)
            return
        self._loaded = self._last
        if client.is_writable and not state.waiting and not self._resend and state.begin(delivery):
            kept.packet_id, kept.state = delivery.packet_id, PUBLISHED
            shared.journal.queue(kept)
            self._publish(delivery)
        else:
            state.enqueue(delivery)
            shared.journal.queue(kept)

    def _store(self, delivery: Delivery) -> None:
        """Put a QoS 0 message on the disk for a client that is away."""
        if self._has_room(delivery.size):
            is_complete = self._loaded == self._last
            kept = self._numbered(delivery)
            self._shared.journal.queue(kept)
            self._droppable.append((kept.sequence, kept.message.key, kept.size))
            if is_complete and self.client is not None:
                self._loaded = self._last
        else:
            self._overflow()

    def _numbered(self, delivery: Delivery) -> KeptDelivery:
        """Give a delivery its place in the queue."""
        self._last += 1
        delivery.sequence = self._last
        self.count += 1
        self.size += delivery.size
        return KeptDelivery(
            self.key,
            delivery.sequence,
            delivery.message,
            delivery.qos,
            delivery.retain,
            delivery.identifiers,
            size=delivery.size,
        )

    def _has_room(self, size: int) -> bool:
        """Whether the queue takes so many bytes more; the oldest at QoS 0 are dropped where that helps."""
        bounds = self._shared.bounds
        while self.count and (self.count >= bounds.messages or self.size + size > bounds.size):
            if not self._droppable:
                return False
            sequence, message, size_of_it = self._droppable.popleft()
            if sequence > self._loaded or self.client is None:
                self._shared.journal.finish(self.key, sequence, message)
                self.count -= 1
                self.size -= size_of_it
                self._drop()
        return True

    def _overflow(self) -> None:
        if not self._overflowed:
            self._shared.report("the queue of an MQTT session is full", f"thing {self.thing.id}")
        self._overflowed += 1
        self._drop()

    def _drop(self) -> None:
        self._shared.dropped += 1

    def _publish(self, delivery: Delivery) -> None:
        """Send a message that has its packet identifier. At QoS 2 that must be on the disk first: after a
        crash the same number on another message would make the client throw that away."""
        if delivery.qos == 2 and self.is_kept:
            self._after_commit(partial(self._send, delivery))
        else:
            self._send(delivery)

    def _send(self, delivery: Delivery, dup: bool = False) -> None:
        """Write a PUBLISH, unless its time or the right to it is over."""
        client = self.client
        message: Message = delivery.message
        if message.channel not in self.thing.channels:
            if dup and delivery.qos == 2:
                # The client may have it: without a PUBREL it would take the next message for this one.
                delivery.released = True
                self._release(delivery)
                return
            self._finish(delivery)
        elif not dup and message.expires and message.expires <= self._shared.now():  # [MQTT-3.3.2-5]
            self._finish(delivery)
        elif client is not None and (not client.send_publish(delivery, dup) or not delivery.qos):
            self._finish(delivery)  # too long for this client [MQTT-3.1.2-25], or nothing answers it

    def _release(self, delivery: Delivery) -> None:
        client = self.client
        assert client is not None
        if not self.is_kept:
            client.send_pubrel(delivery.packet_id, SUCCESS)
            return
        self._shared.journal.move(self.key, delivery.sequence, delivery.packet_id, RELEASED)
        self._after_commit(partial(client.send_pubrel, delivery.packet_id, SUCCESS))

    def _after_commit(self, send: Callable[[], None]) -> None:
        """Send something when what was recorded until now is on the disk, on this connection or never."""
        client = self.client

        def sending(_: None) -> None:
            if self.client is client and client is not None:
                send()
                self.pump()

        committed = self._shared.journal.committed()
        if committed is None:
            send()
            return
        committed.addCallback(sending)
        committed.addErrback(self._cannot_keep, client)

    def _cannot_keep(self, failure: Failure, client: Client | None) -> None:
        self._log.failure("a delivery could not be stored", failure)
        if client is not None and self.client is client:
            client.too_slow()

    def _finish(self, delivery: Delivery) -> None:
        """A delivery is over."""
        if delivery.packet_id:
            self.state.in_flight.pop(delivery.packet_id, None)
        if delivery.sequence:
            while not delivery.qos and self._droppable and self._droppable[0][0] <= delivery.sequence:
                self._droppable.popleft()
            self._shared.journal.finish(self.key, delivery.sequence, delivery.message.key)
            self.count -= 1
            self.size -= delivery.size
            if self.count == 0:
                self._overflowed = 0

    def pump(self) -> None:
        """Send what waits as far as the client takes it."""
        if self._is_pumping or self.client is None:
            return
        self._is_pumping = True
        try:
            self._pump(self.client)
        finally:
            self._is_pumping = False
        if self.client is not None and len(self.state.waiting) < _PAGE // 4 and self._loaded < self._last:
            self._load()

    def _pump(self, client: Client) -> None:
        state = self.state
        while self._resend and client.is_writable:
            if len(state.in_flight) - len(self._resend) >= state.send_quota:
                return
            self._send_again(self._resend.popleft())
        while state.waiting and client.is_writable:
            delivery: Delivery = state.waiting[0]
            if not delivery.qos:
                state.pop_waiting()
                self._send(delivery)
            elif state.begin(delivery):
                state.pop_waiting()
                if self.is_kept:
                    self._shared.journal.move(self.key, delivery.sequence, delivery.packet_id, PUBLISHED)
                self._publish(delivery)
            else:
                break
        while self._feed and client.is_writable and not state.waiting:
            message, qos, identifiers = self._feed.popleft()
            if message.channel in self.thing.channels:
                self._hand_over(Delivery(message, qos, True, identifiers, len(message.payload) + _OVERHEAD))

    def _send_again(self, delivery: Delivery) -> None:
        """What the client has not acknowledged on its last connection [MQTT-4.4.0-1].

        Its message may have expired meanwhile, which is of no matter any more [MQTT-4.3.3-7].
        """
        client = self.client
        assert client is not None
        if delivery.released:
            client.send_pubrel(delivery.packet_id, SUCCESS)
        else:
            self._send(delivery, dup=True)  # [MQTT-3.3.1-1]

    # --- from the disk --------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Read the next page of the queue, once everything recorded until now can be seen."""
        if self._is_loading:
            return
        self._is_loading = True
        committed = self._shared.journal.committed()
        client, upto = self.client, self._last
        if committed is None:
            self._read(None, client, upto)
        else:
            committed.addBoth(self._read, client, upto)

    def _read(self, _: object, client: Client | None, upto: int) -> None:
        if self.client is not client or client is None:
            return
        room = max(1, self._shared.bounds.memory - self.state.waiting_bytes)
        read = self._shared.store.queued(self.key, self._loaded, _PAGE, room)
        read.addCallbacks(self._take_in, self._not_read, callbackArgs=(client, upto), errbackArgs=(client,))
        read.addErrback(partial(self._log.failure, "a queue could not be taken in"))

    def _not_read(self, failure: Failure, client: Client) -> None:
        self._shared.report("the queue of an MQTT session cannot be read", failure.getErrorMessage())
        self._shared.clock.callLater(_RETRY, self._try_again, client)

    def _try_again(self, client: Client) -> None:
        if self.client is client:
            self._is_loading = False
            self.pump()

    def _take_in(self, page: list[KeptDelivery], client: Client, upto: int) -> None:
        if self.client is not client:
            return
        self._is_loading = False
        for kept in page:
            self._loaded = kept.sequence
            delivery = Delivery(
                kept.message, kept.qos, kept.retain, kept.identifiers, kept.size, kept.sequence
            )
            if kept.packet_id:
                delivery.packet_id = kept.packet_id
                delivery.released = kept.state == RELEASED
                self.state.adopt(delivery)
                self._resend.append(delivery)
            else:
                self.state.enqueue(delivery)
        if not page:
            self._loaded = max(self._loaded, upto)
        self.pump()
