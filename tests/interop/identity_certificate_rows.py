"""The rows about certificates: hostile subjects, which are never the victim, and what fails the handshake."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.interop.identity_certificates import CLIENT, SERVER, Identity, common_name, subject
from tests.interop.identity_clients import HandshakeFailed
from tests.interop.identity_rows import credentials, saying_row
from tests.interop.identity_world import (
    ACCEPTED,
    CLOSED,
    FORBIDDEN,
    HANDSHAKE,
    HTTPS,
    SECURE,
    Row,
    Saying,
    Spoken,
    Thing,
    Ticket,
    World,
)

__all__ = ["subject_rows", "handshake_rows"]

_HOUR = timedelta(hours=1)


def subject_rows(world: World) -> Iterator[Row]:
    """Certificates of our own authority whose subjects only look like the victim's, and honest odd ones."""
    victim = world.victim
    for what, identity, spelled in _hostile(world):
        for spoken in SECURE:
            claimed = replace(credentials(victim, spoken), identity=identity)
            yield saying_row(world, f"{what}, the victim's key", spoken, FORBIDDEN, claimed)
        yield saying_row(world, f"{what}, key absent", HTTPS, FORBIDDEN, Saying(identity))
        if spelled and spelled.isprintable() and spelled.isascii():
            # The same text as the key: what the certificate says and what is said agree, and are no key.
            said = [("Authorization", spelled.strip())]
            if " " not in spelled.strip():
                row = f"{what}, its own text as the key"
                yield saying_row(world, row, HTTPS, FORBIDDEN, Saying(identity, said))
    for what, identity in _doubled(world):
        for thing in (world.own, victim):
            for spoken in SECURE:
                claimed = replace(credentials(thing, spoken), identity=identity)
                whose = "own" if thing is world.own else "the victim's"
                yield saying_row(world, f"{what}, {whose} key", spoken, FORBIDDEN, claimed)
    for what, thing in _honest(world):
        for spoken in SECURE:
            yield saying_row(world, f"{what}, own key", spoken, ACCEPTED, credentials(thing, spoken))
            stolen = replace(credentials(victim, spoken), identity=thing.identity)
            yield saying_row(world, f"{what}, the victim's key", spoken, FORBIDDEN, stolen)


def _other(oid: ObjectIdentifier, text: str) -> "x509.NameAttribute[str]":
    return x509.NameAttribute(oid, text, _ASN1Type.UTF8String, _validate=False)


def _hostile(world: World) -> Iterator[tuple[str, Identity, str]]:
    """What it is called, the certificate, and its common name where it has one."""
    victim = world.victim.key
    issue = world.authority.client
    for what, text in _common_names(world).items():
        yield f"CN {what}", issue(subject(common_name(text))), text
    for kind in _ASN1Type.BMPString, _ASN1Type.UniversalString:
        yield f"CN victim as {kind.name}", issue(subject(common_name(victim, kind))), ""
    for text in f"Evil,CN={victim}", f"Evil/CN={victim}", f"Evil+CN={victim}", f"Evil\\,CN={victim}", victim:
        evil = subject(_other(NameOID.ORGANIZATION_NAME, text))
        yield f"O {text.replace(victim, 'victim')!r} and no CN", issue(evil), ""
    for oid in (
        NameOID.ORGANIZATIONAL_UNIT_NAME,
        NameOID.SERIAL_NUMBER,
        NameOID.USER_ID,
        NameOID.DOMAIN_COMPONENT,
        NameOID.EMAIL_ADDRESS,
        NameOID.SURNAME,
        NameOID.PSEUDONYM,
        NameOID.DN_QUALIFIER,
        ObjectIdentifier("2.5.4.3.1"),
    ):
        yield f"victim as {oid._name} {oid.dotted_string}", issue(subject(_other(oid, victim))), ""
    alternatives = [x509.DNSName(victim), x509.RFC822Name(f"{victim}@example.org")]
    alternatives += [x509.DirectoryName(x509.Name([common_name(victim)]))]
    yield "no subject, victim as alternative name", issue(x509.Name([]), alternatives=alternatives), ""


def _doubled(world: World) -> Iterator[tuple[str, Identity]]:
    """More than one common name: nobody, not even oneself."""
    own, victim = common_name(world.own.key), common_name(world.victim.key)
    issue = world.authority.client
    yield "two CNs, own first", issue(subject(own, victim))
    yield "two CNs, the victim's first", issue(subject(victim, own))
    yield "two CNs in one RDN", issue(x509.Name([x509.RelativeDistinguishedName([own, victim])]))
    organization = _other(NameOID.ORGANIZATION_NAME, "Evil")
    yield "two CNs around an O", issue(subject(own, organization, victim))
    empty = common_name("")
    yield "own CN and an empty one", issue(subject(own, empty))


