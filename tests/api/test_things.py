"""Things, channels and what connects them over HTTP (MAINFLUX.md, things, channels, connections)."""

from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

from twisted.trial.unittest import SynchronousTestCase

from mfserver.records import Change, ChannelId, ThingId
from tests.api.house import House

KEY = "0123456789abcdef"
FORBIDDEN = "the thing may not use this channel"


class HouseTestCase(SynchronousTestCase):
    """Two owners, each with a token."""

    def setUp(self) -> None:
        self.house = House()
        self.token = self.house.user()
        self.other = self.house.user("b@example.org")

    def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """Ask as the first owner. :return: the JSON of the answer, None for an empty one."""
        answer = self.house.ask(method, path, body, token=self.token)
        self.assertEqual(answer.status, status, answer.entity)
        return answer.json if answer.entity else None

    def create(self, kind: str, **fields: Any) -> str:
        return self.house.create(self.token, kind, **fields)

    def heard(self) -> list[Change]:
        """The changes since this was last asked."""
        heard, self.house.changes.heard = self.house.changes.heard, []
        return heard


class ThingTests(HouseTestCase):
    """/things."""

    def test_created(self) -> None:
        """The id and, unless it is given, the key are UUIDv4; the owner sees the key."""
        thing = self.create("things", name="lamp", metadata={"x": {"y": [1, None]}})
        shown = self.ask("GET", f"/things/{thing}")
        self.assertEqual((UUID(thing).version, UUID(shown.pop("key")).version), (4, 4))
        self.assertEqual(shown, {"id": thing, "name": "lamp", "metadata": {"x": {"y": [1, None]}}})
        plain = self.ask("GET", f"/things/{self.create('things', key=KEY)}")
        self.assertEqual((set(plain), plain["key"]), ({"id", "key"}, KEY))
        self.assertEqual(self.heard(), [])

    def test_malformed(self) -> None:
        """Every wrong field is 400 and named, and nothing is stored."""
        deep: Any = 1
        for _ in range(40):
            deep = {"a": deep}
        for field, value in (
            ("name", "x" * 1025),
            ("name", "a\0b"),
            ("name", 1),
            ("key", ""),
            ("key", "x" * 15),
            ("key", "x" * 65),
            ("key", "0123456789abcde/"),
            ("key", "0123456789abcdef\n"),
            ("metadata", "text"),
            ("metadata", [1]),
            ("metadata", deep),
            ("metadata", {"a": ["x" * 65_536]}),
        ):
            for method, path in ("POST", "/things"), ("POST", "/things/bulk"):
                one = {field: value}
                answer = self.house.ask(method, path, [{}, one] if "bulk" in path else one, token=self.token)
                self.assertEqual((answer.status, field in answer.error), (400, True), answer.entity[:200])
                self.assertEqual("[1]" in answer.error, "bulk" in path)
        for number in b"1" * 5000, b"1e999", b"NaN":
            self.ask("POST", "/things", b'{"metadata":{"a":' + number + b"}}", 400)
        self.assertEqual(self.ask("GET", "/things")["total"], 0)

    def test_longest(self) -> None:
        """The bounds themselves are within bounds."""
        self.create("things", name="ä" * 1024, key="x" * 64, metadata={"a": "x" * 65_528})

    def test_key_taken(self) -> None:
        """409 for a key that anybody's thing has, had, or that is an id; it counts as a guess."""
        thing = self.create("things", key=KEY)
        theirs = self.house.create(self.other, "things", key="their-first-key-1")
        self.house.ask("PATCH", f"/things/{theirs}/key", {"key": "their-second-key"}, token=self.other)
        for key in KEY, "their-first-key-1", "their-second-key", thing, theirs:
            self.ask("POST", "/things", {"key": key}, 409)
            self.ask("POST", "/things/bulk", [{}, {"key": key}], 409)
        self.assertEqual(self.house.thing_attempts.failures, {"address 192.0.2.1": 10})
        self.ask("PATCH", f"/things/{thing}/key", {"key": "their-second-key"}, 409)
        self.assertEqual(self.house.thing_attempts.failures, {"address 192.0.2.1": 11})
        self.assertEqual(self.ask("GET", "/things")["total"], 1)

    def test_guessing_is_slow(self) -> None:
        """Failures of one kind slow the others down; a thing without a key of its own is no guess."""
        self.create("things", key=KEY)
        self.house.thing_attempts.limit = 1
        self.ask("POST", "/things", {"key": KEY}, 409)
        thing = self.create("things")
        for method, path, body in (
            ("POST", "/things", {"key": "x" * 16}),
            ("POST", "/things/bulk", [{"key": "x" * 16}]),
            ("PATCH", f"/things/{thing}/key", {"key": "x" * 16}),
            ("POST", "/identify", {"token": KEY}),
            ("POST", f"/identify/channels/{uuid4()}/access-by-key", {"token": KEY}),
        ):
            self.ask(method, path, body, 429)

    def test_bulk(self) -> None:
        things = self.ask("POST", "/things/bulk", [{"name": "a", "key": KEY}, {}], 201)["things"]
        self.assertEqual([set(thing) for thing in things], [{"id", "key", "name"}, {"id", "key"}])
        self.assertEqual(self.ask("GET", "/things")["things"], things)

    def test_bulk_bounds(self) -> None:
        """Between 1 and 1,000, and no key twice."""
        for body, status in (
            ([], 400),
            ([{}] * 1001, 400),
            ([{"key": KEY}, {"key": KEY}], 409),
            ({}, 400),
            ([{}] * 1000, 201),
        ):
            self.ask("POST", "/things/bulk", body, status)
        self.assertEqual(self.house.thing_attempts.failures, {})
        self.assertEqual(self.ask("GET", "/things")["total"], 1000)

    def test_updated(self) -> None:
        """PUT replaces both name and metadata."""
        thing = self.create("things", name="a", metadata={"a": 1}, key=KEY)
        self.ask("PUT", f"/things/{thing}", {"name": "b"})
        self.assertEqual(self.ask("GET", f"/things/{thing}"), {"id": thing, "key": KEY, "name": "b"})
        self.ask("PUT", f"/things/{thing}", {"name": "x" * 1025}, 400)
        self.assertEqual(self.heard(), [])

    def test_key_changed(self) -> None:
        """The change is told after the commit; the own old key may come back."""
        thing = self.create("things", key=KEY)
        self.ask("PATCH", f"/things/{thing}/key", {"key": "another-key-of-mine"})
        self.assertEqual(self.ask("GET", f"/things/{thing}")["key"], "another-key-of-mine")
        self.assertEqual(self.heard(), [Change(things=(ThingId(thing),))])
        self.ask("PATCH", f"/things/{thing}/key", {"key": KEY})
        self.ask("PATCH", f"/things/{thing}/key", {"key": "short"}, 400)
        self.ask("PATCH", f"/things/{thing}/key", {}, 400)

    def test_removed(self) -> None:
        """204, also when absent; only a thing that was there is told about."""
        thing = self.create("things")
        for _ in range(2):
            self.ask("DELETE", f"/things/{thing}", status=204)
        self.ask("DELETE", "/things/nonsense", status=204)
        self.assertEqual(self.heard(), [Change(things=(ThingId(thing),), deleted=True)])
        self.ask("GET", f"/things/{thing}", status=404)

    def test_somebody_elses(self) -> None:
        """Somebody else's thing looks absent in every way, and so does one with an impossible id."""
        theirs = self.house.create(self.other, "things")
        for thing in theirs, str(uuid4()), "x", "%00", "%ff", "%zz", theirs.upper():
            for method, suffix, body, status in (
                ("GET", "", None, 404),
                ("PUT", "", {}, 404),
                ("PATCH", "/key", {"key": KEY}, 404),
                ("GET", "/channels", None, 404),
            ):
                self.ask(method, f"/things/{thing}{suffix}", body, status)
        self.ask("DELETE", f"/things/{theirs}", status=204)
        self.assertEqual(self.house.ask("GET", f"/things/{theirs}", token=self.other).status, 200)
        self.assertEqual(self.heard(), [])

    def test_percent_encoded_id(self) -> None:
        """An id that a client percent-encoded is that id."""
        thing = self.create("things")
        self.assertEqual(self.ask("GET", "/things/" + "".join(f"%{ord(c):02x}" for c in thing))["id"], thing)


