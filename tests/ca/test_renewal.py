"""A server certificate that renews itself, seen by the TLS context that uses it."""

import os
import stat
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from mfserver.ca.authority import SERVER_LIFETIME, ensure
from mfserver.ca.imported import import_authority
from mfserver.ca.issuer import Issuer
from mfserver.ca.keys import load_key, spki
from mfserver.ca.renewal import RENEW_BEFORE, renew_server_certificate
from mfserver.ca.x509 import encode_certificate, encode_key, issue_server, name, new_key
from mfserver.errors import ConfigurationError
from mfserver.tls.context import ServerContext
from tests.ca.authorities import DAY, NOW, authority, full_disk, intermediate, pkcs8, root, rsa_key, top
from tests.ca.test_authority import AuthorityCase

LATE = NOW + SERVER_LIFETIME - RENEW_BEFORE + timedelta(hours=1)
CERTIFICATE, KEY = "mainflux-server.crt", "mainflux-server.key"


class RenewalCase(AuthorityCase):
    """What a first start made."""

    def setUp(self) -> None:
        super().setUp()
        ensure(self.directory, ["mf.example", "192.0.2.7"], NOW)

    def pair_fits(self) -> bool:
        key = load_key(self.read(KEY))
        return spki(key.public_key()) == spki(self.certificate(CERTIFICATE).public_key())

    def serve(self, lifetime: timedelta, key: Any = None, names: tuple[str, ...] = ("localhost",)) -> None:
        """A server certificate of our authority that lives as long as this."""
        key = key or new_key()
        certificate = issue_server(
            key.public_key(),
            name("localhost"),
            names,
            self.certificate("ca.crt"),
            load_key(self.read("ca.key")),
            NOW,
            lifetime,
        )
        self.write(CERTIFICATE, encode_certificate(certificate))
        self.write(KEY, pkcs8(key))

    def refuse(self, option: str, *words: str, now: datetime = LATE) -> None:
        before = self.contents()
        error = self.assertRaises(ConfigurationError, renew_server_certificate, self.directory, now)
        self.assertEqual(option, error.option)
        for word in words:
            self.assertIn(word, str(error))
        self.assertEqual(before, self.contents())


class RenewTests(RenewalCase):
    """When, and with what."""

    def test_not_due(self) -> None:
        before = self.contents()
        for now in (NOW, NOW + 700 * DAY, LATE - timedelta(hours=2)):
            self.assertIsNone(renew_server_certificate(self.directory, now))
        self.assertEqual(before, self.contents())

    def test_due(self) -> None:
        """The same subject and names, a new key, all of its life again; once."""
        old, key = self.certificate(CERTIFICATE), self.read(KEY)
        line = renew_server_certificate(self.directory, LATE)
        assert line is not None
        new = self.certificate(CERTIFICATE)
        self.assertIn(str(new.not_valid_after_utc.date()), line)
        self.assertEqual(LATE + SERVER_LIFETIME, new.not_valid_after_utc)
        self.assertEqual(old.subject, new.subject)
        both = [
            each.extensions.get_extension_for_class(x509.SubjectAlternativeName).value for each in (old, new)
        ]
        self.assertEqual(both[0], both[1])
        self.assertNotEqual(old.serial_number, new.serial_number)
        self.assertNotEqual(key, self.read(KEY))
        self.assertTrue(self.pair_fits())
        for file in (CERTIFICATE, KEY):
            self.assertEqual(0o600, stat.S_IMODE(os.stat(self.path(file)).st_mode))
        self.assertEqual(["ca.crt", "ca.key", CERTIFICATE, KEY], sorted(os.listdir(self.path(""))))
        self.assertIsNone(renew_server_certificate(self.directory, LATE))

    def test_expired(self) -> None:
        """The server was off for long."""
        self.assertIsNotNone(renew_server_certificate(self.directory, NOW + SERVER_LIFETIME + 100 * DAY))

    def test_short_life(self) -> None:
        """Of nine days, the last third."""
        self.serve(9 * DAY - timedelta(hours=1))
        self.assertIsNone(renew_server_certificate(self.directory, NOW + 5.9 * DAY))
        self.assertIsNotNone(renew_server_certificate(self.directory, NOW + 6.1 * DAY))

    def test_rsa_stays_rsa(self) -> None:
        """Whoever has clients that know no EC keeps them."""
        self.serve(DAY, rsa_key())
        self.assertIsNotNone(renew_server_certificate(self.directory, NOW + DAY))
        public = self.certificate(CERTIFICATE).public_key()
        assert isinstance(public, rsa.RSAPublicKey)
        self.assertEqual(2048, public.key_size)
        self.assertNotEqual(rsa_key().public_key(), public)

    def test_now(self) -> None:
        self.assertIsNone(renew_server_certificate(self.directory))

    def test_below_an_intermediate(self) -> None:
        """The server shows its chain, when it is made and when it is renewed."""
        above = top()
        below = intermediate(above)
        data = b"".join(map(encode_certificate, below.path)) + pkcs8(below.key)
        import_authority(self.directory, data, now=NOW, force=True)
        os.unlink(self.path(CERTIFICATE))
        ensure(self.directory, (), NOW)
        for now in (NOW, NOW + 100 * DAY):
            chain = x509.load_pem_x509_certificates(self.read(CERTIFICATE))
            self.assertEqual([below.certificate], chain[1:])
            chain[0].verify_directly_issued_by(below.certificate)
            self.serve(99 * DAY)
            renew_server_certificate(self.directory, now + 90 * DAY)


