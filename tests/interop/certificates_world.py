"""The world of the matrix of certificates: our authority, one elsewhere, and lists of what is revoked."""

import contextlib
import json
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from mfserver.ca.authority import ensure
from mfserver.ca.x509 import encode_certificate, name
from mfserver.certificates import CertificateRecord, fingerprint, thing_uri
from mfserver.records import ThingId, UserId
from mfserver.trust import WATCH_FILES
from tests.interop.identity_certificates import Authority, Identity, common_name, subject
from tests.interop.identity_clients import Closed
from tests.interop.identity_world import HTTPS, Saying, Thing, World
from tests.interop.running import PATIENCE

__all__ = ["BY_CN", "BY_FINGERPRINT", "BY_ID", "BY_SAN", "METHODS", "MatrixWorld", "matrix_world"]

#: How a certificate names its thing.
METHODS = BY_FINGERPRINT, BY_SAN, BY_CN, BY_ID = "fingerprint", "SAN", "CN = key", "CN = id"

_HOUR = timedelta(hours=1)
#: Things of one request.
_AT_ONCE = 100


class Lists:
    """The file of ``--crl``, with the list of our authority: for certificates that no record tells of."""

    def __init__(self, authority: Authority, path: Path) -> None:
        self.path = path
        self._authority = authority
        self._wanted: list[x509.Certificate] = []
        self._done: dict[x509.Certificate, float] = {}
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._write([])

    def revoke(self, world: World, identity: Identity) -> float:
        """Add a certificate, and wait until the server knows. :return: since when, on the monotonic clock."""
        leaf = identity.leaf
        assert leaf is not None
        with self._lock:
            self._wanted.append(leaf)
        with self._turn:  # whoever comes first does it for all who wait
            if leaf not in self._done:
                with self._lock:
                    batch = list(self._wanted)
                self._write(batch)
                _wait_until_refused(world, identity)
                self._done.update(dict.fromkeys(set(batch) - self._done.keys(), time.monotonic()))
        return self._done[leaf]

    def _write(self, revoked: Sequence[x509.Certificate]) -> None:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._authority.certificate.subject)
            .last_update(now)
            .next_update(now + 24 * _HOUR)
        )
        for certificate in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(now).build())
        new = self.path.with_suffix(".new")
        new.write_bytes(builder.sign(self._authority.key, SHA256()).public_bytes(Encoding.PEM))
        new.replace(self.path)


def _wait_until_refused(world: World, identity: Identity) -> None:
    deadline = time.monotonic() + WATCH_FILES + 2.0
    while time.monotonic() < deadline:
        stream = world.stream(HTTPS, Saying(identity))
        try:
            stream.exchange("GET", "/health")
        except Closed:
            return
        finally:
            stream.close()
        time.sleep(0.05)
    raise AssertionError("a new revocation list was not taken up")


