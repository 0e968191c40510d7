"""Every place in which a key can stand counts, once."""

import base64
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Request
from twisted.web.test.requesthelper import DummyChannel

from mfserver.adapters.claims import is_cross_site, query_parameter, request_claims, single_header
from mfserver.errors import Invalid, NotAuthorized, Unauthenticated

KEY = "an-own-key-of-a-thing"


def a_request(uri: bytes = b"/", **headers: "bytes | list[bytes]") -> Any:
    """A request as twisted.web hands it over."""
    request = Request(DummyChannel(), False)
    request.uri = uri
    request.client = IPv4Address("TCP", "192.0.2.7", 4711)
    for name, values in headers.items():
        request.requestHeaders.setRawHeaders(
            name.replace("_", "-").encode(), values if isinstance(values, list) else [values]
        )
    return request


def basic(text: str) -> bytes:
    """An Authorization header with Basic credentials."""
    return b"Basic " + base64.b64encode(text.encode())


class KeyPlacesTests(SynchronousTestCase):
    """Where a thing may put its key."""

    def test_none(self) -> None:
        """A request without a key claims nothing, and comes from an address."""
        claims = request_claims(a_request())
        self.assertEqual(((), None, False, "192.0.2.7"), _all(claims))

    def test_header_in_each_spelling(self) -> None:
        """The raw key, Thing, Bearer in any case, and the password of Basic are the same claim."""
        for header in (KEY.encode(), b"Thing " + KEY.encode(), b"bEARER  " + KEY.encode(), basic(f":{KEY}")):
            with self.subTest(header=header):
                claims = request_claims(a_request(authorization=header))
                self.assertEqual(((KEY,), None), (claims.keys, claims.thing_id))

    def test_basic_user_name_is_a_claim(self) -> None:
        """A user name besides the key is the thing's id, and will be compared."""
        claims = request_claims(a_request(authorization=basic(f"thing-1:{KEY}")))
        self.assertEqual(((KEY,), "thing-1"), (claims.keys, claims.thing_id))

    def test_every_place_counts(self) -> None:
        """Header and both parameters are all kept, so that they can be compared."""
        claims = request_claims(a_request(b"/x?authorization=b&c=d&auth=c%20c", authorization=b"a"))
        self.assertEqual(("a", "b", "c c"), claims.keys)

    def test_empty_key_is_a_claim(self) -> None:
        """An empty header or parameter is a key that no thing has, not the absence of one."""
        self.assertEqual(("",), request_claims(a_request(authorization=b"")).keys)
        self.assertEqual(("",), request_claims(a_request(b"/?authorization=")).keys)
        self.assertEqual(("",), request_claims(a_request(b"/?auth")).keys)

    def test_unreadable(self) -> None:
        """An unknown scheme and broken Basic credentials are refused; the text shows nothing of them."""
        for header in (b"Digest " + KEY.encode(), b"Basic !!!!", b"Basic " + base64.b64encode(b"\xff\xff:")):
            error = self.assertRaises(Unauthenticated, request_claims, a_request(authorization=header))
            self.assertNotIn(KEY, str(error))
        self.assertRaises(Unauthenticated, request_claims, a_request(authorization=basic(KEY)))


class RepeatedTests(SynchronousTestCase):
    """What stands there twice is refused, even when both are equal."""

    def test_header(self) -> None:
        self.assertRaises(Invalid, request_claims, a_request(authorization=[b"a", b"a"]))

    def test_parameter(self) -> None:
        """Also in another spelling of its name, and percent-encoded."""
        for query in (b"auth=a&auth=a", b"authorization=a&AUTHORIZATION=a", b"auth=a&%61uth=a"):
            self.assertRaises(Invalid, request_claims, a_request(b"/?" + query))

    def test_not_utf8(self) -> None:
        self.assertRaises(Invalid, query_parameter, a_request(b"/?auth=%ff"), "auth")
        self.assertRaises(Invalid, single_header, a_request(x=b"\xff"), "x")


class BrowserTests(SynchronousTestCase):
    """What browsers send by themselves never counts alone."""

    def test_cross_site_needs_a_key(self) -> None:
        """Origin, null too, or a Sec-Fetch-Site of another site asks for the key."""
        for headers in (
            {"origin": b"https://evil.example"},
            {"origin": b"null"},
            {"sec_fetch_site": b"cross-site"},
            {"sec_fetch_site": b"same-site"},
            {"sec_fetch_site": [b"none", b"cross-site"]},
        ):
            with self.subTest(headers=headers):
                self.assertTrue(request_claims(a_request(**headers)).needs_key)

    def test_others_do_not(self) -> None:
        """A typed address and the page's own requests are no one else's."""
        for value in (b"none", b"Same-Origin"):
            self.assertFalse(is_cross_site(a_request(sec_fetch_site=value)))

    def test_basic_from_a_page(self) -> None:
        """Basic credentials from another site's page are refused: browsers remember and send them."""
        request = a_request(authorization=basic(f"t:{KEY}"), origin=b"https://evil.example")
        self.assertRaises(NotAuthorized, request_claims, request)
        request = a_request(authorization=basic(f":{KEY}"), origin=b"https://evil.example")
        self.assertRaises(NotAuthorized, request_claims, request)
        request = a_request(authorization=basic(f":{KEY}"), sec_fetch_site=b"cross-site")
        self.assertRaises(NotAuthorized, request_claims, request)

    def test_protocol_that_needs_a_key(self) -> None:
        self.assertTrue(request_claims(a_request(), needs_key=True).needs_key)


def _all(claims: Any) -> tuple[Any, ...]:
    return claims.keys, claims.thing_id, claims.needs_key, claims.address
