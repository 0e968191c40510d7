"""The API as a Python program uses it: treq over TLS, with service-identity to check whom it speaks to."""

import itertools
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import treq
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.trial.unittest import TestCase
from twisted.web.client import (
    URI,
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    ResponseNeverReceived,
)
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from tests.interop.client_case import deployment_of
from tests.interop.running import PATIENCE, RunningServer

_numbers = itertools.count()


@implementer(IAgentEndpointFactory)
class EverythingIsHere:
    """Connects every name to this machine; whom it meets there is still checked under the name asked for."""

    def __init__(self, ca: str) -> None:
        root = Certificate.loadPEM(Path(ca).read_bytes())
        self._policy = BrowserLikePolicyForHTTPS(trustRootFromCertificates([root]))

    def endpointForURI(self, uri: URI) -> Any:
        creator = self._policy.creatorForNetloc(uri.host, uri.port)
        return wrapClientTLS(creator, TCP4ClientEndpoint(reactor, "127.0.0.1", uri.port))


class Client:
    """treq, trusting one authority."""

    def __init__(self, case: TestCase, server: RunningServer, ca: str | None = None) -> None:
        pool = HTTPConnectionPool(reactor, persistent=True)
        case.addCleanup(pool.closeCachedConnections)
        factory = EverythingIsHere(ca or server.ca)
        self._client = HTTPClient(Agent.usingEndpointFactory(reactor, factory, pool))
        self._port = server.port("https")
        self.token: str | None = None

    async def ask(
        self, method: str, path: str, body: Any = None, host: str = "localhost", **more: Any
    ) -> tuple[int, Any, str]:
        """One request. :return: status, JSON or None for an empty body, and Location."""
        headers: dict[bytes | str, bytes | str] = {"Authorization": self.token} if self.token else {}
        if body is not None:
            more["json"] = body
        url = f"https://{host}:{self._port}{path}"
        response = await self._client.request(method, url, headers=headers, timeout=PATIENCE, **more)
        content = (
            await treq.json_content(response) if response.length else await treq.content(response) or None
        )
        return response.code, content, (response.headers.getRawHeaders("location") or [""])[0]


