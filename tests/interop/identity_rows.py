"""The rows about what is said: both tables of IDENTITY with every cell, and the tricks with keys."""

import base64
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from tests.interop.identity_clients import Refused, WebSocket
from tests.interop.identity_world import (
    ACCEPTED,
    CLOSED,
    FORBIDDEN,
    HTTP,
    HTTPS,
    MALFORMED,
    MQTT_WSS,
    PLAIN,
    SECURE,
    UNAUTHENTICATED,
    WS,
    WSS,
    Row,
    Saying,
    Spoken,
    Thing,
    Ticket,
    World,
    forms,
    web_refusal,
)

__all__ = ["certificate_rows", "key_rows", "saying_row"]


def saying_row(world: World, trick: str, spoken: Spoken, expected: str, saying: Saying) -> Row:
    """A row that is nothing but one saying."""
    return Row(trick, spoken.name, expected, lambda ticket: world.say(spoken, saying, ticket))


def credentials(thing: Thing, spoken: Spoken, **other: object) -> Saying:
    """What a thing says of itself where nothing is wrong."""
    saying = Saying(thing.identity)
    if spoken.kind == "ws":
        saying = replace(saying, query=f"authorization={thing.key}")
    elif spoken.kind == "http":
        saying = replace(saying, headers=[("Authorization", thing.key)])
    else:
        saying = replace(saying, user=thing.id, password=thing.key.encode())
    return replace(saying, **other)  # type: ignore[arg-type]


# --- certificate mode ---------------------------------------------------------------------------------------


def certificate_rows(world: World) -> Iterator[Row]:
    """Certificate mode: the table, the tricks with keys, pages of other sites, plain listeners."""
    own, victim = world.own, world.victim
    for spoken in (HTTPS, WSS):
        yield from _web_cells(world, spoken)
        yield from _doubles(world, spoken, own.key, victim.key)
        yield from _keep_alive(world, spoken, own, victim.key, FORBIDDEN)
    for spoken in SECURE:
        if not spoken.is_web:
            yield from _mqtt_cells(world, spoken)
        for tls in "1.2", "1.3":
            good = credentials(own, spoken, tls=tls)
            yield saying_row(world, f"own certificate and key under TLS {tls}", spoken, ACCEPTED, good)
            stolen = replace(credentials(victim, spoken, tls=tls), identity=own.identity)
            yield saying_row(world, f"stolen key under TLS {tls}", spoken, FORBIDDEN, stolen)
            none = replace(good, identity=world.nobody)
            yield saying_row(world, f"own key, no certificate, TLS {tls}", spoken, FORBIDDEN, none)
    for spoken in PLAIN:
        for who, thing in ("own", own), ("stolen", victim):
            row = f"plain listener in certificate mode, {who} key"
            yield saying_row(world, row, spoken, FORBIDDEN, credentials(thing, spoken))
        yield saying_row(world, "plain listener, nothing said", spoken, FORBIDDEN, Saying(world.nobody))
    yield Row("a frame behind a refused handshake", WSS.name, FORBIDDEN, lambda t: _hasty(world, t))
    yield from _other_sites_x509(world)
    yield from _forged_headers(world)


def _web_cells(world: World, spoken: Spoken) -> Iterator[Row]:
    """Key absent, equal, different; each with and without a certificate."""
    own, victim = world.own, world.victim
    absent = ACCEPTED if spoken.kind == "http" else FORBIDDEN
    yield saying_row(world, "key absent", spoken, absent, Saying(own.identity))
    yield saying_row(world, "no certificate, key absent", spoken, FORBIDDEN, Saying(world.nobody))
    for form, (headers, query) in forms(own.key).items():
        said = Saying(own.identity, headers, query)
        yield saying_row(world, f"own key as {form}", spoken, ACCEPTED, said)
        bare = replace(said, identity=world.nobody)
        yield saying_row(world, f"no certificate, own key as {form}", spoken, FORBIDDEN, bare)
    wrong = {"stolen key": victim.key, **mutilated(own.key, victim.id)}
    for what, key in wrong.items():
        for form, (headers, query) in forms(key).items():
            said = Saying(own.identity, headers, query)
            yield saying_row(world, f"{what} as {form}", spoken, FORBIDDEN, said)
    yield from _basic_ids(world, spoken, own, victim, FORBIDDEN)


