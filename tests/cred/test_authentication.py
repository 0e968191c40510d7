"""IDENTITY, "Who may in", as tables: every row of both modes, and the tricks that are none of the wire's."""

from typing import Any

from twisted.cred.credentials import ICredentials
from twisted.cred.error import UnhandledCredentials
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mfserver.cred.access import Presence
from mfserver.cred.attempts import Attempts
from mfserver.cred.authentication import Authenticator, key_mode, x509_mode
from mfserver.cred.credentials import (
    ClientCertificate,
    IClientCertificate,
    IThingKey,
    IUserToken,
    ThingKey,
    UserToken,
)
from mfserver.cred.identity import Identities
from mfserver.cred.tokens import TokenOwners, Tokens
from mfserver.errors import NotAuthorized, Overloaded, SlowDown, Unauthenticated
from mfserver.interfaces import IAuthenticator, IPeer, IThing, IUser, IUserAuthenticator
from mfserver.records import Change, Claims, Thing
from tests.cred.fakes import ALICE, CHANNEL, SECRET, CarefulPeer, House, LiveConnection, alices_thing

OWN, VICTIM = alices_thing(1), alices_thing(2)
# Its key is the end of another's.
SUFFIX = Thing(alices_thing(3).id, ALICE.id, OWN.key[-16:])

#: How each protocol of IDENTITY's tables makes its claims, besides the keys.
HTTP: dict[str, Any] = {}
WS: dict[str, Any] = {"needs_key": True}
MQTT: dict[str, Any] = {"needs_key": True, "needs_thing_id": True}
COAP: dict[str, Any] = {}

KEY_MODE: list[tuple[str, Claims, type[Exception] | None]] = [
    ("http no key", Claims("192.0.2.1"), Unauthenticated),
    ("http empty key", Claims("192.0.2.1", ("",)), Unauthenticated),
    ("http own key", Claims("192.0.2.1", (OWN.key,)), None),
    ("http own key in three places", Claims("192.0.2.1", (OWN.key,) * 3), None),
    ("http unknown key", Claims("192.0.2.1", ("an-unknown-thing-key",)), Unauthenticated),
    ("http end of the own key", Claims("192.0.2.1", (OWN.key[1:],)), Unauthenticated),
    ("http own key and more", Claims("192.0.2.1", (OWN.key + "x",)), Unauthenticated),
    ("http own key in capitals", Claims("192.0.2.1", (OWN.key.upper(),)), Unauthenticated),
    ("http own key with a newline", Claims("192.0.2.1", (OWN.key + "\n",)), Unauthenticated),
    ("http a lone surrogate", Claims("192.0.2.1", ("\udc80" * 16,)), Unauthenticated),
    ("http a thing's id as the key", Claims("192.0.2.1", (OWN.id,)), Unauthenticated),
    ("http own key and a stolen one", Claims("192.0.2.1", (OWN.key, VICTIM.key)), NotAuthorized),
    ("http stolen key and the own one", Claims("192.0.2.1", (VICTIM.key, OWN.key)), NotAuthorized),
    ("http own key, own key, stolen key", Claims("192.0.2.1", (OWN.key, OWN.key, VICTIM.key)), NotAuthorized),
    ("http own key and an empty one", Claims("192.0.2.1", (OWN.key, "")), NotAuthorized),
    ("http empty key and the own one", Claims("192.0.2.1", ("", OWN.key)), NotAuthorized),
    ("http own key and id (Basic)", Claims("192.0.2.1", (OWN.key,), OWN.id), None),
    ("http own key and another's id (Basic)", Claims("192.0.2.1", (OWN.key,), VICTIM.id), Unauthenticated),
    ("ws no key", Claims("192.0.2.1", **WS), Unauthenticated),
    ("ws own key", Claims("192.0.2.1", (OWN.key,), **WS), None),
    ("mqtt nothing", Claims("192.0.2.1", **MQTT), Unauthenticated),
    ("mqtt own id and key", Claims("192.0.2.1", (OWN.key,), OWN.id, **MQTT), None),
    ("mqtt own key without id", Claims("192.0.2.1", (OWN.key,), **MQTT), Unauthenticated),
    ("mqtt own key with an empty id", Claims("192.0.2.1", (OWN.key,), "", **MQTT), Unauthenticated),
    (
        "mqtt own key, the id in capitals",
        Claims("192.0.2.1", (OWN.key,), OWN.id + " ", **MQTT),
        Unauthenticated,
    ),
    (
        "mqtt own key with the victim's id",
        Claims("192.0.2.1", (OWN.key,), VICTIM.id, **MQTT),
        Unauthenticated,
    ),
    ("mqtt own id with an empty key", Claims("192.0.2.1", ("",), OWN.id, **MQTT), Unauthenticated),
    ("mqtt own id without key", Claims("192.0.2.1", (), OWN.id, **MQTT), Unauthenticated),
    (
        "mqtt own id with the victim's key",
        Claims("192.0.2.1", (VICTIM.key,), OWN.id, **MQTT),
        Unauthenticated,
    ),
    ("mqtt own id with the own id", Claims("192.0.2.1", (OWN.id,), OWN.id, **MQTT), Unauthenticated),
    ("coap no key", Claims("192.0.2.1", **COAP), Unauthenticated),
    ("coap own key", Claims("192.0.2.1", (OWN.key,), **COAP), None),
]