class PageTests(HouseTestCase):
    """GET /things?..."""

    def setUp(self) -> None:
        super().setUp()
        bodies = [{"name": f"Lamp {n:02}", "metadata": {"n": n, "even": n % 2 == 0}} for n in range(12)]
        self.ask("POST", "/things/bulk", bodies, 201)
        self.house.create(self.other, "things", name="Lamp 99")

    def names(self, query: str) -> list[str]:
        return [thing["name"] for thing in self.ask("GET", f"/things?{query}")["things"]]

    def test_default(self) -> None:
        page = self.ask("GET", "/things")
        self.assertEqual((page["total"], page["offset"], page["limit"], len(page["things"])), (12, 0, 10, 10))

    def test_offset_and_limit(self) -> None:
        page = self.ask("GET", "/things?offset=10&limit=100")
        self.assertEqual(
            (page["total"], page["offset"], page["limit"], len(page["things"])), (12, 10, 100, 2)
        )
        self.assertEqual(self.names("offset=999999999999999999"), [])

    def test_name(self) -> None:
        self.assertEqual(self.names("name=lAmp+1"), ["Lamp 10", "Lamp 11"])
        self.assertEqual(len(self.names("name=")), 10)

    def test_metadata(self) -> None:
        self.assertEqual(self.names("metadata=" + quote('{"even":false,"n":7}')), ["Lamp 07"])

    def test_order(self) -> None:
        self.assertEqual(self.names("order=name&dir=desc&limit=1"), ["Lamp 11"])
        self.assertEqual(self.names("order=name&dir=asc&limit=1"), ["Lamp 00"])
        ids = [thing["id"] for thing in self.ask("GET", "/things?order=id&limit=100")["things"]]
        self.assertEqual(ids, sorted(ids))

    def test_malformed(self) -> None:
        """Every malformed, doubled or unbounded parameter is 400 and named; unknown ones are passed over."""
        for query in (
            "limit=0",
            "limit=101",
            "limit=-1",
            "limit=NaN",
            "limit=",
            "limit=1.0",
            "limit=+1",
            "limit=%D9%A1",
            "limit=1&limit=1",
            "limit=" + "1" * 5000,
            "offset=-1",
            "offset=x",
            "offset=1&offset=2",
            "offset=1000000000000000000",
            "name=%FF",
            "name=%00",
            "name=" + "x" * 1025,
            "name=a&name=b",
            "order=key",
            "dir=up",
            "metadata=[]",
            "metadata=x",
            "metadata=%FF",
            "metadata=" + quote('{"a":') * 400,
            "metadata=" + '{"a":' * 40 + "1" + "}" * 40,
        ):
            answer = self.house.ask("GET", f"/things?{query}", token=self.token)
            name = query.partition("=")[0]
            self.assertEqual((answer.status, answer.error.startswith(name)), (400, True), query)
        self.assertEqual(len(self.names("surprise=1&surprise=2")), 10)


