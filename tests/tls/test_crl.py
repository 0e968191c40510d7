"""Revocation lists of others: which are believed, which are refused at once, and what they refuse."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import time

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.logger import LogEvent, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mfserver.ca.x509 import encode_certificate
from mfserver.errors import ConfigurationError, NotAuthorized
from mfserver.tls.crl import MAX_SIZE, RevocationLists, read_lists
from tests.tls.pki import DAY, Authority

HOUR = timedelta(hours=1)


def pem(crl: x509.CertificateRevocationList) -> bytes:
    return crl.public_bytes(Encoding.PEM)


def point(**fields: bool) -> x509.IssuingDistributionPoint:
    """Which part of an authority's certificates a list is about."""
    names = {
        "user": "only_contains_user_certs",
        "ca": "only_contains_ca_certs",
        "indirect": "indirect_crl",
        "attribute": "only_contains_attribute_certs",
    }
    flags = {long: fields.get(short, False) for short, long in names.items()}
    url = x509.UniformResourceIdentifier("http://crl.example.org/1")
    reasons = frozenset([x509.ReasonFlags.key_compromise]) if fields.get("reasons") else None
    return x509.IssuingDistributionPoint(
        [url] if fields.get("part") else None, None, only_some_reasons=reasons, **flags
    )


class ListCase(SynchronousTestCase):
    """An authority, two certificates of its, and a file."""

    def setUp(self) -> None:
        self.authority = Authority()
        self.good, self.bad = (self.authority.client().certificate for _ in range(2))
        self.roots: Sequence[x509.Certificate] = [self.authority.certificate]
        self.path = self.mktemp()
        self.skew = 0.0

    def write(self, *parts: bytes, path: str | None = None) -> None:
        with open(path or self.path, "wb") as file:
            file.write(b"".join(parts))
        self.ticks = getattr(self, "ticks", 0) + 1
        os.utime(path or self.path, ns=(self.ticks, self.ticks))

    def now(self) -> float:
        return time() + self.skew

    def lists(self, *paths: str, stale: str = "refuse") -> RevocationLists:
        lists = RevocationLists(paths or [self.path], lambda: self.roots, stale=stale, now=self.now)
        lists.load()
        return lists

    def refused(self, lists: RevocationLists, certificate: x509.Certificate, words: str = "revoked") -> None:
        error = self.assertRaises(NotAuthorized, lists.check, certificate, self.now())
        self.assertIn(words, str(error))


