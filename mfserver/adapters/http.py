"""HTTP publish: one POST, one message."""

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.web.http import Request

from mfserver import message
from mfserver.adapters.claims import request_claims, request_content_type
from mfserver.errors import MFServerError, NotAuthorized, TooLarge
from mfserver.interfaces import IAuthenticator, IPeer, IThing
from mfserver.message import Message
from mfserver.records import Claims
from mfserver.route import Route
from mfserver.routing.router import Router
from mfserver.tls.peer import peer_of
from mfserver.topic import Topic, parse_path

__all__ = ["HTTPAdapter"]


class HTTPAdapter:
    """Publishes what is POSTed.

    :param max_message: bytes of one payload.
    :param now: the wall clock, in nanoseconds since 1970.
    """

    def __init__(
        self, authenticator: IAuthenticator, router: Router, *, max_message: int, now: Callable[[], int]
    ) -> None:
        self._authenticator = authenticator
        self._router = router
        self._max_message = max_message
        self._now = now

    def routes(self) -> list[Route]:
        """The paths of Mainflux behind its proxy, and those of its bare service."""
        return [
            Route(
                method="POST",
                path=f"{prefix}/channels/{{channel}}/messages/{{subtopic*}}",
                serve=self.publish,
                summary="Publish a message on a channel",
                success=202,
                errors=(400, 401, 403, 413, 503),
                access="thing",
                any_body=True,
            )
            for prefix in ("/http", "")
        ]

    async def publish(
        self, request: Request, parameters: dict[str, str]
    ) -> "Callable[[bytes], Deferred[None] | bool]":
        """Answer 202 after everything that the message must survive in has been committed.

        :return: publishes what comes with the same head later.
        :raises MFServerError: any; the site answers with its status.
        """
        topic = parse_path(parameters["channel"], parameters["subtopic"])
        claims = request_claims(request)
        content_type = request_content_type(request) or topic.content_type
        payload = self._payload(request)
        peer = peer_of(request.channel.transport)
        logout: Callable[[], None] = _nobody_came
        thing = self._authenticator.recognise(claims, peer)
        if thing is None:
            thing, logout = await self._authenticator.authenticate(claims, peer, None)
        try:
            if topic.channel not in thing.channels:
                raise NotAuthorized("the thing is not connected to this channel")
            one = self._message(topic, thing, payload, content_type)
            self._router.check(one)
            published = self._router.publish(one)
            if published is not None:
                await published
        finally:
            logout()
        request.setResponseCode(202)
        request.setHeader(b"content-length", b"0")
        return partial(self.publish_again, topic, content_type, claims, peer)

    def publish_again(
        self, topic: Topic, content_type: str, claims: Claims, peer: IPeer | None, payload: bytes
    ) -> "Deferred[None] | bool":
        """Publish what came with a head that came before, at once, if everything that it takes is in memory.

        :return: as of :class:`mfserver.route.Route`; False also for what has to be refused.
        """
        if len(payload) > self._max_message:
            return False
        thing = self._authenticator.recognise(claims, peer)
        if thing is None or topic.channel not in thing.channels:
            return False
        one = self._message(topic, thing, payload, content_type)
        try:
            self._router.check(one)
        except MFServerError:
            return False
        published = self._router.publish(one)
        return True if published is None else published

    def _message(self, topic: Topic, thing: IThing, payload: bytes, content_type: str) -> Message:
        return Message(
            topic.channel,
            topic.levels,
            topic.subtopic,
            thing.id,
            message.HTTP,
            payload,
            content_type,
            self._now(),
        )

    def _payload(self, request: Request) -> bytes:
        assert request.content is not None  # twisted.web has read all of it
        payload: bytes = request.content.read(self._max_message + 1)
        if len(payload) > self._max_message:
            raise TooLarge(f"a message has at most {self._max_message} bytes", self._max_message)
        return payload


def _nobody_came() -> None:
    """Who is known from memory was not logged in."""