#: All with OWN's certificate; what is expected of somebody without one is always NotAuthorized.
X509_MODE: list[tuple[str, Claims, type[Exception] | None]] = [
    ("https no key", Claims("192.0.2.1", **HTTP), None),
    ("https equal key", Claims("192.0.2.1", (OWN.key,), **HTTP), None),
    ("https equal keys", Claims("192.0.2.1", (OWN.key, OWN.key), **HTTP), None),
    ("https stolen key", Claims("192.0.2.1", (VICTIM.key,), **HTTP), NotAuthorized),
    ("https unknown key", Claims("192.0.2.1", ("an-unknown-thing-key",), **HTTP), NotAuthorized),
    ("https empty key", Claims("192.0.2.1", ("",), **HTTP), NotAuthorized),
    ("https end of the own key", Claims("192.0.2.1", (OWN.key[-16:],), **HTTP), NotAuthorized),
    ("https own and stolen key", Claims("192.0.2.1", (OWN.key, VICTIM.key), **HTTP), NotAuthorized),
    ("https stolen and own key", Claims("192.0.2.1", (VICTIM.key, OWN.key), **HTTP), NotAuthorized),
    ("https own id (Basic)", Claims("192.0.2.1", (OWN.key,), OWN.id, **HTTP), None),
    ("https another's id (Basic)", Claims("192.0.2.1", (OWN.key,), VICTIM.id, **HTTP), NotAuthorized),
    ("https another's id, no key", Claims("192.0.2.1", (), VICTIM.id, **HTTP), NotAuthorized),
    ("wss no key", Claims("192.0.2.1", **WS), NotAuthorized),
    ("wss equal key", Claims("192.0.2.1", (OWN.key,), **WS), None),
    ("wss stolen key", Claims("192.0.2.1", (VICTIM.key,), **WS), NotAuthorized),
    ("wss empty key", Claims("192.0.2.1", ("",), **WS), NotAuthorized),
    ("mqtts nothing", Claims("192.0.2.1", **MQTT), NotAuthorized),
    ("mqtts no key", Claims("192.0.2.1", (), OWN.id, **MQTT), NotAuthorized),
    ("mqtts own id and key", Claims("192.0.2.1", (OWN.key,), OWN.id, **MQTT), None),
    ("mqtts own key without id", Claims("192.0.2.1", (OWN.key,), **MQTT), NotAuthorized),
    ("mqtts own key, empty id", Claims("192.0.2.1", (OWN.key,), "", **MQTT), NotAuthorized),
    ("mqtts own key, victim's id", Claims("192.0.2.1", (OWN.key,), VICTIM.id, **MQTT), NotAuthorized),
    ("mqtts stolen key, own id", Claims("192.0.2.1", (VICTIM.key,), OWN.id, **MQTT), NotAuthorized),
    ("mqtts stolen key and id", Claims("192.0.2.1", (VICTIM.key,), VICTIM.id, **MQTT), NotAuthorized),
    ("mqtts empty key", Claims("192.0.2.1", ("",), OWN.id, **MQTT), NotAuthorized),
    ("coaps no key", Claims("192.0.2.1", **COAP), None),
    ("coaps equal key", Claims("192.0.2.1", (OWN.key,), **COAP), None),
    ("coaps stolen key", Claims("192.0.2.1", (VICTIM.key,), **COAP), NotAuthorized),
]

