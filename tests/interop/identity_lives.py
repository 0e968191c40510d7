"""The rows about time: what ends connections that were rightly let in, and TLS sessions that are resumed."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from ssl import SSLSession

from mfserver.mqtt.packets import Disconnect, Puback, Publish, Suback, Subscribe, Subscription
from tests.interop.identity_clients import MQTT, Closed, Stream, WebSocket
from tests.interop.identity_rows import credentials
from tests.interop.identity_world import (
    ACCEPTED,
    CLOSED,
    FORBIDDEN,
    PLAIN,
    SECURE,
    UNAUTHENTICATED,
    Row,
    Saying,
    Spoken,
    Thing,
    Ticket,
    World,
    connect,
    mqtt_refusal,
    web_refusal,
)
from tests.interop.running import PATIENCE

__all__ = ["ENDED", "SOON", "Life", "brief_enough", "life_rows", "on_monotonic_clock", "resumption_rows"]

#: Seconds within which a connection must end, or stay.
SOON = 1.0
ENDED = "ended"
#: Seconds that a certificate lives which shall expire under our eyes: at least, and at most, as the server
#: ends connections on which nothing is said for a minute.
_BRIEF, _LONGEST = 5, 45
#: How much longer than somebody else it may take who shows it.
_TIMES = 8


def on_monotonic_clock(moment: float) -> float:
    """When a moment of the wall clock comes on the monotonic one, however slowly we read both."""
    return moment + max(time.monotonic() - time.time() for _ in range(10))


class Life:
    """A thing's connection that stays open, and listens on a topic of its own, where it publishes.

    :ivar topic: that topic.
    """

    _numbers = itertools.count()

    def __init__(self, world: World, spoken: Spoken, saying: Saying, ticket: Ticket) -> None:
        self._world = world
        self._spoken = spoken
        self._saying = saying
        self.topic = f"{world.topic(ticket)}-{next(self._numbers)}"
        self._stream: Stream
        self._socket: WebSocket | None = None
        self._mqtt: MQTT | None = None
        if spoken.kind == "mqtt":
            self._mqtt = world.mqtt(spoken, saying)
            stream = self._mqtt.stream
            self._stream = stream.stream if isinstance(stream, WebSocket) else stream  # type: ignore[assignment]
            self._mqtt.send(connect(spoken, saying), Subscribe(1, [Subscription(self.topic, 0)]))
            refusal = mqtt_refusal(self._mqtt)
            assert not refusal, refusal
            self._mqtt.receive_kinds([Suback])
            return
        self._stream = world.stream(spoken, saying)
        if spoken.kind == "ws":
            self._socket = WebSocket(self._stream, f"/ws/{self.topic}?{saying.query}", saying.headers)
        self.speaks(ticket.may)

    def speaks(self, words: str) -> str:
        """Publish on the open connection. :return: :data:`ACCEPTED` when it was taken, else how not."""
        try:
            if self._mqtt is not None:
                return self._speaks_mqtt(self._mqtt, words)
            if self._socket is not None:
                self._socket.send_frame(1, words.encode())
                heard = self._socket.receive_frame()
                return ACCEPTED if heard == words.encode() else f"heard {heard!r}"
            response = self._stream.exchange(
                "POST", f"/http/{self.topic}", self._saying.headers, words.encode()
            )
        except Closed:
            return ENDED
        if response.status == 202:
            return ACCEPTED
        return web_refusal(response.status, response.headers)

    def _speaks_mqtt(self, mqtt: MQTT, words: str) -> str:
        mqtt.send(Publish(self.topic, words.encode(), 1, packet_id=9))
        while True:
            packet = mqtt.receive()
            if isinstance(packet, Puback):
                return ACCEPTED if packet.reason_code == 0 else f"PUBACK {packet.reason_code}"

    def ends(self, since: float, earliest: float = 0.0) -> str:
        """Read until the end. :return: :data:`ENDED` if it came soon after a moment, with nothing before it.

        :param since: seconds on the monotonic clock; so ``earliest``.
        """
        self._stream.set_timeout(PATIENCE)
        soon = max(since + SOON, time.monotonic() + 0.1)  # it may have come before we look
        is_told = self._spoken.version != 5  # no other version has a word for it
        try:
            if self._mqtt is not None:
                if not is_told:
                    packet = self._mqtt.receive()
                    if not isinstance(packet, Disconnect) or packet.reason_code != 0x87:
                        return f"{packet!r} instead of DISCONNECT"
                    is_told = True
                self._mqtt.receive()
            elif self._socket is not None:
                self._socket.receive_frame()
            else:
                self._stream.receive(1)
            return "something was heard instead of the end"
        except TimeoutError:
            return f"still open after {PATIENCE} s"
        except Closed as closed:
            if self._socket is not None and closed.code != 1008:
                return f"close code {closed.code}"
            if not is_told and self._mqtt is not None:
                return "closed without DISCONNECT"
            ended = time.monotonic()
            if ended > soon:
                return f"ended after {ended - since:.1f} s"
            return ENDED if ended >= earliest else "ended too early"
        finally:
            self.close()

    def is_silent(self) -> bool:
        """Whether nothing comes on it for a while."""
        self._stream.set_timeout(0.5)
        assert self._mqtt is not None
        try:
            self._mqtt.receive()
        except TimeoutError:
            return True
        except Closed:
            pass
        return False

    def close(self) -> None:
        """Hang up."""
        self._stream.close()


# --- what ends a connection ---------------------------------------------------------------------------------


def life_rows(world: World) -> Iterator[Row]:
    """Connections that must end, and bystanders that must not."""
    changes: dict[str, Callable[[Thing], None]] = {
        "the thing is deleted": world.delete,
        "its key is changed": world.change_key,
    }
    spoken_here = list(SECURE)
    if world.auth == "key":
        spoken_here += PLAIN
    for spoken in spoken_here:
        for what, change in changes.items():
            yield _change_row(world, f"{what}: live connection", spoken, change, gone=True)
        lost = "disconnected from the channel: live connection"
        yield _change_row(world, lost, spoken, world.disconnect, gone=False)
        if world.auth == "x509":
            for tls in "1.2", "1.3":
                yield _expiry_row(world, spoken, tls)


def _change_row(world: World, trick: str, spoken: Spoken, change: Callable[[Thing], None], gone: bool) -> Row:
    def attempt(ticket: Ticket) -> str:
        thing = world.thing("weather")
        bystander = Life(world, spoken, credentials(world.own, spoken), ticket)
        life = Life(world, spoken, credentials(thing, spoken), ticket)
        change(thing)
        since = time.monotonic()
        if spoken.kind == "http":
            outcome = life.speaks(ticket.must_not)
        elif spoken.kind == "ws" or gone:
            outcome = life.ends(since)
        else:
            world.publish(world.victim, ticket, life.topic)
            outcome = "silent" if life.is_silent() else "heard something"
            outcome += f", {life.speaks(ticket.must_not)}"
        life.close()
        stays = bystander.speaks(ticket.may)
        bystander.close()
        return f"{outcome}; bystander {stays}"

    if spoken.kind == "http":
        expected = UNAUTHENTICATED if gone and world.auth == "key" else FORBIDDEN
    elif spoken.kind == "ws" or gone:
        expected = ENDED
    else:
        # MQTT 3 has no word for it in a PUBACK; what the server can do is to close.
        expected = "silent, PUBACK 135" if spoken.version == 5 else f"silent, {ENDED}"
    return Row(trick, spoken.name, f"{expected}; bystander {ACCEPTED}", attempt, has_bystander=True)


def brief_enough(took: float) -> int:
    """Seconds that a certificate lives which shall expire under our eyes, but not before it was shown.

    :param took: seconds that it took somebody else, just now, to be let in.
    """
    return min(max(_BRIEF, math.ceil(_TIMES * took)), _LONGEST)


def _brief(world: World, took: float) -> tuple[Thing, float]:
    """A thing whose certificate is about to end, and when, on the monotonic clock.

    :param took: see :func:`brief_enough`.
    """
    thing = world.thing("weather")
    identity = world.authority.client(thing.key, lifetime=timedelta(seconds=brief_enough(took)))
    assert identity.leaf is not None
    end = identity.leaf.not_valid_after_utc.timestamp()
    return thing._replace(identity=identity), on_monotonic_clock(end)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _expiry_row(world: World, spoken: Spoken, tls: str) -> Row:
    def attempt(ticket: Ticket) -> str:
        started = time.monotonic()
        bystander = Life(world, spoken, credentials(world.own, spoken, tls=tls), ticket)
        thing, moment = _brief(world, time.monotonic() - started)
        life = Life(world, spoken, credentials(thing, spoken, tls=tls), ticket)
        if spoken.kind == "http":
            before = life.speaks(ticket.may)
            _sleep_until(moment + 0.2)
            outcome = f"{before}, {life.speaks(ticket.must_not)}"
        else:
            outcome = life.ends(moment, moment - 0.05)
        stays = bystander.speaks(ticket.may)
        bystander.close()
        return f"{outcome}; bystander {stays}"

    expected = f"{ACCEPTED}, {ENDED}" if spoken.kind == "http" else ENDED
    trick = f"not valid after has come: live connection, TLS {tls}"
    return Row(trick, spoken.name, f"{expected}; bystander {ACCEPTED}", attempt, has_bystander=True)


# --- resumed sessions ---------------------------------------------------------------------------------------


def resumption_rows(world: World) -> Iterator[Row]:
    """A resumed session proves who it was; whether that still counts is asked anew."""
    for spoken in SECURE:
        for tls in "1.2", "1.3":
            for what, change in _changes(world).items():
                yield _resumption_row(world, f"resumed, {what}, TLS {tls}", spoken, tls, change)
            yield _expired_resumption_row(world, spoken, tls)


def _changes(world: World) -> dict[str, Callable[[Thing], None]]:
    return {
        "nothing has changed": lambda thing: None,
        "the thing was deleted": world.delete,
        "its key was changed": world.change_key,
        "it was disconnected from the channel": world.disconnect,
        "a stolen key": lambda thing: None,
    }


def session_of(world: World, spoken: Spoken, saying: Saying) -> SSLSession:
    """Be let in, and keep the TLS session."""
    if spoken.kind == "mqtt":
        mqtt = world.mqtt(spoken, saying)
        mqtt.send(connect(spoken, saying))
        refusal = mqtt_refusal(mqtt)
        assert not refusal, refusal
        stream = mqtt.stream.stream if isinstance(mqtt.stream, WebSocket) else mqtt.stream
        assert isinstance(stream, Stream)
    else:
        stream = world.stream(spoken, saying)
        assert stream.exchange("GET", "/health").status == 200
    session = stream.tls.session
    stream.close()
    assert session is not None
    return session


def _resumption_row(
    world: World, trick: str, spoken: Spoken, tls: str, change: Callable[[Thing], None]
) -> Row:
    def attempt(ticket: Ticket) -> str:
        thing = world.thing("weather")
        saying = credentials(thing, spoken, tls=tls)
        session = session_of(world, spoken, saying)
        change(thing)
        if "stolen" in trick:
            saying = replace(credentials(world.victim, spoken, tls=tls), identity=thing.identity)
        return world.say(spoken, replace(saying, session=session), ticket)

    if "nothing has" in trick:
        expected = ACCEPTED
    elif spoken.kind == "mqtt" and "disconnected" in trick:
        expected = CLOSED if spoken.version < 5 else "SUBACK 135, PUBACK 135"
    else:
        expected = FORBIDDEN
    return Row(trick, spoken.name, expected, attempt)


def _expired_resumption_row(world: World, spoken: Spoken, tls: str) -> Row:
    def attempt(ticket: Ticket) -> str:
        started = time.monotonic()
        session_of(world, spoken, credentials(world.own, spoken, tls=tls))
        thing, moment = _brief(world, 2 * (time.monotonic() - started))
        saying = credentials(thing, spoken, tls=tls)
        session = session_of(world, spoken, saying)
        again = world.say(spoken, replace(saying, session=session), ticket._replace(is_legitimate=True))
        _sleep_until(moment + 0.3)
        return f"{again}, {world.say(spoken, replace(saying, session=session), ticket)}"

    expected = f"{ACCEPTED}, {CLOSED}"
    return Row(f"resumed, not valid after has come, TLS {tls}", spoken.name, expected, attempt)
