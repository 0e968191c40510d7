"""Which thing a certificate names: the first identity that is present, and none that is weaker."""

import itertools
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mfserver.certificates import CertificateRecord, thing_uri
from mfserver.cred.attempts import Attempts
from mfserver.cred.authentication import x509_mode
from mfserver.cred.identity import METHODS, Identities
from mfserver.cred.tokens import TokenOwners
from mfserver.errors import ConfigurationError, NotAuthorized, Overloaded
from mfserver.interfaces import IThing
from mfserver.records import Change, Claims, ThingId
from tests.cred.fakes import ALICE, CHANNEL, SECRET, CarefulPeer, House, LiveConnection, alices_thing

OWN, VICTIM = alices_thing(1), alices_thing(2)
OURS, OTHERS = object(), object()
WS: dict[str, Any] = {"needs_key": True}
MQTT: dict[str, Any] = {"needs_key": True, "needs_thing_id": True}
NUMBERS = itertools.count(1)


class IdentityCase(SynchronousTestCase):
    """Certificate mode, with Alice's things 1 and 2."""

    slow = False

    def setUp(self) -> None:
        self.home = House(slow=self.slow)
        self.issuers: list[object] = [OURS]
        self.use()

    def use(self, methods: Collection[str] = METHODS, only: bool = False, size: int = 100) -> None:
        """Begin anew, with these options."""
        seconds = self.home.clock.seconds
        self.identities = Identities(
            self.home.certificates, lambda: self.issuers, seconds, methods=methods, size=size
        )
        owners = TokenOwners(SECRET, self.home.store.users, self.home.store.keys, seconds)
        attempts = Attempts(self.home.clock, burst=10_000)
        self.authenticator, _ = x509_mode(
            self.home.access, self.identities, owners, attempts, seconds, certificate_only=only
        )

    def issued(self, *, ended: bool = False, revoked: bool = False) -> CertificateRecord:
        """A certificate of OWN that stands in our records."""
        now = int(self.home.clock.seconds())
        number = next(NUMBERS)
        record = CertificateRecord(
            f"{number:x}",
            number.to_bytes(32, "big"),
            OWN.id,
            ALICE.id,
            bytes(32),
            b"DER",
            now - 100,
            now - 1 if ended else now + 100,
            now - 100,
        )
        self.successResultOf(self.home.store.certificates.add(record))
        if revoked:
            self.revoke(record)
        return record

    def revoke(self, record: CertificateRecord) -> None:
        revoked = self.home.store.certificates.revoke(ALICE.id, record.serial, "keyCompromise", 1)
        self.successResultOf(revoked)

    def enter(
        self, peer: CarefulPeer, claims: Claims | None = None, connection: LiveConnection | None = None
    ) -> Deferred[Any]:
        return self.authenticator.authenticate(claims or Claims("a"), peer, connection)

    def who(self, peer: CarefulPeer, claims: Claims | None = None) -> str:
        """The thing that is let in, or why none is."""
        entered = self.enter(peer, claims)
        answers: list[str] = []
        entered.addCallbacks(
            lambda result: answers.append(IThing(result[0]).id),
            lambda failure: answers.append(str(failure.value)),
        )
        self.assertEqual(len(answers), 1)
        for key in (OWN.key, VICTIM.key):
            self.assertNotIn(key, answers[0])
        again = self.authenticator.recognise(claims or Claims("a"), peer)
        self.assertEqual(answers[0] if answers[0] in (OWN.id, VICTIM.id) else None, again and again.id)
        return answers[0]

    def refused(self, peer: CarefulPeer, words: str, claims: Claims | None = None) -> None:
        self.assertIn(words, self.who(peer, claims))


