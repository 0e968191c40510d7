"""A whole server in this process: ports of 127.0.0.1, a real database, in a directory of the test's own."""

import json
import os
import re
import resource
import signal
import socket
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.application.service import MultiService
from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mfserver import __version__
from mfserver.ca import authority
from mfserver.errors import NotAuthorized
from mfserver.mqtt import properties
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import Connack, Connect, Disconnect, Publish, Suback, Subscribe, Subscription
from mfserver.service import MainfluxService
from mfserver.settings import DEFAULT_PORTS, PLAIN, Address, Settings
from mfserver.tls.revocation import Revocations
from tests.adapters.frames import close_code, handshake
from tests.adapters.mqtt_case import packets

FREE = Address("127.0.0.1", 0)
ACCOUNT = {"email": "john@example.org", "password": "12345678"}
#: Seconds until a test that waits for something gives up.
PATIENCE = 60.0


class Client(Protocol):
    """Keeps what comes.

    :ivar lost: fires when the connection is over.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class ServiceTestCase(TestCase):
    """Starts servers, and leaves nothing of them behind."""

    timeout = 300

    def setUp(self) -> None:
        for name in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            self.addCleanup(signal.signal, name, signal.getsignal(name))
        self.patch(os, "environ", {k: v for k, v in os.environ.items() if k != "NOTIFY_SOCKET"})
        self.path = Path(self.mktemp()).absolute()
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def service(self, **settings: Any) -> MainfluxService:
        """A server that has not begun."""
        off = PLAIN if settings.get("auth") == "x509" else ()
        listeners = {name: None if name in off else FREE for name in DEFAULT_PORTS}
        given = {"data_dir": str(self.path), "listeners": listeners, "max_connections": 100, **settings}
        return MainfluxService(Settings(**given), reactor)

    async def start(self, **settings: Any) -> MainfluxService:
        """A server that runs, and has said so, until the test ends."""
        service = self.service(**settings)
        service.privilegedStartService()
        service.startService()
        self.addCleanup(self.stop, service)
        await deferLater(reactor, 0)  # it is ready when the reactor runs
        return service

    async def _stop(self, service: MainfluxService) -> None:
        if service.running:
            await service.stopService()

    def stop(self, service: MainfluxService) -> "Deferred[None]":
        """End it, once."""
        return Deferred.fromCoroutine(self._stop(service))

    def refused(self, service: MainfluxService) -> str:
        """Start a server that must not start. :return: why, as its log says it."""
        error = self.assertRaises(SystemExit, service.privilegedStartService)
        line = self.cannot_start()
        self.assertEqual((1, line), (error.code, f"cannot start: {error}"))
        return line

    def cannot_start(self) -> str:
        """The one line of a server that does not start."""
        (event,) = [event for event in self.events if event["log_level"].name == "critical"]
        return formatEvent(event)

    def logged(self, text: str) -> list[str]:
        """The log lines that contain a text."""
        return [line for line in map(formatEvent, self.events) if text in line]

    @property
    def listening(self) -> dict[str, Any]:
        """What listening.json says."""
        told: dict[str, Any] = json.loads(self.path.joinpath("listening.json").read_text())
        return told

    async def connect(self, name: str) -> Client:
        """A client of one listener's."""
        host, port = self.listening[name]
        endpoint: Any = TCP4ClientEndpoint(reactor, host, port)
        if name not in PLAIN:
            root = ssl.Certificate.loadPEM(self.path.joinpath("pki", "ca.crt").read_bytes())
            endpoint = wrapClientTLS(ssl.optionsForClientTLS("localhost", root), endpoint)
        client: Client = await connectProtocol(endpoint, Client())
        return client

    async def ask(self, method: str, path: str, body: Any = None, token: str = "", name: str = "http") -> Any:
        """One request. :return: status, head and body."""
        client = await self.connect(name)
        entity = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
        lines += [f"Content-Length: {len(entity)}", "Content-Type: application/json"]
        lines += [f"Authorization: {token}"] if token else []
        client.transport.write("\r\n".join([*lines, "", ""]).encode() + entity)
        await client.lost
        head, _, content = client.received.partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode(), content

    async def provision(self) -> tuple[str, str, str]:
        """A thing's id, its key, and the topic of a channel that it is connected to."""
        await self.ask("POST", "/users", ACCOUNT)
        token = json.loads((await self.ask("POST", "/tokens", ACCOUNT))[2])["token"]
        thing, channel = [
            (await self.ask("POST", f"/{kind}", {}, token))[1].partition(f"/{kind}/")[2].split("\r\n")[0]
            for kind in ("things", "channels")
        ]
        key = json.loads((await self.ask("GET", f"/things/{thing}", token=token))[2])["key"]
        self.assertEqual(200, (await self.ask("PUT", f"/channels/{channel}/things/{thing}", None, token))[0])
        return thing, key, f"channels/{channel}/messages"

    async def until(self, condition: Any) -> None:
        """Wait until something is true."""
        for _ in range(int(PATIENCE / 0.01)):
            if condition():
                return
            await deferLater(reactor, 0.01)
        self.fail("it did not come")


