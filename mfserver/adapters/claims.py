"""Who an HTTP request says it is: every place in which a key can stand, read before anything else sees it.

IDENTITY: every claim in one request counts, and a header or parameter that is repeated is refused.
"""

import base64
import binascii
from typing import Final
from urllib.parse import unquote_to_bytes

from twisted.web.http import Request

from mfserver.address import network
from mfserver.errors import Invalid, NotAuthorized, Unauthenticated
from mfserver.records import Claims

__all__ = ["request_claims", "request_content_type", "query_parameter", "single_header", "is_cross_site"]

#: Query parameters in which a thing key may stand.
_KEY_PARAMETERS: Final = ("authorization", "auth")
_MAX_CONTENT_TYPE: Final = 255


def request_claims(request: Request, *, needs_key: bool = False) -> Claims:
    """Collect the claims of one request for messaging.

    A request that a browser makes for another site cannot stand on a certificate alone, because browsers
    send that by themselves.

    :param needs_key: the protocol asks for a key besides a certificate.
    :raises Invalid: a header or parameter stands there twice.
    :raises NotAuthorized: Basic credentials on a request from a page of another site.
    :raises Unauthenticated: the Authorization header has a scheme that we do not know.
    """
    keys: list[str] = []
    thing_id = None
    header = single_header(request, "authorization")
    if header is not None:
        thing_id, key = _header_claims(header)
        if thing_id is not None and is_cross_site(request):
            raise NotAuthorized("Basic credentials are not taken from a page in a browser")
        keys.append(key)
    for name in _KEY_PARAMETERS:
        value = query_parameter(request, name)
        if value is not None:
            keys.append(value)
    return Claims(
        address=network(request.getClientAddress().host),
        keys=tuple(keys),
        thing_id=thing_id or None,
        needs_key=needs_key or is_cross_site(request),
    )


def request_content_type(request: Request) -> str:
    """The media type that a request names for what it publishes, in a header or a query parameter.

    It goes into MQTT 5's string of that name, so it holds no control characters.

    :return: ``""`` where none is named.
    :raises Invalid: it is no media type, or the two differ.
    """
    header = single_header(request, "content-type")
    parameter = query_parameter(request, "content-type")
    if header and parameter and header != parameter:
        raise Invalid("the content type is given twice", "content-type")
    value = header or parameter or ""
    if len(value) > _MAX_CONTENT_TYPE or not value.isprintable():
        raise Invalid(f"a content type has at most {_MAX_CONTENT_TYPE} printable characters", "content-type")
    return value


def is_cross_site(request: Request) -> bool:
    """Whether a browser made this request for a page, perhaps for somebody else's."""
    headers = request.requestHeaders
    if headers.hasHeader("origin"):
        return True
    sites = headers.getRawHeaders("sec-fetch-site", [])
    return any(site.strip().lower() not in ("same-origin", "none") for site in sites)


def single_header(request: Request, name: str) -> str | None:
    """The value of a header that may stand there once.

    :raises Invalid: it stands there twice, or is not UTF-8.
    """
    values = request.requestHeaders.getRawHeaders(name.encode())
    if not values:
        return None
    if len(values) > 1:
        raise Invalid(f"the header {name} is repeated", name)
    try:
        return values[0].strip().decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(f"the header {name} is not valid UTF-8", name) from error


def query_parameter(request: Request, name: str) -> str | None:
    """The value of a query parameter that may stand there once; its name counts in any case.

    Read from the request's URI and not from ``request.args``, where a form in the body would join it.

    :raises Invalid: it stands there twice, or is not UTF-8.
    """
    _, _, query = request.uri.partition(b"?")
    if not query:
        return None
    values = []
    for piece in query.split(b"&"):
        key, _, value = piece.partition(b"=")
        if _unquote(key).lower() == name.encode():
            values.append(_unquote(value))
    if not values:
        return None
    if len(values) > 1:
        raise Invalid(f"the parameter {name} is repeated", name)
    try:
        return values[0].decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(f"the parameter {name} is not valid UTF-8", name) from error


def _unquote(piece: bytes) -> bytes:
    return unquote_to_bytes(piece.replace(b"+", b" "))


def _header_claims(header: str) -> tuple[str | None, str]:
    """The thing id (of Basic, "" where it names none; else None) and the key of an Authorization header."""
    scheme, space, rest = header.partition(" ")
    if not space:
        return None, header
    scheme, rest = scheme.lower(), rest.strip()
    if scheme in ("thing", "bearer"):
        return None, rest
    if scheme == "basic":
        try:
            user, colon, password = base64.b64decode(rest, validate=True).decode("utf-8").partition(":")
        except (binascii.Error, ValueError) as error:
            raise Unauthenticated("the Basic credentials cannot be read") from error
        if not colon:
            raise Unauthenticated("the Basic credentials hold no password")
        return user, password
    raise Unauthenticated("the Authorization header wants a thing key, or Thing, Bearer or Basic and one")
