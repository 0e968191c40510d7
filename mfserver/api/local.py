"""Whether a request comes from a program on this machine, and from nobody behind that."""

import re
from typing import Final

from twisted.web.http import Request

from mfserver.address import is_loopback

__all__ = ["is_local"]

#: A proxy says with one of these that it asks for somebody else. What else they say is never believed.
_OF_PROXIES: Final = re.compile(rb"(?i)forwarded|via|x-forwarded.*|x-real-ip|.*client-ip|.*connecting-ip")
_LOCAL_HOST: Final = re.compile(rb"(?i)(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]*)?")


def is_local(request: Request) -> bool:
    """Whether to trust a request as one who is logged in on the server's machine.

    The address alone does not tell: a proxy on the same machine asks for strangers, and a browser there for
    any page that it shows. So the request must also be addressed to this machine under its name for itself,
    which a page that had a name of its own resolved to us is not, and nothing may speak of a proxy or a page.
    HTTP/1.0 is what some proxies ask with, and no client any more.
    """
    headers = request.requestHeaders
    hosts = headers.getRawHeaders(b"host", [])
    return (
        is_loopback(getattr(request.getClientAddress(), "host", ""))
        and request.clientproto == b"HTTP/1.1"
        and request.uri.startswith(b"/")
        and len(hosts) == 1
        and _LOCAL_HOST.fullmatch(hosts[0]) is not None
        and not any(_OF_PROXIES.fullmatch(name) for name, _ in headers.getAllRawHeaders())
        and not headers.hasHeader(b"origin")
        and set(headers.getRawHeaders(b"sec-fetch-site", [])) <= {b"same-origin", b"none"}
    )
