"""How each situation of the matrix is brought about, and what comes of it over a real connection."""

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mfserver.certificates import thing_uri
from mfserver.records import ThingId
from tests.interop.certificates_matrix import PROTOCOLS, WORDS, Expectation, expectations
from tests.interop.certificates_scene import Scene
from tests.interop.certificates_world import BY_CN, BY_FINGERPRINT, BY_SAN, MatrixWorld
from tests.interop.identity_certificates import CLIENT, SERVER, Authority, Identity, common_name, subject
from tests.interop.identity_lives import brief_enough, on_monotonic_clock
from tests.interop.identity_world import Row, Saying, Spoken, Thing, Ticket, World

__all__ = ["SITUATIONS", "matrix_rows"]


def matrix_rows(world: MatrixWorld, option: str = "") -> Iterator[tuple[Expectation, Row]]:
    """Every attempt of a matrix: two for each cell, one under each version of TLS."""
    for expectation in expectations(option):
        play = SITUATIONS[expectation.situation]
        for spoken, tls in PROTOCOLS[expectation.protocol]:
            trick = f"{expectation.method}: {expectation.situation}, TLS {tls}"
            expected = WORDS[expectation.outcome]

            def attempt(
                ticket: Ticket,
                play: Play = play,
                scene: tuple[str, Spoken, str] = (expectation.method, spoken, tls),
            ) -> str:
                return play(Scene(world, *scene, ticket))

            yield expectation, Row(trick, spoken.name, expected, attempt)


Play = Callable[[Scene], str]
Make = Callable[[MatrixWorld, str], Identity]


# --- certificates -------------------------------------------------------------------------------------------


def _own(world: MatrixWorld, method: str) -> Identity:
    return world.certificate(method, world.own)


def _signed(**how: Any) -> Make:
    """One for the own thing that the test signs. What is called is called with the world."""

    def make(world: MatrixWorld, method: str) -> Identity:
        made = {key: each(world) if callable(each) else each for key, each in how.items()}
        return world.signed(method, world.own, **made)

    return make


def _not_yet(world: World) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=30)


def _impostor(world: World) -> Authority:
    return world.authority.impostor()


def _elsewhere(world: MatrixWorld) -> Authority:
    return world.elsewhere


def _without_authority(make: Callable[[MatrixWorld, str], Identity]) -> Make:
    """A certificate that no authority signed. Its common name alone says whose it is, or our records do."""

    def of(world: MatrixWorld, method: str) -> Identity:
        identity = make(world, world.own.key if method == BY_CN else world.own.id)
        if method == BY_FINGERPRINT:
            world.record(identity, world.own)
        return identity

    return of


def _self_signed(world: MatrixWorld, text: str) -> Identity:
    return world.authority.self_signed(text)


def _signed_by_thing(world: MatrixWorld, text: str) -> Identity:
    return world.authority.signed_by_thing(world.own.identity, text)


def _weaker(world: MatrixWorld, method: str) -> Identity:
    """The own name, and another's in every place that counts for less."""
    own, victim = world.own, world.victim
    evil: x509.NameAttribute[str] = x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"a,CN={victim.key}")
    names = {BY_CN: own.key, BY_FINGERPRINT: victim.key, BY_SAN: victim.key}
    named = subject(evil, common_name(names.get(method, own.id)))
    others: list[x509.GeneralName] = [x509.DNSName(victim.id), x509.RFC822Name(f"{victim.key}@example.org")]
    if method == BY_FINGERPRINT:
        others.append(x509.UniformResourceIdentifier(thing_uri(ThingId(victim.id))))
    return world.signed(method, own, subject=named, alternatives=others)


def _with_key_besides(world: MatrixWorld, method: str) -> Identity:
    return world.signed(method, world.own, by=world.elsewhere, subject=subject(common_name(world.own.key)))


