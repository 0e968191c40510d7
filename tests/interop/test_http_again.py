"""Publishing over one TLS connection, the same head each time: a right ends with the very next request."""

import http.client
import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.running import PATIENCE, Deployment, RunningServer

#: Enough for the head to be known, however the bytes came.
OFTEN = 5
#: In place of a status: the connection is closed.
ENDED = "ended"


class Publisher:
    """A thing with an open connection.

    :param together: head and body in one segment, else each in one of its own.
    """

    def __init__(
        self, server: RunningServer, channel: str, key: str, shown: tuple[str, str] | None, *, together: bool
    ) -> None:
        trust = ssl.create_default_context(cafile=server.ca)
        if shown is not None:
            trust.load_cert_chain(*shown)
        plain = socket.create_connection(("localhost", server.port("https")), PATIENCE)
        self._socket = trust.wrap_socket(plain, server_hostname="localhost")
        lines = [
            f"POST /http/channels/{channel}/messages HTTP/1.1",
            "Host: localhost",
            f"Authorization: {key}",
        ]
        self._head = "\r\n".join([*lines, "Content-Type: application/senml+json", "Content-Length: "])
        self._together = together

    def publish(self, body: bytes = b"x" * 64) -> int | str:
        """The status, or :data:`ENDED`."""
        head = f"{self._head}{len(body)}\r\n\r\n".encode()
        try:
            for part in [head + body] if self._together else [head, body]:
                self._socket.sendall(part)
            answer = http.client.HTTPResponse(self._socket, method="POST")
            answer.begin()
            answer.read()
        except (OSError, http.client.HTTPException):
            return ENDED
        return answer.status

    def close(self) -> None:
        self._socket.close()


class AgainTests(SynchronousTestCase):
    """A server in each mode; whatever ends a right ends it between two requests of one connection."""

    timeout = 100

    def run_mode(self, auth: str) -> None:
        server = RunningServer(auth=auth)
        server.start()
        self.addCleanup(server.__exit__)
        deployment = Deployment(server)
        ends: dict[str, Callable[[str, str, Any], Any]] = {
            "rotate": lambda thing, key, cert: self.ask(
                deployment, "PATCH", f"/things/{thing}/key", {"key": f"new-{key}"[:64]}
            ),
            "delete": lambda thing, key, cert: self.ask(deployment, "DELETE", f"/things/{thing}"),
            "disconnect": lambda thing, key, cert: self.ask(
                deployment, "DELETE", f"/channels/{deployment.channels['weather']}/things/{thing}"
            ),
        }
        if auth == "x509":
            ends["revoke"] = lambda thing, key, cert: self.ask(
                deployment, "POST", f"/certs/{cert['cert_serial']}/revoke", {"reason": "keyCompromise"}
            )
        for number, (name, end) in enumerate(ends.items()):
            for together in (True, False):
                with self.subTest(auth=auth, end=name, together=together):
                    self.one(deployment, f"thing-{number}-{together}", end, auth, together)

    def ask(self, deployment: Deployment, method: str, path: str, body: Any = None) -> None:
        status, _, content = deployment.server.request(method, path, body, deployment.token)
        self.assertLess(status, 300, content)

    def one(
        self, deployment: Deployment, name: str, end: Callable[..., Any], auth: str, together: bool
    ) -> None:
        server = deployment.server
        thing, key = deployment.thing(name, "weather")
        shown, cert = None, None
        if auth == "x509":
            cert = json.loads(server.request("POST", "/certs", {"thing_id": thing}, deployment.token)[2])
            place = Path(server.data_dir) / name
            place.with_suffix(".crt").write_text(cert["cert"])
            place.with_suffix(".key").write_text(cert["cert_key"])
            shown = str(place.with_suffix(".crt")), str(place.with_suffix(".key"))
        publisher = Publisher(server, deployment.channels["weather"], key, shown, together=together)
        self.addCleanup(publisher.close)
        bodies = [b"x" * length for length in range(OFTEN)]
        self.assertEqual([202] * OFTEN, [publisher.publish(body) for body in bodies])
        end(thing, key, cert)
        refusals = {publisher.publish(), publisher.publish()}
        self.assertLessEqual(refusals, {401, 403, ENDED})

    def test_keys(self) -> None:
        self.run_mode("key")

    def test_certificates(self) -> None:
        self.run_mode("x509")
