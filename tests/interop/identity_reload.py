"""The rows about new certificate files: who is trusted no more must go, everybody else stays."""

import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from ssl import SSLSession

from mfserver.ca.x509 import encode_certificate, encode_key, issue_server, name, new_key
from tests.interop.identity_certificate_rows import handshake_row
from tests.interop.identity_certificates import Authority
from tests.interop.identity_clients import HandshakeFailed, Stream
from tests.interop.identity_lives import ENDED, Life, session_of
from tests.interop.identity_rows import credentials, saying_row
from tests.interop.identity_world import (
    ACCEPTED,
    HANDSHAKE,
    SECURE,
    Row,
    Saying,
    Spoken,
    Thing,
    Ticket,
    World,
)
from tests.interop.running import wait_until

__all__ = ["reloading_world"]


@contextlib.contextmanager
def reloading_world() -> "Iterator[tuple[World, Iterator[Row]]]":
    """A server that trusts two authorities, and what happens when its files change, in this order."""
    directory = Path(tempfile.mkdtemp(prefix="mf-identity-"))
    trusted = str(directory / "data" / "pki" / "ca.crt")
    first = Authority.new(name("first"), directory, trusted)
    second = Authority.new(name("second"), directory, trusted)
    roots = directory / "roots.pem"
    roots.write_bytes(encode_certificate(first.certificate) + encode_certificate(second.certificate))
    try:
        world = World(f"--ca={roots}", auth="x509", authority=first)
    except BaseException:
        shutil.rmtree(directory)
        raise
    try:
        yield world, _Reloads(world, second, roots).rows()
    finally:
        world.close()