#: Common names that name no thing, each sent with the victim's key as well as without any.
ODD_NAMES: list[str | None] = [
    None,
    "",
    "an-unknown-thing-key",
    VICTIM.key + ",CN=" + OWN.key,
    VICTIM.key + "\0",
    VICTIM.key + "\n",
    "CN=" + VICTIM.key,
    f"Evil,CN={VICTIM.key}",
    f"a/CN={VICTIM.key}",
    VICTIM.key + "+",
    VICTIM.key + "\\,",
    VICTIM.key.upper(),
    VICTIM.key + "x" * 64,
    VICTIM.id,
    OWN.id,
]


class AuthenticationCase(SynchronousTestCase):
    """A house with things, people and both portals; failures cost so much that one more is refused."""

    def setUp(self) -> None:
        self.home = House(slow=self.slow)
        self.home.store.things.add([SUFFIX])
        seconds = self.home.clock.seconds
        self.attempts = Attempts(self.home.clock, interval=100.0, burst=10_000, longest=1000.0)
        self.tokens = Tokens(SECRET, seconds)
        owners = TokenOwners(SECRET, self.home.store.users, self.home.store.keys, seconds)
        self.by_key, self.users = key_mode(self.home.access, owners, self.attempts)
        identities = Identities(self.home.certificates, lambda: (), seconds)
        self.by_certificate, self.x509_users = x509_mode(
            self.home.access, identities, owners, self.attempts, seconds
        )

    slow = False

    def allowed(
        self,
        authenticator: Authenticator,
        claims: Claims,
        peer: IPeer | None = None,
        connection: LiveConnection | None = None,
    ) -> IThing:
        """The avatar that is let in, and from now on known from memory."""
        self.avatar, self.logout = self.successResultOf(authenticator.authenticate(claims, peer, connection))
        again = authenticator.recognise(claims, peer)
        assert again is not None
        self.assertEqual((self.avatar.id, self.avatar.channels), (again.id, again.channels))
        return self.avatar

    def refused(
        self,
        authenticator: Authenticator,
        claims: Claims,
        peer: IPeer | None,
        error: type[Exception],
    ) -> str:
        """The text of the refusal, which has no secret in it; memory knows nobody who is refused."""
        self.assertIsNone(authenticator.recognise(claims, peer))
        failure = self.failureResultOf(authenticator.authenticate(claims, peer, None), error)
        self.assertIsNone(authenticator.recognise(claims, peer))
        text = str(failure.value)
        for thing in (OWN, VICTIM):
            self.assertNotIn(thing.key, text)
        return text


