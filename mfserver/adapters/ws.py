"""WebSocket: a thing publishes what it sends on one topic, and hears what is published exactly there."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from autobahn.websocket.types import ConnectionDeny
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from zope.interface import implementer

from mfserver import message
from mfserver.adapters.claims import request_claims, request_content_type
from mfserver.adapters.upgrade import upgrade
from mfserver.adapters.websocket import (
    GOING_AWAY,
    INTERNAL_ERROR,
    POLICY_VIOLATION,
    BoundedWebSocket,
    websocket_factory,
)
from mfserver.budget import Budget
from mfserver.errors import MFServerError, NotAuthorized, Overloaded
from mfserver.interfaces import IAuthenticator, ILiveConnection, ISubscriber, IThing
from mfserver.message import Message
from mfserver.records import ChannelId
from mfserver.route import Route
from mfserver.routing.router import Router
from mfserver.routing.tree import Options
from mfserver.tls.peer import peer_of
from mfserver.topic import Topic, TopicFilter, parse_path, parse_path_filter

__all__ = ["WSAdapter", "WSProtocol"]


@implementer(ILiveConnection, ISubscriber)
class WSProtocol(BoundedWebSocket):
    """One thing's WebSocket on one topic.

    :ivar thing: who it is, once it is known.
    :ivar topic: where its frames are published; None when it listens on a wildcard, and may only listen.
    :ivar uncommitted: messages that it published and that are not committed yet.
    """

    _log = Logger()

    thing: IThing
    topic: Topic | None
    topic_filter: TopicFilter

    def __init__(self, adapter: "WSAdapter", content_type: str) -> None:
        super().__init__()
        self._adapter = adapter
        self._content_type = content_type
        self._logout: Callable[[], None] | None = None
        self.uncommitted = 0
        self._is_open = False
        self._ended: str | None = None
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0

    def logged_in(self, thing: IThing, logout: Callable[[], None]) -> None:
        """Take what authentication gave. Before the connection is this protocol's."""
        self.thing = thing
        self._logout = logout

    def release(self) -> None:
        """Log out, once; the connection is over or never was."""
        logout, self._logout = self._logout, None
        if logout is not None:
            logout()

    # --- autobahn's events ---

    def onConnect(self, request: Any) -> None:
        if self._ended is not None:
            raise ConnectionDeny(ConnectionDeny.FORBIDDEN, self._ended)

    def onOpen(self) -> None:
        if self._ended is not None:
            self.close(POLICY_VIOLATION, self._ended)
            return
        self._is_open = True
        self.transport.registerProducer(self, True)
        self._adapter.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self._ended is None:
            self._adapter.publish(self, payload, self._content_type)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self._is_open = False
        self._waiting.clear()
        self._adapter.closed(self)
        self.release()

    # --- ISubscriber ---

    def is_ready(self) -> bool:
        return self._is_open and not self.paused

    def deliver(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> None:
        if not self._is_open:
            return
        if self.paused:
            self._wait(message, qos)
        else:
            self._send_message(message)

    def _send_message(self, message: Message) -> None:
        if self.can_send:
            self.sendMessage(message.payload, isBinary=not _is_text(message))

    def _wait(self, message: Message, qos: int) -> None:
        """Keep it until the peer reads again: QoS 0 within the bound or not at all, more than it ends it."""
        if self._waiting_bytes + len(message.payload) > self._adapter.max_queued:
            if qos == 0:
                self._adapter.dropped += 1
                return
            self._adapter.report("a WebSocket does not read and is closed", f"thing {self.thing.id}")
            self._is_open = False
            self.transport.abortConnection()
            return
        self._waiting.append(message)
        self._waiting_bytes += len(message.payload) + 64  # an empty message takes room too

    # --- IPushProducer: the transport tells whether the peer reads ---

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        while self._waiting and not self.paused:
            waiting = self._waiting.popleft()
            self._waiting_bytes -= len(waiting.payload) + 64
            if waiting.channel in self.thing.channels and not self._adapter.is_over(waiting):
                self._send_message(waiting)

    def stopProducing(self) -> None:
        self._waiting.clear()

    # --- ILiveConnection ---

    def end(self, reason: str) -> None:
        self._close(POLICY_VIOLATION, reason)

    def channel_lost(self, channel: ChannelId) -> None:
        if channel == self.topic_filter.channel:
            self._close(POLICY_VIOLATION, "the thing is not connected to this channel any more")

    def going_away(self) -> None:
        """Say that the server ends."""
        self._close(GOING_AWAY, "the server is shutting down")

    def failed(self) -> None:
        """Say that a message could not be kept, and that this is our fault."""
        self._close(INTERNAL_ERROR, "the message could not be stored")

    def _close(self, code: int, reason: str) -> None:
        if self._ended is not None:
            return
        self._ended = reason
        self._waiting.clear()
        if self._is_open:
            self._is_open = False
            self.close(code, reason)


class WSAdapter:
    """Everything that the server's WebSockets share.

    :param max_message: bytes of one message.
    :param budget: bytes of messages that are not complete, of all clients.
    :param max_queued: bytes that may wait for one peer that does not read.
    :param report: tells the log of a kind of mistake and its details, without repeating itself.
    :param now: the wall clock, in nanoseconds since 1970.
    :ivar dropped: QoS 0 messages that a peer was too slow for.
    :ivar open: the WebSockets that are open now.
    :ivar is_ending: the server ends, and lets nobody in any more.
    """

    _log = Logger()

    def __init__(
        self,
        authenticator: IAuthenticator,
        router: Router,
        *,
        max_message: int,
        max_queued: int,
        budget: Budget,
        report: Callable[[str, str], None],
        now: Callable[[], int],
        reactor: Any,
    ) -> None:
        self._authenticator = authenticator
        self._router = router
        self._now = now
        self.max_queued = max_queued
        self.report = report
        self.dropped = 0
        self.open: set[WSProtocol] = set()
        self.is_ending = False
        self._factory = websocket_factory(max_message, reactor, budget)

    def routes(self) -> list[Route]:
        """The paths of Mainflux behind its proxy, and those of its bare service."""
        return [
            Route(
                method="GET",
                path=f"{prefix}/channels/{{channel}}/messages/{{subtopic*}}",
                upgrade="websocket",
                serve=self.serve,
                summary="Publish and subscribe on a channel over a WebSocket",
                success=101,
                errors=(400, 401, 403),
                parameters={
                    "authorization": "the thing's key",
                    "content-type": "the media type of what is published",
                },
                access="thing",
            )
            for prefix in ("/ws", "")
        ]

    async def serve(self, request: Request, parameters: dict[str, str]) -> None:
        """Decide who is asking, and only then let the WebSocket protocol have the connection."""
        if self.is_ending:
            raise Overloaded("the server is shutting down")
        channel, subtopic = parameters["channel"], parameters["subtopic"]
        protocol = WSProtocol(self, request_content_type(request))
        protocol.topic_filter = parse_path_filter(channel, subtopic)
        protocol.topic = None if protocol.topic_filter.has_wildcard else parse_path(channel, subtopic)
        claims = request_claims(request, needs_key=True)
        peer = peer_of(request.channel.transport)
        protocol.logged_in(*await self._authenticator.authenticate(claims, peer, protocol))
        try:
            if protocol.topic_filter.channel not in protocol.thing.channels:
                raise NotAuthorized("the thing is not connected to this channel")
            protocol.factory = self._factory
            if not upgrade(request, protocol):
                protocol.release()
        except Exception:
            protocol.release()
            raise

    def opened(self, protocol: WSProtocol) -> None:
        """Let a WebSocket hear what is published on its topic."""
        self.open.add(protocol)
        if self.is_ending:
            protocol.going_away()
            return
        try:
            self._router.subscribe(protocol.topic_filter, protocol, Options(qos=1), exact=False)
        except MFServerError as error:
            protocol.end(str(error))

    def closed(self, protocol: WSProtocol) -> None:
        """Forget a WebSocket."""
        self.open.discard(protocol)
        self._router.forget(protocol)

    def publish(self, protocol: WSProtocol, payload: bytes, content_type: str) -> None:
        """Publish a frame where its WebSocket is; until all that came are committed no more is read."""
        topic = protocol.topic
        if topic is None:
            protocol.end("a wildcard subtopic can only be listened on")
            return
        if topic.channel not in protocol.thing.channels:
            protocol.end("the thing is not connected to this channel any more")
            return
        published = self._router.publish(
            Message(
                topic.channel,
                topic.levels,
                topic.subtopic,
                protocol.thing.id,
                message.WS,
                payload,
                content_type or topic.content_type,
                self._now(),
            )
        )
        if published is None:
            return
        protocol.transport.pauseProducing()
        protocol.uncommitted += 1
        published.addErrback(partial(self._not_kept, protocol))
        published.addCallback(partial(self._read_on, protocol))

    def _not_kept(self, protocol: WSProtocol, failure: Failure) -> None:
        self._log.failure("a message from a WebSocket could not be stored", failure)
        protocol.failed()

    def _read_on(self, protocol: WSProtocol, _: None) -> None:
        protocol.uncommitted -= 1
        if not protocol.uncommitted:
            protocol.transport.resumeProducing()

    def is_over(self, message: Message) -> bool:
        """Whether a message has expired, and is not to be delivered any more."""
        return message.expires != 0 and message.expires <= self._now()

    def going_away(self) -> None:
        """Close every WebSocket with 1001, and let nobody in any more."""
        self.is_ending = True
        for protocol in list(self.open):
            protocol.going_away()


def _is_text(message: Message) -> bool:
    """Whether a payload leaves in a text frame: UTF-8 of a text, JSON or unknown type. Found once."""
    if message.encoded is None:
        message.encoded = {}
    cached = message.encoded.get(_TEXT)
    if cached is None:
        cached = message.encoded[_TEXT] = _could_be_text(message)
    return bool(cached)


_TEXT: Final = -1


def _could_be_text(message: Message) -> bool:
    media_type = message.content_type.partition(";")[0].strip().lower()
    if media_type and not (media_type.startswith("text/") or media_type.endswith("json")):
        return False
    try:
        message.payload.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
