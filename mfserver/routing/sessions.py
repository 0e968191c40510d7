"""The MQTT sessions of all clients: who has which (thing, client identifier), takeover, expiry and wills.

No thing can name another's session: its id is part of the name.
"""

from collections import Counter, deque
from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from mfserver.durable import FOREVER, NEVER, Kept, KeptSession, KeptSubscription, KeptWill, SessionKey
from mfserver.errors import MFServerError, Overloaded
from mfserver.interfaces import IChanges, IRights, IThing
from mfserver.message import Message
from mfserver.mqtt.properties import MESSAGE_EXPIRY_INTERVAL
from mfserver.records import Change, ChannelId, ThingId
from mfserver.routing.deadlines import Deadlines
from mfserver.routing.journal import Journal
from mfserver.routing.retained import Retained
from mfserver.routing.router import Options, Router
from mfserver.routing.session import Bounds, Client, ClientSession, Shared
from mfserver.topic import TopicFilter, parse_filter

__all__ = ["Bounds", "Client", "ClientSession", "Sessions", "Shared"]

_SECOND = 1_000_000_000


@implementer(IChanges)
class Sessions:
    """Every session there is, connected or not.

    :param retained: the retained messages.
    :param rights: those of the things whose sessions outlive their connections.
    :param max_kept: sessions of one thing that outlive their connections.
    """

    _log = Logger()

    def __init__(
        self, router: Router, retained: Retained, rights: IRights, shared: Shared, max_kept: int
    ) -> None:
        self.shared = shared
        self.router = router
        self.retained = retained
        self._rights = rights
        self._max_kept = max_kept
        self._sessions: dict[tuple[ThingId, str], ClientSession] = {}
        self._kept: Counter[ThingId] = Counter()
        self._wills: dict[ClientSession, KeptWill] = {}
        self._due_wills: deque[Message] = deque()
        self._is_publishing = False
        self._ends: Deadlines[ClientSession] = Deadlines(self._expired, shared.now, shared.clock)
        self._due: Deadlines[ClientSession] = Deadlines(self._will_due, shared.now, shared.clock)

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def journal(self) -> Journal:
        """Where what must survive is recorded."""
        return self.shared.journal

    # --- beginning and end ----------------------------------------------------------------------------------

    async def open(
        self,
        thing: IThing,
        client_id: str,
        clean_start: bool,
        expiry: int,
        client: Client,
        will: KeptWill | None,
    ) -> tuple[ClientSession, bool]:
        """Give a client that was let in its session: its old one, or a new one (MQTT 5.0, 3.1.2.4, 3.1.4).

        Whatever has to be on the disk before CONNACK is there when this returns. Then the client is to be
        attached; until then the session takes in what comes for it.

        :param expiry: seconds that the session is to outlive this connection by.
        :return: the session, and whether it was there already.
        :raises Overloaded: the thing has as many sessions as it may, or its rights cannot be read.
        """
        name = (thing.id, client_id)  # [MQTT-3.1.3-2]
        rights = await self._rights.hold(thing.id) if expiry else None
        older = self._sessions.get(name)
        is_more = older is None or not older.is_kept
        if expiry and is_more and self._kept[thing.id] >= self._max_kept:
            self._rights.release(thing.id)
            raise Overloaded(f"at most {self._max_kept} sessions of one thing outlive their connections")
        before = self.journal.position
        if older is not None:
            # One that no CONNACK told of is none: its client may still go by what it knows of an older one.
            clean = clean_start or not older.was_told
            self._take_over(older, clean)  # [MQTT-3.1.4-3], of 3.1.1 [MQTT-3.1.4-2]
            if older.is_over:
                older = None
        if older is None:  # [MQTT-3.1.2-6]
            key = self.journal.new_session() if expiry else SessionKey(0)
            session = ClientSession(self.shared, key, rights or thing, client_id, expiry)
            self._sessions[name] = session
            if expiry:
                self._kept[thing.id] += 1
        else:
            session = older  # [MQTT-3.1.2-5]
            session.expiry = expiry
            if rights is not None:
                self._rights.release(thing.id)  # it holds them already
        session.holder = client
        self._begin(session, will)
        committed = self.journal.committed() if self.journal.position != before else None
        if committed is not None:
            try:
                await committed
            except Exception:
                # A session that nobody was told of is not kept.
                self.close(session, client, 0 if older is None else None, will=False)
                raise
        return session, older is not None

    def close(
        self, session: ClientSession, client: Client, expiry: int | None = None, will: bool = True
    ) -> None:
        """The network connection of a session is over.

        :param expiry: what DISCONNECT asked for, in seconds; None for what CONNECT did.
        :param will: whether the will is to be published (MQTT 5.0, 3.1.2.5).
        """
        if session.holder is not client:
            return  # another connection has it, or it has ended
        if expiry is not None:
            session.expiry = expiry
        if not will:
            self._forget_will(session)  # [MQTT-3.1.2-10] [MQTT-3.14.4-3]
        if session.expiry and session.is_kept:
            session.detach()
            self._leave(session)
        else:
            self._end(session)  # [MQTT-4.1.0-2]

    def changed(self, change: Change) -> None:
        """Sessions end with their thing, retained messages with their channel."""
        if change.deleted:
            gone = set(change.things)
            for name, session in list(self._sessions.items()):
                if name[0] in gone:
                    self._wills.pop(session, None)
                    self._end(session)
        elif not change.things:
            for channel in change.channels:
                self.journal.channel_gone(channel)
            self.retained.channels_gone(change.channels)

    def restore(self, kept: Kept) -> None:
        """Take up what a start found on the disk. Whoever was connected then has lost the connection now."""
        self.journal.number_from(kept.next_session, kept.next_message)
        for message in kept.retained:
            message.key = 0  # it is another's by now
        self.retained.restore(kept.retained)
        restored = [self._restore(each, kept) for each in kept.sessions]
        for session, each in zip(restored, kept.sessions, strict=True):  # wills come to all who subscribed
            will = self._wills.get(session)
            if each.ends_at is None:
                self._leave(session)
                continue
            if each.ends_at != FOREVER:
                self._ends.set(session, each.ends_at)
            if will is not None and will.due is not None:
                self._due.set(session, will.due)

    def _restore(self, each: KeptSession, kept: Kept) -> ClientSession:
        thing = self._rights.preload(each.thing, kept.channels.get(each.thing, ()))
        session = ClientSession(
            self.shared, each.key, thing, each.client_id, each.expiry, kept.backlogs.get(each.key)
        )
        session.was_told = True
        if each.key in kept.received:
            session.state.received.update(kept.received[each.key])
        self._sessions[each.thing, each.client_id] = session
        self._kept[each.thing] += 1
        for subscription in kept.subscriptions.get(each.key, ()):
            self._subscribe_again(session, subscription)
        will = kept.wills.get(each.key)
        if will is not None:
            will.message.key = 0
            self._wills[session] = will
        return session

    def stop(self) -> "Deferred[None] | None":
        """Wait for no point in time any more.

        :return: fires when everything is on the disk; None if it is.
        """
        self._ends.stop()
        self._due.stop()
        return self.journal.committed()

    # --- subscriptions --------------------------------------------------------------------------------------

    def subscribe(self, session: ClientSession, topic_filter: TopicFilter, options: Options) -> bool:
        """Add a subscription of a session, or replace the one with the same filter.

        :return: whether it is a new one.
        :raises Overloaded: it has as many as it may.
        """
        is_new = self.router.subscribe(topic_filter, session, options, exact=True)
        if session.is_kept:
            text = _text(topic_filter)
            identifier = options.identifiers[0] if options.identifiers else 0
            self.journal.subscription(
                session.key,
                text,
                KeptSubscription(
                    text, options.qos, options.no_local, options.retain_as_published, identifier
                ),
            )
        return is_new

    def unsubscribe(self, session: ClientSession, topic_filter: TopicFilter) -> bool:
        """End a subscription; what it has brought already is delivered [MQTT-3.10.4-3].

        :return: whether there was one.
        """
        if not self.router.unsubscribe(topic_filter, session, exact=True):
            return False
        if session.is_kept:
            self.journal.subscription(session.key, _text(topic_filter), None)
        return True

    def _subscribe_again(self, session: ClientSession, kept: KeptSubscription) -> None:
        identifiers = (kept.identifier,) if kept.identifier else ()
        options = Options(kept.qos, kept.no_local, kept.retain_as_published, identifiers)
        try:
            self.router.subscribe(parse_filter(kept.topic_filter), session, options, exact=True)
        except MFServerError:
            self._log.failure("a subscription of a kept session could not be restored")

    # --- the life of one ------------------------------------------------------------------------------------

    def _begin(self, session: ClientSession, will: KeptWill | None) -> None:
        """A connection has the session from now on."""
        self._ends.drop(session)
        self._due.drop(session)
        if session.is_kept:
            self.journal.session(
                KeptSession(session.key, session.thing.id, session.client_id, session.expiry)
            )
            if will is not None or session in self._wills:
                self.journal.will(session.key, will)
        if will is None:
            self._wills.pop(session, None)  # one whose delay had not passed is not published [MQTT-3.1.3-9]
        else:
            self._wills[session] = will

    def _leave(self, session: ClientSession) -> None:
        """A session that is kept has lost its connection."""
        now = -(-self.shared.now() // _SECOND)  # never a second too early
        ends_at = FOREVER if session.expiry == NEVER else now + session.expiry
        self.journal.session(
            KeptSession(session.key, session.thing.id, session.client_id, session.expiry, ends_at)
        )
        if ends_at != FOREVER:
            self._ends.set(session, ends_at)
        will = self._wills.get(session)
        if will is None:
            return  # of 3.1.1 [MQTT-3.1.2-12]
        if not will.delay:
            self._publish_will(session)  # [MQTT-3.1.2-8], of 3.1.1 [MQTT-3.1.2-8]
            return
        due = now + will.delay
        self._wills[session] = will = KeptWill(will.message, will.delay, due)
        self.journal.will(session.key, will)
        self._due.set(session, due)

    def _take_over(self, session: ClientSession, clean_start: bool) -> None:
        """Another connection of the same client wants the session, or with a clean start its place."""
        client = session.holder
        will = self._wills.get(session)
        session.detach()
        if clean_start or not session.is_kept:
            # [MQTT-3.1.2-4] [MQTT-3.1.4-4], of 3.1.1 [MQTT-3.1.2-6] [MQTT-3.1.4-3]; its will is published
            self._end(session)
        elif will is not None and client is not None and not will.delay:
            self._publish_will(session)
        if client is not None:
            client.taken_over()

    def _end(self, session: ClientSession) -> None:
        """A session is over: its subscriptions, its queue; its will, if it is still there, is published."""
        if session.is_over:
            return
        is_kept = session.is_kept
        session.end()
        self.router.forget(session)
        self._ends.drop(session)
        self._due.drop(session)
        name = (session.thing.id, session.client_id)
        if self._sessions.get(name) is session:
            del self._sessions[name]
        if session in self._wills:
            self._publish_will(session)  # [MQTT-3.1.2-8]
        if is_kept:
            self.journal.session_ended(session.key)
            self._kept[session.thing.id] -= 1
            if not self._kept[session.thing.id]:
                del self._kept[session.thing.id]
            self._rights.release(session.thing.id)

    def _expired(self, session: ClientSession) -> None:
        self._end(session)

    # --- wills ----------------------------------------------------------------------------------------------

    def _will_due(self, session: ClientSession) -> None:
        if session in self._wills:
            self._publish_will(session)

    def _forget_will(self, session: ClientSession) -> None:
        if self._wills.pop(session, None) is not None and session.is_kept:
            self.journal.will(session.key, None)

    def _publish_will(self, session: ClientSession) -> None:
        """Publish it, if its thing may by now: the right was asked for at CONNECT, and is again."""
        will = self._wills[session]
        self._forget_will(session)  # in the same commit as what it becomes
        message = will.message
        if ChannelId(message.channel) not in session.thing.channels:
            return
        message.created = self.shared.now()
        interval = (message.properties or {}).get(MESSAGE_EXPIRY_INTERVAL)
        if isinstance(interval, int):
            message.expires = message.created + interval * _SECOND
        self._send_will(message)

    def _send_will(self, message: Message) -> None:
        """Publish it; where that ends connections of others, their wills follow when it is through."""
        self._due_wills.append(message)
        if self._is_publishing:
            return
        self._is_publishing = True
        try:
            while self._due_wills:
                self._send_next_will()
        finally:
            self._is_publishing = False

    def _send_next_will(self) -> None:
        try:
            published = self.router.publish(self._due_wills.popleft())
        except MFServerError as error:
            self.shared.report("a will could not be published", str(error))
            return
        if published is not None:
            published.addErrback(partial(self._log.failure, "a will could not be stored"))


def _text(topic_filter: TopicFilter) -> str:
    """A filter as it is kept."""
    share = f"$share/{topic_filter.share}/" if topic_filter.share else ""
    return "/".join((f"{share}channels", topic_filter.channel, "messages", *topic_filter.levels))