class RunningTests(ServiceTestCase):
    """From the first start to the last word."""

    async def test_begin_and_end(self) -> None:
        """The first start makes everything, says where it listens, and the end gives it all back."""
        service = await self.start()
        told = self.listening
        self.assertEqual((os.getpid(), __version__, "key"), (told["pid"], told["version"], told["auth"]))
        self.assertEqual(set(DEFAULT_PORTS), {name for name in told if isinstance(told[name], list)})
        for name in ("http", "https"):
            status, _, body = await self.ask("GET", "/health", name=name)
            self.assertEqual((200, "pass"), (status, json.loads(body)["status"]))
        for file in self.path.rglob("*"):
            wanted = 0o700 if file.is_dir() else 0o600
            self.assertEqual(0, stat.S_IMODE(file.stat().st_mode) & ~wanted & 0o077 & ~0o044, file)
        for name in DEFAULT_PORTS:
            self.assertEqual(1, len(self.logged(f"{name} listens on 127.0.0.1 port {told[name][1]}")))
        self.assertEqual(1, len(self.logged(f"curl http://localhost:{told['http'][1]}/health")))
        await self.stop(service)
        self.assertFalse(self.path.joinpath("listening.json").exists())
        self.assertEqual(1, len(self.logged("goodbye")))
        await self.assertFailure(
            connectProtocol(TCP4ClientEndpoint(reactor, *told["http"]), Client()), ConnectionRefusedError
        )

    async def test_again(self) -> None:
        """A second server on the directory is refused while the first runs; the next one finds everything."""
        service = await self.start()
        status, _, _ = await self.ask("POST", "/users", ACCOUNT)
        self.assertEqual(201, status)
        self.assertIn("another server runs on the data directory", self.refused(self.service()))
        await self.stop(service)
        made = self.path.joinpath("pki", "ca.crt").read_bytes()
        await self.start()
        self.assertEqual(made, self.path.joinpath("pki", "ca.crt").read_bytes())
        self.assertEqual(201, (await self.ask("POST", "/tokens", ACCOUNT))[0])

    async def test_no_room_for_listening(self) -> None:
        """A server that cannot write listening.json says so in one line, and serves."""
        service = self.service()
        service.privilegedStartService()
        self.path.joinpath("listening.json").mkdir()
        self.addCleanup(self.path.joinpath("listening.json").rmdir)
        self.addCleanup(self.stop, service)
        service.startService()
        await deferLater(reactor, 0)
        self.assertEqual(1, len(self.logged("listening.json cannot be written")))
        self.assertEqual(1, len(self.logged("is ready")))

    async def test_everybody_meets(self) -> None:
        """What is made through the API lets a thing in; HTTP reaches MQTT over TLS; the end is told."""
        service = await self.start()
        thing, key, topic = await self.provision()
        listener = await self.connect("mqtts")
        connect = encode(Connect(5, "a", user_name=thing, password=key.encode()), 5)
        listener.transport.write(connect + encode(Subscribe(1, [Subscription(topic)]), 5))
        await self.until(lambda: len(packets(listener.received)) == 2)
        self.assertEqual([Connack, Suback], [type(one) for one in packets(listener.received)])
        browser = await self.connect("http")
        browser.transport.write(handshake(f"/ws/{topic}", f"Authorization: {key}"))
        await self.until(lambda: b"\r\n\r\n" in browser.received)
        self.assertEqual(202, (await self.ask("POST", f"/http/{topic}", {"n": "t"}, key))[0])
        await self.until(lambda: len(packets(listener.received)) == 3 and b'{"n": "t"}' in browser.received)
        publish = packets(listener.received)[2]
        assert isinstance(publish, Publish)
        self.assertEqual((topic, b'{"n": "t"}'), (publish.topic, publish.payload))
        browser.received = b""
        ending = self.stop(service)
        await self.until(lambda: browser.received)
        self.assertEqual(1001, close_code(browser.received))
        browser.transport.loseConnection()
        await ending
        disconnect = packets(listener.received)[3]
        assert isinstance(disconnect, Disconnect)
        self.assertEqual(0x8B, disconnect.reason_code)
        await listener.lost
        await browser.lost

    async def test_sessions_survive(self) -> None:
        """What waits for a client that is away is there after a new start, and so is what was retained."""
        service = await self.start()
        thing, key, topic = await self.provision()
        connect = Connect(5, "a", False, user_name=thing, password=key.encode())
        connect.properties = {properties.SESSION_EXPIRY_INTERVAL: 60}
        listener = await self.connect("mqtt")
        subscribe = Subscribe(1, [Subscription(f"{topic}/#", 2)])
        listener.transport.write(encode(connect, 5) + encode(subscribe, 5))
        await self.until(lambda: len(packets(listener.received)) == 2)
        listener.transport.write(encode(Disconnect(), 5))
        await listener.lost
        self.assertEqual(202, (await self.ask("POST", f"/http/{topic}", {"n": "t"}, key))[0])
        publisher = await self.connect("mqtt")
        publisher.transport.write(
            encode(Connect(4, "b", user_name=thing, password=key.encode()), 4)
            + encode(Publish(f"{topic}/a", b"kept", 1, packet_id=1, retain=True), 4)
        )
        await self.until(lambda: len(packets(publisher.received, 4)) == 2)
        await self.stop(service)
        await self.start()
        listener = await self.connect("mqtt")
        listener.transport.write(encode(connect, 5) + encode(subscribe, 5))
        await self.until(lambda: len(packets(listener.received)) == 5)
        connack, *rest = packets(listener.received)
        assert isinstance(connack, Connack)
        self.assertTrue(connack.session_present)
        heard = sorted((one.payload, one.qos, one.retain) for one in rest if isinstance(one, Publish))
        self.assertEqual([(b"kept", 1, False), (b"kept", 1, True), (b'{"n": "t"}', 1, False)], heard)

    async def test_long_messages(self) -> None:
        """Where longer messages than a body of the API are allowed, the bounds that they meet grow too."""
        service = await self.start(max_message=8 << 20)
        self.assertEqual(64 * (8 << 20), service._budget.maximum)
        _, key, topic = await self.provision()
        self.assertEqual(202, (await self.ask("POST", f"/http/{topic}", "x" * (2 << 20), key))[0])
        self.assertEqual(413, (await self.ask("POST", f"/http/{topic}", "x" * (8 << 20), key))[0])

    async def test_guesses_of_keys_keep_nobody_from_logging_in(self) -> None:
        """Failed keys of an address are refused for a while (429); the people behind it log in meanwhile."""
        await self.start()
        await self.ask("POST", "/users", ACCOUNT)
        guess = {"token": "nobody-has-this-key"}
        answers = await gatherResults(
            [Deferred.fromCoroutine(self.ask("POST", "/identify", guess)) for _ in range(60)]
        )
        self.assertEqual({401, 429}, {status for status, *_ in answers})
        self.assertEqual(201, (await self.ask("POST", "/tokens", ACCOUNT))[0])

    async def test_x509(self) -> None:
        """With certificates: no plain listeners, people need none, and things without one are refused."""
        await self.start(auth="x509")
        told = self.listening
        self.assertEqual(("x509", None, None), (told["auth"], told["http"], told["mqtt"]))
        self.assertEqual(200, (await self.ask("GET", "/health", name="https"))[0])
        status, _, _ = await self.ask("POST", "/http/channels/c/messages", {}, "a" * 36, "https")
        self.assertEqual(403, status)
        trust = self.path.joinpath("pki", "ca.crt")
        self.assertEqual(
            1, len(self.logged(f"curl --cacert {trust} https://localhost:{told['https'][1]}/health"))
        )

    async def test_closed_registration(self) -> None:
        """Whoever has the token that stands in the data directory may register."""
        await self.start(registration="closed")
        self.assertIn((await self.ask("POST", "/users", ACCOUNT))[0], (401, 403))
        token = self.path.joinpath("registration.token").read_text().strip()
        self.assertEqual(201, (await self.ask("POST", "/users", ACCOUNT, token))[0])

    async def test_mqtt_alone(self) -> None:
        """Without web ports another command is proposed."""
        await self.start(listeners={**dict.fromkeys(DEFAULT_PORTS), "mqtt": FREE})
        self.assertEqual(1, len(self.logged("Try: mosquitto_sub")))

    async def test_file_limit(self) -> None:
        """More connections than the system allows files are warned of."""
        await self.start(max_connections=2**30)
        self.assertEqual(1, len(self.logged("too few for --max-connections=1073741824")))

    async def test_file_limit_is_raised(self) -> None:
        """To all that the system allows."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard // 2, hard))
        await self.start()
        self.assertEqual((hard, hard), resource.getrlimit(resource.RLIMIT_NOFILE))

    async def test_room_for_files(self) -> None:
        """The table of the process's files has its size from the start (proc(5), FDSize)."""
        await self.start(max_connections=3000)
        [size] = re.findall(r"^FDSize:\s+(\d+)$", Path("/proc/self/status").read_text(), re.M)
        self.assertGreaterEqual(int(size), 3000)

    async def test_end_that_fails(self) -> None:
        """What goes wrong at the end is logged, and twistd ends all the same."""
        service = await self.start()
        watch = service._watch

        class Broken:
            def stop(self) -> None:
                raise ZeroDivisionError

        service._watch = Broken()  # type: ignore[assignment]
        await service.stopService()
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        watch.stop()
        await MultiService.stopService(service)
        await service._store.close()
        service._directory.close()


