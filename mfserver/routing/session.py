"""One MQTT session (MQTT 5.0, 4.1): what is on its way to one client, whether that is connected or not.

A session that outlives its connection keeps everything at QoS 1 and 2 on the disk from the moment it is
accepted; in memory stands only what is being sent, and nothing while nobody is connected. One that ends with
its connection touches no disk.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Final

from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from mfserver.durable import PUBLISHED, RELEASED, Backlog, SessionKey
from mfserver.interfaces import ISubscriber, IThing
from mfserver.message import Message
from mfserver.mqtt.constants import PACKET_IDENTIFIER_NOT_FOUND, SUCCESS
from mfserver.mqtt.session import Delivery
from mfserver.mqtt.session import Session as State
from mfserver.records import ChannelId
from mfserver.routing.bounds import Bounds, Client, Shared
from mfserver.routing.feeding import Feeding
from mfserver.routing.queue import Queue
from mfserver.routing.reading import Reading
from mfserver.routing.retained import Found

__all__ = ["Bounds", "Client", "ClientSession", "Shared"]

#: What a message costs besides its size: objects, rows, a usual topic.
_OVERHEAD: Final = 256
#: What is in flight at QoS 1 to a client whose session ends with its connection: nothing has to be remembered
#: of it but its packet identifier, as it is never sent again.
_SENT: Final = Delivery(0, 1)


class ClientSession:
    """One client's session.

    :ivar key: its number on the disk; 0 for one that ends with its connection.
    :ivar thing: whose rights are asked at every delivery.
    :ivar expiry: seconds that it outlives its connection by.
    :ivar holder: the connection that has it, from its CONNECT on; None for none.
    :ivar client: the same, once its CONNECT is answered.
    :ivar state: packet identifiers, what is in flight, and what waits in memory. The message of what is in
        flight and was sent is only its key: if it is sent again it is read from the disk.
    :ivar is_over: it has ended.
    :ivar was_told: a CONNACK told its client of it.
    """

    _log: ClassVar[Logger] = Logger()

    __slots__ = (
        "_direct",
        "_feeding",
        "_is_pumping",
        "_reading",
        "_releasing",
        "_resend",
        "_shared",
        "client",
        "client_id",
        "expiry",
        "holder",
        "is_over",
        "key",
        "state",
        "thing",
        "was_told",
    )

    def __init__(
        self,
        shared: Shared,
        key: SessionKey,
        thing: IThing,
        client_id: str,
        expiry: int,
        backlog: Backlog | None = None,
    ) -> None:
        self.key = key
        self.thing = thing
        self.client_id = client_id
        self.expiry = expiry
        self.holder: Client | None = None
        self.client: Client | None = None
        self.state = State(1)
        self.is_over = False
        self.was_told = False
        self._shared = shared
        # The client while nothing comes between: the session touches no disk, and no subscription is new.
        self._direct: Client | None = None
        self._is_pumping = False
        # By packet identifier: what is in flight and has not been sent on this connection yet.
        self._resend: dict[int, Delivery] = {}
        # Those whose PUBREL waits for its commit.
        self._releasing: set[int] | None = None
        # While a new subscription has not brought all its retained messages.
        self._feeding: Feeding | None = None
        # What is on the disk; None of a session that touches none.
        self._reading: Reading | None = None
        if key:
            queue = Queue(shared, key, backlog or Backlog(), self._dropped, thing)
            self._reading = Reading(shared, key, queue, self.state, self._resend, self._wait, self.pump)

    @property
    def is_kept(self) -> bool:
        """Whether it is on the disk."""
        return self.key != 0 and not self.is_over

    @property
    def count(self) -> int:
        """Messages of it on the disk."""
        return 0 if self._reading is None else self._reading.queue.count

    @property
    def size(self) -> int:
        """Their bytes."""
        return 0 if self._reading is None else self._reading.queue.size

    # --- the connection -----------------------------------------------------------------------------------

    def attach(self, client: Client, send_quota: int) -> None:
        """The client's CONNECT is answered: send again what it has not acknowledged, then what waits.

        :param send_quota: QoS 1 and 2 messages that it may have to acknowledge at once.
        """
        self.client = client
        self.was_told = True
        self.state.send_quota = send_quota
        if self._reading is None:
            self._direct = client
        else:
            self._reading.begin(client)
        self.pump()

    def detach(self) -> None:
        """The network connection is over. What is on the disk is all that a session that is kept keeps."""
        self.holder = self.client = self._direct = None
        if self._reading is not None:
            self._reading.stop()
        if self._feeding is not None and not self._feeding.detach(self.is_kept):
            self._feeding = None
        self._resend.clear()
        self._releasing = None
        self.state.in_flight.clear()
        waiting = self.state.discard(lambda _: True) if self.state.waiting else ()
        if waiting and self.is_kept and self._shared.bounds.queue_qos0:
            for delivery in waiting:
                if not delivery.sequence:  # those at QoS 1 and 2 have one
                    self._keep(delivery)

    def end(self) -> None:
        """It is over."""
        self.is_over = True
        self.detach()
        self.state.clear()

    # --- ISubscriber --------------------------------------------------------------------------------------

    def is_ready(self) -> bool:
        return self._is_complete and self._can_send() and len(self.state.in_flight) < self.state.send_quota

    def deliver(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> None:
        client, state = self._direct, self.state
        if (
            client is not None
            and qos < 2
            and not message.expires
            and not state.waiting
            and client.is_writable
            and (not qos or len(state.in_flight) < state.send_quota)
        ):
            # The straight way, of most: the right to it was asked for just now, and nothing is kept of it.
            packet_id = 0
            if qos:
                packet_id = state.take_packet_id()
                state.in_flight[packet_id] = _SENT
            if not client.send_publish(message, qos, retain, identifiers, packet_id):
                state.in_flight.pop(packet_id, None)  # too long for this client [MQTT-3.1.2-25]
            return
        if self._feeding is not None:
            self._feeding.bring_older(message.channel, message.levels)
        self._take_in_turn(message, qos, retain, identifiers)

    def _take_in_turn(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> None:
        delivery = Delivery(message, qos, retain, identifiers, message.size + _OVERHEAD)
        if self.is_kept and (qos or self._is_behind()):
            self._keep(delivery)  # [MQTT-3.1.2-23], of 3.1.1 [MQTT-3.1.2-5]
        elif self.client is not None:
            self._hand_over(delivery)

    def feed(self, found: Found, qos: int, identifiers: tuple[int, ...]) -> None:
        """Deliver the retained messages of a new subscription, as fast as the client reads.

        What is kept goes to the disk, as fast as that takes it.
        """
        if self.client is None:
            return
        if self._feeding is None:
            self._feeding = Feeding(self._shared, self._takes_retained, self._take_retained, self._fed)
            self._direct = None
        if not self._feeding.add(found, qos, identifiers):
            self.client.too_slow()

    def _fed(self) -> None:
        """All retained messages are brought: what comes now needs no look at them."""
        self._feeding = None
        self._direct = self.client if self._reading is None else None

    def _takes_retained(self, qos: int) -> bool:
        return bool(qos and self.is_kept) or self._can_send()

    def _take_retained(self, message: Message, qos: int, identifiers: tuple[int, ...]) -> None:
        if message.channel in self.thing.channels:
            self._take_in_turn(message, qos, True, identifiers)

    def channel_lost(self, channel: ChannelId) -> None:
        """What came from a channel while the thing might use it, and still waits, is not its any more."""
        for delivery in self.state.discard(lambda delivery: delivery.message.channel == channel):
            self._finish(delivery)
        self.pump()

    # --- what the client acknowledges -----------------------------------------------------------------------

    def puback(self, packet_id: int) -> None:
        """A QoS 1 message arrived, or was refused: the two are the same [MQTT-4.4.0-2]."""
        self._answered(packet_id, self.state.puback(packet_id))

    def pubrec(self, packet_id: int, reason_code: int) -> None:
        """A QoS 2 message arrived. PUBREL follows when that is on the disk: it would be sent twice else."""
        client = self.client
        if client is None:
            return
        known = self.state.in_flight.get(packet_id)
        was_released = known is not None and known.released
        delivery = self.state.pubrec(packet_id, reason_code)
        if delivery is None:
            # While its page is being read it is not known yet: our PUBLISH comes again, and so does this.
            if self._is_complete:
                client.send_pubrel(packet_id, PACKET_IDENTIFIER_NOT_FOUND)
        elif not delivery.released:  # [MQTT-4.4.0-2]
            self._answered(packet_id, delivery)
        elif not was_released:
            self._resend.pop(packet_id, None)
            self._release(delivery)
        elif packet_id not in (self._releasing or ()):
            client.send_pubrel(packet_id, SUCCESS)

    def pubcomp(self, packet_id: int) -> None:
        """A QoS 2 message is through."""
        self._answered(packet_id, self.state.pubcomp(packet_id))

    def _answered(self, packet_id: int, delivery: Delivery | None) -> None:
        """The client ended a delivery, perhaps one that was to be sent again; None: it ended none."""
        if delivery is not None:
            if self._resend:
                self._resend.pop(packet_id, None)
            if self._reading is not None and delivery.sequence:
                self._reading.queue.finish(delivery)
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

    @property
    def _is_complete(self) -> bool:
        """Whether everything that is on the disk stands in memory too."""
        return self._reading is None or self._reading.is_complete

    def _is_behind(self) -> bool:
        """Whether a message at QoS 0 has to wait on the disk: for the client, or for older ones there."""
        if self.client is None:
            return self._shared.bounds.queue_qos0
        reading = self._reading
        return reading is not None and reading.queue.has_qos0() and not reading.is_complete

    def _can_send(self) -> bool:
        """Whether what comes now may leave now: the client takes it, and nothing older waits."""
        client = self.client
        return client is not None and client.is_writable and not self.state.waiting and not self._resend

    def _hand_over(self, delivery: Delivery) -> None:
        """Send what is not kept, or let it wait in memory."""
        if self._can_send() and (not delivery.qos or self.state.begin(delivery)):
            self._send(delivery)
        elif self._make_room(delivery.size):
            self.state.enqueue(delivery)
        elif delivery.qos and self.client is not None:
            self.client.too_slow()
        else:
            self._drop()

    def _make_room(self, size: int) -> bool:
        """Whether so many bytes more may wait in memory; the oldest at QoS 0 are dropped where that helps."""
        state, memory = self.state, self._shared.bounds.memory
        while state.waiting and state.waiting_bytes + size > memory:
            dropped = state.drop_oldest_qos0()
            if dropped is None:
                return False
            self._finish(dropped)
            self._drop()
        return True

    def _keep(self, delivery: Delivery) -> None:
        """Put a message on the disk, and send it at once where it is its turn."""
        state, reading = self.state, self._reading
        assert reading is not None
        is_complete = reading.is_complete
        kept = reading.queue.add(delivery)
        if kept is None or self.client is None:
            return
        if not is_complete:
            reading.follow(delivery)
        elif self._can_send() and state.begin(delivery):
            reading.caught_up()
            kept.packet_id, kept.state = delivery.packet_id, PUBLISHED
            self._publish(delivery)
        elif not state.waiting or state.waiting_bytes + delivery.size <= self._shared.bounds.memory:
            reading.caught_up()
            state.enqueue(delivery)
        reading.go_on()

    def _dropped(self, sequence: int) -> None:
        """Its queue dropped a message at QoS 0, which may wait in memory, too."""
        self.state.discard(lambda delivery: delivery.sequence == sequence)

    def _drop(self) -> None:
        self._shared.dropped += 1

    def _publish(self, delivery: Delivery) -> None:
        """Send a message that has its packet identifier. At QoS 2 that must be on the disk first: after a
        crash the same number on another message would make the client throw that away."""
        if delivery.qos == 2 and self.is_kept:
            self._after_commit(partial(self._send_kept, delivery, delivery.packet_id))
        else:
            self._send(delivery)

    def _send_kept(self, delivery: Delivery, packet_id: int) -> None:
        """Send it, unless the client answered it before it came."""
        if self.state.in_flight.get(packet_id) is delivery and not delivery.released:
            self._send(delivery)

    def _send(self, delivery: Delivery, dup: bool = False) -> None:
        """Write a PUBLISH, unless its time or the right to it is over."""
        client = self.client
        assert client is not None
        message: Message = delivery.message
        is_over = not dup and message.expires and message.expires <= self._shared.now()  # [MQTT-3.3.2-5]
        if (
            message.channel in self.thing.channels
            and not is_over
            and client.send_publish(
                message, delivery.qos, delivery.retain, delivery.identifiers, delivery.packet_id, dup
            )
        ):  # too long for this client else [MQTT-3.1.2-25]
            if delivery.qos:
                delivery.message = message.key  # it may take long to acknowledge it
            else:
                self._finish(delivery)  # nothing answers it
        elif dup and delivery.qos == 2:
            # The client may have it: without a PUBREL it would take the next message for this one.
            delivery.released = True
            self._release(delivery)
        else:
            self._finish(delivery)

    def _release(self, delivery: Delivery) -> None:
        client, packet_id = self.client, delivery.packet_id
        assert client is not None
        if not self.is_kept:
            client.send_pubrel(packet_id, SUCCESS)
            return
        if self._releasing is None:
            self._releasing = set()
        self._releasing.add(packet_id)
        self._shared.journal.move(self.key, delivery.sequence, packet_id, RELEASED)
        self._after_commit(partial(self._send_pubrel, client, packet_id))

    def _send_pubrel(self, client: Client, packet_id: int) -> None:
        if self._releasing is not None:
            self._releasing.discard(packet_id)
        client.send_pubrel(packet_id, SUCCESS)

    def _after_commit(self, send: Callable[[], None]) -> None:
        """Send something when what was just recorded is on the disk, on this connection or never."""
        client = self.client

        def sending(_: None) -> None:
            if self.client is client and client is not None:
                send()
                self.pump()

        committed = self._shared.journal.committed()
        assert committed is not None
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
        if self._reading is not None and delivery.sequence:
            self._reading.queue.finish(delivery)

    def pump(self) -> None:
        """Send what waits as far as the client takes it."""
        client = self.client
        if self._is_pumping or client is None:
            return
        if self.state.waiting or self._resend or self._feeding is not None:
            self._is_pumping = True
            try:
                self._pump(client)
            finally:
                self._is_pumping = False
        if self._reading is not None:
            self._reading.go_on()

    def _pump(self, client: Client) -> None:
        state = self.state
        while self._resend and client.is_writable:
            if len(state.in_flight) - len(self._resend) >= state.send_quota:
                return
            self._send_again(client, self._resend.pop(next(iter(self._resend))))
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
        if self._feeding is not None:
            self._feeding.go_on()

    def _send_again(self, client: Client, delivery: Delivery) -> None:
        """What the client has not acknowledged on its last connection [MQTT-4.4.0-1].

        Its message may have expired meanwhile, which is of no matter any more [MQTT-4.3.3-7].
        """
        if delivery.released:
            client.send_pubrel(delivery.packet_id, SUCCESS)
        else:
            self._send(delivery, dup=True)  # [MQTT-3.3.1-1]

    def _wait(self, delivery: Delivery) -> None:
        """Let a message from the disk wait in memory, unless it was dropped meanwhile."""
        assert self._reading is not None
        if self._reading.queue.holds(delivery):
            self._make_room(delivery.size)  # messages at QoS 0 may have come since there was room
            self.state.enqueue(delivery)


# No decorator: of a class that has one mypyc makes a slow one.
classImplements(ClientSession, ISubscriber)