class FingerprintTests(IdentityCase):
    """What stands in our records decides first, whatever the certificate says."""

    def test_active(self) -> None:
        record = self.issued()
        for name in (OWN.id, VICTIM.key, None):
            peer = CarefulPeer(
                name, fingerprint=record.fingerprint, uris=[thing_uri(VICTIM.id)], issuer=OTHERS
            )
            self.assertEqual(self.who(peer), OWN.id)
            self.assertEqual(len(peer.verified), 2)  # once each way

    def test_revoked_or_expired_is_not_passed_over(self) -> None:
        """Though the URI and the common name would both do."""
        for record, words in (
            (self.issued(revoked=True), "is revoked"),
            (self.issued(ended=True), "has expired"),
        ):
            uris = [thing_uri(OWN.id)]
            peer = CarefulPeer(OWN.key, fingerprint=record.fingerprint, uris=uris, issuer=OURS)
            for _ in range(2):
                self.refused(peer, words)

    def test_revoked_by_whatever_method(self) -> None:
        """A method that is off is as if it were absent, but what is revoked stays that."""
        revoked, ended = self.issued(revoked=True), self.issued(ended=True)
        for methods in (["san"], ["cn"], ["san", "cn"]):
            self.use(methods)
            for record, words in ((revoked, "is revoked"), (ended, OWN.id)):
                uris = [thing_uri(OWN.id)]
                peer = CarefulPeer(OWN.key, fingerprint=record.fingerprint, uris=uris, issuer=OURS)
                self.refused(peer, words)

    def test_deleted_thing(self) -> None:
        """Also one whose certificate is remembered as active."""
        record = self.issued()
        peer = CarefulPeer(OWN.id, fingerprint=record.fingerprint)
        self.assertEqual(self.who(peer), OWN.id)
        self.home.store._tables.things.pop(OWN.id)  # the certificates stay as they are
        self.home.access.changed(Change(things=(OWN.id,), deleted=True))
        self.refused(peer, "names no thing")

    def test_expires_while_it_is_remembered(self) -> None:
        record = self.issued()
        peer = CarefulPeer(OWN.id, fingerprint=record.fingerprint)
        self.assertEqual(self.who(peer), OWN.id)
        self.home.clock.advance(101)
        self.refused(peer, "has expired")


class UriTests(IdentityCase):
    """One URI of ours, on a certificate that our authority issued itself."""

    def peer(self, *uris: str, issuer: object = OURS, name: str | None = OWN.key) -> CarefulPeer:
        return CarefulPeer(name, uris=uris, issuer=issuer)

    def test_ours(self) -> None:
        for name in (VICTIM.key, VICTIM.id, None):
            self.assertEqual(self.who(self.peer(thing_uri(OWN.id), name=name)), OWN.id)

    def test_not_issued_by_us(self) -> None:
        """An authority that is trusted may not name our things so, and its common name is not asked then."""
        self.refused(self.peer(thing_uri(OWN.id), issuer=OTHERS), "cannot speak for")
        self.issuers.append(OTHERS)
        self.assertEqual(self.who(self.peer(thing_uri(OWN.id), issuer=OTHERS)), OWN.id)
        self.issuers.clear()
        self.refused(self.peer(thing_uri(OWN.id)), "cannot speak for")

    def test_two(self) -> None:
        for other in (VICTIM.id, OWN.id, "nonsense", ""):
            uris = [thing_uri(OWN.id), thing_uri(ThingId(other))]
            for order in (uris, uris[::-1]):
                self.refused(self.peer("urn:x", *order), "two things")

    def test_others_are_ignored(self) -> None:
        others = ["urn:uuid:" + VICTIM.id, "https://example.org/urn:mainflux:thing:" + VICTIM.id]
        self.assertEqual(self.who(self.peer(*others, thing_uri(OWN.id))), OWN.id)
        self.assertEqual(self.who(self.peer(*others, issuer=OTHERS)), OWN.id, "by the common name")

    def test_no_thing(self) -> None:
        """A URI of ours is present, so nothing else is asked."""
        for name in ("", "nobody", OWN.key, OWN.id + "?", OWN.id.upper() + " ", VICTIM.id[:-1]):
            self.refused(self.peer("urn:mainflux:thing:" + name), "names no thing")
        for uri in ("URN:MAINFLUX:THING:" + OWN.id, "Urn:mainflux:thing:" + OWN.id):
            self.refused(self.peer(uri), "names no thing")

    def test_off(self) -> None:
        self.use(["fingerprint", "cn"])
        self.assertEqual(self.who(self.peer(thing_uri(VICTIM.id), issuer=OTHERS)), OWN.id)
        self.refused(self.peer(thing_uri(VICTIM.id), name=VICTIM.id), "names no thing")


