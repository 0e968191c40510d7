"""The rows about what is kept: whose queues, retained messages, wills and subscriptions they are, later.

Every row is a generator. What stands before its ``yield`` happens first in all rows; then the server may be
started again; what stands behind it tells what came of it.
"""

import math
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple, cast

from mfserver.mqtt.packets import (
    Connack,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)
from mfserver.mqtt.properties import SESSION_EXPIRY_INTERVAL, WILL_DELAY_INTERVAL
from tests.interop.identity_clients import MQTT, Closed, Stream
from tests.interop.identity_rows import credentials
from tests.interop.identity_world import (
    FORBIDDEN,
    MQTTS,
    UNAUTHENTICATED,
    Spoken,
    Thing,
    World,
    connect,
)
from tests.interop.running import PATIENCE

__all__ = ["KeptRow", "Story", "kept_rows", "rows_of"]

#: Seconds that a session outlives its connection by.
_LONG = 600
#: Seconds of silence after which nothing more is expected, when what should come is there.
_SILENCE = 0.7
NOTHING = "present: nothing"
_V5 = MQTTS[2]

#: What a row does: it yields once, and returns what came of it.
Story = Generator[None, None, str]


class KeptRow(NamedTuple):
    """One row. :ivar is_twin: it is legitimate, and must be let."""

    trick: str
    protocol: str
    expected: str
    story: Callable[["Desk"], Story]
    is_twin: bool = False


