"""The API over real sockets and real TLS, asked by treq, which checks the server's name."""

import socket
from typing import Any

import treq
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool

from mfserver.api.server import make_site
from mfserver.ca.x509 import encode_certificate
from mfserver.tls.listen import listen
from mfserver.tls.poller import Poller
from mfserver.turn import Turn
from tests.api.house import Answer, House
from tests.tls.pki import Authority, server_context

#: Seconds without an answer after which a client gives up.
PATIENCE = 60


class TLSTests(TestCase):
    """A listener of certificate mode: people without a certificate use the API all the same.

    :ivar is_on_socket: whether TLS is straight on the socket.
    """

    is_on_socket = False

    def setUp(self) -> None:
        authority = Authority()
        context = server_context(self.mktemp(), authority, request=True)
        site = make_site(House().routes, Clock())
        poller = Poller(reactor, Turn(reactor)) if self.is_on_socket else None
        port: Any = listen(reactor, "127.0.0.1", 0, site, context, {b"http/1.1": site}, poller=poller)
        roots = trustRootFromCertificates([Certificate.loadPEM(encode_certificate(authority.certificate))])
        self.url = f"https://localhost:{port.getHost().port}"
        self.pool = HTTPConnectionPool(reactor)
        agent = Agent(reactor, BrowserLikePolicyForHTTPS(roots), pool=self.pool)
        self.client: Any = HTTPClient(agent)

        self.addCleanup(port.stopListening)
        self.addCleanup(self.pool.closeCachedConnections)

    async def ask(self, method: str, path: str, status: int, json: Any = None, token: str = "") -> Any:
        """Ask, and look at the status. :return: the Location, or the answer's JSON, or None."""
        headers = {"Authorization": token} if token else {}
        response = await self.client.request(
            method, self.url + path, json=json, headers=headers, timeout=PATIENCE
        )
        self.assertEqual(response.code, status)
        self.assertTrue(response.headers.hasHeader("Strict-Transport-Security"))
        body = await treq.content(response)
        location = response.headers.getRawHeaders("Location", [""])[0]
        return location or (await treq.json_content(response) if body else None)

    async def test_walk(self) -> None:
        """From nobody to two connected things, on kept-alive connections."""
        account = {"email": "a@example.org", "password": "12345678"}
        await self.ask("POST", "/users", 201, account)
        token = (await self.ask("POST", "/tokens", 201, account))["token"]
        things = [await self.ask("POST", "/things", 201, {"name": name}, token) for name in "ab"]
        channel = (await self.ask("POST", "/channels", 201, {}, token)).removeprefix("/channels/")
        ids = [thing.removeprefix("/things/") for thing in things]
        await self.ask("POST", "/connect", 200, {"channel_ids": [channel], "thing_ids": ids}, token)
        page = await self.ask("GET", f"/channels/{channel}/things", 200, token=token)
        self.assertEqual([thing["id"] for thing in page["things"]], ids)
        key = page["things"][0]["key"]
        self.assertEqual(await self.ask("POST", "/identify", 200, {"token": key}), {"id": ids[0]})
        await self.ask("DELETE", things[0], 204, token=token)
        await self.ask("POST", "/identify", 401, {"token": key})


class SocketTLSTests(TLSTests):
    """TLS straight on the socket."""

    is_on_socket = True


class RefusalTests(TestCase):
    """A plain listener and a client that sends all it has before it listens."""

    async def test_too_large(self) -> None:
        """The refusal of a body of 8 MB arrives whole, and then the connection ends without a reset."""
        # Its clock stands still: the connection ends because all has been read, and not by a deadline.
        port: Any = listen(reactor, "127.0.0.1", 0, make_site(House().routes, Clock()))
        self.addCleanup(port.stopListening)
        answer = Answer(await deferToThread(_send_all, port.getHost().port, 8_000_000))
        self.assertEqual((answer.status, answer.rest), (413, b""))
        self.assertIn("1048576", answer.error)


def _send_all(port: int, length: int) -> bytes:
    """Send a request with a body of this length. :return: what was answered until the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(b"POST /users HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length)
        connection.sendall(b"x" * length)
        return b"".join(iter(lambda: connection.recv(65_536), b""))
