"""Certificates over HTTP (MAINFLUX.md, certificates)."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from cryptography.x509.oid import NameOID

from mfserver.api.bodies import CertIssued, CertOrder
from mfserver.ca.signing import NO_AUTHORITY
from mfserver.ca.x509 import PrivateKey, name, new_key
from mfserver.certificates import REASONS
from mfserver.provisioning.revocation_list import KEPT_FOR
from tests.api.test_things import KEY, HouseTestCase

DAY = 86_400


def request(key: PrivateKey, subject: str = "somebody else") -> str:
    """A certificate signing request in PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name(subject))
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def load(text: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(text.encode())


def common_name(certificate: x509.Certificate) -> str:
    (attribute,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attribute.value)


class CertsTestCase(HouseTestCase):
    """An owner with a thing."""

    def setUp(self) -> None:
        super().setUp()
        self.thing = self.create("things", key=KEY)

    def issue(self, status: int = 201, **wishes: Any) -> Any:
        return self.ask("POST", "/certs", {"thing_id": self.thing, **wishes}, status)

    def serial(self, **wishes: Any) -> str:
        return str(self.issue(**wishes)["cert_serial"])

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.house.clock.seconds(), UTC)


class IssueTests(CertsTestCase):
    """POST /certs."""

    def test_issued(self) -> None:
        """Mainflux's names; EC P-256, 90 days, the thing's id and URI, and the key that belongs to it."""
        shown = self.issue()
        leaf = load(shown["cert"])
        self.assertEqual(set(shown), {"thing_id", "cert", "cert_key", "cert_serial", "ca_cert", "expiration"})
        self.assertEqual((shown["thing_id"], common_name(leaf)), (self.thing, self.thing))
        self.assertEqual(shown["cert_serial"], f"{leaf.serial_number:x}")
        self.assertEqual(leaf.not_valid_after_utc, self.now() + timedelta(days=90))
        leaf.verify_directly_issued_by(load(shown["ca_cert"]))
        key = load_pem_private_key(shown["cert_key"].encode(), None)
        self.assertEqual(key.public_key(), leaf.public_key())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(
            names.get_values_for_type(x509.UniformResourceIdentifier), [f"urn:mainflux:thing:{self.thing}"]
        )

    def test_the_key_is_shown_once(self) -> None:
        """Nothing that is asked for later holds it, and no cache may keep the answer."""
        answer = self.house.ask("POST", "/certs", {"thing_id": self.thing}, token=self.token)
        self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertEqual(answer.headers["location"], f"/certs/{answer.json['cert_serial']}")
        serial = answer.json["cert_serial"]
        for path in f"/certs/{serial}", f"/certs/{serial}?format=pem", "/certs", f"/certs/{self.thing}":
            self.assertNotIn(b"PRIVATE", self.house.ask("GET", path, token=self.token).entity)

    def test_wishes(self) -> None:
        """Mainflux's fields: bits, type and validity, in hours as it writes them or in days."""
        for wishes, bits, days in (
            ({"valid": "2160h"}, 256, 90),
            ({"valid": "30d", "key_bits": 384}, 384, 30),
            ({"valid": 7, "key_type": "ec"}, 256, 7),
            ({"key_bits": 2048, "key_type": "rsa", "valid": "24h"}, 2048, 1),
            ({"key_bits": 2048}, 2048, 90),
            ({"valid": 3650}, 256, 365),  # the authority ends before
        ):
            leaf = load(self.issue(**wishes)["cert"])
            self.assertEqual(leaf.public_key().key_size, bits)  # type: ignore[union-attr]
            self.assertEqual(leaf.not_valid_after_utc, self.now() + timedelta(days=days))

    def test_common_name(self) -> None:
        """The thing's key stands there on request alone."""
        self.assertEqual(common_name(load(self.issue(cn="id")["cert"])), self.thing)
        self.assertEqual(common_name(load(self.issue(cn="key")["cert"])), KEY)

    def test_bundle(self) -> None:
        """PKCS #12 in base64, in place of the key."""
        shown = self.issue(format="p12", password="correct horse")
        self.assertNotIn("cert_key", shown)
        opened = load_pkcs12(base64.b64decode(shown["p12"]), b"correct horse")
        assert opened.cert is not None and opened.key is not None
        self.assertEqual(opened.cert.certificate, load(shown["cert"]))
        self.assertEqual(opened.key.public_key(), opened.cert.certificate.public_key())

    def test_malformed(self) -> None:
        """Every wrong field is 400 and named, and nothing is kept."""
        for wishes, field in (
            ({"valid": "x"}, "valid"),
            ({"valid": "3651d"}, "valid"),
            ({"valid": 0}, "valid"),
            ({"valid": []}, "valid"),
            ({"key_type": "dsa"}, "key_type"),
            ({"key_bits": 1024}, "key_bits"),
            ({"key_bits": 16384}, "key_bits"),
            ({"key_bits": "2048"}, "key_bits"),
            ({"cn": "victim"}, "cn"),
            ({"format": "der"}, "format"),
            ({"format": "p12"}, "password"),
            ({"format": "p12", "password": ""}, "password"),
            ({"format": "p12", "password": "x" * 1025}, "password"),
            ({"password": "x"}, "password"),
        ):
            self.assertIn(field, self.issue(400, **wishes)["error"])
        self.ask("POST", "/certs", {}, 400)
        surrogate = b'{"thing_id":"' + self.thing.encode() + b'","format":"p12","password":"\\ud800"}'
        self.ask("POST", "/certs", surrogate, 400)
        self.assertEqual(self.ask("GET", "/certs")["total"], 0)

    def test_secrets(self) -> None:
        """Neither a password nor a key is in what a traceback shows."""
        order = CertOrder("t", password="wrong-horse")
        issued = CertIssued("t", "c", "ab", "ca", self.now(), cert_key="wrong-horse", p12=b"wrong-horse")
        self.assertNotIn("wrong-horse", f"{order!r} {issued!r}")

    def test_not_mine(self) -> None:
        """Somebody else's thing looks absent."""
        theirs = self.house.create(self.other, "things")
        for thing in theirs, str(uuid4()), "x", "":
            self.assertIn("no such thing", self.issue(404, thing_id=thing)["error"])

    def test_api_key(self) -> None:
        """A program with an API key may, too; nobody else, and no thing with its key."""
        key = self.ask("POST", "/keys", {"type": 2}, 201)["value"]
        body = {"thing_id": self.thing}
        self.assertEqual(self.house.ask("POST", "/certs", body, token=key).status, 201)
        for token in None, KEY, "x":
            self.assertEqual(self.house.ask("POST", "/certs", body, token=token).status, 401)

    def test_overload(self) -> None:
        """503 past the bound, with a time to wait."""
        self.house.workers.full = True
        answer = self.house.ask("POST", "/certs", {"thing_id": self.thing}, token=self.token)
        self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "1"))

    def test_no_authority(self) -> None:
        """What needs one says what to do; all else goes on."""
        serial = self.serial()
        self.house.signing.issuer = None
        self.house.revocation_list.forget()
        for method, path, body in (
            ("POST", "/certs", {"thing_id": self.thing}),
            ("POST", "/certs/sign", {"thing_id": self.thing, "csr": ""}),
            ("POST", f"/certs/{serial}/renew", {}),
            ("GET", "/certs/crl", None),
            ("GET", "/certs/ca", None),
        ):
            self.assertEqual(self.ask(method, path, body, 503)["error"], NO_AUTHORITY)
        self.assertEqual(self.ask("GET", f"/certs/{serial}")["state"], "active")
        self.ask("DELETE", f"/certs/{serial}")