def mutilated(key: str, other_id: str) -> dict[str, str]:
    """What is nearly the own key, and what is no key at all."""
    return {
        "empty key": "",
        "the last characters of the own key": key[-16:],
        "the first characters of the own key": key[:-1],
        "the own key and one character": key + "a",
        "the own key in capitals": key.upper(),
        "another thing's id": other_id,
    }


def _basic_ids(world: World, spoken: Spoken, own: Thing, victim: Thing, refused: str) -> Iterator[Row]:
    """Basic names a thing as well: it must be the key's."""
    pairs = {
        "own id, own key": (own.id, own.key, ACCEPTED),
        "stolen id, own key": (victim.id, own.key, refused),
        "own id, stolen key": (own.id, victim.key, refused),
        "own id in capitals, own key": (own.id.upper(), own.key, refused),
    }
    for what, (user, password, expected) in pairs.items():
        header = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        said = Saying(own.identity, [("Authorization", header)])
        yield saying_row(world, f"Basic with {what}", spoken, expected, said)
    for what, header in {"nothing": "Basic ", "no colon": "Basic b3du", "no base64": "Basic %%%"}.items():
        said = Saying(own.identity, [("Authorization", header)])
        # An empty "Basic" loses its space: what is left is a key that nobody has.
        expected = refused if what == "nothing" else UNAUTHENTICATED
        yield saying_row(world, f"Basic with {what}", spoken, expected, said)


def _doubles(world: World, spoken: Spoken, own: str, stolen: str) -> Iterator[Row]:
    """Every claim in one request counts, and nothing stands there twice."""
    identity = world.own.identity

    def header(*keys: str) -> list[tuple[str, str]]:
        return [("Authorization", key) for key in keys]

    said: dict[str, tuple[list[tuple[str, str]], str, str]] = {
        "own header, own parameter": (header(own), f"authorization={own}", ACCEPTED),
        "own header, both own parameters": (header(own), f"auth={own}&authorization={own}", ACCEPTED),
        "own key in a percent-encoded parameter": ([], f"%61uth=%{ord(own[0]):02x}{own[1:]}", ACCEPTED),
        "own header, stolen parameter": (header(own), f"authorization={stolen}", FORBIDDEN),
        "own header, stolen auth": (header(own), f"auth={stolen}", FORBIDDEN),
        "own header, stolen parameter in capitals": (header(own), f"AUTH={stolen}", FORBIDDEN),
        "own header, stolen percent-encoded parameter": (header(own), f"%61uth={stolen}", FORBIDDEN),
        "stolen header, own parameter": (header(stolen), f"authorization={own}", FORBIDDEN),
        "stolen header, own auth": (header(stolen), f"auth={own}", FORBIDDEN),
        "authorization own, auth stolen": ([], f"authorization={own}&auth={stolen}", FORBIDDEN),
        "authorization stolen, auth own": ([], f"auth={own}&authorization={stolen}", FORBIDDEN),
        "own header, empty parameter": (header(own), "authorization=", FORBIDDEN),
        "own and stolen header": (header(own, stolen), "", MALFORMED),
        "stolen and own header": (header(stolen, own), "", MALFORMED),
        "own header twice": (header(own, own), "", MALFORMED),
        "own and empty header": (header(own, ""), "", MALFORMED),
        "own and stolen parameter": ([], f"authorization={own}&authorization={stolen}", MALFORMED),
        "own parameter twice": ([], f"authorization={own}&authorization={own}", MALFORMED),
        "own auth twice": ([], f"auth={own}&auth={own}", MALFORMED),
        "own and stolen parameter, one in capitals": ([], f"auth={own}&AUTH={stolen}", MALFORMED),
    }
    for what, (headers, query, expected) in said.items():
        saying = Saying(identity, headers, query)
        yield saying_row(world, what, spoken, expected, saying)
    joined = UNAUTHENTICATED if world.auth == "key" else FORBIDDEN
    for what, value, expected in (
        ("own and stolen key with a comma", f"{own},{stolen}", joined),
        # What stands before the space is a scheme that nobody knows.
        ("stolen and own key with a comma and a space", f"{stolen}, {own}", UNAUTHENTICATED),
        ("own and stolen key on a folded line", f"{own}\r\n {stolen}", UNAUTHENTICATED),
    ):
        yield saying_row(world, what, spoken, expected, Saying(identity, header(value)))


