"""A row of the HTTP route table. Adapters and the API export lists of these; the service joins them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Route"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method on one path.

    Handlers are called as ``serve(request, parameters)``: the twisted.web request, and what stood in the
    path's places, still percent-encoded. They return a Deferred or a coroutine that fires when the request
    has been answered, or None when it has been already. What it fires with is None, or serves the body of a
    later request of this connection that has the same head to the byte: called with those bytes, it returns
    True when that request is served, a Deferred that fires when it is, or False when it did nothing and the
    request is to be served like any other. Such a request is answered with ``success`` and no body.

    :ivar method: ``GET``, ``POST``, ...; GET answers HEAD too.
    :ivar path: ``/things/{id}/key``; a last place ``{subtopic*}`` takes the rest of the path, or none.
    :ivar upgrade: the value of the Upgrade header that this row wants (``websocket``), None for a plain
        request. On a path that several rows share, it and the method decide.
    :ivar summary: one line for the API's description.
    :ivar body: the msgspec type of the request's JSON body, None for no body or any bytes.
    :ivar reply: the msgspec type of the JSON answer, or a tuple of those that it may be, None for none.
    :ivar success: the status of a success.
    :ivar errors: the statuses that it can answer besides the ones that every row can.
    :ivar parameters: query parameters, name to description.
    :ivar access: ``"user"``, ``"thing"`` or ``""``: whose credentials it asks for.
    :ivar media_types: what else than JSON it can answer with.
    :ivar any_body: it reads the request's body as it comes, of any type.
    """

    method: str
    path: str
    serve: Callable[..., Any]
    upgrade: str | None = None
    summary: str = ""
    body: Any = None
    reply: Any = None
    success: int = 200
    errors: tuple[int, ...] = ()
    parameters: dict[str, str] = field(default_factory=dict)
    access: str = ""
    media_types: tuple[str, ...] = ()
    any_body: bool = False
