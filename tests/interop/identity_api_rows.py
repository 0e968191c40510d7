"""The rows about the API: whose a key may become, and what a certificate or a key is worth there."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from tests.interop.identity_clients import Response
from tests.interop.identity_rows import credentials, saying_row
from tests.interop.identity_world import (
    ACCEPTED,
    FORBIDDEN,
    HTTP,
    HTTPS,
    PLAIN,
    SECURE,
    UNAUTHENTICATED,
    Row,
    Saying,
    Thing,
    World,
)
from tests.interop.running import Deployment

__all__ = ["api_rows"]


def api_rows(world: World) -> Iterator[Row]:
    """Rows that need the API alone; those of keys are made one after the other."""
    yield from _keys(world)
    yield from _ids_as_keys(world)
    yield from _malformed_keys(world)
    yield from _people(world)
    for spoken in (*SECURE, *(PLAIN if world.auth == "key" else ())):
        refused = FORBIDDEN if world.auth == "x509" else UNAUTHENTICATED
        token = Thing(world.own.id, world.owner.token, world.own.identity)
        row = "the owner's token as a thing's key"
        yield saying_row(world, row, spoken, refused, credentials(token, spoken))


def call(
    world: World, method: str, path: str, body: Any, token: str, saying: Saying | None = None
) -> Response:
    """One API request from an address of its own, with a certificate or without."""
    stream = world.stream(HTTPS, saying or Saying(world.nobody))
    try:
        headers = [("Content-Type", "application/json"), *([("Authorization", token)] if token else [])]
        return stream.exchange(method, path, headers, msgspec.json.encode(body) if body is not None else None)
    finally:
        stream.close()


Taking = Callable[[Deployment, str], int]


def _takings(world: World) -> dict[str, Taking]:
    """Every way to ask for a key."""

    def change(who: Deployment, key: str) -> int:
        made = who.thing("taker")[0]
        return call(world, "PATCH", f"/things/{made}/key", {"key": key}, who.token).status

    return {
        "POST /things": lambda who, key: call(world, "POST", "/things", {"key": key}, who.token).status,
        "POST /things/bulk": lambda who, key: (
            call(world, "POST", "/things/bulk", [{"name": "a"}, {"key": key}], who.token).status
        ),
        "PATCH /things/ID/key": change,
    }


def _keys(world: World) -> Iterator[Row]:
    """A key that an owner let go of is nobody else's, ever: certificates with it may live for years."""

    def kept(thing: Thing) -> None:
        """Still in use."""

    for what, free in ("changed", world.change_key), ("of a deleted thing", world.delete), ("in use", kept):
        for how, take in _takings(world).items():

            def attempt(_: object, free: Callable[[Thing], None] = free, take: Taking = take) -> str:
                thing = world.thing("weather")
                free(thing)
                return str(take(world.stranger, thing.key))

            def own(_: object, free: Callable[[Thing], None] = free, take: Taking = take) -> str:
                thing = world.thing("weather")
                free(thing)
                return ACCEPTED if take(world.owner, thing.key) < 300 else "refused"

            yield Row(f"another owner's key, {what}: {how}", "API", "409", attempt)
            if free is not kept:
                yield Row(f"one's own former key, {what}: {how}", "API", ACCEPTED, own)

    def dead(_: object) -> str:
        """A certificate with a freed key is nobody's."""
        thing = world.thing("weather")
        world.change_key(thing)
        stream = world.stream(HTTPS, Saying(thing.identity))
        headers = [("Authorization", thing.key)]
        status = stream.exchange("POST", f"/http/channels/{world.channel}/messages", headers, b"!dead").status
        stream.close()
        return str(status)

    yield Row("a former key", HTTPS.name, "403" if world.auth == "x509" else "401", dead)


def _ids_as_keys(world: World) -> Iterator[Row]:
    """No thing's key is a thing's id, whoever owns either."""
    for how, take in _takings(world).items():
        for who in world.owner, world.stranger:

            def attempt(_: object, who: Deployment = who, take: Taking = take) -> str:
                return str(take(who, world.victim.id))

            whose = "the own thing's" if who is world.owner else "another's thing's"
            yield Row(f"{whose} id as a key: {how}", "API", "409", attempt)


def _malformed_keys(world: World) -> Iterator[Row]:
    """Nothing that could mean something in a distinguished name, and nothing that does not fit into one."""
    victim = world.victim.key
    keys = ["a" * 15, "a" * 65, f"a/CN={victim}", f"{victim[:20]},CN=a", f"{victim}+", f"{victim} ", ""]
    keys += [f"{victim}\0", f"{victim}\n", f"\u0430{victim}", f"{victim}\\2c", f"{victim}%"]
    for how, take in _takings(world).items():
        for key in keys:

            def attempt(_: object, key: str = key, take: Taking = take) -> str:
                return str(take(world.owner, key))

            shown = key.replace(victim, "victim")
            yield Row(f"the key {shown!r}: {how}", "API", "400", attempt)
        for key in ("a" * 16 + how[-3:].strip("/"), (how[-3:].strip("/") + "Az09._~-" * 8)[:64]):

            def accept(_: object, key: str = key, take: Taking = take) -> str:
                return ACCEPTED if take(world.owner, key) < 300 else "refused"

            yield Row(f"a key of {len(key)} characters: {how}", "API", ACCEPTED, accept)


def _people(world: World) -> Iterator[Row]:
    """People need a token and nothing else."""
    identities = {"no certificate": Saying(world.nobody)}
    if world.auth == "x509":
        identities["a thing's certificate"] = Saying(world.own.identity)
    tokens = {
        "no token": ("", "401"),
        "a thing's key": (world.own.key, "401"),
        "the own token": (world.owner.token, ACCEPTED),
    }
    for shown, saying in identities.items():
        for what, (token, expected) in tokens.items():

            def attempt(_: object, saying: Saying = saying, token: str = token) -> str:
                status = call(world, "GET", "/things", None, token, saying).status
                return ACCEPTED if status == 200 else str(status)

            yield Row(f"{shown}, {what}", "API", expected, attempt)

    def plain(_: object) -> str:
        stream = world.stream(HTTP, Saying(world.nobody))
        status = stream.exchange("GET", "/things", [("Authorization", world.owner.token)]).status
        stream.close()
        return ACCEPTED if status == 200 else str(status)

    yield Row("the own token without TLS", "API", ACCEPTED, plain)
