"""The rows about MQTT's packets: whatever their size, order and pieces, they are decided as a whole."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import (
    Auth,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)
from mfserver.mqtt.properties import AUTHENTICATION_METHOD
from tests.interop.identity_clients import MQTT, Closed
from tests.interop.identity_rows import credentials, saying_row
from tests.interop.identity_world import (
    ACCEPTED,
    CLOSED,
    FORBIDDEN,
    MQTT_ALPN,
    MQTT_PLAIN,
    MQTT_WS,
    MQTT_WSS,
    MQTTS,
    UNAUTHENTICATED,
    Row,
    Saying,
    Spoken,
    Thing,
    Ticket,
    World,
    connect,
    mqtt_refusal,
)

__all__ = ["mqtt_rows"]

_LENGTHS = (127, 128, 129, 256, 16383, 16384)
_CLIENT_IDS = (0, 1, 23, 256, 261, 65535)
SILENT = "silent"
_numbers = itertools.count()


def mqtt_rows(world: World) -> Iterator[Row]:
    """Every row for every version, over TCP or TLS and over WebSocket."""
    spoken_here = [*MQTTS, *MQTT_ALPN, *MQTT_WSS]
    if world.auth == "key":
        spoken_here += [*MQTT_PLAIN, *MQTT_WS]
    for spoken in spoken_here:
        yield from _sizes(world, spoken)
        yield from _orders(world, spoken)
        yield from _wills(world, spoken)
        yield from _other_channels(world, spoken)
        yield from _client_ids_of_others(world, spoken)


def stolen(world: World, spoken: Spoken) -> tuple[Saying, str]:
    """The own certificate or id with the victim's key, and what must come of it."""
    saying = replace(credentials(world.own, spoken), password=world.victim.key.encode())
    return saying, UNAUTHENTICATED if world.auth == "key" else FORBIDDEN


def _sizes(world: World, spoken: Spoken) -> Iterator[Row]:
    own = credentials(world.own, spoken)
    thief, refused = stolen(world, spoken)
    for length in _LENGTHS:
        for who, saying, expected in ("own", own, ACCEPTED), ("stolen", thief, refused):
            sized = _of_length(spoken, saying, length)
            yield saying_row(world, f"remaining length {length}, {who} key", spoken, expected, sized)
    for size in _CLIENT_IDS:
        # MQTT 3.1 wants one character or more. It promises 23, and as everybody we take more.
        reject = size == 0 and spoken.version == 3
        for who, saying, expected in ("own", own, ACCEPTED), ("stolen", thief, refused):
            sized = replace(saying, client_id=_client_id(size))
            outcome = "CONNACK 2" if reject else expected
            yield saying_row(world, f"client id of {size} bytes, {who} key", spoken, outcome, sized)
    for who, saying, expected in ("own", own, ACCEPTED), ("stolen", thief, refused):
        split = replace(saying, bytewise=True)
        yield saying_row(world, f"CONNECT byte by byte, {who} key", spoken, expected, split)
        kept = replace(saying, clean_start=False)
        yield saying_row(world, f"no clean start, {who} key", spoken, expected, kept)


def _of_length(spoken: Spoken, saying: Saying, length: int) -> Saying:
    """The same with a client id that makes the CONNECT's remaining length exactly this."""
    bare = replace(saying, client_id="")
    data = encode(connect(spoken, bare), spoken.version)
    header = 2 if data[1] < 0x80 else 3
    sized = replace(saying, client_id=_client_id(length - (len(data) - header)))
    assert encode(connect(spoken, sized), spoken.version)[1:].startswith(_variable(length))
    return sized


def _client_id(size: int) -> str:
    """One of this many bytes that, as far as there are enough, nobody else has."""
    number = next(_numbers)
    if size < 5:
        return chr(ord("A") + number % 58) * size
    return f"{number:05}".ljust(size, "c")


def _variable(value: int) -> bytes:
    """MQTT's variable byte integer, written here once more to be sure of the lengths."""
    data = bytearray()
    while True:
        value, rest = divmod(value, 128)
        data.append(rest | (0x80 if value else 0))
        if not value:
            return bytes(data)


# --- orders -------------------------------------------------------------------------------------------------


