"""The queue of one MQTT session on its way from the disk into memory: a page at a time, as it is sent."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from mfserver.durable import RELEASED, KeptDelivery, SessionKey
from mfserver.mqtt.session import Delivery
from mfserver.mqtt.session import Session as State
from mfserver.routing.bounds import Client, Shared
from mfserver.routing.queue import Queue

__all__ = ["Reading"]

#: Deliveries that are read from the disk at once.
_PAGE: Final = 100
#: While fewer wait in memory, more are read.
_FEW: Final = 25
#: Seconds until a queue that could not be read is asked for again.
_RETRY: Final = 1.0


class Reading:
    """Reads what a session that is kept has on the disk, while it has a client.

    :param state: where what was in flight is put back.
    :param resend: where that is put, too.
    :param wait: called with each delivery that is to wait in memory behind the others.
    :param pump: called when there is more to send.
    :ivar queue: what is on the disk.
    """

    _log: ClassVar[Logger] = Logger()

    __slots__ = (
        "_client",
        "_is_under_way",
        "_key",
        "_loaded",
        "_pump",
        "_resend",
        "_shared",
        "_state",
        "_tail",
        "_tail_bytes",
        "_wait",
        "queue",
    )

    def __init__(
        self,
        shared: Shared,
        key: SessionKey,
        queue: Queue,
        state: State,
        resend: dict[int, Delivery],
        wait: Callable[[Delivery], None],
        pump: Callable[[], None],
    ) -> None:
        self.queue = queue
        self._shared = shared
        self._key = key
        self._state = state
        self._resend = resend
        self._wait = wait
        self._pump = pump
        self._client: Client | None = None
        # Everything up to here that is on the disk stands in memory too, or is over.
        self._loaded = queue.last
        self._is_under_way = False
        # What came while the page was read that is under way; None where that became too much.
        self._tail: list[Delivery] | None = None
        self._tail_bytes = 0

    @property
    def is_complete(self) -> bool:
        """Whether everything that is on the disk stands in memory too."""
        return self._loaded == self.queue.last

    def begin(self, client: Client) -> None:
        """There is a client to read for."""
        self._client = client
        self._loaded = 0 if self.queue.count else self.queue.last

    def stop(self) -> None:
        """The client is gone."""
        self._client = self._tail = None
        self._is_under_way = False

    def caught_up(self) -> None:
        """The last that went to the disk stands in memory, too, and so did all before."""
        self._loaded = self.queue.last

    def follow(self, delivery: Delivery) -> None:
        """Remember what came while a page is read: it need not be read, if it is next then."""
        if self._tail is not None:
            self._tail_bytes += delivery.size
            if self._tail_bytes <= self._shared.bounds.memory // 2:
                self._tail.append(delivery)
            else:
                self._tail = None

    def go_on(self) -> None:
        """Read the next page of the queue if it is time, once everything recorded until now can be seen."""
        client, state = self._client, self._state
        if client is None or self.is_complete or self._is_under_way or self._resend:
            return
        if len(state.waiting) >= _FEW or state.waiting_bytes > self._shared.bounds.memory // 2:
            return
        self._is_under_way = True
        self._tail, self._tail_bytes = [], 0
        committed, upto = self._shared.journal.committed(), self.queue.last
        if committed is None:
            self._read(None, client, upto)
        else:
            committed.addBoth(self._read, client, upto)

    def _read(self, _: object, client: Client, upto: int) -> None:
        if self._client is not client:
            return
        room = max(1, self._shared.bounds.memory - self._state.waiting_bytes)
        read = self._shared.store.queued(self._key, self._loaded, _PAGE, room)
        read.addCallbacks(self._take_in, self._not_read, callbackArgs=(client, upto), errbackArgs=(client,))
        read.addErrback(partial(self._log.failure, "a queue could not be taken in"))

    def _not_read(self, failure: Failure, client: Client) -> None:
        self._shared.report("the queue of an MQTT session cannot be read", failure.getErrorMessage())
        self._shared.clock.callLater(_RETRY, self._try_again, client)

    def _try_again(self, client: Client) -> None:
        if self._client is client:
            self._is_under_way = False
            self._pump()

    def _take_in(self, page: list[KeptDelivery], client: Client, upto: int) -> None:
        if self._client is not client:
            return
        self._is_under_way = False
        for kept in page:
            delivery = Delivery(
                kept.message, kept.qos, kept.retain, kept.identifiers, kept.size, kept.sequence
            )
            if kept.packet_id:
                delivery.packet_id = kept.packet_id
                delivery.released = kept.state == RELEASED
                self._state.adopt(delivery)
                self._resend[kept.packet_id] = delivery
            else:
                self._wait(delivery)
        self._loaded = page[-1].sequence if page else max(self._loaded, upto)
        tail, self._tail = self._tail, None
        fits = self._state.waiting_bytes + self._tail_bytes <= self._shared.bounds.memory
        if tail is not None and fits and self._loaded >= upto:
            for delivery in tail:
                if delivery.sequence > self._loaded:
                    self._wait(delivery)
            self.caught_up()
        self._pump()