class ChannelTests(HouseTestCase):
    """/channels: as things, without a key."""

    def test_life(self) -> None:
        channel = self.create("channels", name="a", metadata={"a": 1}, key="passed over")
        path = f"/channels/{channel}"
        self.assertEqual(self.ask("GET", path), {"id": channel, "name": "a", "metadata": {"a": 1}})
        self.ask("PUT", path, {"metadata": {}})
        self.assertEqual(self.ask("GET", path), {"id": channel, "metadata": {}})
        self.assertEqual(
            self.ask("GET", "/channels"),
            {"total": 1, "offset": 0, "limit": 10, "channels": [{"id": channel, "metadata": {}}]},
        )
        self.assertEqual(self.heard(), [])
        for _ in range(2):
            self.ask("DELETE", path, status=204)
        self.ask("DELETE", "/channels/x", status=204)
        self.assertEqual(self.heard(), [Change(channels=(ChannelId(channel),))])
        self.ask("GET", path, status=404)

    def test_bulk(self) -> None:
        channels = self.ask("POST", "/channels/bulk", [{"name": "a"}, {}], 201)["channels"]
        self.assertEqual(self.ask("GET", "/channels")["channels"], channels)
        bodies: list[Any] = [[], [{}] * 1001, [{}, {"name": "\0"}], [{}, {"metadata": 1}]]
        for body in bodies:
            self.ask("POST", "/channels/bulk", body, 400)
        self.assertEqual(self.ask("GET", "/channels")["total"], 2)

    def test_malformed(self) -> None:
        channel = self.create("channels")
        bodies: list[Any] = [{"name": 1}, {"metadata": []}, {"name": "x" * 1025}]
        for body in bodies:
            self.ask("POST", "/channels", body, 400)
            self.ask("PUT", f"/channels/{channel}", body, 400)
        self.ask("GET", "/channels?limit=0", status=400)

    def test_somebody_elses(self) -> None:
        theirs = self.house.create(self.other, "channels")
        for channel in theirs, "x":
            self.ask("GET", f"/channels/{channel}", status=404)
            self.ask("PUT", f"/channels/{channel}", {}, 404)
            self.ask("GET", f"/channels/{channel}/things", status=404)
            self.ask("DELETE", f"/channels/{channel}", status=204)
        self.assertEqual(self.house.ask("GET", f"/channels/{theirs}", token=self.other).status, 200)
        self.assertEqual(self.heard(), [])