def _honest(world: World) -> Iterator[tuple[str, Thing]]:
    """Odd certificates of a thing's own that say exactly one common name."""
    own, victim = world.own, world.victim
    issue = world.authority.client
    key = common_name(own.key)
    for text in f"Evil,CN={victim.key}", f"Evil/CN={victim.key}":
        evil = _other(NameOID.ORGANIZATION_NAME, text)
        shown = text.replace(victim.key, "victim")
        yield f"O {shown!r} before the own CN", own._replace(identity=issue(subject(evil, key)))
        yield f"O {shown!r} behind the own CN", own._replace(identity=issue(subject(key, evil)))
        both = x509.Name([x509.RelativeDistinguishedName([evil, key])])
        yield f"O {shown!r} in one RDN with the own CN", own._replace(identity=issue(both))
    for kind in _ASN1Type.PrintableString, _ASN1Type.T61String, _ASN1Type.IA5String:
        of_kind = issue(subject(common_name(own.key, kind)))
        yield f"the own CN as {kind.name}", own._replace(identity=of_kind)
    alternatives = [x509.DNSName(victim.key), x509.DirectoryName(x509.Name([common_name(victim.key)]))]
    named = issue(subject(key), alternatives=alternatives)
    yield "the own CN, victim as alternative name", own._replace(identity=named)
    for length in 16, 64:
        text = ("Aa0._~-" * 10)[: length - 4] + f"-{length:03}"
        made = world.server.json("POST", "/things", {"key": text}, world.owner.token)
        world.server.json("PUT", f"/channels/{world.channel}/things/{made}", token=world.owner.token)
        yield f"a CN of {length} characters", Thing(made, text, issue(text))


# --- handshakes ---------------------------------------------------------------------------------------------


def handshake_rows(world: World) -> Iterator[Row]:
    """Certificates that TLS itself must refuse, in both versions and on both ports."""
    for spoken in SECURE:
        for tls in "1.2", "1.3":
            for what, identity in _invalid(world):
                saying = replace(credentials(world.victim, spoken, tls=tls), identity=identity)
                yield handshake_row(world, f"{what}, TLS {tls}", spoken, saying)
            for what, identity in _valid(world):
                saying = replace(credentials(world.own, spoken, tls=tls), identity=identity)
                yield saying_row(world, f"{what}, TLS {tls}", spoken, ACCEPTED, saying)


def _invalid(world: World) -> Iterator[tuple[str, Identity]]:
    key = world.victim.key
    issue, now = world.authority.client, datetime.now(UTC)
    yield "another authority of the same name", world.authority.impostor().client(key)
    yield "self-signed", world.authority.self_signed(key)
    yield "signed by a thing", world.authority.signed_by_thing(world.own.identity, key)
    yield "expired", issue(key, lifetime=-timedelta(minutes=1))
    yield "not yet valid", issue(key, not_before=now + _HOUR / 2)
    yield "for servers only", issue(key, usages=SERVER)
    yield "for any usage but clients", issue(key, usages=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])


def _valid(world: World) -> Iterator[tuple[str, Identity]]:
    key = world.own.key
    issue = world.authority.client
    yield "for clients", issue(key)
    yield "for clients and servers", issue(key, usages=[*SERVER, *CLIENT])
    yield "no extended key usage", issue(key, usages=[])
    yield "valid for a minute more", issue(key, lifetime=timedelta(minutes=1))


def handshake_row(world: World, trick: str, spoken: Spoken, saying: Saying) -> Row:
    """A handshake that must fail, for somebody who waits for its end and for somebody who does not."""

    def attempt(ticket: Ticket) -> str:
        hurried = world.say(spoken, saying, ticket)
        if hurried not in (HANDSHAKE, CLOSED):
            return f"{hurried}, when in a hurry"
        try:
            stream = world.stream(spoken, saying)
            stream.receive(1)  # under TLS 1.3 the client learns of it here
        except HandshakeFailed:
            return HANDSHAKE
        stream.close()
        return "the server spoke"

    return Row(trick, spoken.name, HANDSHAKE, attempt)


def _common_names(world: World) -> dict[str, str]:
    """Common names that are not the victim's key, by what they are called."""
    own, victim = world.own.key, world.victim.key
    return {
        "own,CN=victim": f"{own},CN={victim}",
        "own, CN=victim": f"{own}, CN={victim}",
        "own+CN=victim": f"{own}+CN={victim}",
        "own/CN=victim": f"{own}/CN={victim}",
        "a/CN=victim": f"a/CN={victim}",
        "CN=victim": f"CN={victim}",
        "victim,O=Evil": f"{victim},O=Evil",
        "victim/O=Evil": f"{victim}/O=Evil",
        "victim=": f"{victim}=",
        "victim+": f"{victim}+",
        "victim and NUL": f"{victim}\0",
        "victim, NUL, more": f"{victim}\0.example.org",
        "NUL and victim": f"\0{victim}",
        "own, NUL, victim": f"{own}\0{victim}",
        "own, escaped comma, CN=victim": f"{own}\\,CN={victim}",
        "own, comma in hexadecimal, CN=victim": f"{own}\\2CCN={victim}",
        "victim and newline": f"{victim}\n",
        "blank and victim": f" {victim}",
        "victim and blank": f"{victim} ",
        "victim in capitals": victim.upper(),
        "victim but for its end": victim[:-1],
        "victim but for its beginning": victim[1:],
        "victim and a character": f"{victim}a",
        "wildcard": "*",
        "victim's beginning and wildcard": f"{victim[:-1]}*",
        "more than 64 characters, victim first": victim + "a" * 64,
        "more than 64 characters, victim last": "a" * 64 + victim,
        "more than 64 characters, victim and blanks": victim.ljust(80),
        "65 characters": "a" * 65,
        "nothing": "",
        "victim's thing id": world.victim.id,
        "own thing id": world.own.id,
        "fullwidth digits": "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in victim),
        "victim with a zero-width blank": f"{victim}\u200b",
        "a key that nobody has": "nobody-has-this-key",
    }