class CommonNameTests(IdentityCase):
    def test_key(self) -> None:
        self.assertEqual(self.who(CarefulPeer(OWN.key)), OWN.id)

    def test_a_things_id_names_nobody(self) -> None:
        for name in (OWN.id, VICTIM.id):
            self.refused(CarefulPeer(name), "names no thing")

    def test_off(self) -> None:
        for methods in (["fingerprint"], ["san"], ["fingerprint", "san"]):
            self.use(methods)
            self.refused(CarefulPeer(OWN.key), "names no thing")

    def test_unknown_methods(self) -> None:
        """A list that is empty or misspelled is a mistake, and none that lets in more."""
        for methods in ([], ["CN"], ["cn", "email"]):
            error = self.assertRaises(ConfigurationError, self.use, methods)
            self.assertEqual(error.option, "--identity")

    def test_no_secret_is_printed(self) -> None:
        found = Deferred.fromCoroutine(self.identities.identity(CarefulPeer(OWN.key)))
        self.assertEqual(repr(self.successResultOf(found)), "<Identity by cn>")


class ClaimsTests(IdentityCase):
    """What a client says besides must be the thing's, however its certificate names it."""

    def peers(self) -> dict[str, CarefulPeer]:
        return {
            "fingerprint": CarefulPeer(OWN.id, fingerprint=self.issued().fingerprint),
            "san": CarefulPeer(OWN.id, uris=[thing_uri(OWN.id)], issuer=OURS),
            "cn": CarefulPeer(OWN.key),
        }

    #: (what, claims, let in, let in with certificate_only unless the certificate holds the key)
    ROWS: list[tuple[str, Claims, bool, bool]] = [
        ("https nothing", Claims("a"), True, True),
        ("https key", Claims("a", (OWN.key,)), True, True),
        ("https stolen key", Claims("a", (VICTIM.key,)), False, False),
        ("https end of the key", Claims("a", (OWN.key[1:],)), False, False),
        ("https empty key", Claims("a", ("",)), False, False),
        ("https the id as the key", Claims("a", (OWN.id,)), False, False),
        ("https own and stolen key", Claims("a", (OWN.key, VICTIM.key)), False, False),
        ("https another's id", Claims("a", (), VICTIM.id), False, False),
        ("wss nothing", Claims("a", **WS), False, False),
        ("wss key", Claims("a", (OWN.key,), **WS), True, True),
        ("wss stolen key", Claims("a", (VICTIM.key,), **WS), False, False),
        ("mqtt nothing", Claims("a", **MQTT), False, True),
        ("mqtt id and key", Claims("a", (OWN.key,), OWN.id, **MQTT), True, True),
        ("mqtt key", Claims("a", (OWN.key,), **MQTT), False, True),
        ("mqtt id", Claims("a", (), OWN.id, **MQTT), False, True),
        ("mqtt stolen key", Claims("a", (VICTIM.key,), OWN.id, **MQTT), False, False),
        ("mqtt empty key", Claims("a", ("",), OWN.id, **MQTT), False, False),
        ("mqtt another's id", Claims("a", (OWN.key,), VICTIM.id, **MQTT), False, False),
        ("mqtt another's id alone", Claims("a", (), VICTIM.id, **MQTT), False, False),
        ("mqtt empty id", Claims("a", (), "", **MQTT), False, False),
        ("mqtt in a page, nothing", Claims("a", by_browser=True, **MQTT), False, False),
        ("mqtt in a page, id", Claims("a", (), OWN.id, by_browser=True, **MQTT), False, False),
        ("mqtt in a page, all", Claims("a", (OWN.key,), OWN.id, by_browser=True, **MQTT), True, True),
    ]

    def test_every_row(self) -> None:
        for only in (False, True):
            self.use(only=only)
            for method, peer in self.peers().items():
                for row, claims, usual, alone in self.ROWS:
                    with self.subTest(only=only, method=method, row=row):
                        is_in = alone if only and method != "cn" else usual
                        self.assertEqual(self.who(peer, claims) == OWN.id, is_in)

    def test_a_changed_key(self) -> None:
        """A certificate without a key goes on, with the new key where one is asked for."""
        record = self.issued()
        peer = CarefulPeer(OWN.id, fingerprint=record.fingerprint)
        self.assertEqual(self.who(peer, Claims("a", (OWN.key,), **WS)), OWN.id)
        self.home.store.things.set_key(ALICE.id, OWN.id, "a-new-key-for-thing-1")
        self.home.access.changed(Change(things=(OWN.id,)))
        self.assertEqual(self.who(peer), OWN.id)
        self.assertEqual(self.who(peer, Claims("a", ("a-new-key-for-thing-1",), **WS)), OWN.id)
        self.refused(peer, "not the client certificate's", Claims("a", (OWN.key,), **WS))

    def test_only_a_certificate_with_the_key_in_it_is_warned_of(self) -> None:
        with capturedLogs() as events:
            for peer in self.peers().values():
                peer.tls_version = "TLSv1.2"
                self.assertEqual(self.who(peer), OWN.id)
        self.assertEqual(len([event for event in events if "TLS 1.2" in event["log_format"]]), 1)


