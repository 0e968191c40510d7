"""A thing that is known from memory, and everything that makes memory ask anew."""

from collections.abc import Callable

from mfserver.certificates import thing_uri
from mfserver.cred.attempts import Attempts
from mfserver.cred.authentication import Authenticator, key_mode
from mfserver.cred.tokens import TokenOwners
from mfserver.errors import NotAuthorized, Unauthenticated
from mfserver.interfaces import IThing
from mfserver.records import Change, Claims
from tests.cred.fakes import CHANNEL, SECRET, CarefulPeer, House, alices_thing
from tests.cred.test_identity import OURS, OWN, VICTIM, IdentityCase

BY_KEY = Claims("192.0.2.1", (OWN.key,))
NOTHING = Claims("192.0.2.1")


class RecogniseTests(IdentityCase):
    """Both modes, after one request that was let in."""

    def setUp(self) -> None:
        super().setUp()
        self.attempts = Attempts(self.home.clock, interval=60.0, burst=2)
        self.by_key = self.key_mode(self.home)

    def key_mode(self, home: House) -> Authenticator:
        owners = TokenOwners(SECRET, home.store.users, home.store.keys, home.clock.seconds)
        return key_mode(home.access, owners, self.attempts)[0]

    def let_in(self, authenticator: Authenticator, claims: Claims, peer: CarefulPeer | None = None) -> None:
        _, logout = self.successResultOf(authenticator.authenticate(claims, peer, None))
        logout()

    def id_of(self, thing: IThing | None) -> str | None:
        return None if thing is None else thing.id

    def changes(self) -> list[Change]:
        """What ends a thing's rights."""
        return [Change(things=(OWN.id,), deleted=True), Change(things=(OWN.id,))]

    def test_not_in_memory(self) -> None:
        """Nothing is looked up, be it there or not."""
        home = House(slow=True)
        by_key = self.key_mode(home)
        for claims in (BY_KEY, NOTHING, Claims("a", ("x" * 16,))):
            self.assertIsNone(by_key.recognise(claims, None))
        self.assertEqual((0, []), (home.slow.asked, home.slow.held))
        self.assertIsNone(self.authenticator.recognise(NOTHING, CarefulPeer(OWN.key)))
        self.assertIsNone(self.authenticator.recognise(NOTHING, None))

    def test_key_changed_or_thing_deleted(self) -> None:
        """At once, in both modes; the other thing goes on."""
        peers = [
            CarefulPeer(OWN.key),
            CarefulPeer(OWN.id, fingerprint=self.issued().fingerprint),
            CarefulPeer(OWN.id, uris=[thing_uri(OWN.id)], issuer=OURS),
        ]
        ways: list[Callable[[], IThing | None]] = [lambda: self.by_key.recognise(BY_KEY, None)]
        ways += [lambda peer=peer: self.authenticator.recognise(NOTHING, peer) for peer in peers]  # type: ignore[misc]
        for change in self.changes():
            self.let_in(self.by_key, BY_KEY)
            self.let_in(self.by_key, Claims("a", (VICTIM.key,)))
            for peer in peers:
                self.let_in(self.authenticator, NOTHING, peer)
            self.assertEqual([OWN.id] * 4, [self.id_of(way()) for way in ways])
            self.home.access.changed(change)
            self.assertEqual([None] * 4, [self.id_of(way()) for way in ways])
            self.assertIsNotNone(self.by_key.recognise(Claims("a", (VICTIM.key,)), None))

    def test_disconnected(self) -> None:
        """Its channels are those of now, and live."""
        self.let_in(self.by_key, BY_KEY)
        thing = self.by_key.recognise(BY_KEY, None)
        assert thing is not None
        self.assertEqual({CHANNEL}, thing.channels)
        self.home.access.changed(Change(things=(OWN.id,), channels=(CHANNEL,)))
        again = self.by_key.recognise(BY_KEY, None)
        assert again is not None
        self.assertEqual((set(), set()), (thing.channels, again.channels))

    def test_certificate_ended(self) -> None:
        """Each use verifies it: revoked by a list, expired, or of trust roots that are no more."""
        peer = CarefulPeer(OWN.key)
        self.let_in(self.authenticator, NOTHING, peer)
        self.assertIsNotNone(self.authenticator.recognise(NOTHING, peer))
        self.assertEqual([self.home.clock.seconds()] * 2, peer.verified)
        peer.trouble = NotAuthorized("revoked")
        self.assertIsNone(self.authenticator.recognise(NOTHING, peer))

    def test_record_revoked_or_ended(self) -> None:
        for end in (self.revoke, lambda record: self.home.clock.advance(101)):
            record = self.issued()
            peer = CarefulPeer(OWN.id, fingerprint=record.fingerprint)
            self.let_in(self.authenticator, NOTHING, peer)
            self.assertIsNotNone(self.authenticator.recognise(NOTHING, peer))
            end(record)
            self.identities.forget([record.fingerprint] if end == self.revoke else [])
            self.assertIsNone(self.authenticator.recognise(NOTHING, peer))

    def test_authority_replaced(self) -> None:
        """A certificate that names a thing's id counts while its authority does."""
        peer = CarefulPeer(None, uris=[thing_uri(OWN.id)], issuer=OURS)
        self.let_in(self.authenticator, NOTHING, peer)
        self.assertIsNotNone(self.authenticator.recognise(NOTHING, peer))
        self.issuers.clear()
        self.assertIsNone(self.authenticator.recognise(NOTHING, peer))

    def test_failures(self) -> None:
        """While an address has to wait, a good key is as any; and no failure is counted here."""
        self.let_in(self.by_key, BY_KEY)
        for _ in range(10):
            self.assertIsNone(self.by_key.recognise(Claims("192.0.2.1", ("x" * 16,)), None))
        self.assertIsNotNone(self.by_key.recognise(BY_KEY, None))
        for _ in range(2):
            bad = self.by_key.authenticate(Claims("192.0.2.1", ("x" * 16,)), None, None)
            self.failureResultOf(bad, Unauthenticated)
        self.assertIsNone(self.by_key.recognise(BY_KEY, None))
        self.assertIsNotNone(self.by_key.recognise(Claims("192.0.2.2", (OWN.key,)), None))
        self.home.clock.advance(61)
        self.assertIsNotNone(self.by_key.recognise(BY_KEY, None))

    def test_nobody_is_logged_in(self) -> None:
        """It leaves nothing behind, and who is known lately is forgotten last."""
        home = House(things=(1, 2, 3), size=2)
        by_key = self.key_mode(home)
        for number in (1, 2):
            self.let_in(by_key, Claims("a", (alices_thing(number).key,)))
        self.assertIsNotNone(by_key.recognise(Claims("a", (OWN.key,)), None))
        self.let_in(by_key, Claims("a", (alices_thing(3).key,)))
        known = [by_key.recognise(Claims("a", (alices_thing(number).key,)), None) for number in (1, 2, 3)]
        self.assertEqual([OWN.id, None, alices_thing(3).id], [self.id_of(thing) for thing in known])

    def test_certificate_known_lately(self) -> None:
        """As with things, what is used last is forgotten last."""
        self.use(size=2)
        peers = [CarefulPeer(OWN.id, fingerprint=self.issued().fingerprint) for _ in range(3)]
        self.let_in(self.authenticator, NOTHING, peers[0])
        self.let_in(self.authenticator, NOTHING, peers[1])
        self.assertIsNotNone(self.authenticator.recognise(NOTHING, peers[0]))
        self.let_in(self.authenticator, NOTHING, peers[2])
        known = [self.authenticator.recognise(NOTHING, peer) is not None for peer in peers]
        self.assertEqual([True, False, True], known)
