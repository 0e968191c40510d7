"""Tokens of people: what is no token of ours, or has ended, lets nobody in."""

import base64
import json
from dataclasses import replace
from typing import Any

import jwt
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mfserver.cred.tokens import LOGIN_SECONDS, MAX_TOKEN, TokenOwners, Tokens
from mfserver.errors import Unauthenticated
from mfserver.interfaces import ITokens
from mfserver.records import ApiKey, KeyId, User
from tests.cred.fakes import ALICE, BOB, SECRET
from tests.store.memory import MemoryStore

NOW = 1_700_000_000
KEY = ApiKey(KeyId("40000000-0000-4000-8000-000000000001"), ALICE.id, NOW, NOW + 100)
EVER = ApiKey(KeyId("40000000-0000-4000-8000-000000000002"), ALICE.id, NOW)
LOGIN = {
    "iss": "mainflux.auth",
    "sub": ALICE.id,
    "type": 0,
    "generation": 0,
    "jti": "1",
    "iat": NOW,
    "exp": NOW + 60,
}
API_KEY = {"iss": "mainflux.auth", "sub": ALICE.id, "type": 2, "jti": EVER.id, "iat": NOW}


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def without(claims: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in claims.items() if key != name}


class TokenCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = float(NOW)
        self.store = MemoryStore()
        for user in (ALICE, BOB):
            self.store.users.add(user)
        for key in (KEY, EVER):
            self.store.keys.add(key)
        self.tokens = Tokens(SECRET, lambda: self.now)
        self.owners = TokenOwners(SECRET, self.store.users, self.store.keys, lambda: self.now)

    def owner(self, token: str) -> tuple[User, bool]:
        return self.successResultOf(Deferred.fromCoroutine(self.owners.owner(token)))

    def refused(self, token: str) -> None:
        failure = self.failureResultOf(Deferred.fromCoroutine(self.owners.owner(token)), Unauthenticated)
        self.assertEqual(str(failure.value), "the token is invalid or has expired")

    def signed(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, SECRET, "HS256")


