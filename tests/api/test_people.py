"""Accounts and API keys over HTTP (MAINFLUX.md, users and keys)."""

from twisted.trial.unittest import SynchronousTestCase

from tests.api.house import House


class RegistrationTests(SynchronousTestCase):
    """POST /users."""

    def test_created(self) -> None:
        """201, an empty body, and a Location of a path alone."""
        house = House()
        answer = house.ask(
            "POST", "/users", {"email": "a@b.example", "password": "12345678", "metadata": {"x": 1}}
        )
        self.assertEqual((answer.status, answer.entity), (201, b""))
        user = self.successResultOf(house.store.users.by_email("A@B.example"))
        assert user is not None
        self.assertEqual(answer.headers["location"], f"/users/{user.id}")
        self.assertEqual((user.password_hash, user.metadata), ("hash of 12345678", {"x": 1}))

    def test_taken(self) -> None:
        """An e-mail address in another case is the same address."""
        house = House()
        house.user("a@b.example")
        answer = house.ask("POST", "/users", {"email": "A@B.example", "password": "12345678"})
        self.assertEqual(answer.status, 409)

    def test_malformed(self) -> None:
        """Every wrong field is 400 and named."""
        house = House()
        good = {"email": "a@b.example", "password": "12345678"}
        cases: list[tuple[dict[str, object], str]] = [
            ({"email": "ab.example"}, "email"),
            ({"email": "a@b@c"}, "email"),
            ({"email": "a b@c"}, "email"),
            ({"email": "a@-b"}, "email"),
            ({"email": "ä@b.example"}, "email"),
            ({"email": "a@" + "b" * 63 + ".c" * 100}, "email"),
            ({"email": 1}, "email"),
            ({"password": "1234567"}, "password"),
            ({"password": "ä" * 513}, "password"),
            ({"metadata": []}, "metadata"),
            ({"metadata": {"a": "\0"}}, "metadata"),
            ({"metadata": {"\0": 1}}, "metadata"),
            ({"metadata": {"a": "x" * 65_536}}, "metadata"),
        ]
        for change, field in cases:
            answer = house.ask("POST", "/users", {**good, **change})
            self.assertEqual(
                (answer.status, field in answer.error), (400, True), (change, answer.entity[:200])
            )
        self.assertEqual(house.ask("POST", "/users", {"email": "a@b.example"}).status, 400)
        self.assertIsNone(self.successResultOf(house.store.users.by_email("a@b.example")))
        self.assertEqual(house.ask("POST", "/users", good).status, 201)

    def test_closed(self) -> None:
        """Where registration is closed, only its token opens it, and guessing is slow."""
        house = House(registration_token="s3cret", limit=2)
        body = {"email": "a@b.example", "password": "12345678"}
        self.assertEqual(house.ask("POST", "/users", body).status, 401)
        self.assertEqual(house.ask("POST", "/users", body, token="s3cre").status, 401)
        self.assertEqual(house.ask("POST", "/users", body, token="s3cret").status, 201)
        self.assertEqual(house.ask("POST", "/users", body, token="Bearer s3cret").status, 409)
        self.assertEqual(house.ask("POST", "/users", body, token="s3cret2").status, 401)
        answer = house.ask("POST", "/users", body, token="s3cret")
        self.assertEqual((answer.status, answer.headers["retry-after"]), (429, "3"))

    def test_full(self) -> None:
        """503 with Retry-After when too many passwords wait to be hashed."""
        house = House()
        house.passwords.full = True
        answer = house.ask("POST", "/users", {"email": "a@b.example", "password": "12345678"})
        self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "1"))