def _of_another_kind(world: MatrixWorld, method: str) -> Identity:
    others = [
        f"https://example.org/{world.victim.id}",
        f"urn:mainflux:{world.victim.id}",
        "urn:mainflux:thin",
    ]
    return world.signed(
        method, world.own, alternatives=[x509.UniformResourceIdentifier(each) for each in others]
    )


def _own_first(world: MatrixWorld, method: str) -> Identity:
    return world.signed(method, world.own, world.victim)


def _victim_first(world: MatrixWorld, method: str) -> Identity:
    if method != BY_FINGERPRINT:
        return world.signed(method, world.victim, world.own)
    return _own_first(world, method)  # whose record it is decides, and not the order


def _own_twice(world: MatrixWorld, method: str) -> Identity:
    return world.signed(method, world.own, world.own)


def _two_and_key(world: MatrixWorld, method: str) -> Identity:
    return world.signed(method, world.own, world.victim, subject=subject(common_name(world.own.key)))


def _victims(world: MatrixWorld, method: str) -> Identity:
    return world.certificate(method, world.victim)


# --- what is said -------------------------------------------------------------------------------------------


def _say_own(make: Make) -> Play:
    return lambda scene: scene.say(scene.world.own, make(scene.world, scene.method))


def _say_victims_key(make: Make) -> Play:
    """The own id, as far as there is one, and the other's key."""
    return lambda scene: scene.say(
        scene.world.own._replace(key=scene.world.victim.key), make(scene.world, scene.method)
    )


def _say_pair(id_of: str, key_of: str) -> Play:
    """A thing's id and a thing's key: user name and password, on the web as Basic."""

    def play(scene: Scene) -> str:
        things = {"own": scene.world.own, "victim": scene.world.victim}
        who, key = things[id_of].id, things[key_of].key
        saying = scene.saying(Thing(who, key, scene.world.nobody), _own(scene.world, scene.method))
        if scene.spoken.is_web:
            header = "Basic " + base64.b64encode(f"{who}:{key}".encode()).decode()
            saying = replace(saying, headers=[("Authorization", header)], query="")
        return scene.try_saying(saying)

    return play


def _say_no_key(whose: str | None) -> Play:
    """The certificate alone, on MQTT with a thing's id or without."""

    def play(scene: Scene) -> str:
        things = {"own": scene.world.own, "victim": scene.world.victim}
        saying = Saying(_own(scene.world, scene.method), tls=scene.tls)
        if not scene.spoken.is_web and whose is not None:
            saying = replace(saying, user=things[whose].id)
        return scene.try_saying(saying)

    return play


def _resumed(who: str) -> Play:
    def play(scene: Scene) -> str:
        world = scene.world
        identity = _own(world, scene.method)
        session = scene.session(world.own, identity)
        return scene.say(world.own if who == "own" else world.victim, identity, session)

    return play


# --- what happens meanwhile ---------------------------------------------------------------------------------


def _two(scene: Scene) -> tuple[Thing, Identity, Identity]:
    """A new thing with two certificates."""
    thing = scene.world.new_thing()
    first, second = (scene.world.certificate(scene.method, thing) for _ in range(2))
    return thing, first, second


def _revoked(scene: Scene) -> str:
    thing, identity, _ = _two(scene)
    scene.world.revoke(scene.method, identity)
    return scene.say(thing, identity)


def _revoked_live(scene: Scene) -> str:
    thing, identity, _ = _two(scene)
    life = scene.life(thing, identity)
    return life.ends(scene.world.revoke(scene.method, identity))


def _other_revoked(scene: Scene) -> str:
    thing, identity, other = _two(scene)
    scene.world.revoke(scene.method, other)
    return scene.say(thing, identity)


def _other_revoked_live(scene: Scene) -> str:
    thing, identity, other = _two(scene)
    life = scene.life(thing, identity)
    scene.world.revoke(scene.method, other)
    return scene.stays(life)


def _revoked_resumed(scene: Scene) -> str:
    thing, identity, _ = _two(scene)
    session = scene.session(thing, identity)
    scene.world.revoke(scene.method, identity)
    return scene.say(thing, identity, session)


