"""The server that a command speaks to, over HTTP. One command makes one request."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import click
import treq
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.internet.task import react
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, ResponseFailed, ResponseNeverReceived

from mfserver.cli.files import read

__all__ = ["Reply", "Server", "is_private", "line"]

#: Seconds that a request may take; keys of RSA are made in it.
_TIMEOUT: Final = 60.0
#: Bytes of an answer: a revocation list of half a million certificates.
_MAX_ANSWER: Final = 32 << 20
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered."""

    status: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Server:
    """Where it is, who asks, and whom to trust.

    :ivar ca_file: None for the authorities of the system.
    :ivar send: makes one request and waits for its answer; another one is handed in by tests.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    send: Callable[["Server", str, str, bytes | None], Reply] | None = None

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """One request that must succeed.

        :param body: sent as JSON; what is None is left out.
        :raises ClickException: it did not: one line that says why.
        """
        entity = None
        if body is not None:
            entity = json.dumps({name: value for name, value in body.items() if value is not None}).encode()
        reply = (self.send or _send)(self, method, path, entity)
        if 200 <= reply.status < 300:
            return reply.body
        raise click.ClickException(f"{self.url} says {reply.status}: {_reason(reply)}{_advice(reply.status)}")

    def ask_json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Likewise, answered with a JSON object."""
        try:
            answer = json.loads(self.ask(method, path, body))
        except ValueError as error:
            raise click.ClickException(f"{self.url} answers with no JSON: is it an mfserver?") from error
        if not isinstance(answer, dict):
            raise click.ClickException(f"{self.url} answers with no JSON object: is it an mfserver?")
        return answer


def line(text: object) -> str:
    """A server's words on one line, without what a terminal would obey."""
    return "".join(each if each.isprintable() else " " for each in str(text))[:1000]


def _reason(reply: Reply) -> str:
    try:
        return line(json.loads(reply.body)["error"])
    except (ValueError, KeyError, TypeError):
        return "no reason given"


def _advice(status: int) -> str:
    if status == 401:
        return " (give a login token or an API key in MF_TOKEN)"
    return ""


def _send(server: Server, method: str, path: str, body: bytes | None) -> Reply:
    outcome: list[Reply | Failure] = []

    def main(reactor: Any) -> Deferred[None]:
        sent = Deferred.fromCoroutine(_request(reactor, server, method, path, body))
        sent.addTimeout(_TIMEOUT, reactor)
        return sent.addCallbacks(outcome.append, outcome.append)

    try:
        react(main, ())
    except SystemExit:
        if not outcome:
            raise
    (result,) = outcome
    if isinstance(result, Reply):
        return result
    raise click.ClickException(_why(server, result)) from result.value


async def _request(reactor: Any, server: Server, method: str, path: str, body: bytes | None) -> Reply:
    headers: dict[bytes | str, bytes | str] = {"Content-Type": "application/json"} if body is not None else {}
    if server.token is not None:
        headers["Authorization"] = server.token
    client = HTTPClient(Agent(reactor, _policy(server.ca_file), connectTimeout=10))
    response = await client.request(
        method,
        server.url + path,
        headers=headers,
        data=body,
        allow_redirects=False,  # a token is for one server
        reactor=reactor,
    )
    received = bytearray()

    def collect(data: bytes) -> None:
        received.extend(data)
        if len(received) > _MAX_ANSWER:
            raise click.ClickException(f"{server.url} answers with more than {_MAX_ANSWER >> 20} MiB")

    await treq.collect(response, collect)
    return Reply(response.code, bytes(received))


def _policy(ca_file: str | None) -> BrowserLikePolicyForHTTPS:
    if ca_file is None:
        return BrowserLikePolicyForHTTPS()
    pieces = read(ca_file).split(_CERTIFICATE)[1:]
    try:
        roots = [
            Certificate.loadPEM(_CERTIFICATE + piece.partition(_END)[0] + _END + b"\n") for piece in pieces
        ]
    except Exception as error:  # pyOpenSSL's
        raise click.ClickException(f"{ca_file} holds no certificate in PEM") from error
    if not roots:
        raise click.ClickException(f"{ca_file} holds no certificate in PEM")
    return BrowserLikePolicyForHTTPS(trustRootFromCertificates(roots))


def _why(server: Server, failure: Failure) -> str:
    """One line for what kept a request from being answered."""
    error = failure.value
    if isinstance(error, click.ClickException):
        return error.message
    if isinstance(error, ResponseNeverReceived | ResponseFailed):
        reasons = "; ".join(line(each.value) for each in error.reasons)
        trust = (
            f" as --ca-file={server.ca_file} says"
            if server.ca_file
            else "; give its authority with --ca-file"
        )
        hint = f" (it is not to be trusted{trust})" if "certificate verify" in reasons else ""
        return f"{server.url} does not answer: {reasons}{hint}"
    if isinstance(error, ConnectError | DNSLookupError):
        return f"{server.url} cannot be reached: {line(error)}"
    if isinstance(error, TimeoutError):
        return f"{server.url} does not answer within {_TIMEOUT:.0f} seconds"
    return f"{server.url} cannot be asked: {line(error) or type(error).__name__}"


def is_private(url: str) -> bool:
    """Whether nobody on the way can read what is sent there."""
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return True
    try:
        return ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