def _keep_alive(world: World, spoken: Spoken, own: Thing, stolen: str, refused: str) -> Iterator[Row]:
    """Several requests on one connection: each is decided on its own."""
    if spoken.kind != "http":
        yield Row(
            "own key over HTTP, then a WebSocket with a stolen one on the same connection",
            spoken.name,
            refused,
            lambda ticket: _http_then_ws(world, own, stolen, ticket, spoken),
        )
        return

    def requests(keys: Iterable[str]) -> Callable[[Ticket], str]:
        def attempt(ticket: Ticket) -> str:
            stream = world.stream(spoken, Saying(own.identity))
            wanted = list(keys)
            for key in wanted:
                payload = ticket.may if key == own.key else ticket.must_not
                headers = [("Authorization", key)]
                stream.send_request("POST", f"/http/{world.topic(ticket)}", headers, payload.encode())
            responses = [stream.receive_response() for _ in wanted]
            stream.close()
            verdicts = [
                ACCEPTED if each.status == 202 else web_refusal(each.status, each.headers)
                for each in responses
            ]
            return ", ".join([*verdicts, world.ear.hears(ticket.may)])

        return attempt

    orders = {
        "own key, then a stolen one (keep-alive)": (own.key, stolen),
        "a stolen key, then the own one (keep-alive)": (stolen, own.key),
        "own, stolen, own key (keep-alive)": (own.key, stolen, own.key),
        "own key twice (keep-alive)": (own.key, own.key),
    }
    for what, keys in orders.items():
        expected = ", ".join([*(ACCEPTED if key == own.key else refused for key in keys), ACCEPTED])
        yield Row(what, spoken.name, expected, requests(keys), stolen not in keys)


def _http_then_ws(world: World, own: Thing, stolen: str, ticket: Ticket, spoken: Spoken) -> str:
    stream = world.stream(spoken, Saying(own.identity))
    try:
        headers = [("Authorization", own.key)]
        first = stream.exchange("POST", f"/http/{world.topic(ticket)}", headers, ticket.may.encode())
        if first.status != 202:
            return f"the first: {first.status}"
        WebSocket(stream, f"/ws/{world.topic(ticket)}?authorization={stolen}")
        return ACCEPTED
    except Refused as refused:
        return web_refusal(refused.response.status, refused.response.headers)
    finally:
        stream.close()