class LoginTests(SynchronousTestCase):
    """POST /tokens."""

    def test_token(self) -> None:
        house = House()
        house.user()
        answer = house.ask("POST", "/tokens", {"email": "A@example.org", "password": "12345678"})
        self.assertEqual((answer.status, list(answer.json)), (201, ["token"]))

    def test_wrong(self) -> None:
        """A wrong password and an unknown account look alike and cost the same: a hash each."""
        house = House()
        house.user()
        house.passwords.verified.clear()
        wrong = house.ask("POST", "/tokens", {"email": "a@example.org", "password": "123456789"})
        unknown = house.ask("POST", "/tokens", {"email": "b@example.org", "password": "12345678"})
        self.assertEqual((wrong.status, unknown.status), (401, 401))
        self.assertEqual(wrong.entity, unknown.entity)
        self.assertEqual(wrong.headers["www-authenticate"], "Bearer")
        self.assertEqual(house.passwords.verified, ["hash of 12345678", None])

    def test_slow(self) -> None:
        """Failures count per address and per account; a success clears the account alone."""
        house = House()
        house.user()
        for email, password in (
            ("A@example.org", "no"),
            ("a@example.org", "no"),
            ("A@Example.org", "12345678"),
        ):
            house.ask("POST", "/tokens", {"email": email, "password": password})
        self.assertEqual(house.attempts.failures, {"address 192.0.2.1": 2})
        house.attempts.limit = 2
        answer = house.ask("POST", "/tokens", {"email": "a@example.org", "password": "12345678"})
        self.assertEqual(answer.status, 429)

    def test_malformed(self) -> None:
        house = House()
        self.assertEqual(house.ask("POST", "/tokens", {"email": "x", "password": "12345678"}).status, 400)
        self.assertEqual(house.ask("POST", "/tokens", {"email": "a@b", "password": "1" * 1025}).status, 400)
        self.assertEqual(house.attempts.admitted, [])


class ProfileTests(SynchronousTestCase):
    """GET and PUT /users."""

    def test_own(self) -> None:
        """The same profile in three places, without metadata where there is none, and never the hash."""
        house = House()
        token = house.user()
        profile = house.ask("GET", "/users", token=token).json
        self.assertEqual(set(profile), {"id", "email"})
        for path in "/users/profile", f"/users/{profile['id']}":
            self.assertEqual(house.ask("GET", path, token=f"Bearer {token}").json, profile)

    def test_others(self) -> None:
        house = House()
        token = house.user()
        other = house.ask("GET", "/users", token=house.user("b@example.org")).json["id"]
        self.assertEqual(house.ask("GET", f"/users/{other}", token=token).status, 404)

    def test_metadata(self) -> None:
        """PUT replaces the metadata; none clears it."""
        house = House()
        token = house.user()
        self.assertEqual(house.ask("PUT", "/users", {"metadata": {"a": [1]}}, token=token).status, 200)
        self.assertEqual(house.ask("GET", "/users", token=token).json["metadata"], {"a": [1]})
        self.assertEqual(house.ask("PUT", "/users", {}, token=token).status, 200)
        self.assertNotIn("metadata", house.ask("GET", "/users", token=token).json)
        self.assertEqual(house.ask("PUT", "/users", {"metadata": 1}, token=token).status, 400)

    def test_unauthenticated(self) -> None:
        """No token, a strange one, and one that is no ASCII are 401 with a challenge; two are 400."""
        house = House()
        for token in None, "", "nonsense", "Bearer ", "Bearer nonsense", "ünsinn":
            answer = house.ask("GET", "/users", token=token)
            self.assertEqual((answer.status, answer.headers["www-authenticate"]), (401, "Bearer"), token)
        token = house.user()
        self.assertEqual(
            house.ask("GET", "/users", token=token, headers={"Authorization": token}).status, 400
        )