class APICase(TestCase):
    """A client, and a user of its own."""

    timeout = 5 * PATIENCE

    def setUp(self) -> Any:
        return Deferred.fromCoroutine(self._register())

    async def _register(self) -> None:
        self.server = deployment_of("key").server
        self.client = Client(self, self.server)
        self.email = f"person-{next(_numbers)}@example.org"
        self.account = {"email": self.email, "password": "12345678"}
        status, _, self.location = await self.client.ask("POST", "/users", self.account)
        self.assertEqual(201, status)
        self.client.token = await self.login()

    async def login(self, **more: str) -> str:
        status, content, _ = await self.client.ask("POST", "/tokens", {**self.account, **more})
        self.assertEqual(201, status)
        token: str = content["token"]
        return token

    async def ok(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """A request that must succeed. :return: its JSON, or the path of what it made."""
        status, content, location = await self.client.ask(method, path, body, **more)
        self.assertLess(status, 300, (method, path, content))
        return location or content

    async def refused(self, expected: int, method: str, path: str, body: Any = None, **more: Any) -> None:
        status, content, _ = await self.client.ask(method, path, body, **more)
        self.assertEqual((expected, ["error"]), (status, list(content)), (method, path))
        self.assertIsInstance(content["error"], str)

    async def make(self, what: str, count: int) -> list[str]:
        """Make things or channels. :return: their ids."""
        bodies = [{"name": f"{what}-{number}", "metadata": {"number": number}} for number in range(count)]
        made = await self.ok("POST", f"/{what}/bulk", bodies)
        return [one["id"] for one in made[what]]


class ServerIdentityTests(TestCase):
    """A client that checks is let in by the right server, and by no other."""

    timeout = 5 * PATIENCE

    async def get(self, client: Client, host: str) -> int:
        status, _, _ = await client.ask("GET", "/health", host=host)
        return status

    async def fails(self, asked: Awaitable[int], reason: str) -> None:
        try:
            await asked
        except ResponseNeverReceived as error:
            self.assertIn(reason, repr([failure.value for failure in error.reasons]))
        else:
            self.fail("the client took it for the right server")

    async def test_names(self) -> None:
        """localhost, its addresses and the names given are the server's own; other names are refused."""
        with RunningServer("--server-name=things.example", "--server-name=192.0.2.7") as server:
            client = Client(self, server)
            for host in "localhost", "127.0.0.1", "things.example", "192.0.2.7":
                self.assertEqual(200, await self.get(client, host), host)
            for host in "other.example", "sub.things.example", "example":
                await self.fails(self.get(client, host), "DNSMismatch")
            for host in "127.0.0.2", "192.0.2.8":
                await self.fails(self.get(client, host), "IPAddressMismatch")

    async def test_another_authority(self) -> None:
        """A server of the right name that somebody else's authority vouches for is refused."""
        mine, other = deployment_of("key").server, deployment_of("x509").server
        self.assertEqual(200, await self.get(Client(self, other), "localhost"))
        await self.fails(self.get(Client(self, other, mine.ca), "localhost"), "certificate verify failed")

    async def test_certificate_mode_serves_people(self) -> None:
        """People have no client certificate: the API serves them on the listener that asks for one."""
        client = Client(self, deployment_of("x509").server)
        account = {"email": f"person-{next(_numbers)}@example.org", "password": "12345678"}
        self.assertEqual(201, (await client.ask("POST", "/users", account))[0])
        _, content, _ = await client.ask("POST", "/tokens", account)
        client.token = content["token"]
        self.assertEqual(201, (await client.ask("POST", "/things", {"name": "a"}))[0])
        status, page, _ = await client.ask("GET", "/things")
        self.assertEqual((200, 1), (status, page["total"]))


class PeopleTests(APICase):
    """Users, tokens, API keys and passwords."""

    async def test_profile(self) -> None:
        """Somebody sees and changes their own account, on every path that Mainflux had for it."""
        profile = await self.ok("GET", "/users")
        self.assertEqual({"id": self.location.removeprefix("/users/"), "email": self.email}, profile)
        self.assertEqual(profile, await self.ok("GET", "/users/profile"))
        self.assertEqual(profile, await self.ok("GET", self.location))
        await self.ok("PUT", "/users", {"metadata": {"city": "Zürich"}})
        self.assertEqual({**profile, "metadata": {"city": "Zürich"}}, await self.ok("GET", "/users"))

    async def test_refused(self) -> None:
        """What is wrong is said with the status of 0.12, and in JSON."""
        await self.refused(409, "POST", "/users", self.account)
        await self.refused(400, "POST", "/users", {"email": "nobody", "password": "12345678"})
        await self.refused(400, "POST", "/users", {"email": "n@example.org", "password": "1234567"})
        await self.refused(415, "POST", "/users", data=b"{}", params={})
        await self.refused(401, "POST", "/tokens", {**self.account, "password": "12345679"})
        await self.refused(404, "GET", "/nothing")
        await self.refused(405, "DELETE", "/users")
        self.client.token = "rubbish"
        await self.refused(401, "GET", "/things")

    async def test_password(self) -> None:
        """A new password ends the tokens of the old one; API keys live on."""
        key = (await self.ok("POST", "/keys", {"type": 2}))["value"]
        old = self.client.token
        change = {"old_password": "12345678", "password": "another one"}
        await self.refused(401, "PATCH", "/password", {**change, "old_password": "wrong one"})
        self.assertEqual({"msg": ""}, await self.ok("PATCH", "/password", change))
        await self.refused(401, "GET", "/users")
        await self.refused(401, "POST", "/tokens", self.account)
        self.client.token = await self.login(password="another one")
        self.assertNotEqual(old, self.client.token)
        await self.ok("GET", "/users")
        self.client.token = key
        await self.ok("GET", "/users")

    async def test_api_keys(self) -> None:
        """An API key works like a token until it is revoked, and makes no keys."""
        login = self.client.token
        issued = await self.ok("POST", "/keys", {"type": 2, "duration": 3600})
        self.assertLess(issued["issued_at"], issued["expires_at"])
        self.assertIn("value", await self.ok("POST", "/keys", {"type": 0}))
        path = f"/keys/{issued['id']}"
        shown = await self.ok("GET", path)
        self.assertEqual((issued["id"], 2, self.email), (shown["id"], shown["type"], shown["subject"]))
        self.assertNotIn("value", shown)
        self.client.token = issued["value"]
        await self.ok("POST", "/things", {"name": "by a program"})
        await self.refused(403, "POST", "/keys", {"type": 2})
        self.client.token = login
        await self.ok("DELETE", path)
        await self.refused(404, "GET", path)
        self.client.token = issued["value"]
        await self.refused(401, "GET", "/things")


class ThingTests(APICase):
    """Things and channels, one by one and in bulk."""

    async def test_thing(self) -> None:
        """From its making to its end."""
        path = await self.ok("POST", "/things", {"name": "lamp", "metadata": {"room": 5}})
        shown = await self.ok("GET", path)
        self.assertEqual(("lamp", {"room": 5}), (shown["name"], shown["metadata"]))
        self.assertEqual(path, f"/things/{shown['id']}")
        await self.ok("PUT", path, {"name": "light"})
        self.assertEqual(
            {"id": shown["id"], "key": shown["key"], "name": "light"}, await self.ok("GET", path)
        )
        new_key = f"chosen-by-its-owner-{next(_numbers)}"
        await self.ok("PATCH", f"{path}/key", {"key": new_key})
        self.assertEqual({"id": shown["id"]}, await self.ok("POST", "/identify", {"token": new_key}))
        await self.refused(401, "POST", "/identify", {"token": shown["key"]})
        await self.refused(409, "POST", "/things", {"key": new_key})
        await self.refused(400, "PATCH", f"{path}/key", {"key": "short"})
        for _ in range(2):
            await self.ok("DELETE", path)
        await self.refused(404, "GET", path)
        await self.refused(401, "POST", "/identify", {"token": new_key})

    async def test_channel(self) -> None:
        """From its making to its end."""
        path = await self.ok("POST", "/channels", {"name": "weather"})
        await self.ok("PUT", path, {"name": "climate", "metadata": {"of": "Zürich"}})
        shown = await self.ok("GET", path)
        self.assertEqual(path, f"/channels/{shown.pop('id')}")
        self.assertEqual({"name": "climate", "metadata": {"of": "Zürich"}}, shown)
        await self.ok("DELETE", path)
        await self.refused(404, "GET", path)

    async def test_bulk_is_all_or_nothing(self) -> None:
        """One bad element, and nothing is stored."""
        await self.refused(400, "POST", "/things/bulk", [{"name": "good"}, {"key": "bad"}])
        await self.refused(400, "POST", "/channels/bulk", [{"name": "good"}, {"name": "x" * 1025}])
        await self.refused(400, "POST", "/things/bulk", [])
        for what in "things", "channels":
            self.assertEqual(0, (await self.ok("GET", f"/{what}"))["total"])
        self.assertEqual(3, len(set(await self.make("things", 3))))

    async def test_pages(self) -> None:
        """Offset, limit, order and both filters."""
        for what in "things", "channels":
            ids = await self.make(what, 25)
            page = await self.ok("GET", f"/{what}")
            self.assertEqual((25, 0, 10), (page["total"], page["offset"], page["limit"]))
            self.assertEqual(ids[:10], [one["id"] for one in page[what]])
            seen = []
            for offset in 0, 9, 18:
                page = await self.ok("GET", f"/{what}?offset={offset}&limit=9")
                seen += [one["id"] for one in page[what]]
            self.assertEqual(ids, seen)
            page = await self.ok("GET", f"/{what}?name={what[:3].upper()}&limit=100&order=name&dir=desc")
            self.assertEqual((25, f"{what}-9"), (page["total"], page[what][0]["name"]))
            page = await self.ok("GET", f"/{what}", params={"metadata": '{"number":17}'})
            self.assertEqual([ids[17]], [one["id"] for one in page[what]])
            for wrong in (
                "limit=0",
                "limit=101",
                "limit=-1",
                "limit=x",
                "limit=1&limit=1",
                "offset=-1",
                "order=key",
            ):
                await self.refused(400, "GET", f"/{what}?{wrong}")

    async def test_somebody_else(self) -> None:
        """Another user's things and channels look absent."""
        (thing,), (channel,) = await self.make("things", 1), await self.make("channels", 1)
        stranger = {"email": f"stranger-{self.email}", "password": "12345678"}
        await self.client.ask("POST", "/users", stranger)
        self.client.token = await self.login(**stranger)
        await self.refused(404, "GET", f"/things/{thing}")
        await self.refused(404, "GET", f"/channels/{channel}/things")
        await self.refused(404, "PUT", f"/channels/{channel}", {"name": "mine"})
        await self.refused(404, "PUT", f"/channels/{channel}/things/{thing}")
        await self.refused(403, "POST", f"/channels/{channel}/access-by-id", {"thing_id": thing})
        await self.ok("DELETE", f"/things/{thing}")  # deleting what is absent is no mistake
        self.client.token = await self.login()
        await self.ok("GET", f"/things/{thing}")


class ConnectionTests(APICase):
    """Which thing may use which channel."""

    async def pairs(self, channel: str, disconnected: bool = False) -> list[str]:
        page = await self.ok(
            "GET", f"/channels/{channel}/things?limit=100&disconnected={str(disconnected).lower()}"
        )
        return [one["id"] for one in page["things"]]

    async def test_one_by_one(self) -> None:
        """PUT and DELETE of one pair."""
        (thing, other), (channel,) = await self.make("things", 2), await self.make("channels", 1)
        path = f"/channels/{channel}/things/{thing}"
        await self.ok("PUT", path)
        await self.refused(409, "PUT", path)
        self.assertEqual(([thing], [other]), (await self.pairs(channel), await self.pairs(channel, True)))
        page = await self.ok("GET", f"/things/{thing}/channels")
        self.assertEqual([channel], [one["id"] for one in page["channels"]])
        await self.ok("DELETE", path)
        await self.refused(404, "DELETE", path)
        self.assertEqual([], await self.pairs(channel))

    async def test_many(self) -> None:
        """POST /connect and PUT /disconnect: all pairs, or none."""
        things, channels = await self.make("things", 3), await self.make("channels", 2)
        pairs = {"channel_ids": channels, "thing_ids": things[:2]}
        await self.ok("POST", "/connect", pairs)
        for channel in channels:
            self.assertEqual(things[:2], await self.pairs(channel))
        await self.refused(409, "POST", "/connect", {**pairs, "thing_ids": things[1:]})
        await self.refused(404, "PUT", "/disconnect", {**pairs, "thing_ids": things[1:]})
        await self.refused(400, "POST", "/connect", {**pairs, "thing_ids": []})
        absent = "00000000-0000-4000-8000-000000000000"
        await self.refused(404, "POST", "/connect", {**pairs, "thing_ids": [things[2], absent]})
        self.assertEqual(things[:2], await self.pairs(channels[0]))
        await self.ok("PUT", "/disconnect", {**pairs, "thing_ids": things[:1]})
        for channel in channels:
            self.assertEqual(things[1:2], await self.pairs(channel))

    async def test_access_checks(self) -> None:
        """With a key, and with an id; a thing that is not connected looks like none."""
        (thing, other), (channel,) = await self.make("things", 2), await self.make("channels", 1)
        key = (await self.ok("GET", f"/things/{thing}"))["key"]
        await self.ok("PUT", f"/channels/{channel}/things/{thing}")
        for prefix in "", "/identify":
            path = f"{prefix}/channels/{channel}/access-by"
            self.assertEqual({"id": thing}, await self.ok("POST", f"{path}-key", {"token": key}))
            await self.ok("POST", f"{path}-id", {"thing_id": thing})
            await self.refused(403, "POST", f"{path}-key", {"token": "nobody-has-this-key"})
            await self.refused(403, "POST", f"{path}-id", {"thing_id": other})
        await self.ok("DELETE", f"/channels/{channel}/things/{thing}")
        await self.refused(403, "POST", f"/channels/{channel}/access-by-key", {"token": key})

    async def test_publish(self) -> None:
        """A program publishes with the same client: 202, and 403 as soon as it may no more."""
        (thing,), (channel,) = await self.make("things", 1), await self.make("channels", 1)
        key, owner = (await self.ok("GET", f"/things/{thing}"))["key"], self.client.token
        path = f"/http/channels/{channel}/messages"
        for status in 403, 202, 403:
            self.client.token = key
            answer = await self.client.ask("POST", path, data=b"\x00\xff")
            self.assertEqual(status, answer[0])
            self.client.token = owner
            method = "PUT" if answer[0] == 403 else "DELETE"
            await self.ok(method, f"/channels/{channel}/things/{thing}")
