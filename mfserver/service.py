"""Builds the server. The only module that knows everybody: each is handed what little it needs."""

import fcntl
import os
import resource
import signal
import socket
import time
from contextlib import suppress
from functools import partial
from typing import Any, Final

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.task import deferLater
from twisted.logger import Logger

from mfserver import __version__
from mfserver.adapters.http import HTTPAdapter
from mfserver.adapters.mqtt import MQTTFactory
from mfserver.adapters.mqtt_adapter import MQTTAdapter
from mfserver.adapters.mqtt_ws import MQTTOverWS
from mfserver.adapters.upgrade import WebFactory
from mfserver.adapters.ws import WSAdapter
from mfserver.api.metrics import Metrics, Sources
from mfserver.api.server import MAX_BODY, make_site
from mfserver.api.site import routes as api_routes
from mfserver.budget import Budget
from mfserver.build import BUILD
from mfserver.cred.absent import AbsentThings
from mfserver.cred.access import Access
from mfserver.cred.attempts import Attempts
from mfserver.cred.authentication import Authenticator, UserAuthenticator, key_mode, x509_mode
from mfserver.cred.changes import ChangeFeed
from mfserver.cred.expiry import CertificateWatch
from mfserver.cred.identity import Identities
from mfserver.cred.passwords import Passwords
from mfserver.cred.secrets import load_or_make
from mfserver.cred.thing_keys import digest
from mfserver.cred.tokens import TokenOwners, Tokens
from mfserver.data_directory import DataDirectory
from mfserver.errors import ConfigurationError
from mfserver.mqtt.limits import Limits
from mfserver.provisioning.certificates import Certificates
from mfserver.provisioning.channels import Channels
from mfserver.provisioning.connections import Connections
from mfserver.provisioning.keys import Keys
from mfserver.provisioning.revocation_list import RevocationList
from mfserver.provisioning.things import Things
from mfserver.provisioning.users import Users
from mfserver.repeats import Repeats
from mfserver.routing.journal import Journal
from mfserver.routing.retained import Retained
from mfserver.routing.router import Router
from mfserver.routing.sessions import Bounds, Sessions, Shared
from mfserver.settings import DEFAULT_PORTS, PLAIN, Settings
from mfserver.store.store import Store
from mfserver.tls.limit import ConnectionLimit
from mfserver.tls.listen import listen
from mfserver.tls.poller import Poller
from mfserver.trust import Trust
from mfserver.turn import Turn

__all__ = ["MainfluxService"]

#: Bytes that may wait for one subscriber that does not read.
_MAX_QUEUED: Final = 1 << 20
#: Bytes of packets and requests that are not complete, and of answers that are not read, of all clients;
#: those from one address may have a quarter of it.
_MAX_HELD: Final = 256 << 20
#: Subscriptions of one connection.
_MAX_SUBSCRIPTIONS: Final = 10_000
#: Seconds that clients have to close when the server ends.
_FAREWELL: Final = 3.0
#: Descriptors that are no client's: listeners, database, log, libraries.
_OWN_DESCRIPTORS: Final = 64