class MemoryTests(IdentityCase):
    """Our records are asked once, until they change; no answer from before a change counts after it."""

    slow = True

    def begin(self, fingerprint: bytes) -> Deferred[Any]:
        peer = CarefulPeer(OWN.key, fingerprint=fingerprint)
        return Deferred.fromCoroutine(self.identities.identity(peer))

    def ask(self, fingerprint: bytes) -> tuple[str, int]:
        """The method, or the refusal, and how often the store was asked."""
        found = self.begin(fingerprint)
        asked = len(self.home.slow.held)
        self.home.slow.release_all()
        answer: list[str] = []
        found.addCallbacks(
            lambda it: answer.append(it.method), lambda failure: answer.append(str(failure.value))
        )
        return answer[0], asked

    def test_once(self) -> None:
        """That there is no record is remembered, too: most certificates made elsewhere have none."""
        record = self.issued()
        for fingerprint, method in ((record.fingerprint, "fingerprint"), (bytes(32), "cn")):
            self.assertEqual(self.ask(fingerprint), (method, 1))
            self.assertEqual(self.ask(fingerprint), (method, 0))

    def test_forget(self) -> None:
        record, other = self.issued(), self.issued()
        self.ask(record.fingerprint)
        self.ask(other.fingerprint)
        self.revoke(record)
        self.identities.forget([record.fingerprint, b"unknown"])
        self.assertEqual(self.ask(record.fingerprint), ("the client certificate is revoked", 1))
        self.assertEqual(self.ask(record.fingerprint), ("the client certificate is revoked", 0))
        self.assertEqual(self.ask(other.fingerprint), ("fingerprint", 0))

    def test_the_least_lately_used_is_forgotten(self) -> None:
        self.use(size=2)
        prints = [self.issued().fingerprint for _ in range(3)]
        asked = [self.ask(prints[index])[1] for index in (0, 1, 0, 2, 0, 1)]
        self.assertEqual(asked, [1, 1, 0, 1, 0, 1])

    def test_no_certificate_is_kept(self) -> None:
        record = self.issued()
        self.ask(record.fingerprint)
        self.assertEqual(self.identities._known[record.fingerprint], replace(record, der=b""))

    def test_revoked_during_the_look_up(self) -> None:
        record = self.issued()
        found = self.begin(record.fingerprint)
        self.revoke(record)
        self.identities.forget([record.fingerprint])
        self.home.slow.release_all()
        self.failureResultOf(found, NotAuthorized)
        self.assertEqual(self.ask(record.fingerprint), ("the client certificate is revoked", 0))

    def test_a_change_of_another_during_the_look_up(self) -> None:
        record = self.issued()
        found = self.begin(record.fingerprint)
        self.identities.forget([bytes(32)])
        self.home.slow.release()
        self.assertEqual(self.successResultOf(found).method, "fingerprint")

    def test_one_that_never_holds_still(self) -> None:
        record = self.issued()
        found = self.begin(record.fingerprint)
        while self.home.slow.held:
            self.identities.forget([record.fingerprint])
            self.home.slow.release()
        self.failureResultOf(found, Overloaded)

    def test_revoked_while_the_thing_is_looked_up(self) -> None:
        """The certificate is verified after everything that is waited for."""
        record = self.issued()
        peer = CarefulPeer(OWN.id, fingerprint=record.fingerprint)
        entering = self.enter(peer, connection=LiveConnection())
        self.home.slow.release()
        peer.trouble = NotAuthorized("revoked")
        self.home.slow.release_all()
        self.failureResultOf(entering, NotAuthorized)
        self.assertEqual(self.home.access.live_things(), 0)