class CertificateTests(ServiceTestCase):
    """New certificate files are taken up while it runs."""

    def generation(self, service: MainfluxService) -> int:
        return service._certificates.tls.generation

    async def test_sighup(self) -> None:
        """On SIGHUP at once."""
        service = await self.start()
        before = self.generation(service)
        os.kill(os.getpid(), signal.SIGHUP)
        await self.until(lambda: self.generation(service) > before)
        self.assertEqual(200, (await self.ask("GET", "/health", name="https"))[0])

    async def test_changed(self) -> None:
        """When a file has changed, and not before."""
        service = await self.start()
        before = self.generation(service)
        service._certificates._poll()
        self.assertEqual(before, self.generation(service))
        certificate = self.path.joinpath("pki", "mainflux-server.crt")
        certificate.write_bytes(certificate.read_bytes() + b"\n")
        service._certificates._poll()
        self.assertGreater(self.generation(service), before)

    async def test_own_files(self) -> None:
        """With files of one's own nothing is made."""
        other = Path(self.mktemp()).absolute()
        other.mkdir()
        authority.ensure(str(other), ())
        pki = other / "pki"
        await self.start(
            certificate=str(pki / "mainflux-server.crt"),
            key=str(pki / "mainflux-server.key"),
            ca=str(pki / "ca.crt"),
        )
        self.assertFalse(self.path.joinpath("pki").exists())

    async def test_own_authority(self) -> None:
        """With an authority of one's own and its key, it signs; without its key, only clients are trusted."""
        other = Path(self.mktemp()).absolute()
        other.mkdir()
        authority.ensure(str(other), ())
        theirs, ours = other / "pki" / "ca.crt", self.path / "pki" / "ca.crt"
        service = await self.start(auth="x509", ca=str(theirs), ca_key=str(other / "pki" / "ca.key"))
        self.assertFalse(ours.exists())
        self.assertEqual(1, len(self.logged(f"curl --cacert {theirs} https://")))
        await self.stop(service)
        self.path.joinpath("pki", "mainflux-server.crt").unlink()
        await self.start(auth="x509", ca=str(theirs))
        self.assertEqual(1, len(self.logged(f"curl --cacert {ours} https://")))