def _other_revoked_resumed(scene: Scene) -> str:
    thing, identity, other = _two(scene)
    session = scene.session(thing, identity)
    scene.world.revoke(scene.method, other)
    return scene.say(thing, identity, session)


def _brief(scene: Scene, *, is_shown: bool = True) -> tuple[Thing, Identity, float]:
    """A new thing, a certificate that is about to end, and when, on the monotonic clock.

    :param is_shown: whether it has to be there before it ends.
    """
    thing, took = scene.world.new_thing(), 0.0
    if is_shown:
        started = time.monotonic()
        scene.session(thing, scene.world.certificate(scene.method, thing))
        took = time.monotonic() - started
    lifetime = brief_enough(took)
    if scene.method == BY_FINGERPRINT:
        identity = scene.world.issue(thing, f"{lifetime}s")
    else:
        identity = scene.world.signed(scene.method, thing, lifetime=timedelta(seconds=lifetime))
    assert identity.leaf is not None
    return thing, identity, on_monotonic_clock(identity.leaf.not_valid_after_utc.timestamp())


def _until(moment: float) -> None:
    """Wait for a moment, and the second more that OpenSSL counts in."""
    time.sleep(max(0.0, moment + 1.1 - time.monotonic()))


def _expired(scene: Scene) -> str:
    thing, identity, end = _brief(scene, is_shown=False)
    _until(end)
    return scene.say(thing, identity)


def _expired_live(scene: Scene) -> str:
    thing, identity, end = _brief(scene)
    life = scene.life(thing, identity)
    return life.ends(end, end - 0.05)


def _expired_resumed(scene: Scene) -> str:
    thing, identity, end = _brief(scene)
    session = scene.session(thing, identity)
    _until(end)
    return scene.say(thing, identity, session)


def _expires_soon(scene: Scene) -> str:
    thing, identity, _ = _brief(scene)
    return scene.say(thing, identity)


def _renewed(scene: Scene) -> tuple[Thing, Identity, Identity]:
    """A new thing, its certificate, and the one in its place."""
    thing = scene.world.new_thing()
    old = scene.world.certificate(scene.method, thing)
    return thing, old, scene.world.renew(scene.method, thing, old)


def _renewed_live(scene: Scene) -> str:
    thing = scene.world.new_thing()
    old = scene.world.certificate(scene.method, thing)
    life = scene.life(thing, old)
    scene.world.renew(scene.method, thing, old)
    return scene.stays(life)


def _renewed_old(scene: Scene) -> str:
    thing, old, _ = _renewed(scene)
    return scene.say(thing, old)


def _renewed_new(scene: Scene) -> str:
    thing, _, new = _renewed(scene)
    return scene.say(thing, new)


def _superseded_live(scene: Scene) -> str:
    thing, old, _ = _renewed(scene)
    life = scene.life(thing, old)
    return life.ends(scene.world.revoke(scene.method, old))


def _superseded_old(scene: Scene) -> str:
    thing, old, _ = _renewed(scene)
    scene.world.revoke(scene.method, old)
    return scene.say(thing, old)


def _superseded_new_live(scene: Scene) -> str:
    thing, old, new = _renewed(scene)
    life = scene.life(thing, new)
    scene.world.revoke(scene.method, old)
    return scene.stays(life)


def _changed_live(change: Callable[[World, Thing], None]) -> Play:
    def play(scene: Scene) -> str:
        thing, identity, _ = _two(scene)
        life = scene.life(thing, identity)
        change(scene.world, thing)
        return scene.falls_silent(life, time.monotonic())

    return play


def _deleted(scene: Scene) -> str:
    thing, identity, _ = _two(scene)
    scene.world.delete(thing)
    return scene.say(thing, identity)


def _deleted_resumed(scene: Scene) -> str:
    thing, identity, _ = _two(scene)
    session = scene.session(thing, identity)
    scene.world.delete(thing)
    return scene.say(thing, identity, session)