class UntouchedTests(RenewalCase):
    """What is not ours, or not all there."""

    def test_somebody_else_s(self) -> None:
        other = root(lifetime=10 * DAY)
        key = new_key()
        leaf = issue_server(
            key.public_key(), name("a"), ["localhost"], other.certificate, other.key, NOW, DAY
        )
        self.write(CERTIFICATE, encode_certificate(leaf))
        self.write(KEY, encode_key(key))
        before = self.contents()
        self.assertIsNone(renew_server_certificate(self.directory, NOW + 2 * DAY))
        self.assertEqual(before, self.contents())

    def test_missing(self) -> None:
        for file in (KEY, CERTIFICATE):
            os.unlink(self.path(file))
            self.assertIsNone(renew_server_certificate(self.directory, LATE))

    def test_no_key_to_sign_with(self) -> None:
        """An authority whose key is kept elsewhere: no question before it is due, then a clear word."""
        os.unlink(self.path("ca.key"))
        self.assertIsNone(renew_server_certificate(self.directory, NOW))
        self.refuse("--ca-key", "ca.key is missing")

    def test_authority_that_ends_with_it(self) -> None:
        """Renewing would gain nothing, again and again."""
        authority_end = self.certificate("ca.crt").not_valid_after_utc
        self.serve(4000 * DAY)
        self.refuse("--ca", "the authority", str(authority_end.date()), now=authority_end - 5 * DAY)

    def test_no_names(self) -> None:
        issuer = Issuer(self.certificate("ca.crt"), load_key(self.read("ca.key")))
        for extensions in (
            (),
            ((x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\xff"), False),),
        ):
            leaf, key = authority("localhost", issuer, extensions=extensions, end=NOW + DAY)
            self.write(CERTIFICATE, leaf.public_bytes(Encoding.PEM))
            self.write(KEY, pkcs8(key))
            self.refuse("--cert", "no names", now=NOW + DAY)

    def test_files_that_are_no_good(self) -> None:
        before = self.contents()
        for file, data, option, words in (
            (CERTIFICATE, b"hello", "--cert", "no certificate"),
            (KEY, b"hello", "--key", "no private key"),
            ("ca.crt", b"hello", "--ca", "no certificate"),
            ("ca.key", b"hello", "--ca-key", "no private key"),
            ("ca.key", pkcs8(new_key()), "--ca-key", "does not belong"),
            ("ca.crt", before["ca.crt"] + before["ca.crt"][:200], "--ca", "half a certificate"),
            ("ca.crt", b"\n" * (1024 * 1024 + 1), "--ca", "more than"),
        ):
            self.write(file, data)
            self.refuse(option, self.path(file), words)
            self.write(file, before[file])

    def test_full_disk(self) -> None:
        """Nothing is lost, and nothing half-written is left."""
        before = self.contents()
        with full_disk():
            error = self.assertRaises(ConfigurationError, renew_server_certificate, self.directory, LATE)
        self.assertEqual("--data-dir", error.option)
        self.assertIn("cannot renew", str(error))
        self.assertEqual(before, self.contents())


class InterruptedTests(RenewalCase):
    """The power failed after the key had been replaced."""

    def test_goes_on(self) -> None:
        self.write(KEY, pkcs8(new_key()))
        key = self.read(KEY)
        self.assertFalse(self.pair_fits())
        self.assertIsNotNone(renew_server_certificate(self.directory, NOW + DAY))
        self.assertTrue(self.pair_fits())
        self.assertEqual(key, self.read(KEY))
        self.assertEqual(NOW + DAY + SERVER_LIFETIME, self.certificate(CERTIFICATE).not_valid_after_utc)
        self.assertIsNone(renew_server_certificate(self.directory, NOW + DAY))

    def test_with_the_authority_s_end_near(self) -> None:
        """It must go on: without it the next start fails."""
        end = self.certificate("ca.crt").not_valid_after_utc
        self.serve(4000 * DAY)
        self.write(KEY, pkcs8(new_key()))
        self.assertIsNotNone(renew_server_certificate(self.directory, end - DAY))
        self.assertTrue(self.pair_fits())


class Watched:
    """A context whose files are looked at whenever ``look`` is called."""

    def __init__(self, path: Callable[[str], str]) -> None:
        self.context = ServerContext(
            path(CERTIFICATE), path(KEY), path("ca.crt"), request_client_certificates=False, now=NOW.timestamp
        )
        self.context.load()

    def look(self) -> None:
        if self.context.changed():
            self.context.reload()


class WatchTests(RenewalCase):
    """The TLS context, however its looks fall, ends with the new pair."""

    def test_look_between_the_two_files(self) -> None:
        watched = Watched(self.path)
        old_certificate, old_key = self.read(CERTIFICATE), self.read(KEY)
        renew_server_certificate(self.directory, LATE)
        new_certificate, new_key_ = self.read(CERTIFICATE), self.read(KEY)
        # The same again, by hand, with a look after each step.
        self.write(KEY, old_key)
        self.write(CERTIFICATE, old_certificate)
        watched.look()
        before = watched.context.generation
        self.write(KEY, new_key_)
        watched.look()
        self.assertEqual(before, watched.context.generation)
        self.write(CERTIFICATE, new_certificate)
        watched.look()
        self.assertEqual(before + 1, watched.context.generation)
        watched.look()
        self.assertEqual(before + 1, watched.context.generation)

    def test_look_after_both(self) -> None:
        watched = Watched(self.path)
        renew_server_certificate(self.directory, LATE)
        watched.look()
        self.assertEqual(2, watched.context.generation)