class SignTests(CertsTestCase):
    """POST /certs/sign."""

    def sign(self, csr: str, status: int = 201, **wishes: Any) -> Any:
        return self.ask("POST", "/certs/sign", {"thing_id": self.thing, "csr": csr, **wishes}, status)

    def test_signed(self) -> None:
        """The key is the request's; the names are ours."""
        key = new_key()
        shown = self.sign(request(key, "another thing"), valid="48h")
        leaf = load(shown["cert"])
        self.assertEqual((leaf.public_key(), common_name(leaf)), (key.public_key(), self.thing))
        self.assertEqual(leaf.not_valid_after_utc, self.now() + timedelta(days=2))
        self.assertNotIn("cert_key", shown)
        self.assertEqual(common_name(load(self.sign(request(key), cn="key")["cert"])), KEY)

    def test_refused(self) -> None:
        """No request, one that another key signed, a weak key, one too long; the error names it."""
        good = request(new_key())
        forged = x509.load_pem_x509_csr(good.encode()).public_bytes(Encoding.DER)
        forged = forged[:-1] + bytes([forged[-1] ^ 1])
        pem = base64.encodebytes(forged).decode()
        for csr in (
            "",
            "x",
            f"-----BEGIN CERTIFICATE REQUEST-----\n{pem}-----END CERTIFICATE REQUEST-----\n",
            request(rsa.generate_private_key(65537, 1024)),
            good + good,
        ):
            self.assertIn("csr", self.sign(csr, 400)["error"])
        self.ask("POST", "/certs/sign", b'{"thing_id":"' + self.thing.encode() + b'","csr":"\\ud800"}', 400)
        self.sign("x" * 20_000, 413)
        self.sign(good, 400, valid="x")
        theirs = self.house.create(self.other, "things")
        self.sign(good, 404, thing_id=theirs)
        self.assertEqual(self.ask("GET", "/certs")["total"], 0)