def _orders(world: World, spoken: Spoken) -> Iterator[Row]:
    """Nothing before CONNECT, and CONNECT once."""
    own = credentials(world.own, spoken)
    topic = f"channels/{world.channel}/messages"

    def before(make: Callable[[Ticket], Packet]) -> Callable[[Ticket], str]:
        def attempt(ticket: Ticket) -> str:
            mqtt = world.mqtt(spoken, own)
            mqtt.send(make(ticket), connect(spoken, own), Publish(topic, ticket.must_not.encode()))
            return ended(mqtt)

        return attempt

    packets: dict[str, Callable[[Ticket], Packet]] = {
        "PINGREQ": lambda ticket: Pingreq(),
        "PUBLISH": lambda ticket: Publish(topic, ticket.must_not.encode()),
        "PUBLISH at QoS 1": lambda ticket: Publish(topic, ticket.must_not.encode(), 1, packet_id=1),
        "SUBSCRIBE": lambda ticket: Subscribe(1, [Subscription(topic, 0)]),
        "UNSUBSCRIBE": lambda ticket: Unsubscribe(1, [topic]),
        "PUBACK": lambda ticket: Puback(1),
        "DISCONNECT": lambda ticket: Disconnect(),
    }
    if spoken.version == 5:
        packets["AUTH"] = lambda ticket: Auth(0x18, {AUTHENTICATION_METHOD: "PLAIN"})
    for what, make in packets.items():
        yield Row(f"{what} before CONNECT", spoken.name, CLOSED, before(make))
    yield Row("CONNECT, then PINGREQ", spoken.name, ACCEPTED, lambda _: _pings(world, spoken, own))
    for who, thing in ("another", world.victim), ("the own", world.own):
        second = replace(credentials(thing, spoken), client_id="second")
        yield Row(
            f"a second CONNECT with {who} key",
            spoken.name,
            CLOSED,
            lambda ticket, second=second: _second(world, spoken, own, second, ticket),  # type: ignore[misc]
        )
    if spoken.version == 5:
        yield Row(
            "CONNECT with an authentication method",
            spoken.name,
            "CONNACK 140",
            lambda ticket: _asks_for_method(world, spoken, own, ticket),
        )


def ended(mqtt: MQTT) -> str:
    """Read the connection's end. :return: :data:`CLOSED`, or what the server said instead of ending it."""
    try:
        return f"the server said {mqtt.receive()!r}"
    except Closed:
        return CLOSED
    finally:
        mqtt.stream.close()


def _pings(world: World, spoken: Spoken, saying: Saying) -> str:
    mqtt = world.mqtt(spoken, saying)
    mqtt.send(connect(spoken, saying), Pingreq())
    refusal = mqtt_refusal(mqtt)
    if refusal:
        return refusal
    answer = mqtt.receive()
    mqtt.stream.close()
    return ACCEPTED if isinstance(answer, Pingresp) else repr(answer)


def _second(world: World, spoken: Spoken, first: Saying, second: Saying, ticket: Ticket) -> str:
    mqtt = world.mqtt(spoken, first)
    topic = world.topic(ticket)
    mqtt.send(
        connect(spoken, first),
        Publish(topic, ticket.may.encode()),
        connect(spoken, second),
        Publish(topic, ticket.must_not.encode()),
    )
    refusal = mqtt_refusal(mqtt)
    if refusal:
        return f"the first: {refusal}"
    heard = world.ear.hears(ticket.may)
    if heard != ACCEPTED:
        return heard
    if spoken.version == 5:
        answer = mqtt.receive()
        if not isinstance(answer, Disconnect) or answer.reason_code != 0x82:
            return repr(answer)
    return ended(mqtt)


def _asks_for_method(world: World, spoken: Spoken, saying: Saying, ticket: Ticket) -> str:
    packet = connect(spoken, saying)
    packet.properties = {AUTHENTICATION_METHOD: "PLAIN"}
    mqtt = world.mqtt(spoken, saying)
    mqtt.send(packet, Publish(world.topic(ticket), ticket.must_not.encode()))
    return mqtt_refusal(mqtt)


# --- wills and channels -------------------------------------------------------------------------------------