class _Reloads:
    """One server's story.

    :ivar first: whose things stay.
    :ivar second: whose things have to go.
    """

    def __init__(self, world: World, second: Authority, roots: Path) -> None:
        self.world = world
        self.first = world.authority
        self.second = second
        self.roots = roots
        self.goes: Thing = world.own._replace(identity=second.client(world.own.key))
        self.stays: Thing = world.victim
        self.lives: dict[Spoken, tuple[Life, Life]] = {}
        self.pki = world.directory / "data" / "pki"
        self.since = 0.0

    def rows(self) -> Iterator[Row]:
        yield from self._everybody("both roots are trusted")
        for spoken in SECURE:
            yield Row("connect two that stay open", spoken.name, ACCEPTED, self._opens(spoken))
        for what, file, content in self._broken():
            yield Row(what, "SIGHUP", "refused with a line in the log", self._refuses(file, content))
            for spoken in SECURE:
                for index, who in enumerate(("the first's", "the second's")):
                    row = f"{what}: {who} live connection"
                    yield Row(row, spoken.name, ACCEPTED, self._speaks(spoken, index))
            yield from self._everybody(what)
        sessions = {spoken: session_of(self.world, spoken, self._said(spoken)) for spoken in SECURE}
        yield Row("the second root is removed", "SIGHUP", ACCEPTED, self._removes())
        for spoken in reversed(SECURE):  # HTTP last: it has to wait
            yield Row("its root was removed: live connection", spoken.name, ENDED, self._ends(spoken))
        for spoken in SECURE:
            row = "its root stayed: live connection"
            yield Row(row, spoken.name, ACCEPTED, self._speaks(spoken, 0))
            yield saying_row(self.world, "its root stayed", spoken, ACCEPTED, credentials(self.stays, spoken))
            for tls in "1.2", "1.3":
                said = self._said(spoken, tls)
                yield handshake_row(self.world, f"its root was removed, TLS {tls}", spoken, said)
            yield Row(
                "its root was removed: resumed session",
                spoken.name,
                HANDSHAKE,
                self._resumes(spoken, sessions[spoken]),
            )
        yield Row("the second root comes back, without a signal", "files", ACCEPTED, self._comes_back)
        yield from self._everybody("both roots again")

    def _said(self, spoken: Spoken, tls: str = "1.3") -> Saying:
        return credentials(self.goes, spoken, tls=tls)

    def _everybody(self, what: str) -> Iterator[Row]:
        for spoken in SECURE:
            for who, thing in ("first", self.stays), ("second", self.goes):
                row = f"{what}: the {who} root's thing"
                yield saying_row(self.world, row, spoken, ACCEPTED, credentials(thing, spoken))

    def _opens(self, spoken: Spoken) -> Callable[[Ticket], str]:
        def attempt(ticket: Ticket) -> str:
            both = [Life(self.world, spoken, credentials(t, spoken), ticket) for t in (self.stays, self.goes)]
            self.lives[spoken] = both[0], both[1]
            return ACCEPTED

        return attempt

    def _speaks(self, spoken: Spoken, index: int) -> Callable[[Ticket], str]:
        return lambda ticket: self.lives[spoken][index].speaks(ticket.may)

    def _ends(self, spoken: Spoken) -> Callable[[Ticket], str]:
        def attempt(ticket: Ticket) -> str:
            life = self.lives[spoken][1]
            if spoken.kind != "http":
                return life.ends(self.since)
            time.sleep(max(0.0, self.since + 1.0 - time.monotonic()))
            return life.speaks(ticket.must_not)

        return attempt

    def _resumes(self, spoken: Spoken, session: SSLSession) -> Callable[[Ticket], str]:
        """A new context resumes nothing: the handshake is a whole one, and fails."""

        def attempt(_: Ticket) -> str:
            world = self.world
            tls = self.goes.identity.tls(alpn=spoken.alpn)
            stream = Stream(world.server.port(spoken.listener), world.source(), tls, session)
            if stream.tls.session_reused:
                return "resumed"
            try:
                stream.receive(1)
            except HandshakeFailed:
                return HANDSHAKE
            return "the server spoke"

        return attempt

    # --- files ---

    def _broken(self) -> Iterator[tuple[str, Path, bytes]]:
        """Files that are no good."""
        roots = self.roots.read_bytes()
        yield "half a file of roots", self.roots, roots[: len(roots) * 3 // 4]
        yield "an empty file of roots", self.roots, b""
        assert self.goes.identity.leaf is not None
        yield "a leaf for a root", self.roots, encode_certificate(self.goes.identity.leaf)
        certificate = self.pki / "mainflux-server.crt"
        yield "half a server certificate", certificate, certificate.read_bytes()[:300]
        own, key = Authority.load(self.pki, self.world.directory), new_key()
        now = datetime.now(UTC)
        of_other_key = issue_server(
            key.public_key(), name("localhost"), ["localhost"], own.certificate, own.key, now, timedelta(1)
        )
        yield "a certificate of another key", certificate, encode_certificate(of_other_key)
        yield "a key of another certificate", self.pki / "mainflux-server.key", encode_key(key)

    def _refuses(self, file: Path, content: bytes) -> Callable[[Ticket], str]:
        def attempt(_: Ticket) -> str:
            before = self.world.server.log.count("TLS stays as it was")
            good = file.read_bytes()
            file.write_bytes(content)
            try:
                self.world.server.process.send_signal(signal.SIGHUP)
                wait_until(
                    lambda: self.world.server.log.count("TLS stays as it was") > before, "a line in the log"
                )
            finally:
                file.write_bytes(good)
            return "refused with a line in the log"

        return attempt

    def _removes(self) -> Callable[[Ticket], str]:
        def attempt(_: Ticket) -> str:
            self._replace(encode_certificate(self.first.certificate))
            self.since = time.monotonic()
            self.world.server.process.send_signal(signal.SIGHUP)
            return ACCEPTED

        return attempt

    def _comes_back(self, ticket: Ticket) -> str:
        self._replace(b"".join(encode_certificate(a.certificate) for a in (self.first, self.second)))
        spoken = SECURE[0]
        wait_until(
            lambda: self.world.say(spoken, self._said(spoken), ticket) == ACCEPTED, "the root is back", 6
        )
        return ACCEPTED

    def _replace(self, content: bytes) -> None:
        """Put a whole new file in the place of the old one."""
        new = self.roots.with_suffix(".new")
        new.write_bytes(content)
        new.replace(self.roots)
