"""What must survive, on its way to the disk: collected while one commit is under way, written with the next.

Nobody waits for a commit but those who promise something with an answer. While the disk takes nothing, a
batch is kept and tried again; nothing that was collected is ever given up for lack of room.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mfserver.durable import Changes, KeptDelivery, KeptSession, KeptSubscription, KeptWill, SessionKey
from mfserver.errors import Overloaded
from mfserver.interfaces import ISessionStore
from mfserver.message import Message

__all__ = ["Journal"]

#: Bytes of messages, and changes, that wait for the commit under way before publishers are read no more.
_HIGH_WATER_BYTES: Final = 16 << 20
_HIGH_WATER_CHANGES: Final = 20_000
#: Seconds that changes wait which nobody waits for: often what they end is not on the disk yet then.
_LAZY: Final = 0.1
#: Seconds until a batch that could not be written is tried again.
_RETRY: Final = 1.0


class Journal:
    """Records changes in memory and commits them in groups.

    :param clock: an ``IReactorTime``.
    :param next_session: see :class:`mfserver.durable.Kept`; likewise ``next_message``.
    :ivar position: grows with every change that an acknowledgement has to wait for.
    :ivar congested: more waits for the disk than it takes: read no more from those who publish.
    :ivar stalled: the last commit failed, and has not succeeded since.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self, store: ISessionStore, clock: Any, *, next_session: int = 1, next_message: int = 1
    ) -> None:
        self._store = store
        self._clock = clock
        self._next_session = next_session
        self._next_message = next_message
        self._changes = Changes()
        self._count = 0
        self._waiters: list[Deferred[None]] = []
        self._under_way: list[Deferred[None]] | None = None
        self._scheduled: IDelayedCall | None = None
        self.position = 0
        self.congested = False
        self.stalled = False

    def number_from(self, next_session: int, next_message: int) -> None:
        """Give no number again that was found on the disk."""
        self._next_session = max(self._next_session, next_session)
        self._next_message = max(self._next_message, next_message)

    def committed(self) -> "Deferred[None] | None":
        """None when everything recorded is on the disk, else a Deferred that fires when it is.

        It fails when that cannot be written for another reason than lack of room. Those who wait are told in
        the order in which they asked.
        """
        if self._waiters or self._changes:  # what some wait for may have come and gone meanwhile
            waiters = self._waiters
        elif self._under_way is not None:
            waiters = self._under_way
        else:
            return None
        waiter: Deferred[None] = Deferred()
        waiters.append(waiter)
        if self._under_way is None:
            self._schedule()
        return waiter

    # --- what is recorded ---------------------------------------------------------------------------------

    def new_session(self) -> SessionKey:
        """A number that no session has had."""
        key = SessionKey(self._next_session)
        self._next_session += 1
        return key

    def session(self, session: KeptSession) -> None:
        """A session began, or its expiry changed."""
        self._changes.sessions[session.key] = session
        self._recorded()

    def session_ended(self, session: SessionKey) -> None:
        """A session is over, with everything of it."""
        self._changes.sessions[session] = None
        self._recorded()

    def subscription(self, session: SessionKey, topic_filter: str, kept: KeptSubscription | None) -> None:
        """A session subscribed, or with None unsubscribed."""
        self._changes.subscriptions[session, topic_filter] = kept
        self._recorded()

    def received(self, session: SessionKey, packet_id: int, is_waiting: bool) -> None:
        """A QoS 2 PUBLISH came, or was released."""
        self._changes.received[session, packet_id] = is_waiting
        self._recorded()

    def queue(self, delivery: KeptDelivery) -> None:
        """A session's queue grew. At QoS 0 nobody waits for it."""
        if not delivery.message.key:
            delivery.message.key = self._next_message
            self._next_message += 1
        self._changes.queue(delivery)
        self._recorded(delivery.qos)

    def move(self, session: SessionKey, sequence: int, packet_id: int, state: int) -> None:
        """A delivery got its packet identifier, or was released."""
        self._changes.move(session, sequence, packet_id, state)
        self._recorded()

    def finish(self, session: SessionKey, sequence: int, message: int) -> None:
        """A delivery is over. Nobody waits for that."""
        self._changes.finish(session, sequence, message)
        self._recorded(0)

    def will(self, session: SessionKey, will: KeptWill | None) -> None:
        """A session's will is this one now."""
        self._changes.wills[session] = will
        self._recorded()

    def retained(self, channel: str, levels: tuple[str, ...], message: Message | None) -> None:
        """A topic has another retained message, or none. At QoS 0 nobody waits for it."""
        self._changes.retained[channel, levels] = message
        if message is not None:
            self._changes.size += message.size
        self._recorded(1 if message is None else message.qos)

    def channel_gone(self, channel: str) -> None:
        """A channel is gone, and its retained messages."""
        self._changes.channels_gone.add(channel)
        self._recorded()

    def _recorded(self, waited_for: int = 1) -> None:
        if waited_for:
            self.position += 1
        self._count += 1
        self.congested = self._count > _HIGH_WATER_CHANGES or self._changes.size > _HIGH_WATER_BYTES
        if self._under_way is None:
            self._schedule()

    def _schedule(self) -> None:
        """Commit at the end of this turn of the reactor; what nobody waits for may wait for company."""
        seconds = 0.0 if self._waiters else _LAZY
        if self._scheduled is None:
            self._scheduled = self._clock.callLater(seconds, self._commit)
        elif self._scheduled.getTime() > self._clock.seconds() + seconds:
            self._scheduled.reset(seconds)  # somebody waits by now, or has set the clock back

    # --- the commits --------------------------------------------------------------------------------------

    def _commit(self) -> None:
        self._scheduled = None
        batch, self._changes, self._count, self.congested = self._changes, Changes(), 0, False
        waiters, self._waiters = self._waiters, []
        self._under_way = waiters
        self._write(batch)

    def _write(self, batch: Changes) -> None:
        if not batch:  # all that was recorded came and went
            self._written(None)
            return
        written = maybeDeferred(self._store.apply, batch)
        written.addCallbacks(self._written, self._not_written, errbackArgs=(batch,))
        written.addErrback(self._log_failure)

    def _written(self, _: None) -> None:
        if self.stalled:
            self.stalled = False
            self._log.info("what MQTT clients were promised can be stored again")
        self._answer(lambda waiter: waiter.callback(None))

    def _not_written(self, failure: Failure, batch: Changes) -> None:
        if failure.check(Overloaded):
            if not self.stalled:
                self.stalled = True
                # Why, the database has said.
                self._log.warn(
                    "until the database can be written again, messages at QoS 1 and 2 are not acknowledged"
                )
            self._clock.callLater(_RETRY, self._write, batch)
            return
        self._log.failure("what MQTT clients were to be promised could not be stored", failure)
        self._answer(lambda waiter: waiter.errback(Overloaded("it could not be stored")))

    def _answer(self, tell: "Callable[[Deferred[None]], None]") -> None:
        """Tell those who waited. What they record goes with the next batch, which begins behind them."""
        waiters = self._under_way or []
        for waiter in waiters:
            tell(waiter)
        # Whoever asked meanwhile while nothing new was recorded stands behind them in the same list.
        self._under_way = None
        if self._changes or self._waiters:
            self._schedule()

    def _log_failure(self, failure: Failure) -> None:
        self._log.failure("a commit could not be answered", failure)
