"""The description of the API and the table it is printed from."""

import re
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mfserver.route import Route
from tests.api.house import House

PUBLISH = "/channels/{channel}/messages/{subtopic*}"


async def serve(request: Any, parameters: dict[str, str]) -> None:
    """Serve nothing."""


OTHERS = [
    Route(method="POST", path=PUBLISH, serve=serve, any_body=True, success=202, access="thing"),
    Route(method="GET", path=PUBLISH, serve=serve, upgrade="websocket", success=101, access="thing"),
    Route(method="GET", path=PUBLISH, serve=serve, summary="Read messages", access="thing"),
]
FIELDS = [
    *("name", "key", "metadata", "email", "password", "old_password", "type", "duration", "token"),
    *("channel_ids", "thing_ids", "thing_id", "x"),
]
WITH_BODY = [
    (route.method, re.sub("{[a-z]+}", "x", route.path)) for route in House().routes if route.body is not None
]


class DescriptionTests(SynchronousTestCase):
    """GET /openapi.json."""

    def setUp(self) -> None:
        self.house = House(OTHERS)
        self.document = self.house.ask("GET", "/openapi.json").json

    def test_every_row(self) -> None:
        """Every row of the table is listed, with its success, its errors and its places."""
        self.assertEqual(self.document["openapi"], "3.1.0")
        listed = 0
        for route in self.house.routes:
            operation = self.document["paths"][route.path.replace("*}", "}")][route.method.lower()]
            if route.upgrade is None:
                listed += 1
                expected = {str(status) for status in (route.success, *route.errors, 429, 500, 503)}
                self.assertEqual(set(operation["responses"]), expected, route.path)
                self.assertEqual(operation["summary"], route.summary)
                self.assertEqual("requestBody" in operation, route.body is not None or route.any_body)
                self.assertEqual(operation["security"], [{route.access: []}] if route.access else [])
            places = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            self.assertEqual(places, set(re.findall(r"{([a-z]+)\*?}", route.path)))
        self.assertEqual(listed, sum(len(methods) for methods in self.document["paths"].values()))

    def test_references(self) -> None:
        """Every schema that is referred to is there, and the ones of rows are the types' own."""
        text = self.house.ask("GET", "/openapi.json").entity.decode()
        schemas = self.document["components"]["schemas"]
        self.assertLessEqual(set(re.findall("#/components/schemas/([A-Za-z]+)", text)), set(schemas))
        self.assertEqual(schemas["Login"]["required"], ["email", "password"])
        bulk = self.document["paths"]["/things/bulk"]["post"]["requestBody"]["content"]
        self.assertEqual(bulk["application/json"]["schema"]["type"], "array")

    def test_query(self) -> None:
        names = {
            one["name"]
            for one in self.document["paths"]["/things"]["get"]["parameters"]
            if one["in"] == "query"
        }
        self.assertEqual(names, {"offset", "limit", "name", "metadata", "order", "dir"})

    def test_access(self) -> None:
        """Every row that is said to want a user refuses nobody's request with 401, and nothing else."""
        for route in self.house.routes:
            if route in OTHERS:
                continue
            path = re.sub("{[a-z]+}", "x", route.path)
            answer = self.house.ask(route.method, path, None if route.body is None else {})
            self.assertEqual(answer.status == 401, route.access == "user", path)


class AnyBodyTests(SynchronousTestCase):
    """Whatever bytes a body is, the answer is a refusal or a success, never a failure of ours."""

    def setUp(self) -> None:
        self.house = House()
        self.token = self.house.user()

    @settings(max_examples=40, deadline=None)
    @given(
        body=st.one_of(
            st.binary(max_size=200),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(max_size=20),
                lambda below: (
                    st.lists(below, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(FIELDS),
                        below,
                        max_size=5,
                    )
                ),
            ),
        )
    )
    @example(b'{"metadata":' + b'{"a":' * 900 + b"1" + b"}" * 901)
    @example({"type": 2, "duration": 10**30})
    def test_any_body(self, body: Any) -> None:
        for method, path in WITH_BODY:
            status = self.house.ask(
                method, path, body if body is not None else b"null", token=self.token
            ).status
            self.assertTrue(200 <= status < 300 or 400 <= status < 500, (method, path, status))

    @settings(max_examples=200, deadline=None)
    @given(data=st.binary(max_size=300))
    @example(b"GET /things?limit=%zz HTTP/1.1\r\nHost: a\r\n\r\n")
    @example(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes instead of a request raise nothing, log nothing, and never become 500."""
        channel, wire = self.house.connect()
        channel.dataReceived(data)
        channel.dataReceived(b"\r\n\r\n")
        self.assertNotIn(b" 500 ", wire.value().partition(b"\r\n")[0])
        self.assertEqual(self.flushLoggedErrors(), [])