class ConnectionTests(HouseTestCase):
    """The four forms of connecting and disconnecting."""

    def setUp(self) -> None:
        super().setUp()
        self.thing, self.channel = self.create("things"), self.create("channels")
        self.pair = f"/channels/{self.channel}/things/{self.thing}"

    def connected(self) -> int:
        total = self.ask("GET", f"/things/{self.thing}/channels")["total"]
        assert isinstance(total, int)
        return total

    def test_one(self) -> None:
        """PUT connects once, DELETE disconnects once, and each is told about."""
        change = ThingId(self.thing), ChannelId(self.channel)
        self.ask("PUT", self.pair)
        self.assertEqual(self.heard(), [Change((change[0],), (change[1],), connected=True)])
        self.ask("PUT", self.pair, status=409)
        self.assertEqual(self.connected(), 1)
        self.ask("DELETE", self.pair, status=204)
        self.assertEqual(self.heard(), [Change((change[0],), (change[1],))])
        self.ask("DELETE", self.pair, status=404)
        self.assertEqual((self.connected(), self.heard()), (0, []))

    def test_many(self) -> None:
        """All pairs, all or nothing; the same id twice counts once."""
        more = [self.create("things") for _ in range(2)]
        pairs = {"channel_ids": [self.channel, self.channel], "thing_ids": [self.thing, *more, self.thing]}
        self.ask("POST", "/connect", pairs)
        self.assertEqual(self.ask("GET", f"/channels/{self.channel}/things")["total"], 3)
        self.ask("POST", "/connect", {**pairs, "thing_ids": [self.thing, self.create("things")]}, 409)
        self.assertEqual(self.ask("GET", f"/channels/{self.channel}/things")["total"], 3)
        self.ask("PUT", "/disconnect", {**pairs, "thing_ids": more})
        self.assertEqual(self.ask("GET", f"/channels/{self.channel}/things")["total"], 1)
        self.ask("PUT", "/disconnect", pairs, 404)
        self.assertEqual(self.connected(), 1)
        first, second = self.heard()
        self.assertEqual((first.connected, second.connected), (True, False))
        self.assertEqual((len(first.channels), len(first.things)), (1, 3))

    def test_malformed(self) -> None:
        good = {"channel_ids": [self.channel], "thing_ids": [self.thing]}
        for change, status in (
            ({"channel_ids": []}, 400),
            ({"thing_ids": []}, 400),
            ({"thing_ids": None}, 400),
            ({"thing_ids": "x"}, 400),
            ({"thing_ids": [1]}, 400),
            ({"thing_ids": [str(uuid4()) for _ in range(10_001)]}, 400),
            ({"thing_ids": ["x"]}, 404),
            ({"thing_ids": [self.thing, str(uuid4())]}, 404),
            ({"channel_ids": [self.house.create(self.other, "channels")]}, 404),
            ({"thing_ids": [self.house.create(self.other, "things")]}, 404),
        ):
            for method, path in ("POST", "/connect"), ("PUT", "/disconnect"):
                self.ask(method, path, {**good, **change}, status)
        self.ask("PUT", f"/channels/{self.channel}/things/x", status=404)
        self.ask("DELETE", "/channels/x/things/x", status=404)
        self.assertEqual((self.connected(), self.heard()), (0, []))

    def test_lists(self) -> None:
        """What is connected, and with disconnected=true what is not."""
        self.ask("PUT", self.pair)
        lone_thing, lone_channel = self.create("things"), self.create("channels")
        for path, kind, connected, lone in (
            (f"/channels/{self.channel}/things", "things", self.thing, lone_thing),
            (f"/things/{self.thing}/channels", "channels", self.channel, lone_channel),
        ):
            for query, expected in (
                ("", connected),
                ("?disconnected=false", connected),
                ("?disconnected=true&limit=1", lone),
            ):
                page = self.ask("GET", path + query)
                self.assertEqual((page["total"], [one["id"] for one in page[kind]]), (1, [expected]))
            self.ask("GET", f"{path}?disconnected=maybe", status=400)
            self.ask("GET", f"{path}?limit=0", status=400)