class PasswordTests(SynchronousTestCase):
    """PATCH /password."""

    def test_changed(self) -> None:
        """The new password counts, and the login tokens of the old one end."""
        house = House()
        token = house.user()
        answer = house.ask(
            "PATCH", "/password", {"old_password": "12345678", "password": "abcdefgh"}, token=token
        )
        self.assertEqual((answer.status, answer.json), (201, {"msg": ""}))
        self.assertEqual(house.ask("GET", "/users", token=token).status, 401)
        for password, status in ("12345678", 401), ("abcdefgh", 201):
            login = house.ask("POST", "/tokens", {"email": "a@example.org", "password": password})
            self.assertEqual(login.status, status)

    def test_wrong(self) -> None:
        """A wrong old password is 401 and counts; a bad new one is 400 and does not."""
        house = House()
        token = house.user()
        for old, new, status in (
            ("wrong", "abcdefgh", 401),
            ("12345678", "short", 400),
            ("1" * 1025, "abcdefgh", 400),
        ):
            answer = house.ask("PATCH", "/password", {"old_password": old, "password": new}, token=token)
            self.assertEqual(answer.status, status)
        self.assertEqual(house.attempts.failures, {"address 192.0.2.1": 1, "account a@example.org": 1})
        self.assertEqual(house.ask("GET", "/users", token=token).status, 200)


class KeyTests(SynchronousTestCase):
    """POST, GET and DELETE /keys."""

    def test_api_key(self) -> None:
        """An API key works where a token does, and is shown later without its value."""
        house = House()
        token = house.user()
        answer = house.ask("POST", "/keys", {"type": 2, "duration": 60}, token=token)
        issued = answer.json
        self.assertEqual(answer.status, 201)
        self.assertEqual(set(issued), {"id", "value", "issued_at", "expires_at"})
        self.assertEqual(issued["issued_at"], "2023-11-14T22:13:20Z")
        self.assertEqual(issued["expires_at"], "2023-11-14T22:14:20Z")
        self.assertEqual(house.ask("GET", "/users", token=issued["value"]).status, 200)
        shown = house.ask("GET", f"/keys/{issued['id']}", token=token).json
        self.assertEqual((shown["type"], shown["subject"]), (2, "a@example.org"))
        self.assertEqual(shown["expires_at"], issued["expires_at"])
        self.assertNotIn("value", shown)

    def test_for_ever(self) -> None:
        house = House()
        self.assertNotIn("expires_at", house.ask("POST", "/keys", {"type": 2}, token=house.user()).json)

    def test_login(self) -> None:
        """Type 0 is one more login token, which has no id."""
        house = House()
        issued = house.ask("POST", "/keys", {"type": 0, "duration": 1}, token=house.user()).json
        self.assertEqual(set(issued), {"value", "issued_at"})
        self.assertEqual(house.ask("GET", "/users", token=issued["value"]).status, 200)

    def test_key_makes_no_keys(self) -> None:
        """An API key makes neither API keys nor login tokens, which could make API keys."""
        house = House()
        key = house.ask("POST", "/keys", {"type": 2}, token=house.user()).json["value"]
        for kind in 0, 2:
            self.assertEqual(house.ask("POST", "/keys", {"type": kind}, token=key).status, 403)

    def test_malformed(self) -> None:
        house = House()
        token = house.user()
        for body in (
            {"type": 1},
            {"type": -1},
            {"type": "2"},
            {},
            {"type": 2, "duration": 0},
            {"type": 2, "duration": -1},
            {"type": 2, "duration": 10**10},
            {"type": 2, "duration": 1.5},
        ):
            self.assertEqual(house.ask("POST", "/keys", body, token=token).status, 400, body)

    def test_revoked(self) -> None:
        """DELETE is 204, also when absent; somebody else's looks absent and stays."""
        house = House()
        token, other = house.user(), house.user("b@example.org")
        path = f"/keys/{house.ask('POST', '/keys', {'type': 2}, token=token).json['id']}"
        self.assertEqual(house.ask("GET", path, token=other).status, 404)
        self.assertEqual(house.ask("DELETE", path, token=other).status, 204)
        self.assertEqual(house.ask("GET", path, token=token).status, 200)
        for _ in range(2):
            answer = house.ask("DELETE", path, token=token)
            self.assertEqual((answer.status, answer.entity), (204, b""))
            self.assertNotIn("content-length", answer.headers)
        self.assertEqual(house.ask("GET", path, token=token).status, 404)
        self.assertEqual(house.ask("GET", "/keys/1", token=token).status, 404)
        self.assertEqual(house.ask("DELETE", "/keys/1", token=token).status, 204)