class KeyModeTests(AuthenticationCase):
    def test_every_row(self) -> None:
        """A certificate changes nothing in this mode: each row with and without the victim's."""
        for peer in (None, CarefulPeer(VICTIM.key), CarefulPeer(None)):
            for row, claims, error in KEY_MODE:
                with self.subTest(row=row):
                    if error is None:
                        self.assertEqual(self.allowed(self.by_key, claims, peer).id, OWN.id)
                        self.assertEqual(self.avatar.channels, {CHANNEL})
                        self.logout()
                    else:
                        self.refused(self.by_key, claims, peer, error)

    def test_interfaces(self) -> None:
        self.assertTrue(verifyObject(IAuthenticator, self.by_key))
        self.assertTrue(verifyObject(IUserAuthenticator, self.users))
        self.assertTrue(verifyObject(IThingKey, ThingKey(Claims("a"))))
        self.assertTrue(verifyObject(IClientCertificate, ClientCertificate(CarefulPeer(""), Claims("a"))))
        self.assertTrue(verifyObject(IUserToken, UserToken("")))

    def test_a_wrong_id_and_an_unknown_key_look_alike(self) -> None:
        """Else a guesser would learn that a key is somebody's."""
        one = self.refused(self.by_key, Claims("a", (OWN.key,), VICTIM.id, **MQTT), None, Unauthenticated)
        two = self.refused(self.by_key, Claims("a", ("x" * 16,), VICTIM.id, **MQTT), None, Unauthenticated)
        self.assertEqual(one, two)

    def test_a_certificate_that_ends_does_not_end_a_key(self) -> None:
        connection = LiveConnection()
        peer = CarefulPeer(OWN.key, self.home.clock.seconds() + 1)
        self.allowed(self.by_key, Claims("a", (OWN.key,)), peer, connection)
        self.home.clock.advance(10)
        self.home.watch.reverify()
        self.assertEqual((connection.told, peer.verified), ([], []))

    def test_one_connection_two_requests(self) -> None:
        """The second is asked anew (HTTP keep-alive)."""
        self.allowed(self.by_key, Claims("a", (OWN.key,)))
        self.assertEqual(self.allowed(self.by_key, Claims("a", (VICTIM.key,))).id, VICTIM.id)
        self.refused(self.by_key, Claims("a", ("x" * 16,)), None, Unauthenticated)

    def test_the_portal_takes_no_certificate(self) -> None:
        portal = self.by_key._portal
        certificate = ClientCertificate(CarefulPeer(OWN.key), Claims("a"))
        self.failureResultOf(portal.login(certificate, Presence(None, None), IThing), UnhandledCredentials)


class X509ModeTests(AuthenticationCase):
    def test_every_row_with_the_own_certificate(self) -> None:
        for row, claims, error in X509_MODE:
            with self.subTest(row=row):
                peer = CarefulPeer(OWN.key)
                if error is None:
                    self.assertEqual(self.allowed(self.by_certificate, claims, peer).id, OWN.id)
                    self.assertEqual(peer.verified, [self.home.clock.seconds()] * 2)  # once each way
                    self.logout()
                else:
                    self.refused(self.by_certificate, claims, peer, error)

    def test_a_certificate_in_clear_is_warned_of_once(self) -> None:
        """TLS 1.2 shows the certificate, and so the key in it, to the network: one line for each thing."""
        with capturedLogs() as events:
            for version in ("TLSv1.3", "TLSv1.2", "TLSv1.2"):
                peer = CarefulPeer(OWN.key)
                peer.tls_version = version
                self.allowed(self.by_certificate, Claims("a"), peer)
        self.assertEqual([OWN.id], [event["thing"] for event in events if "TLS 1.2" in event["log_format"]])

    def test_every_row_without_a_certificate(self) -> None:
        """A key alone lets nobody in, and the answer does not depend on it."""
        rows = X509_MODE + KEY_MODE
        texts = {self.refused(self.by_certificate, claims, None, NotAuthorized) for _, claims, _ in rows}
        self.assertEqual(texts, {"a client certificate is needed"})

    def test_every_row_with_a_certificate_that_is_not_trusted_any_more(self) -> None:
        """A resumed TLS session is no way around it: it is asked each time."""
        for row, claims, _ in X509_MODE:
            with self.subTest(row=row):
                peer = CarefulPeer(OWN.key)
                peer.trouble = NotAuthorized("expired")
                self.refused(self.by_certificate, claims, peer, NotAuthorized)

    def test_names_that_are_no_things_key(self) -> None:
        for name in ODD_NAMES:
            for keys in ((), (VICTIM.key,), (OWN.key,), (name or "",)):
                for thing_id in (None, VICTIM.id, OWN.id):
                    with self.subTest(name=name, keys=keys, thing_id=thing_id):
                        claims = Claims("a", keys, thing_id)
                        self.refused(self.by_certificate, claims, CarefulPeer(name), NotAuthorized)

    def test_the_end_of_a_key_is_another_key(self) -> None:
        self.assertEqual(
            self.allowed(self.by_certificate, Claims("a"), CarefulPeer(SUFFIX.key)).id, SUFFIX.id
        )
        self.refused(self.by_certificate, Claims("a", (OWN.key,)), CarefulPeer(SUFFIX.key), NotAuthorized)

    def test_a_live_certificate_that_expires(self) -> None:
        connection = LiveConnection()
        peer = CarefulPeer(OWN.key, self.home.clock.seconds() + 10)
        avatar = self.allowed(self.by_certificate, Claims("a"), peer, connection)
        self.home.clock.pump([1.0] * 10)
        self.assertEqual([what for what, _ in connection.told], ["end"])
        self.assertEqual(avatar.channels, set())

    def test_a_request_with_a_certificate_leaves_no_timer(self) -> None:
        self.allowed(self.by_certificate, Claims("a"), CarefulPeer(OWN.key, 2e9))
        self.assertEqual(self.home.clock.getDelayedCalls(), [])

    def test_the_portal_takes_no_key(self) -> None:
        portal = self.by_certificate._portal
        key = ThingKey(Claims("a", (OWN.key,)))
        self.failureResultOf(portal.login(key, Presence(None, None), IThing), UnhandledCredentials)