class Desk:
    """Where one row works: things, sessions and topics of its own.

    :ivar spoken: which MQTT its sessions speak.
    :ivar topic: on the channel ``weather``; nobody else uses it.
    :ivar expected: what the row expects, which tells the row what to wait for.
    """

    def __init__(self, world: World, spoken: Spoken, number: int, expected: str = "") -> None:
        self.world = world
        self.spoken = spoken
        self.number = number
        self.expected = expected
        self.topic = f"channels/{world.channel}/messages/k{number}"

    def thing(self, *channels: str) -> Thing:
        return self.world.thing(*(channels or ("weather",)))

    def session(self, thing: Thing, client_id: str = "kept", spoken: Spoken | None = None) -> "Session":
        return Session(self.world, spoken or self.spoken, thing, client_id)

    def kept(self, thing: Thing, qos: int = 1, topic: str = "", **more: object) -> "Session":
        """A session that has subscribed and whose client is gone."""
        session = self.session(thing, **more)  # type: ignore[arg-type]
        session.open()
        session.subscribe(topic or self.topic, qos)
        session.leave()
        return session

    def publish(self, payload: str, qos: int = 1, topic: str = "", retain: bool = False) -> None:
        """The victim, who may, publishes; it returns when that is acknowledged."""
        session = Session(self.world, _V5, self.world.victim, f"says-{self.number}-{payload}", expiry=0)
        session.open()
        session.send(Publish(topic or self.topic, payload.encode(), qos, retain=retain, packet_id=1))
        answer = session.mqtt.receive()
        assert getattr(answer, "reason_code", None) == 0, answer
        if qos == 2:
            session.send(Pubrel(1))
            session.mqtt.receive()
        session.leave()

    def allow(self, thing: Thing) -> None:
        """Connect a thing with ``weather`` again."""
        path = f"/channels/{self.world.channel}/things/{thing.id}"
        self.world.server.json("PUT", path, token=self.world.owner.token)

    def rows(self, statement: str, *values: object) -> int:
        """Ask the database file for a number, now."""
        path = self.world.server.data_dir / "mfserver.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            return int(database.execute(statement, values).fetchone()[0])

    def until(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
        """Whether something becomes true in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


class Session:
    """A client whose session outlives its connections.

    :ivar mqtt: its connection.
    """

    mqtt: MQTT

    def __init__(
        self, world: World, spoken: Spoken, thing: Thing, client_id: str, expiry: int = _LONG
    ) -> None:
        self._world = world
        self._spoken = spoken
        self.thing = thing
        self._client_id = client_id
        self._expiry = expiry

    def open(self, clean_start: bool = False, will: Will | None = None) -> str:
        """Connect. :return: ``present``, ``new``, or why not."""
        clean_start = clean_start or (self._spoken.version < 5 and not self._expiry)
        saying = credentials(self.thing, self._spoken, client_id=self._client_id, clean_start=clean_start)
        packet = connect(self._spoken, replace(saying, will=will))
        if self._spoken.version == 5 and self._expiry:
            packet.properties = {SESSION_EXPIRY_INTERVAL: self._expiry}
        self.mqtt = self._world.mqtt(self._spoken, saying)
        self.mqtt.send(packet)
        connack = self.mqtt.receive()
        assert isinstance(connack, Connack), connack
        if connack.reason_code:
            codes = {4: UNAUTHENTICATED, 5: FORBIDDEN, 0x86: UNAUTHENTICATED, 0x87: FORBIDDEN}
            self.leave()
            return codes.get(connack.reason_code, f"CONNACK {connack.reason_code}")
        return "present" if connack.session_present else "new"

    def send(self, *packets: Packet) -> None:
        self.mqtt.send(*packets)

    def subscribe(self, topic: str, qos: int = 1) -> int:
        """:return: the reason code."""
        self.send(Subscribe(77, [Subscription(topic, qos)]))
        suback = self.mqtt.receive_kinds([Suback])[Suback]
        return cast(Suback, suback).reason_codes[0]

    def receive_publish(self) -> Publish:
        """The next PUBLISH."""
        return cast(Publish, self.mqtt.receive_kinds([Publish])[Publish])

    def leave(self) -> None:
        """Be gone without a word."""
        self.mqtt.stream.close()

    def hears(self, hoped: str = "nothing") -> str:
        """All that comes until what one hopes for is there and it is silent, each answered: what it was."""
        heard: list[str] = []
        unreleased: set[int] = set()
        try:
            while True:
                is_there = _told(heard) == hoped and not unreleased
                cast(Stream, self.mqtt.stream).set_timeout(_SILENCE if is_there else PATIENCE)
                packet = self.mqtt.receive()
                if isinstance(packet, Publish):
                    mark = "".join(("again " * packet.dup, "retained " * packet.retain))
                    if packet.packet_id in unreleased:
                        mark += "of an unreleased identifier "
                    heard.append(mark + packet.payload.decode())
                    if packet.qos == 2:
                        unreleased.add(packet.packet_id)
                        self.send(Pubrec(packet.packet_id))
                    elif packet.qos:
                        self.send(Puback(packet.packet_id))
                elif isinstance(packet, Pubrel):
                    heard.append("" if packet.packet_id in unreleased else f"release {packet.packet_id}")
                    unreleased.discard(packet.packet_id)
                    self.send(Pubcomp(packet.packet_id))
                else:
                    heard.append(repr(packet))
        except TimeoutError:
            pass
        except Closed:
            heard.append("the end")
        self.leave()
        return _told(heard)

    def comes_back(self, hoped: str = NOTHING, clean_start: bool = False) -> str:
        """Connect, and tell what it hears: one hopes for this."""
        how = self.open(clean_start)
        return f"{how}: {self.hears(hoped.partition(': ')[2])}" if how in ("present", "new") else how


def _told(heard: list[str]) -> str:
    return ", ".join(filter(None, heard)) or "nothing"


def rows_of(world: World) -> Iterator[tuple[KeptRow, Spoken]]:
    """Every row for every version that has it. MQTT 3.1 does not tell of a session that was there."""
    for spoken in MQTTS[1:]:
        for row in kept_rows(world, spoken):
            yield row, spoken


def kept_rows(world: World, spoken: Spoken) -> Iterator[KeptRow]:
    """Every row."""
    name = spoken.name

    def row(trick: str, expected: str, story: Callable[[Desk], Story], is_twin: bool = False) -> KeptRow:
        return KeptRow(trick, name, expected, story, is_twin)

    yield from _queues(world, row)
    yield from _in_flight(world, row)
    yield from _retained(world, row)
    yield from _shared(world, row)
    if spoken.version == 5:
        yield from _wills(world, row)
    yield from _others(world, row)
    yield from _keys(world, row)
    yield from _deletions(world, row)
    yield from _filters(world, row)


_Row = Callable[..., KeptRow]


# --- queues -------------------------------------------------------------------------------------------------


def _queues(world: World, row: _Row) -> Iterator[KeptRow]:
    """What waits for a client that is away is its thing's while that may have it, and not a moment longer."""

    def queue(desk: Desk, change: Callable[[Thing], None] = lambda thing: None) -> Story:
        thing = desk.thing()
        session = desk.kept(thing)
        desk.publish("queued")
        change(thing)
        yield
        return session.comes_back(desk.expected)

    def lost_later(desk: Desk) -> Story:
        thing = desk.thing()
        session = desk.kept(thing)
        desk.publish("queued")
        yield
        world.disconnect(thing)
        return session.comes_back(desk.expected)

    def gap(desk: Desk) -> Story:
        thing = desk.thing()
        session = desk.kept(thing)
        world.disconnect(thing)
        desk.publish("not for it")
        yield
        desk.publish("not for it either")
        desk.allow(thing)
        desk.publish("for it")
        return session.comes_back(desk.expected)

    def other_channel(desk: Desk) -> Story:
        thing = desk.thing("weather", "vault")
        session = desk.kept(thing)
        vault = f"channels/{world.vault}/messages/k{desk.number}"
        session.open()
        session.subscribe(vault)
        session.leave()
        desk.publish("weather 1")
        desk.publish("vault", topic=vault)
        desk.publish("weather 2")
        path = f"/channels/{world.vault}/things/{thing.id}"
        world.server.json("DELETE", path, token=world.owner.token)
        yield
        return session.comes_back(desk.expected)

    yield row("a queue, disconnected since", NOTHING, lambda desk: queue(desk, world.disconnect))
    yield row("a queue, disconnected just before", NOTHING, lost_later)
    yield row("a queue, nothing has changed", "present: queued", queue, True)
    yield row("connected again: what came meanwhile", "present: for it", gap)
    yield row("a queue, another channel lost", "present: weather 1, weather 2", other_channel, True)


def _in_flight(world: World, row: _Row) -> Iterator[KeptRow]:
    """What was sent and not acknowledged is not sent again to who may not have it any more."""

    def flight(desk: Desk, qos: int, change: Callable[[Thing], None], answers: bool = False) -> Story:
        thing = desk.thing()
        session = desk.kept(thing, qos)
        session.open()
        desk.publish("in flight", qos)
        sent = session.receive_publish()
        if answers:
            session.send(Pubrec(sent.packet_id))
            session.mqtt.receive_kinds([Pubrel])
        session.leave()
        change(thing)
        released = f"release {sent.packet_id}"
        hoped = desk.expected.replace("released", released).split("; ")
        yield
        first = session.comes_back(hoped[0])
        if change == world.disconnect:
            desk.allow(thing)
        desk.publish("new", qos)
        return f"{first}; {session.comes_back(hoped[1])}".replace(released, "released")

    def unchanged(thing: Thing) -> None:
        pass

    stays, goes = unchanged, world.disconnect
    again = "present: again in flight; present: new"
    done = "present: released; present: new"
    yield row(
        "in flight at QoS 1, disconnected since", f"{NOTHING}; present: new", lambda d: flight(d, 1, goes)
    )
    yield row("in flight at QoS 2, disconnected since", done, lambda desk: flight(desk, 2, goes))
    yield row("half released at QoS 2, disconnected since", done, lambda desk: flight(desk, 2, goes, True))
    yield row("in flight at QoS 1, nothing has changed", again, lambda desk: flight(desk, 1, stays), True)
    yield row("in flight at QoS 2, nothing has changed", again, lambda desk: flight(desk, 2, stays), True)
    yield row("half released, nothing has changed", done, lambda desk: flight(desk, 2, stays, True), True)


# --- retained messages --------------------------------------------------------------------------------------


def _retained(world: World, row: _Row) -> Iterator[KeptRow]:
    """They are looked at with the rights of the moment, and go with their channel."""

    def asks(desk: Desk, channel: str, loses: bool) -> Story:
        topic = f"channels/{channel}/messages/r{desk.number}"
        desk.publish("kept", topic=topic, retain=True)
        session = desk.kept(desk.thing(), topic=desk.topic)
        if loses:
            world.disconnect(session.thing)
        yield
        session.open()
        code = session.subscribe(topic)
        told = "refused" if code >= 0x80 else "subscribed"
        heard = session.hears(desk.expected.partition(": ")[2])
        desk.publish("", topic=topic, retain=True)
        return f"{told}: {heard}"

    def gone(desk: Desk) -> Story:
        owner = world.owner
        channel = owner.server.json("POST", "/channels", {"name": "brief"}, owner.token)
        path = f"/channels/{channel}/things/"
        for thing in (world.victim, reader := desk.thing()):
            world.server.json("PUT", path + thing.id, token=owner.token)
        topic = f"channels/{channel}/messages/r"
        desk.publish("kept", topic=topic, retain=True)
        session = desk.session(reader)
        session.open()
        before = session.subscribe(topic), session.hears("retained kept")
        count = "select count(*) from retained where channel = ?"
        there = desk.rows(count, channel)
        world.server.json("DELETE", f"/channels/{channel}", token=owner.token)
        is_gone = desk.until(lambda: not desk.rows(count, channel))
        yield
        session.open()
        code = session.subscribe(topic)
        return f"{before} {there}; {is_gone} {code >= 0x80} {session.hears()} {desk.rows(count, channel)}"

    here, vault = world.channel, world.vault
    yield row("retained, another channel's", "refused: nothing", lambda desk: asks(desk, vault, False))
    yield row("retained, disconnected since", "refused: nothing", lambda desk: asks(desk, here, True))
    heard = "subscribed: retained kept"
    yield row("retained, nothing has changed", heard, lambda desk: asks(desk, here, False), True)
    yield row("retained, its channel is deleted", "(1, 'retained kept') 1; True True nothing 0", gone)


# --- shared subscriptions -----------------------------------------------------------------------------------


def _shared(world: World, row: _Row) -> Iterator[KeptRow]:
    """A member that may not is no member: the others get what it would have got."""

    def members(desk: Desk, change: Callable[[Thing], None]) -> Story:
        topic = f"$share/g{desk.number}/{desk.topic}"
        one, other = (desk.kept(desk.thing(), topic=topic) for _ in range(2))
        change(one.thing)
        for number in range(4):
            desk.publish(str(number))
        yield
        for number in range(4, 6):
            desk.publish(str(number))
        hoped = desk.expected.split("; ")
        return f"{one.comes_back(hoped[0])}; {other.comes_back(hoped[1])}"

    def stays(thing: Thing) -> None:
        pass

    all_of_it = "present: 0, 1, 2, 3, 4, 5"
    halves = "present: 0, 2, 4; present: 1, 3, 5"
    yield row(
        "shared, one disconnected", f"{NOTHING}; {all_of_it}", lambda desk: members(desk, world.disconnect)
    )
    yield row("shared, one deleted", f"{_gone(world)}; {all_of_it}", lambda desk: members(desk, world.delete))
    yield row("shared, nothing has changed", halves, lambda desk: members(desk, stays), True)


def _gone(world: World) -> str:
    """What a thing that was deleted is told."""
    return UNAUTHENTICATED if world.auth == "key" else FORBIDDEN


# --- wills --------------------------------------------------------------------------------------------------


def _wills(world: World, row: _Row) -> Iterator[KeptRow]:
    """A will whose delay is over is its thing's word if that may speak then."""

    def will(desk: Desk, change: Callable[[Desk, Thing], None]) -> Story:
        began = time.monotonic()
        hearer = desk.kept(desk.thing())
        # The change has to come before the delay is over, and takes no longer than this did.
        delay = math.ceil(2 + 4 * (time.monotonic() - began))
        thing = desk.thing()
        session = desk.session(thing)
        said = Will(desk.topic, b"will", 1, properties={WILL_DELAY_INTERVAL: delay})
        session.open(will=said)
        session.leave()
        time.sleep(0.3)  # the server has to see that the connection is gone
        over = time.monotonic() + delay
        change(desk, thing)
        yield
        time.sleep(max(0.0, over + 1.5 - time.monotonic()))
        return hearer.comes_back(desk.expected)

    def and_back(desk: Desk, thing: Thing) -> None:
        world.disconnect(thing)
        desk.allow(thing)

    def resumed(desk: Desk, thing: Thing) -> None:
        session = desk.session(thing)
        assert session.open() == "present"
        session.leave()

    changes: dict[str, tuple[Callable[[Desk, Thing], None], str]] = {
        "disconnected from its channel": (lambda _, thing: world.disconnect(thing), NOTHING),
        "deleted": (lambda _, thing: world.delete(thing), NOTHING),
        "resumed without it": (resumed, NOTHING),
        # It is the thing's word and not its key's.
        "given another key": (lambda _, thing: world.change_key(thing), "present: will"),
        "disconnected and connected again": (and_back, "present: will"),
        "left alone": (lambda *_: None, "present: will"),
    }
    for what, (change, expected) in changes.items():
        yield row(
            f"a delayed will, its thing was {what}",
            expected,
            lambda desk, change=change: will(desk, change),
            expected != NOTHING,
        )


# --- those of others ----------------------------------------------------------------------------------------


def _others(world: World, row: _Row) -> Iterator[KeptRow]:
    """The same client id is another session where the thing is another, whatever a CONNECT asks for."""

    def thief(desk: Desk, clean_start: bool, expiry: int, away: bool) -> Story:
        client_id = f"client-{desk.number}"
        owner, other = desk.thing(), desk.thing()
        mine = desk.kept(owner, client_id=client_id)
        if not away:
            mine.open()
        stolen = Session(world, desk.spoken, other, client_id, expiry)
        first = stolen.open(clean_start)
        stolen.send(Unsubscribe(3, [desk.topic]))
        stolen.leave()
        if not away:
            mine.leave()
        desk.publish("queued")
        yield
        second = stolen.comes_back(clean_start=clean_start)
        return f"{first}, {second}; {mine.comes_back('present: queued')}"

    def heard(clean_start: bool, expiry: int) -> str:
        again = "new" if clean_start or not expiry else "present"
        return f"new, {again}: nothing; present: queued"

    for clean_start in True, False:
        for expiry in 0, _LONG:
            for away in True, False:
                how = f"{'' if clean_start else 'no '}clean start, expiry {expiry}"
                where = "away" if away else "connected"
                yield row(
                    f"another thing's client id, {how}, its client {where}",
                    heard(clean_start, expiry),
                    lambda desk, its=(clean_start, expiry, away): thief(desk, *its),
                )

    def will_of_another(desk: Desk) -> Story:
        hearer = desk.kept(desk.thing())
        owner, other = desk.thing(), desk.thing()
        mine = desk.session(owner, "same")
        mine.open(will=Will(desk.topic, b"will", 1, properties=_delay(desk, 2)))
        desk.session(other, "same").open(clean_start=True)
        mine.leave()
        yield
        return hearer.comes_back(desk.expected)

    yield row("another thing's client id: the will stays", "present: will", will_of_another, True)


def _delay(desk: Desk, seconds: int) -> dict[int, object] | None:
    return {WILL_DELAY_INTERVAL: seconds} if desk.spoken.version == 5 else None


def _keys(world: World, row: _Row) -> Iterator[KeptRow]:
    """What is kept is the thing's: the new key has it, and the old one nothing."""

    def changed(desk: Desk, is_old: bool) -> Story:
        thing = desk.thing()
        session = desk.kept(thing)
        desk.publish("queued")
        world.change_key(thing)
        yield
        if not is_old:
            key = f"changed-{thing.key[:40]}"
            session.thing = Thing(thing.id, key, world.identity(key))
        return session.comes_back(desk.expected)

    yield row("a changed key, the old one", _gone(world), lambda desk: changed(desk, True))
    yield row("a changed key, the new one", "present: queued", lambda desk: changed(desk, False), True)


# --- what is gone -------------------------------------------------------------------------------------------


def _deletions(world: World, row: _Row) -> Iterator[KeptRow]:
    """Of a deleted thing nothing is left in the database file."""

    def left(desk: Desk, key: int, before: int) -> list[int]:
        """The rows of a session, of every kind, and the messages that nobody needs."""
        tables = ("session_subscriptions", "session_queue", "session_received", "wills")
        counts = [desk.rows("select count(*) from sessions where number = ?", key)]
        counts += [desk.rows(f"select count(*) from {table} where session = ?", key) for table in tables]
        unneeded = "select count(*) from messages where key not in (select message from session_queue)"
        return [*counts, desk.rows(f"{unneeded} and key > ?", before)]

    def deleted(desk: Desk) -> Story:
        thing = desk.thing()
        before = desk.rows("select coalesce(max(key), 0) from messages")
        session = desk.kept(thing)
        desk.publish("queued")
        desk.publish("queued too", 2)
        session.open(will=Will(desk.topic, b"!will", 1, properties=_delay(desk, 300)))
        session.send(Publish(f"{desk.topic}/else", b"unreleased", 2, packet_id=5))
        session.mqtt.receive_kinds([Pubrec])
        key = desk.rows("select number from sessions where thing = ?", thing.id)
        there = left(desk, key, before)[:5]
        session.leave()
        world.delete(thing)
        is_gone = desk.until(lambda: not any(left(desk, key, before)[:5]))
        yield
        found = left(desk, key, before)[:5]
        return f"{all(there)} {is_gone} {any(found)} {session.comes_back()}"

    yield row("a deleted thing's rows", f"True True False {_gone(world)}", deleted)


# --- topic filters ------------------------------------------------------------------------------------------

_GROUPS = {
    "a quote": "'; drop table sessions; --",
    "percent signs": "%s%(x)s{0}{x}%00",
    "dots": "../..",
    "a blank": " ",
    "another group": "$share",
    "right to left": "\u202e\u0635",
    "wide": "\U0001f600",
    "30,000 characters": "g" * 30_000,
}


def _filters(world: World, row: _Row) -> Iterator[KeptRow]:
    """A filter is kept as what it means, whatever it looks like."""

    def group(desk: Desk, name: str) -> Story:
        # A slash would end the name: what holds one names a group and a topic that is none.
        session = desk.session(desk.thing())
        session.open()
        code = session.subscribe(f"$share/{name}/{desk.topic}")
        session.leave()
        yield
        desk.publish("shared")
        return f"{code}, {session.comes_back(desk.expected.partition(', ')[2])}"

    for what, name in _GROUPS.items():
        is_refused = "/" in name
        refused = f"{0x8F if world_version(row) == 5 else 0x80}, {NOTHING}"
        expected = refused if is_refused else "1, present: shared"
        yield row(
            f"a group named like {what}", expected, lambda desk, name=name: group(desk, name), not is_refused
        )

    def slashes(desk: Desk) -> Story:
        thing = desk.thing()
        session = desk.kept(thing)
        session.open()
        session.subscribe(f"/{desk.topic}")
        session.leave()
        yield
        desk.publish("once")
        first = session.comes_back("present: once")
        session.open()
        session.send(Unsubscribe(3, [f"/{desk.topic}"]))
        session.mqtt.receive_kinds([Unsuback])
        session.leave()
        desk.publish("never")
        return f"{first}; {session.comes_back()}"

    yield row("filters that differ by a leading slash", f"present: once; {NOTHING}", slashes)


def world_version(row: _Row) -> int:
    """The version of MQTT that rows of this kind speak."""
    name = row("", "", lambda desk: iter(())).protocol
    return next(spoken.version for spoken in MQTTS if spoken.name == name)
