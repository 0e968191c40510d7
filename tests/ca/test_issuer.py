"""What stands in certificates of things, and what a sender cannot get into one."""

from datetime import timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.trial.unittest import SynchronousTestCase

from mfserver.ca.issuer import DEFAULT_DAYS, MAX_CHAIN, MAX_DAYS, Issued, Issuer, authority_path, record
from mfserver.ca.keys import spki
from mfserver.ca.x509 import new_key
from mfserver.certificates import fingerprint
from mfserver.errors import ConfigurationError, Invalid, TooLarge
from mfserver.records import ThingId
from tests.ca.authorities import (
    DAY,
    NOW,
    OWNER,
    THING,
    THING_KEY,
    YEAR,
    authority,
    intermediate,
    request,
    root,
    rsa_key,
    top,
)

HOUR = timedelta(hours=1)
CA = (x509.BasicConstraints(True, None), True)


def common_names(certificate: x509.Certificate) -> list[Any]:
    return [each.value for each in certificate.subject]


def alternatives(certificate: x509.Certificate) -> list[x509.GeneralName]:
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def key_usage(**yes: bool) -> tuple[x509.ExtensionType, bool]:
    every = dict.fromkeys(
        (
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
            *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    return x509.KeyUsage(**{**every, **yes}), True


class IssuerCase(SynchronousTestCase):
    """A root that ends in a year."""

    def setUp(self) -> None:
        self.issuer = root()

    def check_leaf(self, issued: Issued, common_name: str = THING) -> None:
        """It says what every certificate of this thing says, and nothing more."""
        leaf = issued.certificate
        leaf.verify_directly_issued_by(self.issuer.certificate)
        self.assertEqual([common_name], common_names(leaf))
        self.assertEqual([x509.UniformResourceIdentifier(f"urn:mainflux:thing:{THING}")], alternatives(leaf))
        found = {type(each.value): each for each in leaf.extensions}
        self.assertEqual(
            {
                x509.BasicConstraints,
                x509.KeyUsage,
                x509.SubjectKeyIdentifier,
                x509.AuthorityKeyIdentifier,
                x509.ExtendedKeyUsage,
                x509.SubjectAlternativeName,
            },
            set(found),
        )
        self.assertEqual(x509.BasicConstraints(False, None), found[x509.BasicConstraints].value)
        self.assertEqual(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), found[x509.ExtendedKeyUsage].value
        )

    def refuse(self, field: str, *arguments: Any, **options: Any) -> None:
        method, *rest = arguments
        error = self.assertRaises(Invalid, method, *rest, now=NOW, **options)
        self.assertEqual(field, error.field)


class IssueTests(IssuerCase):
    """A key made here."""

    def test_defaults(self) -> None:
        """P-256, ninety days, begun an hour ago; the key is the certificate's and is not printed."""
        issued = self.issuer.issue(THING, now=NOW)
        self.check_leaf(issued)
        leaf = issued.certificate
        self.assertEqual(NOW - HOUR, leaf.not_valid_before_utc)
        self.assertEqual(NOW + DEFAULT_DAYS * DAY, leaf.not_valid_after_utc)
        assert issued.private_key is not None
        key = load_pem_private_key(issued.private_key, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.assertEqual("secp256r1", key.curve.name)
        self.assertEqual(spki(key.public_key()), spki(leaf.public_key()))
        self.assertNotIn("PRIVATE", repr(issued))

    def test_rsa(self) -> None:
        issued = self.issuer.issue(THING, now=NOW, key_type="rsa", key_bits=2048)
        self.check_leaf(issued)
        public = issued.certificate.public_key()
        assert isinstance(public, rsa.RSAPublicKey)
        self.assertEqual(2048, public.key_size)
        usage = issued.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        self.assertTrue(usage.key_encipherment)

    def test_thing_key(self) -> None:
        """For other Mainflux servers; it must be one."""
        self.check_leaf(self.issuer.issue(THING, now=NOW, thing_key=THING_KEY), THING_KEY)
        for bad in ("", "short", "x" * 65, "a/CN=victim-of-it", "0123456789abcde\n", "0123456789abcdef\0"):
            self.refuse("thing_key", self.issuer.issue, THING, thing_key=bad)

    def test_serial_numbers(self) -> None:
        """128 random bits, within the 20 bytes that a serial number may have (RFC 5280, 4.1.2.2)."""
        serials = [self.issuer.issue(THING, now=NOW).certificate.serial_number for _ in range(64)]
        self.assertEqual(64, len(set(serials)))
        self.assertTrue(all(0 < each <= 2**128 for each in serials))
        self.assertTrue(any(each >= 2**127 for each in serials))

    def test_days(self) -> None:
        for days in (1 / 86400, 0.5, 1, 364):
            issued = self.issuer.issue(THING, now=NOW, days=days)
            self.assertEqual(NOW + timedelta(days=days), issued.certificate.not_valid_after_utc)
        for bad in (0, -1, 1e-6, MAX_DAYS + 1, 1e300, float("inf"), float("nan"), -float("inf")):
            self.refuse("days", self.issuer.issue, THING, days=bad)

    def test_never_beyond_the_authority(self) -> None:
        issued = self.issuer.issue(THING, now=NOW, days=MAX_DAYS)
        self.assertEqual(self.issuer.certificate.not_valid_after_utc, issued.certificate.not_valid_after_utc)
        early = self.issuer.issue(THING, now=NOW - HOUR / 2)
        self.assertEqual(self.issuer.certificate.not_valid_before_utc, early.certificate.not_valid_before_utc)

    def test_time_zones(self) -> None:
        elsewhere = NOW.astimezone(timezone(timedelta(hours=-7)))
        issued = self.issuer.issue(THING, now=elsewhere + timedelta(microseconds=999_999), days=1)
        self.assertEqual(NOW + DAY, issued.certificate.not_valid_after_utc)

    def test_authority_out_of_its_dates(self) -> None:
        """Nothing is signed, and no key is made, before it begins or after it ended."""
        for now, words in (
            (NOW + YEAR, "expired"),
            (NOW + 2 * YEAR, "expired"),
            (NOW - DAY, "not valid yet"),
        ):
            error = self.assertRaises(ConfigurationError, self.issuer.issue, THING, now=now)
            self.assertIn(words, str(error))
            self.assertEqual("--ca", error.option)
        last = self.issuer.issue(THING, now=NOW + YEAR - timedelta(seconds=1))
        self.assertEqual(NOW + YEAR, last.certificate.not_valid_after_utc)

    def test_kinds_of_keys(self) -> None:
        self.refuse("key_type", self.issuer.issue, THING, key_type="dsa")
        self.refuse("key_bits", self.issuer.issue, THING, key_type="rsa", key_bits=1024)

    def test_ids_that_fit_nowhere(self) -> None:
        for bad in ("", "x" * 65, "th\N{LATIN SMALL LETTER I WITH DIAERESIS}ng"):
            self.refuse("thing_id", self.issuer.issue, ThingId(bad))

    def test_kinds_of_authorities(self) -> None:
        keys: tuple[Any, ...] = (
            rsa_key(),
            ed25519.Ed25519PrivateKey.generate(),
            ec.generate_private_key(ec.SECP384R1()),
        )
        for key in keys:
            self.issuer = root(key)
            self.check_leaf(self.issuer.issue(THING, now=NOW))


class SignTests(IssuerCase):
    """A key made elsewhere."""

    def test_nothing_but_the_key_is_taken(self) -> None:
        """The request wants to be an authority, another thing, and have two common names."""
        key = new_key()
        for form in (Encoding.PEM, Encoding.DER):
            issued = self.issuer.sign(request(key, form=form), THING, now=NOW, days=7)
            self.check_leaf(issued)
            self.assertEqual(spki(key.public_key()), spki(issued.certificate.public_key()))
            self.assertEqual(NOW + 7 * DAY, issued.certificate.not_valid_after_utc)
            self.assertIsNone(issued.private_key)
        self.check_leaf(self.issuer.sign(request(key), THING, now=NOW, thing_key=THING_KEY), THING_KEY)

    def test_refused(self) -> None:
        self.refuse("csr", self.issuer.sign, b"hello", THING)
        self.refuse("csr", self.issuer.sign, request(rsa_key(1024)), THING)
        self.refuse("days", self.issuer.sign, request(new_key()), THING, days=0)
        self.refuse("thing_key", self.issuer.sign, request(new_key()), THING, thing_key="short")
        self.assertRaises(TooLarge, self.issuer.sign, b"\0" * 20_000, THING, now=NOW)

    def test_expired_authority(self) -> None:
        self.assertRaises(ConfigurationError, self.issuer.sign, request(new_key()), THING, now=NOW + YEAR)


class RenewTests(IssuerCase):
    """The same key for longer."""

    def test_same_key(self) -> None:
        old = self.issuer.sign(request(new_key()), THING, now=NOW)
        new = self.issuer.renew(old.der, THING, now=NOW + 80 * DAY, days=30)
        self.check_leaf(new)
        self.assertEqual(spki(old.certificate.public_key()), spki(new.certificate.public_key()))
        self.assertEqual(NOW + 110 * DAY, new.certificate.not_valid_after_utc)
        self.assertNotEqual(old.serial, new.serial)
        self.assertIsNone(new.private_key)
        keyed = self.issuer.renew(old.der, THING, now=NOW, thing_key=THING_KEY)
        self.check_leaf(keyed, THING_KEY)

    def test_refused(self) -> None:
        self.refuse("certificate", self.issuer.renew, b"hello", THING)
        weak, _ = authority("Old", key=rsa_key(1024))
        self.refuse("certificate", self.issuer.renew, weak.public_bytes(Encoding.DER), THING)


class RecordTests(IssuerCase):
    """What is kept."""

    def test_record(self) -> None:
        issued = self.issuer.issue(THING, now=NOW, days=1)
        kept = record(issued, OWNER)
        self.assertEqual(issued.certificate, x509.load_der_x509_certificate(kept.der))
        self.assertEqual(issued.certificate.fingerprint(SHA256()), kept.fingerprint)
        self.assertEqual(self.issuer.certificate.fingerprint(SHA256()), kept.issuer)
        self.assertEqual(issued.certificate.serial_number, int(kept.serial, 16))
        self.assertEqual(kept.serial.lstrip("0").lower(), kept.serial)
        self.assertEqual((THING, OWNER), (kept.thing, kept.owner))
        second = int(NOW.timestamp())
        self.assertEqual(
            (second - 3600, second + 86400, second), (kept.not_before, kept.not_after, kept.issued_at)
        )
        self.assertEqual((None, None, None), (kept.revoked_at, kept.reason, kept.replaced_by))
        self.assertEqual("active", kept.state(NOW.timestamp()))
        self.assertNotIn(b"PRIVATE", repr(kept).encode())


class PathTests(SynchronousTestCase):
    """Authorities above the one that signs."""

    def test_root(self) -> None:
        issuer = root()
        issued = issuer.issue(THING, now=NOW)
        self.assertEqual([issued.certificate], x509.load_pem_x509_certificates(issued.chain))
        self.assertEqual(issuer.certificate, x509.load_pem_x509_certificate(issuer.trust))

    def test_intermediate(self) -> None:
        """The leaf comes first, the intermediate next, and not the root, which the other end has."""
        above = top()
        issuer = intermediate(above)
        issued = issuer.issue(THING, now=NOW)
        self.assertEqual(
            [issued.certificate, issuer.certificate], x509.load_pem_x509_certificates(issued.chain)
        )
        self.assertEqual(above.certificate, x509.load_pem_x509_certificate(issuer.trust))
        self.assertEqual(fingerprint(issuer.certificate.public_bytes(Encoding.DER)), issued.issuer)

    def test_order_and_strangers(self) -> None:
        """The file may hold anything in any order; what does not lead upwards is left out."""
        above = Issuer(*authority("Top"))
        middle_certificate, middle_key = authority("Middle", above)
        middle = Issuer(middle_certificate, middle_key, [above.certificate])
        issuer = intermediate(middle)
        stranger = root()
        others = [stranger.certificate, above.certificate, issuer.certificate, middle.certificate]
        path = Issuer(issuer.certificate, issuer.key, others).path
        self.assertEqual([issuer.certificate, middle.certificate, above.certificate], path)

    def test_unknown_root(self) -> None:
        issuer = intermediate(top())
        alone = Issuer(issuer.certificate, issuer.key)
        self.assertEqual([issuer.certificate], alone.path)
        self.assertEqual([issuer.certificate], alone.intermediates)
        self.assertEqual(issuer.certificate, x509.load_pem_x509_certificate(alone.trust))

    def test_same_name_other_key(self) -> None:
        above, impostor = top(), top()
        issuer = intermediate(above)
        self.assertEqual(
            [issuer.certificate, above.certificate],
            authority_path(issuer.certificate, [impostor.certificate, above.certificate]),
        )

    def test_two_that_signed_each_other(self) -> None:
        """Cross-signed authorities lead round in a circle, which is walked once."""
        keys = new_key(), new_key()
        one, _ = authority("One", key=keys[0])
        two, _ = authority("Two", key=keys[1])
        below_two, _ = authority("One", Issuer(two, keys[1]), key=keys[0])
        below_one, _ = authority("Two", Issuer(one, keys[0]), key=keys[1])
        self.assertEqual([below_two, below_one], authority_path(below_two, [below_one, below_two]))

    def test_too_long(self) -> None:
        issuer = Issuer(*authority("Top"))
        for depth in range(MAX_CHAIN - 1):
            certificate, key = authority(f"Depth {depth}", issuer)
            issuer = Issuer(certificate, key, issuer.path)
        self.assertEqual(MAX_CHAIN, len(issuer.path))
        certificate, key = authority("Too deep", issuer)
        error = self.assertRaises(Invalid, Issuer, certificate, key, issuer.path)
        self.assertEqual("certificate", error.field)

    def test_path_length(self) -> None:
        """Ours has no authorities below it: nobody would accept what they sign."""
        above = root()
        certificate, key = authority("Below", above)
        error = self.assertRaises(Invalid, Issuer, certificate, key, above.path)
        self.assertIn("no authorities below", str(error))
        middle = intermediate(top())
        Issuer(middle.certificate, middle.key, middle.path)

    def test_root_renewed_with_the_same_key(self) -> None:
        """The successor leads upwards, whatever the order."""
        old_certificate, key = authority("Root", end=NOW - DAY / 2)
        new_certificate, _ = authority("Root", key=key)
        below, below_key = authority("Below", Issuer(old_certificate, key))
        for others in ((old_certificate, new_certificate), (new_certificate, old_certificate)):
            issuer = Issuer(below, below_key, others)
            self.assertEqual([below, new_certificate], issuer.path)
            issuer.issue(THING, now=NOW)

    def test_dates_of_the_whole_path(self) -> None:
        """A leaf that outlived the root would be good for nobody."""
        above = Issuer(*authority("Root", begin=NOW - HOUR / 2, end=NOW + 10 * DAY))
        certificate, key = authority("Longer", above, begin=NOW - YEAR)
        issuer = Issuer(certificate, key, above.path)
        leaf = issuer.issue(THING, now=NOW).certificate
        self.assertEqual(NOW + 10 * DAY, leaf.not_valid_after_utc)
        self.assertEqual(NOW + 10 * DAY, issuer.not_valid_after)
        self.assertEqual(above.certificate.not_valid_before_utc, leaf.not_valid_before_utc)
        error = self.assertRaises(ConfigurationError, issuer.issue, THING, now=NOW + 11 * DAY)
        self.assertIn("CN=Root has expired", str(error))


class AuthorityTests(SynchronousTestCase):
    """What may sign."""

    def refuse(self, certificate: x509.Certificate, key: Any, field: str, words: str) -> None:
        error = self.assertRaises(Invalid, Issuer, certificate, key)
        self.assertEqual(field, error.field)
        self.assertIn(words, str(error))

    def test_no_authority(self) -> None:
        for extensions in (
            (),
            ((x509.BasicConstraints(False, None), True),),
            (key_usage(key_cert_sign=True),),
            (CA, key_usage(digital_signature=True, crl_sign=True)),
        ):
            certificate, key = authority("No", extensions=extensions)
            self.refuse(certificate, key, "certificate", "no certificate of an authority")
        certificate, key = authority("Yes", extensions=(CA, key_usage(key_cert_sign=True)))
        Issuer(certificate, key).issue(THING, now=NOW)

    def test_other_key(self) -> None:
        certificate, _ = authority("One")
        self.refuse(certificate, new_key(), "key", "does not belong")

    def test_unreadable(self) -> None:
        """An extension that is no DER is found when it is looked into, and not before."""
        broken = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.19"), b"\xff")
        certificate, key = authority("Broken", extensions=((broken, True),))
        self.refuse(certificate, key, "certificate", "cannot be read")

    def test_usages_of_authorities(self) -> None:
        """OpenSSL refuses a client under an authority whose extended key usages lack it."""
        for usages, accepted in (
            ([ExtendedKeyUsageOID.CLIENT_AUTH], True),
            ([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH], True),
            ([ExtendedKeyUsageOID.SERVER_AUTH], False),
            ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], False),
        ):
            certificate, key = authority("Some", extensions=(CA, (x509.ExtendedKeyUsage(usages), False)))
            issuer = Issuer(certificate, key)
            if accepted:
                issuer.issue(THING, now=NOW)
            else:
                error = self.assertRaises(ConfigurationError, issuer.issue, THING, now=NOW)
                self.assertIn("usage", str(error))

    def test_name_constraints(self) -> None:
        """Who may certify hosts of one domain alone cannot certify things."""
        uri, host = x509.UniformResourceIdentifier("example.org"), x509.DNSName("example.org")
        directory = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example")]))
        for permitted, excluded, accepted in (
            ([host], None, True),
            (None, [host], True),
            (None, [directory], True),
            ([directory], None, False),
            ([host, uri], None, False),
            (None, [uri], False),
        ):
            constraints = x509.NameConstraints(permitted, excluded)
            certificate, key = authority("Some", extensions=(CA, (constraints, True)))
            issuer = Issuer(certificate, key)
            if accepted:
                issuer.issue(THING, now=NOW)
            else:
                error = self.assertRaises(ConfigurationError, issuer.issue, THING, now=NOW)
                self.assertIn("constrained", str(error))

    def test_no_authority_above(self) -> None:
        """A leaf that signed an authority is none, whoever says so."""
        leaf_key = new_key()
        leaf, _ = authority("Leaf", key=leaf_key, extensions=())
        fake = root()
        fake.certificate, fake.key = leaf, leaf_key
        certificate, key = authority("Below", fake)
        error = self.assertRaises(Invalid, Issuer, certificate, key, [leaf])
        self.assertIn("no certificate of an authority", str(error))