class LimitTests(AuthenticationCase):
    """Guessing is slow, and says nothing about the keys."""

    def setUp(self) -> None:
        super().setUp()
        for authenticator in (self.by_key, self.by_certificate):
            authenticator._attempts = self.strict = Attempts(self.home.clock, interval=60.0, burst=3)

    def test_over_the_limit_good_keys_wait_as_well(self) -> None:
        for _ in range(3):
            self.refused(self.by_key, Claims("192.0.2.1", ("x" * 16,)), None, Unauthenticated)
        for key in (OWN.key, "x" * 16):
            self.refused(self.by_key, Claims("192.0.2.1", (key,)), None, SlowDown)
        self.allowed(self.by_key, Claims("192.0.2.2", (OWN.key,)))
        self.home.clock.advance(61)
        self.allowed(self.by_key, Claims("192.0.2.1", (OWN.key,)))

    def test_a_success_forgives_no_failures(self) -> None:
        """Else whoever has one key could guess for ever."""
        for _ in range(3):
            self.refused(self.by_key, Claims("192.0.2.1", ("x" * 16,)), None, Unauthenticated)
            if _ < 2:
                self.allowed(self.by_key, Claims("192.0.2.1", (OWN.key,)))
        self.refused(self.by_key, Claims("192.0.2.1", (OWN.key,)), None, SlowDown)

    def test_one_ipv6_network_is_one_address(self) -> None:
        for last in range(3):
            self.refused(self.by_key, Claims(f"2001:db8::{last}", ("x" * 16,)), None, Unauthenticated)
        self.refused(self.by_key, Claims("2001:db8::ffff:9", (OWN.key,)), None, SlowDown)
        self.allowed(self.by_key, Claims("2001:db8:0:1::1", (OWN.key,)))

    def test_differing_keys_and_wrong_ids_count(self) -> None:
        self.refused(self.by_key, Claims("a", (OWN.key, VICTIM.key)), None, NotAuthorized)
        self.refused(self.by_key, Claims("a", (OWN.key,), VICTIM.id), None, Unauthenticated)
        self.refused(self.by_key, Claims("a", ("",)), None, Unauthenticated)
        self.refused(self.by_key, Claims("a", (OWN.key,)), None, SlowDown)

    def test_keys_count_in_certificate_mode_too(self) -> None:
        for _ in range(3):
            self.refused(self.by_certificate, Claims("a", (VICTIM.key,)), CarefulPeer(OWN.key), NotAuthorized)
        self.refused(self.by_certificate, Claims("a"), CarefulPeer(OWN.key), SlowDown)

    def test_who_guesses_nothing_is_not_counted(self) -> None:
        """No key, no certificate, or the certificate of a deleted thing that calls again and again."""
        for _ in range(5):
            self.refused(self.by_key, Claims("a"), None, Unauthenticated)
            self.refused(self.by_certificate, Claims("a", (OWN.key,)), None, NotAuthorized)
            self.refused(self.by_certificate, Claims("a"), CarefulPeer("x" * 16), NotAuthorized)
        self.allowed(self.by_certificate, Claims("a"), CarefulPeer(OWN.key))

    def test_too_many_connections_are_no_failure(self) -> None:
        for _ in range(100):
            self.allowed(self.by_key, Claims("a", (OWN.key,)), None, LiveConnection())
        for _ in range(5):
            entered = self.by_key.authenticate(Claims("a", (OWN.key,)), None, LiveConnection())
            self.failureResultOf(entered, Overloaded)
        self.allowed(self.by_key, Claims("a", (VICTIM.key,)))