class RenewTests(CertsTestCase):
    """POST /certs/<serial>/renew."""

    def renew(self, serial: str, status: int = 201, **wishes: Any) -> Any:
        return self.ask("POST", f"/certs/{serial}/renew", wishes, status)

    def test_renewed(self) -> None:
        """The same key lives on under a new serial number; the old certificate stays good, and says so."""
        old = self.issue()
        self.house.clock.advance(60 * DAY)
        new = self.renew(old["cert_serial"], valid="10d")
        self.assertEqual(load(new["cert"]).public_key(), load(old["cert"]).public_key())
        self.assertEqual(load(new["cert"]).not_valid_after_utc, self.now() + timedelta(days=10))
        self.assertNotIn("cert_key", new)
        shown = self.ask("GET", f"/certs/{old['cert_serial']}")
        self.assertEqual((shown["state"], shown["replaced_by"]), ("active", new["cert_serial"]))
        self.renew(old["cert_serial"], 409)
        self.renew(new["cert_serial"])

    def test_another_key(self) -> None:
        key = new_key()
        new = self.renew(self.serial(), csr=request(key))
        self.assertEqual(load(new["cert"]).public_key(), key.public_key())
        self.assertIn("csr", self.renew(new["cert_serial"], 400, csr="x")["error"])

    def test_refused(self) -> None:
        """A revoked one is not renewed, nor one of a thing that is gone, nor somebody else's."""
        serial = self.serial()
        self.ask("DELETE", f"/certs/{serial}")
        self.renew(serial, 409)
        self.renew("ab", 404)
        theirs = self.house.create(self.other, "things")
        answer = self.house.ask("POST", "/certs", {"thing_id": theirs}, token=self.other)
        self.renew(answer.json["cert_serial"], 404)
        serial = self.serial()
        self.ask("DELETE", f"/things/{self.thing}", status=204)
        self.renew(serial, 404)