class AuthorityTests(ServiceTestCase):
    """The authority of a running server."""

    async def issuing(self) -> tuple[str, Any]:
        """Ask for a certificate. :return: a token, and the answer."""
        await self.ask("POST", "/users", ACCOUNT)
        token = json.loads((await self.ask("POST", "/tokens", ACCOUNT))[2])["token"]
        head = (await self.ask("POST", "/things", {}, token))[1]
        thing = head.partition("/things/")[2].split("\r\n")[0]
        status, _, body = await self.ask("POST", "/certs", {"thing_id": thing}, token)
        return token, (status, json.loads(body))

    async def test_issued_and_revoked(self) -> None:
        """What was revoked is known at the next start, before anybody is let in."""
        service = await self.start(certificate_days=10)
        token, (status, shown) = await self.issuing()
        self.assertEqual(201, status)
        left = datetime.fromisoformat(shown["expiration"]) - datetime.now(UTC)
        self.assertLess(abs(left - timedelta(days=10)), timedelta(minutes=5))
        await self.ask("DELETE", f"/certs/{shown['cert_serial']}", token=token)
        self.assertEqual(1, len(service._certificates.revocations))
        await self.stop(service)
        service = await self.start()
        self.assertEqual(1, len(service._certificates.revocations))
        status, _, _ = await self.ask("GET", "/certs/crl")
        self.assertEqual(200, status)

    async def test_live_ones_are_asked_again(self) -> None:
        """Behind a revocation every live certificate is looked at, and what it let in ends."""
        service = await self.start()
        token, (_, shown) = await self.issuing()
        ended: list[str] = []

        class Login:
            def __init__(self) -> None:
                self.peer: Any = self
                self.not_valid_after = time.time() + 1_000

            def verify(self, now: float) -> None:
                raise NotAuthorized("the certificate is revoked")

            def end(self, reason: str) -> None:
                ended.append(reason)

        login = Login()
        service._watch.add(login, login.peer)
        await self.ask("DELETE", f"/certs/{shown['cert_serial']}", token=token)
        await self.until(lambda: ended == ["the certificate is revoked"])

    async def test_deleted_thing(self) -> None:
        """Its certificates stand on the next list that anybody fetches."""
        await self.start()
        token, (_, shown) = await self.issuing()
        before = x509.load_der_x509_crl((await self.ask("GET", "/certs/crl"))[2])
        await self.ask("DELETE", f"/things/{shown['thing_id']}", token=token)
        (entry,) = x509.load_der_x509_crl((await self.ask("GET", "/certs/crl"))[2])
        self.assertEqual((0, shown["cert_serial"]), (len(before), f"{entry.serial_number:x}"))

    async def test_no_key(self) -> None:
        """Without its key the rest goes on, and both the log and the API say what to do."""
        await self.stop(await self.start())
        self.path.joinpath("pki", "ca.key").unlink()
        await self.start()
        self.assertEqual(1, len(self.logged("certificates of things cannot be issued")))
        _, (status, shown) = await self.issuing()
        self.assertEqual(503, status)
        self.assertIn("--ca-key", shown["error"])

    async def test_nobody_trusts_it(self) -> None:
        """An authority that --ca does not hold issues nothing that would be refused afterwards."""
        other = Path(self.mktemp()).absolute()
        other.mkdir()
        authority.ensure(str(other), ())
        await self.stop(await self.start())
        service = await self.start(auth="x509", ca=str(other / "pki" / "ca.crt"))
        self.assertIsNone(service._certificates.signing.issuer)
        self.assertEqual(1, len(self.logged("is not among the authorities of --ca")))

    async def test_replaced(self) -> None:
        """Another authority takes over on SIGHUP; a bad file changes nothing."""
        service = await self.start()
        before = service._certificates.signing.issuer
        key = self.path.joinpath("pki", "ca.key")
        good = key.read_bytes()
        key.write_bytes(b"x")
        service._certificates.reload()
        self.assertIs(before, service._certificates.signing.issuer)
        self.assertEqual(1, len(self.logged("the authority stays as it was")))
        key.write_bytes(good)
        os.kill(os.getpid(), signal.SIGHUP)
        await self.until(lambda: service._certificates.signing.issuer is not before)

    async def test_renewed_at_the_start(self) -> None:
        """A server certificate of ours that ends within thirty days is another one when the ports open."""
        self.path.mkdir()
        authority.ensure(str(self.path), (), datetime.now(UTC) - timedelta(days=800))
        await self.start()
        self.assertEqual(1, len(self.logged("renewed the server certificate")))

    async def test_not_renewable(self) -> None:
        """Where it cannot be renewed the log says why, once, and what ends soon."""
        self.path.mkdir()
        authority.ensure(str(self.path), (), datetime.now(UTC) - timedelta(days=800))
        self.path.joinpath("pki", "ca.key").unlink()
        service = await self.start()
        await self.until(lambda: bool(self.logged("ends within 30 days")))
        await service._certificates._renew_and_tell()
        self.assertEqual(1, len(self.logged("is not renewed")))
        self.assertEqual(1, len(self.logged("ends within 30 days")))

    async def test_list_of_others(self) -> None:
        """What a list of --crl holds is refused, and a new one is taken up."""
        first = await self.start()
        token, (_, shown) = await self.issuing()
        path = self.path / "others.crl"
        path.write_bytes((await self.ask("GET", "/certs/crl"))[2])
        await self.stop(first)
        service = await self.start(auth="x509", crl=(str(path),))
        leaf = x509.load_pem_x509_certificate(shown["cert"].encode())
        revocations = service._certificates.revocations
        revocations.check(b"", leaf.serial_number, lambda: leaf, time.time())
        await self.ask("DELETE", f"/certs/{shown['cert_serial']}", token=token, name="https")
        fresh = Revocations(service._certificates._lists)
        fresh.check(b"", leaf.serial_number, lambda: leaf, time.time())  # the list does not say so yet
        path.write_bytes((await self.ask("GET", "/certs/crl", name="https"))[2])
        service._certificates._poll()
        self.assertRaises(NotAuthorized, fresh.check, b"", leaf.serial_number, lambda: leaf, time.time())

    def test_bad_list(self) -> None:
        """A revocation list that cannot be read is a mistake of the user's."""
        line = self.refused(self.service(auth="x509", crl=(str(self.path / "absent.crl"),)))
        self.assertIn("--crl", line)
        self.assertIn("absent.crl", line)


