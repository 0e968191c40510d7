"""A whole API in memory: the real site over transports of strings, a clock, and a store of dictionaries."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from mfserver.api.metrics import Metrics, Sources
from mfserver.api.server import BoundedChannel, make_site
from mfserver.api.site import routes
from mfserver.budget import Budget
from mfserver.ca.signing import Signing
from mfserver.provisioning.certificates import Certificates
from mfserver.provisioning.channels import Channels
from mfserver.provisioning.connections import Connections
from mfserver.provisioning.keys import Keys
from mfserver.provisioning.revocation_list import RevocationList
from mfserver.provisioning.things import Things
from mfserver.provisioning.users import Users
from mfserver.route import Route
from mfserver.tls.context import ServerContext
from mfserver.tls.limit import ConnectionLimit
from tests.ca.authorities import root
from tests.provisioning.fakes import Attempts, Changes, Inline, Passwords, Revocations, Tokens
from tests.routing.house import House as SessionsHouse
from tests.store.memory import MemoryStore

__all__ = ["House", "Answer", "Wire"]


class Wire(StringTransport):
    """A transport that knows whether it was cut off."""

    aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Asked of whatever is TCP or TLS."""

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


class Peers:
    """What an adapter counts."""

    def __init__(self) -> None:
        self.dropped = 0
        self.connections: list[object] = []
        self.open: list[object] = []


class Answer:
    """One HTTP answer, taken apart."""

    def __init__(self, wire: bytes) -> None:
        head, _, body = wire.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        self.status = int(status.split(b" ")[1])
        self.reason = status.split(b" ", 2)[2].decode()
        self.headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.decode().partition(": ")
            self.headers[name.lower()] = value
        length = int(self.headers.get("content-length", "0"))
        self.entity, self.rest = body[:length], body[length:]

    @property
    def json(self) -> Any:
        """The body as JSON, after a look at its type."""
        assert self.headers["content-type"] == "application/json", self.headers
        return json.loads(self.entity)

    @property
    def error(self) -> str:
        """The text of an error."""
        text = self.json["error"]
        assert isinstance(text, str) and set(self.json) == {"error"}
        return text


class House:
    """A server and its clients.

    :ivar sources: what the figures are read from; ``ending`` is what they say of certificates.
    """

    def __init__(
        self,
        others: Sequence[Route] = (),
        *,
        registration_token: str | None = None,
        limit: int = 1_000_000,
        max_body: int = 1_048_576,
    ) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.store = MemoryStore(now=self.clock.seconds)
        self.passwords = Passwords()
        self.attempts = Attempts(limit)
        self.thing_attempts = Attempts(limit)
        self.changes = Changes()
        self.tokens = Tokens(self.store.users)
        self.workers = Inline()
        self.revocations = Revocations()
        now = self.clock.seconds
        self.signing = Signing(now, self.workers, self.workers)
        self.signing.issuer = root(now=datetime.fromtimestamp(now(), UTC))
        self.revocation_list = RevocationList(self.store.certificates, self.signing, now)
        self.certificates = Certificates(
            self.store.certificates,
            self.store.things,
            self.signing,
            self.revocations,
            self.revocation_list,
            now,
        )
        sessions = SessionsHouse()
        self.sources = Sources(
            limit=ConnectionLimit(10, 10),
            tls=ServerContext("", "", "", request_client_certificates=True),
            revoked=self.revocations.heard,
            ending=lambda: self.ending,
            mqtt=Peers(),
            ws=Peers(),
            sessions=sessions.sessions,
            budget=Budget(1000),
        )
        self.ending: dict[int, int] = {}
        things = Things(self.store.things, self.changes, self.thing_attempts, self.certificates.thing_deleted)
        self.routes = routes(
            self.tokens,
            Users(self.store.users, self.passwords, self.tokens, self.attempts, registration_token),
            Keys(self.store.keys, self.store.users, self.tokens, now),
            things,
            Channels(self.store.channels, self.changes),
            Connections(self.store.connections, things, self.changes),
            self.certificates,
            Metrics(self.sources),
            others,
        )
        self.site = make_site(self.routes, self.clock, max_body, now=now)

    def connect(self, transport: Wire | None = None) -> tuple[BoundedChannel, Wire]:
        """A new connection from 192.0.2.1."""
        channel = self.site.buildProtocol(IPv4Address("TCP", "192.0.2.1", 4242))
        assert isinstance(channel, BoundedChannel)
        transport = transport or Wire(peerAddress=IPv4Address("TCP", "192.0.2.1", 4242))
        channel.makeConnection(transport)
        return channel, transport

    def raw(self, data: bytes) -> Answer:
        """What a new connection answers to some bytes."""
        channel, transport = self.connect()
        channel.dataReceived(data)
        return Answer(transport.value())

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request on a new connection; a body that is no bytes is sent as JSON."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        if token is not None:
            lines.append(f"Authorization: {token}")
        entity = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        if body is not None:
            lines += [f"Content-Length: {len(entity)}"]
            if not headers or "Content-Type" not in headers:
                lines += ["Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + entity)

    def user(self, email: str = "a@example.org", password: str = "12345678") -> str:
        """Register somebody. :return: their login token."""
        credentials = {"email": email, "password": password}
        assert self.ask("POST", "/users", credentials).status == 201
        token = self.ask("POST", "/tokens", credentials).json["token"]
        assert isinstance(token, str)
        return token

    def create(self, token: str, kind: str, **fields: Any) -> str:
        """Create a thing or a channel. :return: its id."""
        location = self.ask("POST", f"/{kind}", fields, token=token).headers["location"]
        assert location.startswith(f"/{kind}/")
        return location.removeprefix(f"/{kind}/")