class ReadTests(ListCase):
    """What stands in a file is believed whole, or not at all."""

    def refuse(self, *parts: bytes, words: str) -> None:
        self.write(*parts)
        error = self.assertRaises(ConfigurationError, read_lists, self.path, self.roots)
        self.assertEqual(error.option, "--crl")
        self.assertIn(self.path, str(error))
        self.assertIn(words, str(error))

    def test_pem_and_der(self) -> None:
        crl = self.authority.crl(self.bad)
        for data in (pem(crl), b"what it says\n" + pem(crl) + b"\n", crl.public_bytes(Encoding.DER)):
            self.write(data)
            [found] = read_lists(self.path, self.roots)
            self.assertEqual(found.serials, {self.bad.serial_number})
            self.assertEqual(found.next_update, crl.next_update_utc and crl.next_update_utc.timestamp())

    def test_several(self) -> None:
        other = Authority("Other")
        self.roots = [self.authority.certificate, other.certificate]
        self.write(pem(self.authority.crl(self.bad)), pem(other.crl()))
        self.assertEqual([len(found.serials) for found in read_lists(self.path, self.roots)], [1, 0])

    def test_no_list(self) -> None:
        whole = pem(self.authority.crl(self.bad))
        for data in (b"", b"hello", b"\0" * 100, bytes(10) + whole[10:]):
            self.refuse(data, words="no revocation list in PEM or DER")
        self.refuse(encode_certificate(self.good), words="no revocation list")
        self.refuse(whole.replace(b"M", b"A", 3), words="no revocation list in PEM or DER")

    def test_half_a_list(self) -> None:
        """A second list that is cut off is seen, though the first is whole; so is what is none."""
        whole = pem(self.authority.crl(self.bad))
        for length in (40, len(whole) // 2, len(whole) - 5):
            self.refuse(whole, whole[:length], words="half a list")
        self.refuse(whole, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", words="else")

    def test_unreadable(self) -> None:
        self.assertRaises(ConfigurationError, read_lists, self.path, self.roots)
        os.mkdir(self.path)
        error = self.assertRaises(ConfigurationError, read_lists, self.path, self.roots)
        self.assertIn("Is a directory", str(error))

    def test_too_large(self) -> None:
        self.refuse(b"\n" * (MAX_SIZE + 1), words="16 MiB")

    def test_signature(self) -> None:
        """An authority is its key: nobody else's signature counts, of whatever name."""
        stranger = Authority()
        for crl in (stranger.crl(), self.authority.crl(signer=stranger), Authority("Other").crl()):
            self.refuse(pem(crl), words="nobody trusted has signed")
        der = self.authority.crl(self.bad).public_bytes(Encoding.DER)
        changed = der.replace(self.bad.serial_number.to_bytes(16, "big")[-8:], bytes([1] * 8))
        self.assertNotEqual(der, changed)
        self.refuse(changed, words="nobody trusted has signed")

    def test_intermediate(self) -> None:
        """One that signs needs its certificate in the file, and that a chain to a root."""
        between = Authority("Between", self.authority)
        below = Authority("Below", between)
        crl = pem(below.crl(below.client().certificate))
        certificates = [encode_certificate(each.certificate) for each in (below, between)]
        self.write(crl, *certificates)
        self.assertEqual(len(read_lists(self.path, self.roots)), 1)
        self.refuse(crl, words="nobody trusted")
        self.refuse(crl, certificates[0], words="nobody trusted")
        leaf = Authority("Between", self.authority, is_authority=False)
        self.refuse(pem(leaf.crl()), encode_certificate(leaf.certificate), words="nobody trusted")
        alone = Authority("Alone")
        self.refuse(pem(alone.crl()), encode_certificate(alone.certificate), words="nobody trusted")

    def test_a_root_that_may_not_sign_lists(self) -> None:
        leaf = Authority(is_authority=False)  # its key usage has no cRLSign
        self.roots = [leaf.certificate]
        self.refuse(pem(leaf.crl()), words="nobody trusted")

    def test_authorities_that_say_little(self) -> None:
        """Where no usages are named none is forbidden; who does not say that it is an authority is none."""
        bare = without_extensions(self.authority.certificate, self.authority)
        self.roots = [bare]
        self.write(pem(self.authority.crl(self.bad)))
        [found] = read_lists(self.path, self.roots)
        self.assertIsNone(found.key_id)
        between = Authority("Between", self.authority)
        certificate = without_extensions(between.certificate, self.authority)
        self.refuse(pem(between.crl()), encode_certificate(certificate), words="nobody trusted")

    def test_delta(self) -> None:
        self.refuse(
            pem(self.authority.crl(extensions=[(x509.DeltaCRLIndicator(1), True)])), words="delta list"
        )

    def test_indirect(self) -> None:
        crl = self.authority.crl(extensions=[(point(indirect=True), True)])
        self.refuse(pem(crl), words="indirect")
        issuer = x509.CertificateIssuer([x509.DirectoryName(Authority("Other").name)])
        self.refuse(pem(self.authority.crl(self.bad, entry=issuer)), words="indirect")

    def test_partial(self) -> None:
        for field in ("attribute", "reasons"):
            crl = self.authority.crl(extensions=[(point(**{field: True}), True)])
            self.refuse(pem(crl), words="some reasons only")

    def test_unknown_extensions(self) -> None:
        """What is critical and not known forbids using the list (RFC 5280, 5.2); the rest is let be."""
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
        self.refuse(pem(self.authority.crl(extensions=[(unknown, True)])), words="1.2.3.4")
        number = x509.CRLNumber(7)
        self.write(pem(self.authority.crl(extensions=[(unknown, False), (number, False)])))
        self.assertEqual(len(read_lists(self.path, self.roots)), 1)

    def test_no_next_update(self) -> None:
        self.refuse(without_next_update(self.authority), words="when the next one comes")


class CheckTests(ListCase):
    """Issuer and serial number decide."""

    def test_revoked(self) -> None:
        self.write(pem(self.authority.crl(self.bad)))
        lists = self.lists()
        self.assertEqual(len(lists), 1)
        lists.check(self.good, time())
        self.refused(lists, self.bad)

    def test_reasons(self) -> None:
        """Every entry counts: one that says it were on hold, too."""
        self.write(pem(self.authority.crl(self.bad, entry=x509.CRLReason(x509.ReasonFlags.certificate_hold))))
        self.refused(self.lists(), self.bad)

    def test_others_are_not_asked_for_a_list(self) -> None:
        other = Authority("Other")
        self.write(pem(self.authority.crl(self.bad)))
        self.lists().check(other.client().certificate, time())
        RevocationLists([], lambda: self.roots).check(self.bad, time())

    def test_names_are_compared_as_rfc_5280_does(self) -> None:
        """An authority that writes its name otherwise in a list is the same one."""
        spelled = Authority("Test  ca")
        spelled.key = self.authority.key
        self.write(pem(spelled.crl(self.bad)))
        self.refused(self.lists(), self.bad)

    def test_two_keys_of_one_name(self) -> None:
        """Old and new root side by side: the old one's list that is too old is no matter to the new one."""
        new = Authority()
        self.roots = [self.authority.certificate, new.certificate]
        self.write(pem(self.authority.crl(self.bad, end=-HOUR)), pem(new.crl()))
        lists = self.lists()
        lists.check(new.client().certificate, time())
        self.refused(lists, self.bad)
        self.refused(lists, self.good, "too old")

    def test_a_certificate_that_does_not_name_its_issuers_key(self) -> None:
        """It is looked for in every list of that name."""
        new = Authority()
        self.roots = [self.authority.certificate, new.certificate]
        self.write(pem(new.crl(self.bad)))
        lists = self.lists()
        lists.check(self.bad, time())
        self.refused(lists, without_extensions(self.bad, self.authority))

    def test_parts(self) -> None:
        """Lists of parts of the certificates are there side by side, and each must be young."""
        parts = [self.authority.crl(self.bad, extensions=[(point(user=True), True)])]
        parts.append(self.authority.crl(extensions=[(point(part=True), True)], begin=-HOUR))
        self.write(*map(pem, parts))
        lists = self.lists()
        self.assertEqual(len(lists), 2)
        self.refused(lists, self.bad)
        lists.check(self.good, time())

    def test_the_youngest_counts(self) -> None:
        """An old list beside a new one does not make the authority's certificates refused."""
        old = self.authority.crl(self.good, begin=-3 * DAY, end=-2 * DAY)
        new = self.authority.crl(self.bad)
        other = self.mktemp()
        for first, second in ((old, new), (new, old)):
            self.write(pem(first), path=other)
            self.write(pem(second))
            lists = self.lists(other, self.path)
            self.assertEqual(len(lists), 1)
            lists.check(self.good, time())
            self.refused(lists, self.bad)

    def test_unreadable_issuer(self) -> None:
        """Fail safe: what cannot be looked up is refused."""
        self.write(pem(self.authority.crl(self.bad)))
        der = self.good.public_bytes(Encoding.DER)
        broken = x509.load_der_x509_certificate(
            der.replace(b"\x0c\x07Test CA", b"\x0c\x07\xff\xff\xff\xff\xff\xff\xff")
        )
        self.refused(self.lists(), broken, "cannot be read")


class StaleTests(ListCase):
    """A list that should have been replaced."""

    def stale_lines(self, events: Sequence[LogEvent]) -> list[str]:
        return [event["consequence"] for event in events if "consequence" in event]

    def test_refuse(self) -> None:
        self.write(pem(self.authority.crl(self.bad, end=HOUR)))
        lists = self.lists()
        self.assertFalse(lists.poll())
        self.skew = 3601.0
        with capturedLogs() as events:
            self.assertTrue(lists.poll(), "live certificates are judged otherwise from now on")
            self.assertFalse(lists.poll())
        [line] = self.stale_lines(events)
        self.assertIn("are refused", line)
        self.refused(lists, self.good, "too old")
        self.refused(lists, self.bad)
        lists.check(Authority("Other").client().certificate, self.now())

    def test_warn(self) -> None:
        self.write(pem(self.authority.crl(self.bad, end=-HOUR)))
        with capturedLogs() as events:
            lists = self.lists(stale="warn")
            self.assertFalse(lists.poll())
            lists.check(self.good, time())
            lists.check(self.good, time())
        [line] = self.stale_lines(events)
        self.assertIn("are accepted", line)
        self.refused(lists, self.bad)

    def test_unknown_policy(self) -> None:
        error = self.assertRaises(ConfigurationError, self.lists, stale="ignore")
        self.assertEqual(error.option, "--crl-stale")


class ReloadTests(ListCase):
    """A file that changes is taken up; a bad one changes nothing."""

    def setUp(self) -> None:
        super().setUp()
        self.write(pem(self.authority.crl(self.bad)))
        self.reading = self.lists()

    def poll(self) -> tuple[bool, list[str]]:
        """Whether something is new, and the warnings."""
        with capturedLogs() as events:
            is_new = self.reading.poll()
        return is_new, [event["reason"] for event in events if event["log_level"].name == "warn"]

    def test_new_list(self) -> None:
        self.write(pem(self.authority.crl(self.bad, self.good)))
        self.assertEqual(self.poll(), (True, []))
        self.refused(self.reading, self.good)
        self.assertEqual(self.poll(), (False, []))

    def test_same_list(self) -> None:
        with open(self.path, "rb") as file:
            self.write(file.read())
        self.assertEqual(self.poll(), (False, []))

    def test_bad_file(self) -> None:
        """One line in the log for each try, and what was revoked stays revoked."""
        for data in (b"", b"nonsense", pem(Authority().crl()), pem(self.authority.crl())[:-30]):
            self.write(data)
            is_new, warnings = self.poll()
            self.assertEqual((is_new, len(warnings)), (False, 1))
            self.assertIn(self.path, warnings[0])
            self.assertEqual(self.poll(), (False, []))
            self.refused(self.reading, self.bad)
        os.unlink(self.path)
        self.assertEqual(len(self.poll()[1]), 1)
        self.refused(self.reading, self.bad)

    def test_one_bad_file_does_not_hold_up_another(self) -> None:
        other = self.mktemp()
        self.write(pem(self.authority.crl(self.bad)), path=other)
        self.reading = self.lists(self.path, other)
        self.write(b"nonsense")
        self.write(pem(self.authority.crl(self.good, self.bad, begin=-HOUR)), path=other)
        is_new, warnings = self.poll()
        self.assertEqual((is_new, len(warnings)), (True, 1))
        self.refused(self.reading, self.good)

    def test_older_list(self) -> None:
        """An old list put in the place of a new one gives nothing back."""
        self.write(pem(self.authority.crl(begin=-2 * DAY)))
        is_new, [warning] = self.poll()
        self.assertFalse(is_new)
        self.assertIn("older", warning)
        self.refused(self.reading, self.bad)

    def test_other_roots(self) -> None:
        """With new trust roots the files are read again: they may be signed by them."""
        new = Authority("New")
        certificate = new.client().certificate
        self.write(pem(new.crl(certificate)))
        self.assertEqual(self.poll()[0], False)
        self.roots = [new.certificate]
        self.assertTrue(self.reading.reload())
        self.refused(self.reading, certificate)
        self.assertFalse(self.reading.reload())


def without_next_update(authority: Authority) -> bytes:
    """A list without its optional field, which cryptography does not build; in DER."""
    body = authority.crl().tbs_certlist_bytes[2:-15]  # of an empty list the time of the next one is the end
    tbs = b"\x30" + bytes([len(body)]) + body
    bits = b"\x00" + authority.key.sign(tbs, ECDSA(SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    whole = tbs + algorithm + b"\x03" + bytes([len(bits)]) + bits
    return b"\x30\x81" + bytes([len(whole)]) + whole


def without_extensions(certificate: x509.Certificate, authority: Authority) -> x509.Certificate:
    """The same serial number in a certificate that says little."""
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        authority.name,
        certificate.subject,
        certificate.public_key(),
        certificate.serial_number,
        now,
        now + DAY,
    )
    return builder.sign(authority.key, SHA256())
