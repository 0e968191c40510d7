"""The shared context: what files it takes, how it is replaced, and whom it trusts."""

import os
from datetime import UTC, datetime
from time import time

from cryptography.hazmat.primitives.asymmetric import rsa, x448
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mfserver.ca.x509 import encode_certificate, encode_key, issue_server, name, new_key
from mfserver.errors import ConfigurationError, NotAuthorized
from mfserver.tls.context import ServerContext
from tests.tls.pki import DAY, KEY, Authority, Identity, server_context, write


class ContextCase(SynchronousTestCase):
    """The files of a server that are in order."""

    def setUp(self) -> None:
        self.authority = Authority()
        self.directory = self.mktemp()
        self.server = self.authority.server()
        self.certificate, self.key, self.ca = write(self.directory, self.server, self.authority.certificate)

    def make(self, *, request: bool = True) -> ServerContext:
        return ServerContext(
            self.certificate, self.key, self.ca, request_client_certificates=request, now=time
        )

    def replace(self, path: str, data: bytes) -> None:
        with open(path, "wb") as file:
            file.write(data)


class LoadTests(ContextCase):
    """Each mistake is named with its file and its option."""

    def refuse(self, option: str, *words: str, request: bool = True) -> None:
        error = self.assertRaises(ConfigurationError, self.make(request=request).load)
        self.assertEqual(error.option, option)
        for word in words:
            self.assertIn(word, str(error))

    def test_good(self) -> None:
        context = self.make()
        self.assertEqual(context.generation, 0)
        context.load()
        self.assertEqual(context.generation, 1)
        self.assertIsInstance(context.context, SSL.Context)

    def test_settings(self) -> None:
        """Idle connections keep no buffers, sessions no memory, and nobody shakes hands twice."""
        loaded = self.make()
        loaded.load()
        context = loaded.context
        self.assertTrue(context.set_mode(0) & SSL.MODE_RELEASE_BUFFERS)
        self.assertEqual(context.get_session_cache_mode(), SSL.SESS_CACHE_OFF)
        wanted = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
        self.assertEqual(context.set_options(0) & wanted, wanted)

    def test_missing(self) -> None:
        for path, option in ((self.ca, "--ca"), (self.key, "--key"), (self.certificate, "--cert")):
            os.unlink(path)
            self.refuse(option, path, "No such file")

    def test_unreadable(self) -> None:
        os.unlink(self.key)
        os.mkdir(self.key)
        self.refuse("--key", self.key, "Is a directory")

    def test_not_pem(self) -> None:
        for path, option in ((self.ca, "--ca"), (self.key, "--key"), (self.certificate, "--cert")):
            for data in (b"", b"hello\n", b"\0" * 100, b"-----BEGIN CERTIFICATE-----\nAAAA\n"):
                self.replace(path, data)
                self.refuse(option, path)

    def test_swapped_files(self) -> None:
        """A certificate where the key should be, and the other way round."""
        self.certificate, self.key = self.key, self.certificate
        self.refuse("--cert", self.certificate, "no certificate")

    def test_half_a_certificate(self) -> None:
        """A second certificate that is cut off is seen, though the first is whole."""
        whole = encode_certificate(self.server.certificate)
        for path, option in ((self.ca, "--ca"), (self.certificate, "--cert")):
            data = encode_certificate(self.authority.certificate) if option == "--ca" else whole
            self.replace(path, data + whole[: len(whole) // 2])
            self.refuse(option, path)
            self.replace(path, data)

    def test_key_of_another_certificate(self) -> None:
        self.replace(self.key, encode_key(new_key()))
        self.refuse("--key", self.key, self.certificate, "is not the key of")

    def test_encrypted_key(self) -> None:
        data = self.server.key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
        self.replace(self.key, data)
        self.refuse("--key", self.key, "encrypted")

    def test_key_that_cannot_sign(self) -> None:
        key = x448.X448PrivateKey.generate()
        self.replace(self.key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.refuse("--key", self.key, "no key that TLS can sign with")

    def test_weak_key(self) -> None:
        """What OpenSSL itself refuses is said in its words."""
        key = rsa.generate_private_key(65537, 1024)
        certificate = issue_server(
            key.public_key(),
            name("localhost"),
            ["localhost"],
            self.authority.certificate,
            self.authority.key,
            datetime.now(UTC),
            DAY,
        )
        self.replace(self.certificate, encode_certificate(certificate))
        self.replace(self.key, encode_key(key))
        self.refuse("--cert", self.certificate, "too small")

    def test_expired_certificate_warns_only(self) -> None:
        """A server whose certificate has ended still serves: who trusts it is the clients' affair."""
        write(self.directory, self.authority.server(end=DAY), self.authority.certificate)
        context = ServerContext(
            self.certificate,
            self.key,
            self.ca,
            request_client_certificates=True,
            now=lambda: time() + 2 * DAY.total_seconds(),
        )
        with capturedLogs() as events:
            context.load()
        [event] = [event for event in events if event["log_namespace"].startswith("mfserver")]
        self.assertEqual((event["log_level"].name, event["path"]), ("warn", self.certificate))

    def test_ca_that_is_none(self) -> None:
        """A leaf among the trust roots would let its holder in as whoever it says."""
        leaf = self.authority.client().certificate
        self.replace(self.ca, encode_certificate(self.authority.certificate) + encode_certificate(leaf))
        self.refuse("--ca", self.ca, "no certificate authority")

    def test_ca_does_not_matter_in_key_mode(self) -> None:
        os.unlink(self.ca)
        self.make(request=False).load()

    def test_certificate_chain(self) -> None:
        """The certificates after the server's own are sent to clients."""
        between = Authority("Between", self.authority)
        leaf = between.server()
        write(
            self.directory,
            Identity(leaf.certificate, leaf.key, (between.certificate,)),
            self.authority.certificate,
        )
        self.make().load()

    def test_unknown_version(self) -> None:
        error = self.assertRaises(
            ConfigurationError,
            ServerContext,
            self.certificate,
            self.key,
            self.ca,
            request_client_certificates=True,
            minimum="1.1",
        )
        self.assertEqual(error.option, "--tls-min")


class ReloadTests(ContextCase):
    """A running server never loses its TLS to a bad file."""

    def setUp(self) -> None:
        super().setUp()
        self.context = self.make()
        self.context.load()
        self.swaps: list[int] = []
        self.context.on_swap.append(lambda: self.swaps.append(self.context.generation))

    def refuse(self) -> None:
        """One warning, the old context, nobody told."""
        before = self.context.context
        with capturedLogs() as events:
            self.assertFalse(self.context.reload())
        [event] = [event for event in events if event["log_namespace"].startswith("mfserver")]
        self.assertEqual(event["log_level"].name, "warn")
        self.assertIn(self.directory, event["reason"])
        self.assertIs(self.context.context, before)
        self.assertEqual((self.context.generation, self.swaps), (1, []))
        self.context.verify(self.authority.client().certificate, (), time())

    def test_swap(self) -> None:
        before = self.context.context
        write(self.directory, self.authority.server(), self.authority.certificate)
        self.assertTrue(self.context.reload())
        self.assertIsNot(self.context.context, before)
        self.assertEqual((self.context.generation, self.swaps), (2, [2]))

    def test_half_written(self) -> None:
        data = encode_certificate(self.server.certificate)
        for length in (0, 1, len(data) // 2, len(data) - 2):
            self.replace(self.certificate, data[:length])
            self.refuse()

    def test_mismatched_pair(self) -> None:
        """A certificate that came before its key does no harm; the key makes it whole."""
        renewed = self.authority.server()
        self.replace(self.certificate, encode_certificate(renewed.certificate))
        self.assertTrue(self.context.changed())
        self.refuse()
        self.assertFalse(self.context.changed())
        self.replace(self.key, encode_key(renewed.key))
        self.assertTrue(self.context.changed())
        self.assertTrue(self.context.reload())

    def test_missing(self) -> None:
        os.unlink(self.key)
        self.refuse()

    def test_roots_of_another_kind(self) -> None:
        self.replace(self.ca, encode_certificate(self.server.certificate))
        self.refuse()

    def test_one_who_fails_to_hear(self) -> None:
        """An error in one of those who are told keeps nothing from the others."""
        self.context.on_swap.insert(0, lambda: [][0])
        self.assertTrue(self.context.reload())
        self.assertEqual(self.swaps, [2])
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 1)

    def test_changed(self) -> None:
        """Another content, time, file or none at all is a change; until it has been tried."""
        for path in (self.certificate, self.key, self.ca):
            self.assertFalse(self.context.changed())
            with open(path, "rb") as file:
                data = file.read()
            os.unlink(path)
            self.assertTrue(self.context.changed())
            self.replace(path, data)
            os.utime(path, ns=(1, 1))
            self.assertTrue(self.context.changed())
            self.context.reload()

    def test_used_context_is_never_changed(self) -> None:
        """pyOpenSSL refuses it; a reload after connections were made is a context of its own."""
        self.context.connection(())
        self.assertTrue(self.context.reload())


class VerifyTests(ContextCase):
    """Trust decided from our own records, without a handshake."""

    def setUp(self) -> None:
        super().setUp()
        self.context = server_context(self.directory, self.authority)

    def refuse(self, identity: Identity, words: str, now: float | None = None) -> None:
        error = self.assertRaises(
            NotAuthorized,
            self.context.verify,
            identity.certificate,
            identity.chain,
            time() if now is None else now,
        )
        self.assertIn(words, str(error))

    def test_issued_by_root(self) -> None:
        self.context.verify(self.authority.client().certificate, (), time())

    def test_through_intermediate(self) -> None:
        between = Authority("Between", self.authority)
        leaf = between.client().certificate
        self.context.verify(leaf, (leaf, between.certificate), time())

    def test_intermediate_missing(self) -> None:
        """Fail safe: what cannot be checked is refused."""
        self.refuse(Authority("Between", self.authority).client(), "trust root")

    def test_intermediate_as_root(self) -> None:
        """Trusting an intermediate alone is enough for what it issues."""
        between = Authority("Between", self.authority)
        write(self.directory, self.server, between.certificate)
        self.assertTrue(self.context.reload())
        self.context.verify(between.client().certificate, (), time())
        below = Authority("Below", between)
        self.context.verify(below.client().certificate, (below.certificate,), time())
        self.refuse(self.authority.client(), "trust root")

    def test_intermediate_expired(self) -> None:
        between = Authority("Between", self.authority, end=2 * DAY)
        leaf = between.client(end=5 * DAY, chain=(between.certificate,))
        self.refuse(leaf, "trust root", time() + 3 * DAY.total_seconds())

    def test_root_expired(self) -> None:
        leaf = self.authority.client(end=60 * DAY)
        self.refuse(leaf, "trust root", time() + 40 * DAY.total_seconds())

    def test_other_authority(self) -> None:
        other = Authority()
        self.refuse(other.client(chain=(other.certificate,)), "trust root")

    def test_leaf_as_authority(self) -> None:
        thing = Authority(KEY, self.authority, is_authority=False)
        self.refuse(thing.client("victim-0123456789", chain=(thing.certificate,)), "trust root")

    def test_dates(self) -> None:
        self.refuse(self.authority.client(begin=-2 * DAY, end=-DAY), "expired")
        self.refuse(self.authority.client(begin=DAY, end=2 * DAY), "not valid yet")

    def test_usages(self) -> None:
        def usages(*present: ObjectIdentifier) -> Identity:
            return self.authority.client(usages=present)

        client, server = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
        for present in ((), (client,), (server, client)):
            self.context.verify(usages(*present).certificate, (), time())
        self.refuse(usages(server), "not for clients")
        self.refuse(usages(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE), "not for clients")

    def test_key_mode_trusts_nobody(self) -> None:
        self.context = server_context(self.directory, self.authority, request=False)
        self.refuse(self.authority.client(), "trust root")