class FindByIdTests(IdentityCase):
    """The rights of a thing that is known by its id follow every change, as with its key."""

    slow = True

    def find(self) -> Deferred[ThingId | None]:
        return Deferred.fromCoroutine(self.home.access.find_by_id(OWN.id))

    def test_once(self) -> None:
        access = self.home.access
        self.assertFalse(access.has_key(OWN.id, OWN.key), "nobody knows it yet")
        found = self.find()
        self.home.slow.release_all()
        self.assertEqual(self.successResultOf(found), OWN.id)
        self.assertEqual(self.successResultOf(self.find()), OWN.id)
        by_key = Deferred.fromCoroutine(access.find(OWN.key))
        self.assertEqual((self.successResultOf(by_key), self.home.slow.asked), (OWN.id, 1))
        self.assertTrue(access.has_key(OWN.id, OWN.key))
        for key in (VICTIM.key, "", OWN.key + "x", OWN.key[:-1], "\udc80"):
            self.assertFalse(access.has_key(OWN.id, key))

    def test_logged_in(self) -> None:
        peer = CarefulPeer(OWN.id, uris=[thing_uri(OWN.id)], issuer=OURS)
        entered = self.enter(peer, connection=LiveConnection())
        self.home.slow.release_all()
        thing, _ = self.successResultOf(entered)
        self.assertEqual(thing.channels, {CHANNEL})
        self.assertEqual(self.successResultOf(self.find()), OWN.id)
        self.home.access.changed(Change((OWN.id,), (CHANNEL,)))
        self.assertEqual(thing.channels, set())

    def test_deleted_during_the_look_up(self) -> None:
        for steps in (0, 1):
            self.home = House(slow=True)
            found = self.find()
            for _ in range(steps):
                self.home.slow.release()
            self.home.store.things.remove(ALICE.id, OWN.id)
            self.home.access.changed(Change(things=(OWN.id,), deleted=True))
            self.home.slow.release_all()
            self.assertIsNone(self.successResultOf(found))

    def test_a_store_that_is_mistaken(self) -> None:
        """One that does not compare in full gives nobody another's rights."""

        class CarelessThings:
            def by_id(self, thing: ThingId) -> Deferred[Any]:
                return succeed(OWN)

        careless: Any = CarelessThings()
        self.home.access._store = careless
        other = Deferred.fromCoroutine(self.home.access.find_by_id(VICTIM.id))
        self.assertIsNone(self.successResultOf(other))