class AccessTests(HouseTestCase):
    """/identify and the access checks."""

    def setUp(self) -> None:
        super().setUp()
        self.thing, self.channel = self.create("things", key=KEY), self.create("channels")
        self.lone = self.create("channels")
        self.ask("PUT", f"/channels/{self.channel}/things/{self.thing}")

    def test_identify(self) -> None:
        """The key is all it takes; whatever is no key is 401 and counts."""
        answer = self.house.ask("POST", "/identify", {"token": KEY})
        self.assertEqual((answer.status, answer.json), (200, {"id": self.thing}))
        for key in "x" * 16, "", KEY + "x", KEY[1:], self.thing:
            self.assertEqual(self.house.ask("POST", "/identify", {"token": key}).status, 401)
        self.assertEqual(self.house.thing_attempts.failures, {"address 192.0.2.1": 5})
        self.assertEqual(self.house.ask("POST", "/identify", {"token": KEY}).status, 200)
        self.assertEqual(self.house.thing_attempts.failures, {"address 192.0.2.1": 5})
        self.assertEqual(self.house.ask("POST", "/identify", {}).status, 400)

    def test_by_key(self) -> None:
        """An unknown key and a channel that is not the thing's look alike; only the first is a guess."""
        for prefix in "/identify", "":
            path = f"{prefix}/channels/{self.channel}/access-by-key"
            answer = self.house.ask("POST", path, {"token": KEY})
            self.assertEqual((answer.status, answer.json), (200, {"id": self.thing}))
            for channel, key in (self.lone, KEY), ("x", KEY), (self.channel, "x" * 16):
                answer = self.house.ask("POST", f"{prefix}/channels/{channel}/access-by-key", {"token": key})
                self.assertEqual((answer.status, answer.error), (403, FORBIDDEN))
        self.assertEqual(self.house.thing_attempts.failures, {"address 192.0.2.1": 2})

    def test_by_id(self) -> None:
        """It needs the token of the thing's owner."""
        theirs = self.house.create(self.other, "things")
        for prefix in "/identify", "":
            path = f"{prefix}/channels/{self.channel}/access-by-id"
            body = {"thing_id": self.thing}
            self.assertEqual(self.house.ask("POST", path, body).status, 401)
            self.assertEqual(self.house.ask("POST", path, body, token=self.other).status, 403)
            self.ask("POST", path, body)
            for channel, thing in (self.lone, self.thing), (self.channel, theirs), (self.channel, "x"):
                self.ask("POST", f"{prefix}/channels/{channel}/access-by-id", {"thing_id": thing}, 403)