class MatrixWorld(World):
    """A server in certificate mode that trusts two authorities, and can sign with the key of one.

    :param elsewhere: the other one: what ``docker/ssl/Makefile`` makes on another machine.
    """

    def __init__(
        self, *options: str, ours: Authority, elsewhere: Authority, lists: Lists, roots: Path
    ) -> None:
        self.elsewhere = elsewhere
        self.lists = lists
        self._keys: dict[Identity, str] = {}  # private keys in PEM
        # One address may have only so many certificates made at a time. And SQLite lets whoever waits for
        # another writer wait by chance: so many of us, who write to its file too, would starve the server.
        self._writing = threading.Lock()
        self._made: list[Thing] = []
        self._making = threading.Lock()
        super().__init__(f"--ca={roots}", f"--crl={lists.path}", *options, auth="x509", authority=ours)

    def thing(self, *channels: str) -> Thing:
        """A new thing, with a certificate that names it in every way."""
        made = super().thing(*channels)
        uri = x509.UniformResourceIdentifier(thing_uri(ThingId(made.id)))
        identity = self.authority.client(made.key, alternatives=[uri])
        self.record(identity, made)
        return made._replace(identity=identity)

    def new_thing(self) -> Thing:
        """A new thing on ``weather``, of which many are made at once. It has no certificate."""
        with self._making:
            if not self._made:
                self._made = list(self._make_things())
            return self._made.pop()

    def _make_things(self) -> Iterator[Thing]:
        token = self.owner.token
        new = [{"name": "thing"}] * _AT_ONCE
        with self._writing:
            made = self.server.json("POST", "/things/bulk", new, token)["things"]
            ids = {"channel_ids": [self.channel], "thing_ids": [each["id"] for each in made]}
            self.server.json("POST", "/connect", ids, token)
        for each in made:
            self.owner.things[each["id"]] = each["id"], each["key"]
            yield Thing(each["id"], each["key"], self.nobody)

    # --- certificates -------------------------------------------------------------------------------------

    def certificate(self, method: str, thing: Thing) -> Identity:
        """A thing's certificate with which nothing is wrong, but that a thing's id is no name."""
        return self.issue(thing) if method == BY_FINGERPRINT else self.signed(method, thing)

    def issue(self, thing: Thing, valid: str = "1h") -> Identity:
        """A certificate and a key from ``POST /certs``."""
        return self._handed_out("/certs", {"thing_id": thing.id, "valid": valid})

    def signed(self, method: str, *things: Thing, by: Authority | None = None, **how: Any) -> Identity:
        """A certificate that the test signs, and with :data:`BY_FINGERPRINT` puts into the server's records.

        :param things: all that it names, if not by fingerprint; the record is the first one's.
        :param how: see :meth:`Authority.client`; its ``alternatives`` come besides the names of the things.
        """
        named, uris = subject(common_name("a device")), []
        if method == BY_SAN or (method == BY_FINGERPRINT and len(things) > 1):
            uris = [x509.UniformResourceIdentifier(thing_uri(ThingId(thing.id))) for thing in things]
        if method == BY_CN or (method == BY_FINGERPRINT and len(things) > 1):
            named = subject(*(common_name(thing.key) for thing in things))
        if method == BY_ID:
            named = subject(*(common_name(thing.id) for thing in things))
        how["alternatives"] = [*uris, *how.get("alternatives", ())]
        identity = (by or self.authority).client(how.pop("subject", named), **how)
        if method == BY_FINGERPRINT:
            self.record(identity, things[0])
        return identity

    def record(self, identity: Identity, thing: Thing) -> None:
        """Put a certificate into the server's records, as ``POST /certs`` does with those it makes."""
        leaf = identity.leaf
        assert leaf is not None
        der = leaf.public_bytes(Encoding.DER)
        database = sqlite3.connect(self.directory / "data" / "mfserver.db", timeout=PATIENCE)
        with self._writing, contextlib.closing(database), database:
            ((owner,),) = database.execute("SELECT owner FROM things WHERE id = ?", (thing.id,))
            row = asdict(
                CertificateRecord(
                    serial=f"{leaf.serial_number:x}",
                    fingerprint=fingerprint(der),
                    thing=ThingId(thing.id),
                    owner=UserId(owner),
                    issuer=fingerprint(self.authority.certificate.public_bytes(Encoding.DER)),
                    der=der,
                    not_before=int(leaf.not_valid_before_utc.timestamp()),
                    not_after=int(leaf.not_valid_after_utc.timestamp()),
                    issued_at=int(time.time()),
                )
            )
            columns, places = ", ".join(row), ", ".join("?" * len(row))
            database.execute(f"INSERT INTO certificates ({columns}) VALUES ({places})", list(row.values()))

    def renew(self, method: str, thing: Thing, identity: Identity) -> Identity:
        """What comes in a certificate's place, with the same key; made elsewhere it is just another one."""
        if method != BY_FINGERPRINT:
            return self.signed(method, thing)
        return self._handed_out(f"/certs/{_serial(identity)}/renew", {}, self._keys[identity])

    def revoke(self, method: str, identity: Identity) -> float:
        """Revoke a certificate: of our records there, else on the list. :return: since when it counts."""
        if method != BY_FINGERPRINT:
            return self.lists.revoke(self, identity)
        with self._writing:
            self.server.json("POST", f"/certs/{_serial(identity)}/revoke", {}, self.owner.token)
        return time.monotonic()

    def _handed_out(self, path: str, body: dict[str, str], key: str = "") -> Identity:
        with self._writing:
            status, _, content = self.server.request("POST", path, body, self.owner.token)
        if status != 201:
            raise AssertionError(f"POST {path}: {status} {content!r}")
        answer = json.loads(content)
        key = key or answer["cert_key"]
        file = self.directory / f"issued-{answer['cert_serial']}.pem"
        file.write_text(answer["cert"] + key)
        leaf = x509.load_pem_x509_certificate(answer["cert"].encode())
        identity = Identity(self.server.ca, leaf, file)
        self._keys[identity] = key
        return identity


def _serial(identity: Identity) -> str:
    assert identity.leaf is not None
    return f"{identity.leaf.serial_number:x}"


@contextlib.contextmanager
def matrix_world(*options: str) -> Iterator[MatrixWorld]:
    """A server that trusts its own authority and another, and reads a revocation list."""
    directory = Path(tempfile.mkdtemp(prefix="mf-certificates-"))
    data = directory / "data"
    try:
        data.mkdir(0o700)
        ensure(str(data), [])
        ours = Authority.load(data / "pki", directory)
        elsewhere = Authority.new(name("elsewhere"), directory, str(data / "pki" / "ca.crt"))
        roots = directory / "roots.pem"
        roots.write_bytes(b"".join(encode_certificate(each.certificate) for each in (ours, elsewhere)))
        lists = Lists(ours, directory / "revoked.pem")
        world = MatrixWorld(*options, ours=ours, elsewhere=elsewhere, lists=lists, roots=roots)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    try:
        yield world
    finally:
        world.close()