class SystemdTests(ServiceTestCase):
    """Where systemd asked to be told, it is."""

    def told(self, address: str | bytes) -> list[bytes]:
        """A socket that is told, and what it was told, when the server has ended."""
        heard: list[bytes] = []
        notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(notified.close)
        notified.bind(address)
        notified.settimeout(PATIENCE)
        self._hear = lambda: heard.append(notified.recv(100))
        return heard

    async def test_path_and_abstract(self) -> None:
        """A path, or a name with @."""
        name = f"mfserver-test-{os.getpid()}"
        path = os.path.join("/tmp", name)
        self.addCleanup(os.unlink, path)
        for variable, address in ((path, path), (f"@{name}", f"\0{name}")):
            heard = self.told(address)
            os.environ["NOTIFY_SOCKET"] = variable
            service = await self.start()
            self._hear()
            await self.stop(service)
            self._hear()
            self.assertEqual([b"READY=1", b"STOPPING=1"], heard)

    async def test_nobody_hears(self) -> None:
        """A socket that is not there is a warning, and no reason to end."""
        os.environ["NOTIFY_SOCKET"] = str(self.path / "nothing")
        await self.start()
        self.assertEqual(1, len(self.logged("systemd could not be told READY=1")))


class RefusalTests(ServiceTestCase):
    """A mistake of the user's is one line, exit status 1, and leaves the directory to the next."""

    def tearDown(self) -> None:
        self.assertFalse(self.path.joinpath("listening.json").exists())

    def test_taken_port(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            service = self.service(
                listeners={**dict.fromkeys(DEFAULT_PORTS), "http": Address("127.0.0.1", port)}
            )
            line = self.refused(service)
        self.assertIn(f"http cannot listen on 127.0.0.1:{port}", line)
        self.assertIn("--http", line)
        service._directory.open()
        service._directory.close()

    def test_all_off(self) -> None:
        service = self.service(listeners=dict.fromkeys(DEFAULT_PORTS))
        self.assertIn("every listener is off", self.refused(service))

    def test_half_a_pair(self) -> None:
        for settings in ({"certificate": "a.crt"}, {"key": "a.key"}):
            self.assertIn("--cert and --key belong together", self.refused(self.service(**settings)))
            self.events.clear()

    def test_no_certificate(self) -> None:
        line = self.refused(self.service(certificate="/nonexistent.crt", key="/nonexistent.key"))
        self.assertIn("/nonexistent", line)

    def test_directory(self) -> None:
        self.path.write_text("a file")
        self.assertIn(f"the data directory {self.path} cannot be used", self.refused(self.service()))
        self.path.unlink()

    async def test_secret_is_missing(self) -> None:
        """A database without the secret of its keys is not served with another one."""
        await self.stop(await self.start())
        self.path.joinpath("thing-key.secret").unlink()
        self.assertIn("thing-key.secret is missing", self.refused(self.service()))
        self.assertFalse(self.path.joinpath("thing-key.secret").exists())

    async def test_database(self) -> None:
        """The database is opened last, when the ports are there already."""
        service = self.service(
            database="sqlite:////nonexistent/x.db", listeners={**dict.fromkeys(DEFAULT_PORTS), "mqtt": FREE}
        )
        service.privilegedStartService()
        self.assertRaises(SystemExit, service.startService)
        self.assertIn("/nonexistent/x.db", self.cannot_start())
        for port in service._ports.values():
            await maybeDeferred(port.stopListening)