class RaceTests(AuthenticationCase):
    """What changes while a thing is being looked up."""

    slow = True

    def begin(
        self, connection: LiveConnection | None = None, peer: CarefulPeer | None = None
    ) -> Deferred[Any]:
        if peer is not None:
            return self.by_certificate.authenticate(Claims("a"), peer, connection)
        return self.by_key.authenticate(Claims("a", (OWN.key,)), None, connection)

    def test_deleted_during_the_look_up(self) -> None:
        """After the deletion is answered, nobody is logged in who was on the way."""
        connection = LiveConnection()
        entering = self.begin(connection)
        self.home.slow.release()
        self.home.store.things.remove(ALICE.id, OWN.id)
        self.home.access.changed(Change(things=(OWN.id,)))
        self.home.slow.release_all()
        self.failureResultOf(entering, Unauthenticated)
        self.assertEqual((self.home.access.live_things(), connection.told), (0, []))

    def test_the_certificate_is_verified_after_the_look_up(self) -> None:
        """Trust roots that were exchanged meanwhile count."""
        peer = CarefulPeer(OWN.key)
        entering = self.begin(LiveConnection(), peer)
        peer.trouble = NotAuthorized("not trusted any more")
        self.home.slow.release_all()
        self.failureResultOf(entering, NotAuthorized)
        self.assertEqual(self.home.access.live_things(), 0)

    def test_the_connection_is_lost_during_the_look_up(self) -> None:
        entering = self.begin(LiveConnection())
        entering.addErrback(lambda _: None).cancel()
        self.home.slow.release_all()
        self.assertEqual(self.home.access.live_things(), 0)


class RealmTests(AuthenticationCase):
    def setUp(self) -> None:
        super().setUp()
        self.portals: list[Portal] = [self.by_key._portal, self.by_certificate._portal]

    def login(self, portal: Portal, credentials: ICredentials, *interfaces: Any) -> Deferred[Any]:
        return portal.login(credentials, Presence(None, None), *interfaces)

    def test_people_are_people_in_both_modes(self) -> None:
        for users in (self.users, self.x509_users):
            user = self.successResultOf(users.authenticate(self.tokens.login(ALICE)))
            self.assertTrue(verifyObject(IUser, user))
            self.assertEqual((user.id, user.email, user.by_api_key), (ALICE.id, ALICE.email, False))
            self.failureResultOf(users.authenticate("nonsense"), Unauthenticated)

    def test_a_persons_token_is_no_thing(self) -> None:
        token = UserToken(self.tokens.login(ALICE))
        for portal in self.portals:
            self.failureResultOf(self.login(portal, token, IThing), NotAuthorized)

    def test_a_thing_is_no_person(self) -> None:
        key = ThingKey(Claims("a", (OWN.key,)))
        self.failureResultOf(self.login(self.portals[0], key, IUser), NotAuthorized)
        certificate = ClientCertificate(CarefulPeer(OWN.key), Claims("a"))
        self.failureResultOf(self.login(self.portals[1], certificate, IUser), NotAuthorized)

    def test_a_persons_logout_does_nothing(self) -> None:
        token = UserToken(self.tokens.login(ALICE))
        _, _, logout = self.successResultOf(self.login(self.portals[0], token, IUser))
        logout()
        logout()