def _hasty(world: World, ticket: Ticket) -> str:
    """Send a masked frame and one more handshake right behind a handshake with a stolen key."""
    stream = world.stream(WSS, Saying(world.own.identity))
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    headers = [*upgrade, ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")]
    target = f"/ws/{world.topic(ticket)}?authorization={world.victim.key}"
    words = ticket.must_not.encode()
    frame = bytes([0x81, 0x80 | len(words), 0, 0, 0, 0]) + words
    stream.send_request("GET", target, headers)
    stream.send(frame + frame)
    response = stream.receive_response()
    stream.close()
    return web_refusal(response.status, response.headers)


def _guesses(world: World, spoken: Spoken, ticket: Ticket) -> str:
    """Guess keys from one address until one has to wait; elsewhere nobody waits."""
    source = world.source()
    for number in range(30):
        begun = time.monotonic()
        guess = f"guessed-key-number-{number}"
        saying = replace(credentials(world.own._replace(key=guess), spoken), source=source)
        outcome = world.say(spoken, saying, ticket)
        if time.monotonic() - begun > 0.5 or outcome not in (UNAUTHENTICATED, FORBIDDEN):
            break
    if number < 15:
        return f"slow after {number} guesses: {outcome}"
    honest = world.say(spoken, credentials(world.own, spoken), ticket._replace(is_legitimate=True))
    return f"slow; {honest}" if number < 29 else "never slow"


def _mqtt_cells(world: World, spoken: Spoken) -> Iterator[Row]:
    """User name and password: both must be there and be the certificate's thing's."""
    own, victim = world.own, world.victim
    key = own.key.encode()
    cells: dict[str, tuple[str | None, bytes | None, str]] = {
        "own id, own key": (own.id, key, ACCEPTED),
        "no user name, no password": (None, None, FORBIDDEN),
        "own id, no password": (own.id, None, FORBIDDEN),
        "own id, empty password": (own.id, b"", FORBIDDEN),
        "empty user name, empty password": ("", b"", FORBIDDEN),
        "empty user name, own key": ("", key, FORBIDDEN),
        "own id, stolen key": (own.id, victim.key.encode(), FORBIDDEN),
        "stolen id, stolen key": (victim.id, victim.key.encode(), FORBIDDEN),
        "stolen id, own key": (victim.id, key, FORBIDDEN),
        "own key as user name too": (own.key, key, FORBIDDEN),
        "own id in capitals, own key": (own.id.upper(), key, FORBIDDEN),
        "own id, own key and a NUL": (own.id, key + b"\0", FORBIDDEN),
        "own id, no UTF-8": (own.id, b"\xff" + key, FORBIDDEN),
        # MQTT 3: a password needs a user name (3.1.1 [MQTT-3.1.2-22])
        "no user name, own key": (None, key, FORBIDDEN if spoken.version == 5 else CLOSED),
    }
    for what, password in mutilated(own.key, victim.id).items():
        cells[f"own id, {what}"] = (own.id, password.encode(), FORBIDDEN)
    for what, (user, secret, expected) in cells.items():
        said = Saying(own.identity, user=user, password=secret)
        yield saying_row(world, what, spoken, expected, said)
    none = Saying(world.nobody)
    yield saying_row(world, "no certificate, nothing said", spoken, FORBIDDEN, none)


def _other_sites_x509(world: World) -> Iterator[Row]:
    """A browser sends a certificate by itself, so a page of another site must not get by with that."""
    own = world.own
    header = [("Authorization", own.key)]
    pages: dict[str, list[tuple[str, str]]] = {
        "Origin of another site": [("Origin", "https://evil.example")],
        "Origin null": [("Origin", "null")],
        "empty Origin": [("Origin", "")],
        "Origin of this very server": [("Origin", "https://localhost")],
        "Sec-Fetch-Site: cross-site": [("Sec-Fetch-Site", "cross-site")],
        "Sec-Fetch-Site: same-site": [("Sec-Fetch-Site", "same-site")],
        "Sec-Fetch-Site: nonsense": [("Sec-Fetch-Site", "nonsense")],
        "Sec-Fetch-Site: none and cross-site": [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Site", "cross-site")],
    }
    for spoken in (HTTPS, WSS):
        for what, headers in pages.items():
            bare = Saying(own.identity, headers)
            yield saying_row(world, f"{what}, key absent", spoken, FORBIDDEN, bare)
            keyed = Saying(own.identity, [*headers, *header])
            yield saying_row(world, f"{what}, own key", spoken, ACCEPTED, keyed)
        yield from basic_from_page(world, spoken)
    for spoken in MQTT_WSS:
        for what, headers in pages.items():
            keyed = replace(credentials(own, spoken), headers=headers)
            yield saying_row(world, f"{what}, own key", spoken, ACCEPTED, keyed)
            stolen = replace(credentials(world.victim, spoken), identity=own.identity, headers=headers)
            yield saying_row(world, f"{what}, stolen key", spoken, FORBIDDEN, stolen)
    for site in "same-origin", "none":
        yield saying_row(
            world,
            f"Sec-Fetch-Site: {site}, key absent",
            HTTPS,
            ACCEPTED,
            Saying(own.identity, [("Sec-Fetch-Site", site)]),
        )


def basic_from_page(world: World, spoken: Spoken) -> Iterator[Row]:
    """Basic is what browsers send by themselves."""
    own = world.own
    basic = forms(own.key)["Basic"][0]
    pages = ("Origin", "https://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")
    for page in pages:
        said = Saying(own.identity, [*basic, page])
        yield saying_row(world, f"Basic with {': '.join(page)}", spoken, FORBIDDEN, said)
    yield saying_row(world, "Basic without Origin", spoken, ACCEPTED, Saying(own.identity, basic))
    same = Saying(own.identity, [*basic, ("Sec-Fetch-Site", "same-origin")])
    yield saying_row(world, "Basic with Sec-Fetch-Site: same-origin", spoken, ACCEPTED, same)


def _forged_headers(world: World) -> Iterator[Row]:
    """What a proxy would say of a certificate counts for nothing here."""
    own, victim = world.own, world.victim
    names = ("X-SSL-Client-S-DN", "X-SSL-Client-CN", "SSL-Client-Cert", "X-Forwarded-Client-Cert")
    forged = [*((name, f"CN={victim.key}") for name in names), ("Thing", victim.key)]
    for spoken in (HTTPS, WSS):
        for what, headers in (
            ("forged", forged),
            ("forged, stolen key", [*forged, ("Authorization", victim.key)]),
        ):
            said = Saying(world.nobody, headers)
            yield saying_row(world, f"a proxy's headers {what}", spoken, FORBIDDEN, said)
        said = credentials(own, spoken)
        twin = replace(said, headers=[*forged, *said.headers])
        yield saying_row(world, "a proxy's headers besides the own certificate", spoken, ACCEPTED, twin)


# --- key mode -----------------------------------------------------------------------------------------------


def key_rows(world: World) -> Iterator[Row]:
    """Key mode: the table, doubles, pages of other sites; with TLS and without."""
    own, victim = world.own, world.victim
    for spoken in (HTTPS, HTTP, WSS, WS):
        yield saying_row(world, "key absent", spoken, UNAUTHENTICATED, Saying(world.nobody))
        for form, (headers, query) in forms(own.key).items():
            said = Saying(world.nobody, headers, query)
            yield saying_row(world, f"own key as {form}", spoken, ACCEPTED, said)
        for what, key in mutilated(own.key, victim.id).items():
            for form, (headers, query) in forms(key).items():
                said = Saying(world.nobody, headers, query)
                yield saying_row(world, f"{what} as {form}", spoken, UNAUTHENTICATED, said)
        yield from _basic_ids(world, spoken, own, victim, UNAUTHENTICATED)
        yield from _doubles(world, spoken, own.key, victim.key)
        yield from _keep_alive(world, spoken, own, own.key[::-1], UNAUTHENTICATED)
        yield from _other_sites_key(world, spoken)
    for spoken in (*SECURE, *PLAIN):
        if not spoken.is_web:
            yield from _mqtt_key_cells(world, spoken)
    for spoken in (*SECURE, *PLAIN):
        row = "guessing from one address"
        slow = f"slow; {ACCEPTED}"
        yield Row(row, spoken.name, slow, partial(_guesses, world, spoken), has_bystander=True)
    certificate = world.authority.client(victim.key)
    for spoken in SECURE:
        for tls in "1.2", "1.3":
            bare = Saying(certificate, tls=tls)
            row = f"the victim's certificate, key absent, TLS {tls}"
            yield saying_row(world, row, spoken, UNAUTHENTICATED, bare)
            keyed = replace(credentials(own, spoken, tls=tls), identity=certificate)
            yield saying_row(world, f"own key, certificate not asked for, TLS {tls}", spoken, ACCEPTED, keyed)


def _mqtt_key_cells(world: World, spoken: Spoken) -> Iterator[Row]:
    """User name and password must belong to the same thing."""
    own, victim = world.own, world.victim
    key = own.key.encode()
    cells: dict[str, tuple[str | None, bytes | None, str]] = {
        "own id, own key": (own.id, key, ACCEPTED),
        "no user name, no password": (None, None, UNAUTHENTICATED),
        "own id, no password": (own.id, None, UNAUTHENTICATED),
        "own id, stolen key": (own.id, victim.key.encode(), UNAUTHENTICATED),
        "stolen id, own key": (victim.id, key, UNAUTHENTICATED),
        "empty user name, own key": ("", key, UNAUTHENTICATED),
        "own key as user name too": (own.key, key, UNAUTHENTICATED),
        "own id, own key and a NUL": (own.id, key + b"\0", UNAUTHENTICATED),
        "no user name, own key": (None, key, UNAUTHENTICATED if spoken.version == 5 else CLOSED),
    }
    for what, password in mutilated(own.key, victim.id).items():
        cells[f"own id, {what}"] = (own.id, password.encode(), UNAUTHENTICATED)
    for what, (user, secret, expected) in cells.items():
        said = Saying(world.nobody, user=user, password=secret)
        yield saying_row(world, what, spoken, expected, said)


def _other_sites_key(world: World, spoken: Spoken) -> Iterator[Row]:
    """With a key in the request nothing was sent by a browser alone; Basic may have been."""
    header = [("Authorization", world.own.key)]
    for page in ("Origin", "https://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site"):
        what = ": ".join(page)
        keyed = Saying(world.nobody, [page, *header])
        yield saying_row(world, f"{what}, own key", spoken, ACCEPTED, keyed)
        yield saying_row(world, f"{what}, key absent", spoken, UNAUTHENTICATED, Saying(world.nobody, [page]))
    yield from basic_from_page(world, spoken)