class LoginTests(TokenCase):
    def test_it_lasts_ten_hours(self) -> None:
        self.assertTrue(verifyObject(ITokens, self.tokens))
        token = self.tokens.login(ALICE)
        self.assertLess(len(token), MAX_TOKEN // 2)
        self.now += LOGIN_SECONDS - 1
        self.assertEqual(self.owner(token), (ALICE, False))
        self.now += 1
        self.refused(token)

    def test_it_is_a_jwt_of_mainflux(self) -> None:
        token = self.tokens.login(ALICE)
        claims = jwt.decode(token, options={"verify_signature": False})
        self.assertEqual((claims["iss"], claims["exp"] - claims["iat"]), ("mainflux.auth", 36_000))
        self.assertEqual(jwt.get_unverified_header(token)["alg"], "HS256")

    def test_a_changed_password_ends_it(self) -> None:
        token = self.tokens.login(ALICE)
        self.store.users.set_password(ALICE.id, "another hash", 0)
        self.refused(token)
        self.owner(self.tokens.login(replace(ALICE, generation=1)))


class ApiKeyTests(TokenCase):
    def test_it_works_until_it_is_revoked(self) -> None:
        """Also after the password was changed: it is a program's, not the person's."""
        value = self.tokens.api_key(EVER)
        self.now += 10 * 365 * 86_400
        self.store.users.set_password(ALICE.id, "another hash", 0)
        self.assertEqual(self.owner(value)[1], True)
        self.store.keys.remove(ALICE.id, EVER.id)
        self.refused(value)

    def test_it_expires(self) -> None:
        value = self.tokens.api_key(KEY)
        self.now += 99
        self.owner(value)
        self.now += 1
        self.refused(value)

    def test_the_record_decides_when_it_expires(self) -> None:
        self.now += 100
        self.refused(self.signed({**API_KEY, "jti": KEY.id}))

    def test_one_of_another_owner(self) -> None:
        self.refused(self.signed({**API_KEY, "sub": BOB.id}))


class OddTokenTests(TokenCase):
    def test_the_twins_are_accepted(self) -> None:
        self.owner(self.signed(LOGIN))
        self.owner(self.signed(API_KEY))

    def test_claims_that_are_missing_or_wrong(self) -> None:
        """Signed with our secret, so that nothing but the claim can be what is refused."""
        cases = [without(LOGIN, name) for name in LOGIN] + [without(API_KEY, name) for name in API_KEY]
        changes: dict[str, list[object]] = {
            "iss": ["", "mainflux", None, ["mainflux.auth"], 1],
            "sub": ["", "nobody", None, 1, [ALICE.id], {}],
            "type": [1, 3, -1, "0", None, [0]],
            "jti": [None, 1, []],
            "exp": [NOW, NOW - 1, 0, "9999999999", None, 1e308, [], {}],
        }
        for name, values in changes.items():
            cases += [{**LOGIN, name: value} for value in values]
        cases += [{**LOGIN, "generation": value} for value in (1, -1, "0", None)]
        cases += [{**API_KEY, name: value} for name in ("iss", "sub", "jti") for value in changes[name]]
        cases += [{**LOGIN, "type": 2}, {**API_KEY, "type": 0}]
        for claims in cases:
            with self.subTest(claims=claims):
                try:
                    token = self.signed(claims)
                except TypeError:  # pyjwt does not sign an issuer that is no text; we do not need it to
                    token = self.raw(claims)
                self.refused(token)

    def raw(self, claims: object, header: object = None) -> str:
        """Signed by hand: claims that pyjwt would not sign."""
        body = f"{part(header or {'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}"
        algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
        signature = base64.urlsafe_b64encode(algorithm.sign(body.encode(), SECRET)).decode().rstrip("=")
        return f"{body}.{signature}"

    def test_other_algorithms_and_keys(self) -> None:
        self.owner(self.raw(LOGIN))
        for token in (
            self.raw(LOGIN, {"alg": "HS512"}),
            jwt.encode(LOGIN, b"t" * 32, "HS256"),
            f"{part({'alg': 'none'})}.{part(LOGIN)}.",
            f"{part({'alg': 'None'})}.{part(LOGIN)}.",
            self.raw(LOGIN, {"alg": "HS256", "crit": ["exp"]}),
            self.raw(LOGIN, {"alg": ["HS256"]}),
            self.raw(LOGIN, {"typ": "JWT"}),
            self.raw(LOGIN, ["HS256"]),
            self.raw([LOGIN]),
            self.raw("text"),
        ):
            with self.subTest(token=token):
                self.refused(token)

    def test_no_tokens_at_all(self) -> None:
        good = self.signed(LOGIN)
        deep = base64.urlsafe_b64encode(b"[" * 700).decode().rstrip("=")
        for token in (
            "",
            ".",
            "..",
            "...",
            "a.b.c",
            good[:-1],
            good + "A",
            good + ".",
            good + "\n",
            " " + good,
            good + "é",
            "\udc80",
            "\0",
            good.replace(".", "..", 1),
            f"{deep}..",
            "A" * (MAX_TOKEN + 1),
            good + "=" * MAX_TOKEN,
        ):
            with self.subTest(token=token):
                self.refused(token)

    def test_a_long_token_is_not_even_read(self) -> None:
        """One that would be good but for its length."""
        token = self.signed({**LOGIN, "more": "x" * 1000})
        self.assertGreater(len(token), MAX_TOKEN)
        self.refused(token)

    @settings(max_examples=60, deadline=None)
    @given(st.text(max_size=60) | st.lists(st.binary(max_size=20), min_size=3, max_size=3))
    def test_anything_is_refused_in_one_way(self, junk: str | list[bytes]) -> None:
        self.setUp()
        if isinstance(junk, list):
            junk = ".".join(base64.urlsafe_b64encode(piece).decode() for piece in junk)
        self.refused(junk)