def _wills(world: World, spoken: Spoken) -> Iterator[Row]:
    """A will is authorised at CONNECT, and again when it is published."""
    own = credentials(world.own, spoken)

    def leave(channel: str, take_away: Callable[[Thing], None] | None = None) -> Callable[[Ticket], str]:
        def attempt(ticket: Ticket) -> str:
            thing = world.thing("weather") if take_away else world.own
            saying = credentials(thing, spoken)
            is_heard = channel == world.channel and take_away is None
            words = ticket.may if is_heard else ticket.must_not
            saying = replace(saying, will=Will(world.topic(ticket, channel), words.encode()))
            mqtt = world.mqtt(spoken, saying)
            mqtt.send(connect(spoken, saying))
            refusal = mqtt_refusal(mqtt)
            if refusal:
                return refusal
            if take_away:
                take_away(thing)
            mqtt.stream.close()
            if is_heard:
                return world.ear.hears(ticket.may)
            return world.settle(ticket)

        return attempt

    yield Row("a will for the own channel", spoken.name, ACCEPTED, leave(world.channel))
    yield Row("a will for another channel", spoken.name, FORBIDDEN, leave(world.vault))
    for what, take_away in ("disconnected from its channel", world.disconnect), ("deleted", world.delete):
        row = f"a will, its thing was {what} since"
        yield Row(row, spoken.name, SILENT, leave(world.channel, take_away))
    for topic in "channels", "a/b", f"channels/{world.vault}", "$SYS/a":
        nowhere = replace(own, will=Will(topic, b"!will"))
        outcome = "CONNACK 144" if spoken.version == 5 else CLOSED
        yield saying_row(world, f"a will for {topic.split('/')[0]}...", spoken, outcome, nowhere)
    thief, refused = stolen(world, spoken)
    thief = replace(thief, will=Will(f"channels/{world.channel}/messages", b"!will"))
    yield saying_row(world, "a will with a stolen key", spoken, refused, thief)


def _other_channels(world: World, spoken: Spoken) -> Iterator[Row]:
    """A channel that the thing is not connected to: neither heard nor spoken on."""
    own = credentials(world.own, spoken)

    def publish(ticket: Ticket) -> str:
        mqtt = world.mqtt(spoken, own)
        topic = world.topic(ticket, world.vault)
        mqtt.send(connect(spoken, own), Publish(topic, ticket.must_not.encode(), 1, packet_id=7))
        refusal = mqtt_refusal(mqtt)
        if refusal:
            return refusal
        if spoken.version < 5:
            return ended(mqtt)
        answer = mqtt.receive()
        mqtt.stream.close()
        refused = isinstance(answer, Puback) and answer.reason_code == 0x87
        return CLOSED if refused else repr(answer)

    def subscribe(ticket: Ticket) -> str:
        wanted = [world.topic(ticket, world.vault), f"channels/{world.vault}/messages/#"]
        wanted += ["#", "channels/#", "channels/+/messages/#", f"$share/g/{wanted[0]}"]
        if spoken.version == 5:
            wanted.pop()  # shared subscriptions are a protocol error there
        mqtt = world.mqtt(spoken, own)
        mqtt.send(connect(spoken, own), Subscribe(3, [Subscription(each, 1) for each in wanted]))
        refusal = mqtt_refusal(mqtt)
        if refusal:
            return refusal
        suback = mqtt.receive()
        assert isinstance(suback, Suback)
        if spoken.version > 3 and min(suback.reason_codes) < 0x80:  # MQTT 3.1 cannot say no
            return repr(suback)
        world.publish(world.victim, ticket, wanted[0])
        mqtt.send(Pingreq())
        answer = mqtt.receive()
        mqtt.stream.close()
        return SILENT if isinstance(answer, Pingresp) else repr(answer)

    yield Row("publish on another channel", spoken.name, CLOSED, publish)
    yield Row("subscribe to other channels", spoken.name, SILENT, subscribe)


def _client_ids_of_others(world: World, spoken: Spoken) -> Iterator[Row]:
    """A session belongs to a thing and its client id: nobody else can end it or take it over."""
    for clean_start in True, False:
        how = "clean start" if clean_start else "no clean start"

        def attempt(ticket: Ticket, thief: bool = True, clean_start: bool = clean_start) -> str:
            client_id = f"client-{ticket.number}"
            mine = credentials(world.victim, spoken, client_id=client_id)
            topic = world.topic(ticket)
            first = world.mqtt(spoken, mine)
            first.send(connect(spoken, mine), Subscribe(1, [Subscription(topic, 0)]))
            refusal = mqtt_refusal(first)
            if refusal:
                return refusal
            first.receive_kinds([Suback])
            other = credentials(world.own if thief else world.victim, spoken, client_id=client_id)
            other = replace(other, clean_start=clean_start)
            second = world.mqtt(spoken, other)
            second.send(connect(spoken, other), Publish(topic, ticket.may.encode()))
            refusal = mqtt_refusal(second)
            try:
                heard = first.receive()
            except Closed:
                heard = Disconnect()
            first.stream.close()
            second.stream.close()
            if isinstance(heard, Disconnect):
                return refusal or "taken over"
            return refusal or (SILENT if isinstance(heard, Publish) else repr(heard))

        def again(ticket: Ticket, attempt: Callable[..., str] = attempt) -> str:
            return attempt(ticket, thief=False)

        yield Row(f"another thing's client id, {how}", spoken.name, SILENT, attempt)
        yield Row(f"the own client id again, {how}", spoken.name, "taken over", again, True)
