"""Certificates are made in threads, with a bound on what waits, and by whoever signs now."""

import threading
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mfserver.ca.crl import LIFETIME
from mfserver.ca.issuer import DEFAULT_DAYS, MAX_DAYS, Issuer
from mfserver.ca.pool import Pool
from mfserver.ca.signing import NO_AUTHORITY, Signing
from mfserver.errors import Invalid, Overloaded, Unavailable
from mfserver.provisioning import certificates, revocation_list
from mfserver.records import Thing
from tests.ca.authorities import DAY, NOW, OWNER, THING, THING_KEY, YEAR, authority, root
from tests.provisioning.fakes import Inline

OURS = Thing(THING, OWNER, THING_KEY)


class SigningTests(SynchronousTestCase):
    """An authority whose threads work at once."""

    def setUp(self) -> None:
        self.now = NOW
        self.slow, self.quick = Inline(), Inline()
        self.signing = Signing(lambda: self.now.timestamp(), self.slow, self.quick)
        self.signing.issuer = self.root = root()

    def issue(self, **wishes: Any) -> Any:
        order = {"days": 90, "named_by_key": False, "key_type": "ec", "key_bits": None, "password": None}
        return self.signing.issue(OURS, **{**order, **wishes})

    def test_issued(self) -> None:
        """The record is the owner's, holds no key, and is of the certificate that is handed out."""
        new = self.successResultOf(self.issue())
        leaf = x509.load_pem_x509_certificate(new.chain)
        self.assertEqual((new.record.owner, new.record.thing), (OWNER, THING))
        self.assertEqual(f"{leaf.serial_number:x}", new.record.serial)
        self.assertEqual(leaf.not_valid_after_utc, self.now + 90 * DAY)
        self.assertNotIn(b"PRIVATE", repr(new).encode() + new.record.der)
        self.assertIn(b"PRIVATE KEY", new.private_key)
        self.assertIsNone(new.bundle)

    def test_pools(self) -> None:
        """What takes seconds waits for nobody who is quick, and the other way round."""
        self.successResultOf(self.issue())
        self.assertEqual((self.slow.done, self.quick.done), (0, 1))
        self.successResultOf(self.issue(key_type="rsa"))
        self.successResultOf(self.issue(password="secret"))
        self.assertEqual((self.slow.done, self.quick.done), (2, 1))
        self.slow.full = True
        self.failureResultOf(self.issue(key_type="rsa"), Overloaded)
        self.successResultOf(self.issue())

    def test_bundle(self) -> None:
        """PKCS #12 holds the key, the certificate and the intermediates, and no root."""
        top = Issuer(*authority("Top"))
        middle, key = authority("Middle", top)
        self.signing.issuer = Issuer(middle, key, [top.certificate])
        new = self.successResultOf(self.issue(password="secret"))
        opened = load_pkcs12(new.bundle, b"secret")
        assert opened.cert is not None
        self.assertEqual(f"{opened.cert.certificate.serial_number:x}", new.record.serial)
        self.assertEqual([each.certificate for each in opened.additional_certs], [middle])
        self.assertEqual(self.signing.chain(new.record), new.chain)
        self.assertEqual(new.chain.count(b"BEGIN"), 2)
        other, key = authority("Other", top)  # which did not sign it
        self.signing.issuer = Issuer(other, key, [top.certificate])
        self.assertEqual(self.signing.chain(new.record).count(b"BEGIN"), 1)

    def test_renewed_as_it_was(self) -> None:
        """A common name that was the key is the key of today; an id stays the id."""
        for named_by_key, expected in (False, THING), (True, "another-key-of-mine"):
            old = self.successResultOf(self.issue(named_by_key=named_by_key)).record
            thing = Thing(THING, OWNER, "another-key-of-mine")
            new = self.successResultOf(self.signing.renew(thing, old, None, days=1))
            leaf, before = map(x509.load_der_x509_certificate, (new.record.der, old.der))
            self.assertEqual(leaf.public_key(), before.public_key())
            self.assertEqual([name.value for name in leaf.subject], [expected])
            self.assertIsNone(new.private_key)

    def test_nobody_signs(self) -> None:
        """What needs an authority says what to do without one; a certificate is shown all the same."""
        record = self.successResultOf(self.issue()).record
        self.signing.issuer = None
        for call in (
            self.issue(),
            self.signing.sign(OURS, b"", days=1, named_by_key=False),
            self.signing.renew(OURS, record, None, days=1),
            self.signing.revocation_list([], 1),
        ):
            self.assertEqual(str(self.failureResultOf(call, Unavailable).value), NO_AUTHORITY)
        self.assertRaises(Unavailable, self.signing.trust)
        self.assertEqual(self.signing.authorities, ())
        self.assertEqual(self.signing.chain(record).count(b"BEGIN"), 1)

    def test_expired_authority(self) -> None:
        """It signs nothing, and that is not the fault of who asks."""
        self.now = NOW + 2 * YEAR
        self.assertIn("has expired", str(self.failureResultOf(self.issue(), Unavailable).value))

    def test_wrong_request(self) -> None:
        failure = self.failureResultOf(self.signing.sign(OURS, b"x", days=1, named_by_key=False), Invalid)
        self.assertEqual(failure.value.field, "csr")

    def test_list(self) -> None:
        """A list with nobody on it is one, too."""
        der = self.successResultOf(self.signing.revocation_list([], 7))
        crl = x509.load_der_x509_crl(der)
        self.assertEqual((crl.issuer, len(list(crl))), (self.root.certificate.subject, 0))

    def test_same_numbers(self) -> None:
        """Rooms that do not know each other agree."""
        self.assertEqual((DEFAULT_DAYS, MAX_DAYS), (certificates.DEFAULT_DAYS, certificates.MAX_DAYS))
        self.assertEqual(LIFETIME.total_seconds(), revocation_list._AFTER_END)


class PoolTests(TestCase):
    """Real threads."""

    def pool(self) -> Pool:
        """One thread, and a place to wait in."""
        threads: Any = reactor
        pool = Pool(threads, "test", 1, 2)
        self.addCleanup(pool._threads.stop)
        return pool

    async def test_bound(self) -> None:
        """Work is done elsewhere; what is past the bound is refused at once, cancelled or not."""
        pool = self.pool()
        await self.assertFailure(pool.defer(lambda: 1), Overloaded)
        pool.startService()
        go = threading.Event()
        first: Deferred[bool] = pool.defer(
            lambda: go.wait(60) and threading.current_thread() is threading.main_thread()
        )
        second: Deferred[None] = pool.defer(lambda: None)
        second.addErrback(lambda _: None)
        second.cancel()
        await self.assertFailure(pool.defer(lambda: 1), Overloaded)
        go.set()
        self.assertIs(await first, False)
        self.assertEqual(await pool.defer(lambda: datetime.now(UTC).tzinfo), UTC)
        self.assertEqual(await pool.defer(lambda: 3), 3)
        await self.assertFailure(pool.defer(lambda: 1 // 0), ZeroDivisionError)

    async def test_stop(self) -> None:
        """What waits when the server stops is refused, not made."""
        pool = self.pool()
        pool.startService()
        begun, go = threading.Event(), threading.Event()

        def work() -> bool:
            begun.set()
            return go.wait(60)

        first, second = pool.defer(work), pool.defer(lambda: 2)
        begun.wait(60)
        pool.running = False
        go.set()
        await first
        await self.assertFailure(second, Overloaded)
