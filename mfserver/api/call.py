"""One request to the API, read and checked: credentials, path, query and JSON body."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from twisted.web.http import Request

from mfserver.address import network
from mfserver.api.local import is_local
from mfserver.api.resource import WrongType, answer
from mfserver.errors import Invalid, NotFound, TooLarge, Unauthenticated
from mfserver.interfaces import IUser, IUserAuthenticator
from mfserver.route import Route

__all__ = ["Call", "Reply", "Routes", "MAX_JSON"]

#: Bytes of a JSON body.
MAX_JSON: Final = 1_048_576

B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Call(Generic[B]):
    """What a handler of the API is given.

    :ivar address: the client's, as :func:`mfserver.address.network` names it.
    :ivar places: what stood in the path's places, percent-decoded.
    :ivar query: the query parameters that the route knows, each given once.
    :ivar body: the JSON body, as the type that the route names.
    :ivar token: what stood in ``Authorization``; None without one.
    :ivar caller: whose token it was; None where the route asks for nobody's.
    """

    address: str
    places: Mapping[str, str]
    query: Mapping[str, str]
    body: B
    token: str | None
    caller: IUser | None

    @property
    def user(self) -> IUser:
        """Who is asking, on a route that lets in people alone."""
        assert self.caller is not None
        return self.caller

    def __repr__(self) -> str:
        return f"<Call from {self.address}>"  # tokens and bodies have no place in a log


@dataclass(frozen=True, slots=True)
class Reply:
    """What a handler answers.

    :ivar entity: what becomes the JSON body; None for an empty one. With a media type it is the body: bytes.
    :ivar location: the path of what was created.
    :ivar media_type: None for JSON.
    :ivar fresh_for: seconds that anybody may keep the answer for; 0 for not at all.
    """

    entity: Any = None
    location: str | None = None
    media_type: str | None = None
    fresh_for: int = 0


class Routes:
    """Makes rows of the route table from handlers of calls."""

    def __init__(self, authenticator: IUserAuthenticator) -> None:
        self._authenticator = authenticator

    def route(
        self,
        method: str,
        path: str,
        handle: Callable[[Call[Any]], Awaitable[Reply]],
        summary: str,
        *,
        body: Any = None,
        reply: Any = None,
        success: int = 200,
        errors: tuple[int, ...] = (),
        parameters: Mapping[str, str] | None = None,
        access: str = "user",
        is_open_here: bool = False,
        media_types: tuple[str, ...] = (),
    ) -> Route:
        """A row that reads the call, lets the handler answer it, and writes the reply.

        :param is_open_here: programs on this machine need no token, see :func:`mfserver.api.local.is_local`.
        """
        endpoint = _Endpoint(
            self._authenticator if access == "user" else None,
            handle,
            None if body is None else msgspec.json.Decoder(body),
            success,
            tuple(parameters or ()),
            is_open_here,
        )
        implied = ((401,) if access == "user" else ()) + ((400, 413, 415) if body is not None else ())
        return Route(
            method=method,
            path=path,
            serve=endpoint.serve,
            summary=summary,
            body=body,
            reply=reply,
            success=success,
            errors=tuple(sorted({*errors, *implied, *((400,) if parameters else ())})),
            parameters=dict(parameters or {}),
            access=access,
            media_types=media_types,
        )


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """What stands between a request and one handler."""

    authenticator: IUserAuthenticator | None
    handle: Callable[[Call[Any]], Awaitable[Reply]]
    decoder: "msgspec.json.Decoder[Any] | None"
    success: int
    parameters: tuple[str, ...]
    is_open_here: bool

    async def serve(self, request: Request, parameters: dict[str, str]) -> None:
        """Read the request, in the order in which errors matter: who, where, which, what."""
        token = _token(request)
        caller = None
        if self.authenticator is not None and not (self.is_open_here and is_local(request)):
            if token is None:
                raise Unauthenticated("an Authorization header is needed")
            caller = await self.authenticator.authenticate(token)
        reply = await self.handle(
            Call(
                network(getattr(request.getClientAddress(), "host", "")),
                {name: _decode(value) for name, value in parameters.items()},
                _query(request, self.parameters),
                None if self.decoder is None else _body(request, self.decoder),
                token,
                caller,
            )
        )
        if reply.location is not None:
            request.setHeader(b"Location", reply.location.encode())
        if reply.fresh_for:
            request.setHeader(b"Cache-Control", b"public, max-age=%d" % reply.fresh_for)
        if reply.media_type is not None:
            answer(request, self.success, reply.entity, reply.media_type)
        else:
            entity = b"" if reply.entity is None else msgspec.json.encode(reply.entity)
            answer(request, self.success, entity)


def _token(request: Request) -> str | None:
    """The token in ``Authorization``, raw or after ``Bearer``; None without one.

    :raises Invalid: the header stands there twice.
    :raises Unauthenticated: it holds no text that a token could be.
    """
    values = request.requestHeaders.getRawHeaders(b"authorization", [])
    if len(values) > 1:
        raise Invalid("given more than once", "Authorization")
    if not values or not values[0]:
        return None
    try:
        text: str = values[0].decode("ascii")
    except UnicodeDecodeError as error:
        raise Unauthenticated("the token is not ASCII") from error
    scheme, _, rest = text.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else text


def _decode(value: str) -> str:
    """Percent-decode what stood in a path. :raises NotFound: nothing of ours has such a name."""
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError as error:
        raise NotFound("no such path") from error


def _query(request: Request, names: tuple[str, ...]) -> dict[str, str]:
    """The query parameters of these names. :raises Invalid: one is given twice, or is no UTF-8."""
    found = {}
    for name in names:
        values = request.args.get(name.encode(), [])
        if len(values) > 1:
            raise Invalid("given more than once", name)
        if values:
            try:
                found[name] = values[0].decode()
            except UnicodeDecodeError as error:
                raise Invalid("not valid UTF-8", name) from error
    return found


def _body(request: Request, decoder: "msgspec.json.Decoder[Any]") -> Any:
    """The JSON body.

    :raises WrongType: it is not said to be JSON.
    :raises TooLarge: it is longer than :data:`MAX_JSON`.
    :raises Invalid: it is no JSON, or not what the route wants.
    """
    types = request.requestHeaders.getRawHeaders(b"content-type", [])
    if len(types) != 1 or b"application/json" not in types[0].lower():
        raise WrongType("the body must be application/json")
    assert request.content is not None
    body: bytes = request.content.read(MAX_JSON + 1)
    if len(body) > MAX_JSON:
        raise TooLarge(f"a body has at most {MAX_JSON} bytes", MAX_JSON)
    try:
        return decoder.decode(body)
    except UnicodeDecodeError as error:
        raise Invalid("not valid UTF-8", "body") from error
    except RecursionError as error:
        raise Invalid("nested too deep", "body") from error
    except msgspec.DecodeError as error:
        raise Invalid(str(error), "body") from error