def _other_deleted_live(scene: Scene) -> str:
    thing, identity, _ = _two(scene)
    life = scene.life(thing, identity)
    scene.world.delete(scene.world.new_thing())
    return scene.stays(life)


def _key_changed(which: str) -> Play:
    def play(scene: Scene) -> str:
        thing, identity, _ = _two(scene)
        scene.world.change_key(thing)
        changed = thing._replace(key=f"changed-{thing.key[:40]}")
        return scene.say(changed if which == "new" else thing, identity)

    return play


SITUATIONS: Final[Mapping[str, Play]] = {
    "own: own key": _say_own(_own),
    "own: own key and own id": _say_pair("own", "own"),
    "own: no key": _say_no_key("own"),
    "own: nothing said": _say_no_key(None),
    "another's: its id, no key": _say_no_key("victim"),
    "own: recorded, signed, and nothing else": _say_own(_signed()),
    "own: resumed": _resumed("own"),
    "another's: its key": _say_victims_key(_own),
    "another's: its key and its id": _say_pair("victim", "victim"),
    "another's: own key and its id": _say_pair("victim", "own"),
    "another's: its key, resumed": _resumed("victim"),
    "another's: its name in a weaker place, own key": _say_own(_weaker),
    "another's: its name in a weaker place, its key": _say_victims_key(_weaker),
    "another's: the certificate, own key": _say_own(_victims),
    "revoked: new connection": _revoked,
    "revoked: live connection": _revoked_live,
    "revoked: another one of the thing's, new connection": _other_revoked,
    "revoked: another one of the thing's, live connection": _other_revoked_live,
    "revoked: resumed": _revoked_resumed,
    "revoked: another one of the thing's, resumed": _other_revoked_resumed,
    "expired: new connection": _expired,
    "expired: live connection": _expired_live,
    "expired: resumed": _expired_resumed,
    "expired: soon, new connection": _expires_soon,
    "not yet valid": _say_own(_signed(not_before=_not_yet)),
    "wrong root: of the same name": _say_own(_signed(by=_impostor)),
    "wrong root: itself": _say_own(_without_authority(_self_signed)),
    "wrong root: a thing": _say_own(_without_authority(_signed_by_thing)),
    "wrong root: trusted, not ours": _say_own(_signed(by=_elsewhere)),
    "wrong root: trusted, not ours, and CN = key besides": _say_own(_with_key_besides),
    "no clientAuth: for servers": _say_own(_signed(usages=SERVER)),
    "no clientAuth: for any usage": _say_own(_signed(usages=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])),
    "no clientAuth: no usages at all": _say_own(_signed(usages=())),
    "no clientAuth: for servers and clients": _say_own(_signed(usages=(*SERVER, *CLIENT))),
    "two names: own first, own key": _say_own(_own_first),
    "two names: another's first, own key": _say_own(_victim_first),
    "two names: another's first, its key": _say_victims_key(_victim_first),
    "two names: own twice": _say_own(_own_twice),
    "two names: two of ours, and CN = key besides": _say_own(_two_and_key),
    "two names: the other is not of our kind": _say_own(_of_another_kind),
    "renewed: live connection under the old one": _renewed_live,
    "renewed: the old one, new connection": _renewed_old,
    "renewed: the new one, new connection": _renewed_new,
    "renewed, old one revoked: its live connection": _superseded_live,
    "renewed, old one revoked: the old one, new connection": _superseded_old,
    "renewed, old one revoked: the new one's live connection": _superseded_new_live,
    "thing deleted: live connection": _changed_live(World.delete),
    "thing deleted: new connection": _deleted,
    "thing deleted: resumed": _deleted_resumed,
    "thing deleted: another thing's live connection": _other_deleted_live,
    "key changed: live connection": _changed_live(World.change_key),
    "key changed: new key": _key_changed("new"),
    "key changed: old key": _key_changed("old"),
}