class ListTests(CertsTestCase):
    """GET /certs and /certs/<id>."""

    def listed(self, query: str = "") -> list[str]:
        page = self.ask("GET", f"/certs{query}")
        self.assertLessEqual({"total", "offset", "limit", "certs"}, set(page))
        return [each["cert_serial"] for each in page["certs"]]

    def test_filters(self) -> None:
        """Thing, state and when they end; the youngest first."""
        other = self.create("things")
        short, long = self.serial(valid="1d"), self.serial()
        others = self.serial(thing_id=other, valid="20d")
        self.assertEqual(self.listed(), [others, long, short])
        self.assertEqual(self.listed(f"?thing={self.thing}"), [long, short])
        self.assertEqual(self.listed("?ends_within=30d"), [others, short])
        self.assertEqual(self.listed("?ends_within=48h"), [short])
        self.assertEqual(self.listed("?offset=1&limit=1"), [long])
        self.ask("DELETE", f"/certs/{long}")
        self.house.clock.advance(2 * DAY)
        for state, expected in ("active", [others]), ("revoked", [long]), ("expired", [short]):
            self.assertEqual(self.listed(f"?state={state}"), expected)
        self.assertEqual(self.listed("?thing=x"), [])
        self.assertEqual(self.listed(f"?thing={uuid4()}"), [])

    def test_of_a_thing(self) -> None:
        """Mainflux's page of serial numbers; 404 for a thing that is not there, but not once it was."""
        serial = self.serial()
        page = self.ask("GET", f"/certs/{self.thing}?limit=5")
        self.assertEqual((page["total"], page["limit"]), (1, 5))
        self.assertEqual(page["certs"][0]["cert_serial"], serial)
        self.assertEqual(self.ask("GET", f"/certs/{self.create('things')}")["total"], 0)
        self.ask("GET", f"/certs/{uuid4()}", status=404)
        theirs = self.house.create(self.other, "things")
        self.ask("GET", f"/certs/{theirs}", status=404)
        self.ask("DELETE", f"/things/{self.thing}", status=204)
        (shown,) = self.ask("GET", f"/certs/{self.thing}")["certs"]
        self.assertEqual((shown["state"], shown["reason"]), ("revoked", "cessationOfOperation"))

    def test_malformed(self) -> None:
        for query in (
            *("?limit=0", "?limit=101", "?limit=x", "?offset=-1", "?state=lost", "?ends_within=x"),
            *("?state=active&state=revoked", "?ends_within=0"),
        ):
            self.ask("GET", f"/certs{query}", status=400)
        self.ask("GET", f"/certs/{self.serial()}?format=p12", status=400)

    def test_forms(self) -> None:
        """One certificate as JSON, PEM and DER; its number as openssl prints it."""
        issued = self.issue()
        serial, leaf = issued["cert_serial"], load(issued["cert"])
        shown = self.ask("GET", f"/certs/{serial}")
        self.assertEqual((shown["cert"], shown["state"]), (issued["cert"], "active"))
        self.assertEqual(shown["fingerprint"], leaf.fingerprint(SHA256()).hex())
        self.assertEqual(shown["expiration"], issued["expiration"])
        pem = self.house.ask("GET", f"/certs/{serial}?format=pem", token=self.token)
        self.assertEqual(pem.headers["content-type"], "application/pem-certificate-chain")
        self.assertEqual(load(pem.entity.decode()), leaf)
        der = self.house.ask("GET", f"/certs/{serial}?format=der", token=self.token)
        self.assertEqual(der.headers["content-type"], "application/pkix-cert")
        self.assertEqual(x509.load_der_x509_certificate(der.entity), leaf)
        printed = ":".join(serial.upper()[at : at + 2] for at in range(0, len(serial), 2))
        if len(serial) % 2 == 0:
            self.ask("GET", f"/certs/{printed}")
        self.ask("GET", f"/certs/{serial.upper()}")

    def test_not_mine(self) -> None:
        """Somebody else's certificate looks absent, whatever is asked."""
        serial = self.serial()
        for method, path, body in (
            ("GET", f"/certs/{serial}", None),
            ("GET", f"/certs/{serial}?format=pem", None),
            ("DELETE", f"/certs/{serial}", None),
            ("POST", f"/certs/{serial}/revoke", {}),
            ("POST", f"/certs/{serial}/renew", {}),
            ("GET", f"/certs/{self.thing}", None),
        ):
            self.assertEqual(self.house.ask(method, path, body, token=self.other).status, 404)
        self.assertEqual(self.house.ask("GET", "/certs", token=self.other).json["total"], 0)
        self.assertEqual(self.house.revocations.heard, [])


