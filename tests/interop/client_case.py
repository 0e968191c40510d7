"""What the tests with real clients share: a running server, and a thing on a channel for each test."""

import atexit
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.trial.unittest import SynchronousTestCase

from mfserver.ca import x509 as ca
from tests.interop.clients import Door, Payloads
from tests.interop.running import Deployment, RunningServer, needs
from tests.tls.pki import DAY

__all__ = ["ClientCase", "BINARY", "MIB", "PACKET_TOO_LARGE", "TEXT", "VERSIONS"]

MIB = 1 << 20
VERSIONS = ("mqttv31", "mqttv311", "mqttv5")
#: Ours, the same bytes for everybody, and as different as bytes can be.
BINARY = bytes(range(256))
TEXT = "grüße, 世界 ☃ \U0001f600".encode()
PACKET_TOO_LARGE = 0x95

T = TypeVar("T")

_deployments: dict[str, Deployment] = {}


def deployment_of(auth: str) -> Deployment:
    """A server for all tests of this process: starting one takes longer than most of them."""
    if auth not in _deployments:
        server = RunningServer(auth=auth)
        server.start()
        atexit.register(server.__exit__)
        _deployments[auth] = Deployment(server)
    return _deployments[auth]


def client_certificate(server: RunningServer, key: str) -> tuple[str, str]:
    """A certificate with a thing's key as its common name, of the server's own authority."""
    pki = server.data_dir / "pki"
    authority = x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes())
    signing = load_pem_private_key((pki / "ca.key").read_bytes(), None)
    own = ca.new_key()
    leaf = ca.issue_client(own.public_key(), ca.name(key), authority, signing, datetime.now(UTC), DAY)  # type: ignore[arg-type]
    place = Path(tempfile.mkdtemp(prefix="thing-", dir=server.data_dir))
    (place / "thing.crt").write_bytes(ca.encode_certificate(leaf))
    (place / "thing.key").write_bytes(ca.encode_key(own))
    return str(place / "thing.crt"), str(place / "thing.key")


class ClientCase(SynchronousTestCase):
    """Doors into a server, and whatever has to be closed at the end. ``timeout`` is in seconds."""

    timeout = 100

    def setUp(self) -> None:
        needs("curl", "mosquitto_pub", "mosquitto_sub", "node", "stdbuf")
        self._stack = ExitStack()
        self.addCleanup(self._stack.close)
        self.payloads = Payloads()
        self.addCleanup(self.payloads.close)

    def open(self, thing: T) -> T:
        """Enter something that the test's end leaves."""
        entered: T = self._stack.enter_context(thing)  # type: ignore[arg-type]
        return entered

    def door(self, auth: str = "key", *, tls: bool = False, own_server: bool = False) -> Door:
        """A new thing's way in, on a channel of its own. Unless it is ended, one server serves all tests."""
        deployment = Deployment(self.open(RunningServer(auth=auth))) if own_server else deployment_of(auth)
        server, channel = deployment.server, deployment.channel("weather")
        thing, key = deployment.thing("sender", "weather")
        certificate = client_certificate(server, key) if auth == "x509" else None
        return Door(server, thing, key, channel, tls or auth == "x509", certificate)