class _CannotStart(SystemExit, Exception):
    """Ends the process with status 1 and without a traceback.

    As an Exception it is also told to who waits in front of a daemon; twistd lets a bare SystemExit hang him.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(1)
        self._reason = reason

    def __str__(self) -> str:
        return self._reason


class MainfluxService(MultiService):
    """One server, from its data directory to its listeners.

    What needs root is done in :meth:`privilegedStartService`: reading keys and opening ports. A mistake
    of the user's there or in :meth:`startService` is one line in the log and exit status 1.
    """

    _log = Logger()

    def __init__(self, settings: Settings, reactor: Any) -> None:
        super().__init__()
        self._settings = settings
        self._reactor = reactor
        self._directory = DataDirectory(settings.data_dir)
        self._limit = ConnectionLimit(settings.max_connections, settings.max_connections_per_address)
        self._repeats = Repeats(reactor)
        self._turn = Turn(reactor)
        self._is_prepared = False
        held = max(_MAX_HELD, 64 * settings.max_message)
        self._budget = Budget(held, held // 4)
        self._ports: dict[str, IListeningPort] = {}
        self._certificates = Trust(settings, self._directory, reactor)
        self._certificates.setServiceParent(self)

    # --- beginning ----------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Take the data directory, read the keys, build everything and open the ports."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            # Until the reactor runs, Ctrl-C ends us by its signal and not with Python's traceback.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the files are read right now
        try:
            self._prepare()
        except ConfigurationError as error:
            self._give_up(error)
        self._is_prepared = True
        super().privilegedStartService()

    def startService(self) -> None:
        """Open the database. Clients are answered from here on."""
        if not self._is_prepared:  # ``twist``, unlike ``twistd``, has no privileges to drop in between
            self.privilegedStartService()
        try:
            self._store.open()
            kept = self._store.sessions.load()
            self._certificates.revocations.load(self._store.certificates.load_revoked(int(time.time())))
        except ConfigurationError as error:
            self._give_up(error)
        self._sessions.restore(kept)
        if kept.sessions or kept.retained:
            self._log.info(
                "{sessions} MQTT sessions and {retained} retained messages are back",
                sessions=len(kept.sessions),
                retained=len(kept.retained),
            )
        super().startService()
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._certificates.reload))
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # which the reactor puts its own for
        self._reactor.callWhenRunning(self._report)

    def _give_up(self, error: ConfigurationError) -> None:
        reason = str(error)
        if error.option is not None and error.option not in reason:
            reason = f"{error.option}: {reason}"
        self._log.critical("cannot start: {reason}", reason=reason)
        self._directory.close()
        raise _CannotStart(reason)

    def _prepare(self) -> None:
        settings, directory = self._settings, self._directory
        if directory.open():
            self._log.info("made the data directory {path}", path=directory.path)
        self._raise_file_limit()
        self._certificates.load()
        token_secret = load_or_make(directory.file("token.secret"))
        key_secret = self._thing_key_secret()
        url = settings.database or "sqlite:///" + directory.file("mfserver.db")
        self._store = store = Store(url, partial(digest, key_secret), self._reactor)
        self._watch = CertificateWatch(self._reactor, time.time)
        access = Access(
            store.things,
            store.connections,
            key_secret,
            self._watch,
            max_connections=settings.max_connections_per_thing,
        )
        owners = TokenOwners(token_secret, store.users, store.keys, time.time)
        attempts = Attempts(self._reactor)
        if settings.certificates:
            things, people = x509_mode(
                access,
                self._identities(store),
                owners,
                attempts,
                time.time,
                certificate_only=settings.certificate_only,
            )
        else:
            things, people = key_mode(access, owners, attempts)
        absent = AbsentThings(store.connections)
        self._build_sessions(store, absent)
        self._build_adapters(things)
        # First everybody falls silent who may not speak any more, then what is kept for them goes.
        revoked = RevocationList(store.certificates, self._certificates.signing, time.time)
        changes = ChangeFeed((absent, access, self._sessions, revoked))
        self._certificates.tls.on_swap += [revoked.forget, self._watch.reverify]
        self._certificates.revocations.on_change.append(self._watch.reverify)
        self._certificates.watch(store.certificates)
        api = self._build_api(store, changes, attempts, Tokens(token_secret, time.time), people, revoked)
        self._open_ports(api)

    def _identities(self, store: Store) -> Identities:
        """How certificates name their things; what is revoked is forgotten at once."""
        identities = Identities(
            store.certificates,
            lambda: self._certificates.signing.authorities,
            time.time,
            methods=self._settings.identity,
        )
        self._certificates.revocations.on_revoked.append(identities.forget)
        return identities

    def _thing_key_secret(self) -> bytes:
        """The secret that the database finds thing keys by: with another one it would find none."""
        secret, database = self._directory.file("thing-key.secret"), self._directory.file("mfserver.db")
        if self._settings.database is None and os.path.exists(database) and not os.path.exists(secret):
            raise ConfigurationError(
                f"{secret} is missing, and the things in {database} cannot be found without it: "
                "put it back from a copy of the data directory",
                "--data-dir",
            )
        return load_or_make(secret)

    def _build_sessions(self, store: Store, absent: AbsentThings) -> None:
        """The way of a message, and what of it outlives a connection."""
        settings, reactor = self._settings, self._reactor
        journal = Journal(store.sessions, reactor)
        retained = Retained(
            settings.max_retained_messages, settings.max_retained_bytes, journal.retained, time.time_ns
        )
        self._router = Router(_MAX_SUBSCRIPTIONS, journal, retained)
        bounds = Bounds(
            messages=settings.max_queued_messages,
            size=settings.max_queued_bytes,
            memory=max(_MAX_QUEUED, 2 * settings.max_message),
            queue_qos0=settings.queue_qos0,
        )
        shared = Shared(
            journal, store.sessions, bounds, now=time.time_ns, clock=reactor, report=self._repeats.report
        )
        self._sessions = Sessions(self._router, retained, absent, shared, settings.max_sessions_per_thing)

    def _build_adapters(self, authenticator: Authenticator) -> None:
        settings, reactor = self._settings, self._reactor
        limits = Limits(
            max_payload=settings.max_message,
            max_queued_bytes=max(_MAX_QUEUED, 2 * settings.max_message),
            max_keep_alive=settings.max_keep_alive,
        )
        self._mqtt = MQTTAdapter(
            authenticator,
            self._sessions,
            limits=limits,
            longest_expiry=settings.max_session_expiry,
            server_reference=settings.server_reference or "",
            turn=self._turn,
            budget=self._budget,
            is_over_limit=self._limit.is_over,
            report=self._repeats.report,
            clock=reactor,
            now=time.time_ns,
        )
        self._ws = WSAdapter(
            authenticator,
            self._router,
            max_message=settings.max_message,
            max_queued=max(_MAX_QUEUED, 2 * settings.max_message),
            budget=self._budget,
            report=self._repeats.report,
            now=time.time_ns,
            reactor=reactor,
        )
        self._http = HTTPAdapter(
            authenticator, self._router, max_message=settings.max_message, now=time.time_ns
        )
        self._mqtt_over_ws = MQTTOverWS(self._mqtt, reactor=reactor)

    def _build_api(
        self,
        store: Store,
        changes: ChangeFeed,
        attempts: Attempts,
        tokens: Tokens,
        people: UserAuthenticator,
        revoked: RevocationList,
    ) -> WebFactory:
        """Everything on the web ports: the API, HTTP publish, WebSockets and MQTT over WebSocket."""
        registration_token = None
        if self._settings.registration == "closed":
            registration_token = self._directory.registration_token()
            self._log.info(
                "registration is closed: POST /users wants the token in {path} as its Authorization",
                path=self._directory.file("registration.token"),
            )
        passwords = Passwords(self._reactor)
        passwords.setServiceParent(self)
        certificates = Certificates(
            store.certificates,
            store.things,
            self._certificates.signing,
            self._certificates.revocations,
            revoked,
            time.time,
            self._settings.certificate_days,
        )
        things = Things(store.things, changes, attempts, certificates.thing_deleted)
        # A person is made to wait, and never so long that a stranger's failures lock the account.
        logins = Attempts(self._reactor, longest=5.0, patience=5.0, max_waiting=100)
        routes = api_routes(
            people,
            Users(store.users, passwords, tokens, logins, registration_token),
            Keys(store.keys, store.users, tokens, time.time),
            things,
            Channels(store.channels, changes),
            Connections(store.connections, things, changes),
            certificates,
            self._metrics(),
            others=[*self._http.routes(), *self._ws.routes(), *self._mqtt_over_ws.routes()],
        )
        site = make_site(routes, self._reactor, max(MAX_BODY, self._settings.max_message), self._budget)
        return WebFactory(site, self._limit.is_over, self._watch)

    def _metrics(self) -> Metrics:
        """What everybody counts."""
        trust = self._certificates
        return Metrics(
            Sources(
                limit=self._limit,
                tls=trust.tls,
                revoked=trust.revocations,
                ending=trust.ending,
                mqtt=self._mqtt,
                ws=self._ws,
                sessions=self._sessions,
                budget=self._budget,
            )
        )

    def _open_ports(self, web: WebFactory) -> None:
        mqtt = MQTTFactory(self._mqtt)
        poller = Poller(self._reactor, self._turn) if self._settings.tls_transport == "socket" else None
        # Firewalls let 443 pass: who offers "mqtt" and not HTTP is no browser.
        alpn: dict[str, dict[bytes, IProtocolFactory]] = {
            "https": {b"http/1.1": web, b"mqtt": mqtt},
            "mqtts": {b"mqtt": mqtt},
        }
        for name in DEFAULT_PORTS:
            address = self._settings.listeners[name]
            if address is None:
                continue
            try:
                self._ports[name] = listen(
                    self._reactor,
                    address.host,
                    address.port,
                    web if name.startswith("http") else mqtt,
                    None if name in PLAIN else self._certificates.tls,
                    alpn.get(name, {}),
                    limit=self._limit,
                    poller=poller,
                    report=self._repeats.report,
                )
            except CannotListenError as error:
                reason = getattr(error.socketError, "strerror", None) or str(error.socketError)
                raise ConfigurationError(
                    f"{name} cannot listen on {address}: {reason}; choose another with --{name}", f"--{name}"
                ) from error
        if not self._ports:
            raise ConfigurationError("every listener is off; leave one on, for example with --https=8443")

    def _raise_file_limit(self) -> None:
        """Let as many connections in as the system allows this process."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        wanted = self._settings.max_connections + _OWN_DESCRIPTORS
        if hard != resource.RLIM_INFINITY and hard < wanted:
            self._log.warn(
                "this process may open {hard} files, too few for --max-connections={connections}: raise the "
                "limit (ulimit -Hn) or lower the option",
                hard=hard,
                connections=self._settings.max_connections,
            )
        highest = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        # Linux doubles the table of a process's files when it is full, and lets who opens the next one wait
        # until no thread can look into the old table: tens of milliseconds. Now nobody is there to wait.
        with suppress(OSError), open(os.devnull, "rb") as any_file:
            os.close(fcntl.fcntl(any_file, fcntl.F_DUPFD_CLOEXEC, highest - 1))

    # --- running ------------------------------------------------------------------------------------------

    def _report(self) -> None:
        """Say where we listen: in the log, in listening.json and to systemd."""
        listening: dict[str, Any] = {"pid": os.getpid(), "version": __version__, "auth": self._settings.auth}
        for name in DEFAULT_PORTS:
            port = self._ports.get(name)
            listening[name] = None
            if port is not None:
                host: Any = port.getHost()
                listening[name] = [host.host, host.port]
                self._log.info(
                    "{name} listens on {host} port {port}", name=name, host=host.host, port=host.port
                )
        try:
            self._directory.write_listening(listening)
        except OSError as error:
            self._log.warn("listening.json cannot be written: {reason}", reason=error.strerror)
        _tell_systemd("READY=1")
        self._log.info(
            "mfserver {version} ({build}) is ready; things prove themselves with {proof}. Try: {command}",
            version=__version__,
            build=BUILD,
            proof="client certificates" if self._settings.certificates else "their keys",
            command=self._next_command(listening),
        )

    def _next_command(self, listening: dict[str, Any]) -> str:
        if listening["http"] is not None:
            return f"curl http://localhost:{listening['http'][1]}/health"
        if listening["https"] is not None:
            return f"curl{self._trust()} https://localhost:{listening['https'][1]}/health"
        return "mosquitto_sub --help"

    def _trust(self) -> str:
        """How curl trusts our certificate: by the authority that signed it, as far as we know that."""
        settings = self._settings
        signed_here = settings.certificate is None and None in (settings.ca, settings.ca_key)
        trust = self._directory.file("pki", "ca.crt") if signed_here else settings.ca
        return f" --cacert {trust}" if trust else ""

    # --- end ----------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        _tell_systemd("STOPPING=1")
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        for impatience in (signal.SIGINT, signal.SIGTERM):
            signal.signal(impatience, signal.SIG_IGN)  # Twisted would log a traceback for the second one
        for port in self._ports.values():
            await maybeDeferred(port.stopListening)
        self._ws.going_away()
        self._mqtt.going_away()
        until = self._reactor.seconds() + _FAREWELL
        while (self._ws.open or self._mqtt.connections) and self._reactor.seconds() < until:
            await deferLater(self._reactor, 0.02)
        self._watch.stop()
        await self._commit_sessions()
        await super().stopService()
        await self._store.close()
        self._directory.close()
        self._log.info("everything is committed; goodbye")

    async def _commit_sessions(self) -> None:
        """Let what clients were promised reach the disk, unless that is full and stays so."""
        committed = self._sessions.stop()
        if committed is not None:
            committed.addTimeout(_FAREWELL, self._reactor)
            try:
                await committed
            except TimeoutError:
                self._log.error("what was not acknowledged yet could not be stored, and is lost")

    def stopService(self) -> Any:
        """Stop listening, take leave of every client, commit what waits, and let the directory go."""
        stopped = Deferred.fromCoroutine(self._stop())
        # twistd waits for it, but would not say what went wrong.
        return stopped.addErrback(partial(self._log.failure, "the server did not end cleanly"))


def _tell_systemd(state: str) -> None:
    """Tell the service manager how we are, where it asked to be told (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        try:
            notify.sendto(state.encode(), address)
        except OSError as error:
            MainfluxService._log.warn("systemd could not be told {state}: {error}", state=state, error=error)