class RevokeTests(CertsTestCase):
    """DELETE /certs/<serial>, POST /certs/<serial>/revoke and GET /certs/crl."""

    def crl(self) -> x509.CertificateRevocationList:
        answer = self.house.ask("GET", "/certs/crl")
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "application/pkix-crl"))
        self.assertEqual(answer.headers["cache-control"], f"public, max-age={KEPT_FOR}")
        return x509.load_der_x509_crl(answer.entity)

    def test_revoked(self) -> None:
        """Both ways, with every reason; it is told at once, and stays as it was first."""
        for reason in REASONS:
            for method, path, body in (
                ("DELETE", "/certs/{}?reason=" + reason, None),
                ("POST", "/certs/{}/revoke", {"reason": reason}),
            ):
                serial = self.serial()
                shown = self.ask(method, path.format(serial), body)
                self.assertEqual(shown["reason"], reason)
                self.assertEqual(self.house.revocations.heard[-1], serial)
                self.house.clock.advance(5)
                self.assertEqual(self.ask("DELETE", f"/certs/{serial}?reason=superseded"), shown)
                self.assertEqual(self.ask("GET", f"/certs/{serial}")["state"], "revoked")
        self.assertEqual(self.ask("DELETE", f"/certs/{self.serial()}")["reason"], "unspecified")

    def test_thing_deleted(self) -> None:
        """All certificates of a deleted thing end with it; another thing's, and expired ones, do not."""
        self.issue(thing_id=self.create("things"))
        self.serial(valid="1s")
        self.house.clock.advance(5)
        serials = [self.serial() for _ in range(101)]
        self.ask("DELETE", f"/things/{self.thing}", status=204)
        self.assertEqual(sorted(self.house.revocations.heard), sorted(serials))
        self.ask("DELETE", f"/things/{self.create('things')}", status=204)
        self.assertEqual(len(self.house.revocations.heard), 101)
        self.ask(
            "DELETE", f"/things/{self.thing}", status=204
        )  # as after a first time that failed on the way
        self.assertEqual(sorted(self.house.revocations.heard), sorted(2 * serials))

    def test_refused(self) -> None:
        serial = self.serial()
        self.assertIn("reason", self.ask("DELETE", f"/certs/{serial}?reason=x", status=400)["error"])
        self.ask("POST", f"/certs/{serial}/revoke", {"reason": "certificateHold"}, 400)
        for absent in "ab", "x", self.thing, "%ff":
            self.ask("DELETE", f"/certs/{absent}", status=404)
        self.assertEqual((self.house.revocations.heard, len(list(self.crl()))), ([], 0))

    def test_list(self) -> None:
        """Public, signed by the authority that is public, too; a revocation stands in the next one."""
        serial = self.serial()
        before = self.crl()
        self.ask("DELETE", f"/certs/{serial}?reason=keyCompromise")
        crl = self.crl()
        (entry,) = crl
        self.assertEqual((len(list(before)), f"{entry.serial_number:x}"), (0, serial))
        trust = self.house.ask("GET", "/certs/ca")
        self.assertEqual(trust.headers["content-type"], "application/pem-certificate-chain")
        key: Any = load(trust.entity.decode()).public_key()
        self.assertTrue(crl.is_signature_valid(key))
        pem = self.house.ask("GET", "/certs/crl?format=pem")
        self.assertEqual(x509.load_pem_x509_crl(pem.entity), crl)
        self.ask("GET", "/certs/crl?format=p7", status=400)

    def test_list_is_kept(self) -> None:
        """Asking often costs nothing."""
        self.crl()
        done = self.house.workers.done
        for _ in range(10):
            self.crl()
        self.assertEqual(self.house.workers.done, done)
