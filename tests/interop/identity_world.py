"""What the table of identity is about: protocols, who says what on them, and what comes of it."""

import base64
import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLSession
from typing import NamedTuple
from urllib.parse import quote

from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Will,
)
from tests.interop.identity_certificates import Authority, Identity
from tests.interop.identity_clients import MQTT, Closed, HandshakeFailed, Refused, Response, Stream, WebSocket
from tests.interop.running import PATIENCE, Deployment, RunningServer

ACCEPTED = "accepted"
FORBIDDEN = "forbidden"
UNAUTHENTICATED = "unauthenticated"
MALFORMED = "malformed"
CLOSED = "closed without a word"
HANDSHAKE = "handshake failed"

_STATUS = {400: MALFORMED, 401: UNAUTHENTICATED, 403: FORBIDDEN}
_RETURN_CODES = {4: UNAUTHENTICATED, 5: FORBIDDEN}  # MQTT 3.1 and 3.1.1
_REASON_CODES = {0x86: UNAUTHENTICATED, 0x87: FORBIDDEN}  # MQTT 5.0


class Spoken(NamedTuple):
    """A protocol on a listener.

    :ivar kind: ``http``, ``ws`` or ``mqtt``.
    :ivar version: of MQTT.
    :ivar alpn: the name to offer, where that decides what is spoken.
    """

    name: str
    kind: str
    listener: str
    version: int = 0
    alpn: str = ""

    @property
    def is_web(self) -> bool:
        """Whether keys stand in headers and parameters."""
        return self.kind != "mqtt"


_devices = itertools.count()
#: How many begin a connection at the same moment. The server gives a handshake ten seconds, which a hundred
#: at once would share on a machine that is busy.
_SHAKING_HANDS = 8
_LEVELS = {"3.1": 3, "3.1.1": 4, "5.0": 5}
HTTPS, HTTP = Spoken("HTTPS", "http", "https"), Spoken("HTTP", "http", "http")
WSS, WS = Spoken("WSS", "ws", "https"), Spoken("WS", "ws", "http")
MQTTS = [Spoken(f"MQTTS {n}", "mqtt", "mqtts", level) for n, level in _LEVELS.items()]
MQTT_ALPN = [Spoken(f"MQTT {n} by ALPN", "mqtt", "https", level, "mqtt") for n, level in _LEVELS.items()]
MQTT_WSS = [Spoken(f"MQTT {n} over WSS", "mqtt", "https", level) for n, level in _LEVELS.items()]
MQTT_PLAIN = [Spoken(f"MQTT {n}", "mqtt", "mqtt", level) for n, level in _LEVELS.items()]
MQTT_WS = [Spoken(f"MQTT {n} over WS", "mqtt", "http", level) for n, level in _LEVELS.items()]
SECURE = [HTTPS, WSS, *MQTTS, *MQTT_ALPN, *MQTT_WSS]
PLAIN = [HTTP, WS, *MQTT_PLAIN, *MQTT_WS]


class Thing(NamedTuple):
    """A thing. :ivar identity: its certificate, or nobody's in key mode."""

    id: str
    key: str
    identity: Identity


class Ticket(NamedTuple):
    """One attempt. :ivar may: what it may publish. :ivar must_not: what nobody must ever hear of it."""

    number: int
    is_legitimate: bool

    @property
    def may(self) -> str:
        return f"message-{self.number}"

    @property
    def must_not(self) -> str:
        return f"!message-{self.number}"

    @property
    def payload(self) -> str:
        """What the attempt tries to publish."""
        return self.may if self.is_legitimate else self.must_not


@dataclass(frozen=True)
class Saying:
    """All that a client says about who it is.

    :ivar query: as it stands behind the question mark.
    :ivar client_id: of MQTT; None for one that nobody else has.
    :ivar source: the address to come from; None for one that nobody came from before.
    :ivar bytewise: MQTT: every byte of the CONNECT by itself.
    """

    identity: Identity
    headers: Sequence[tuple[str, str]] = ()
    query: str = ""
    user: str | None = None
    password: bytes | None = None
    client_id: str | None = None
    will: Will | None = None
    bytewise: bool = False
    clean_start: bool = True
    tls: str = "1.3"
    session: SSLSession | None = None
    source: str | None = None


class Row(NamedTuple):
    """One row of the table.

    :ivar is_twin: whether it is legitimate; None: when it expects to be accepted.
    :ivar has_bystander: the same attempt holds somebody legitimate who must not be touched.
    """

    trick: str
    protocol: str
    expected: str
    attempt: Callable[[Ticket], str]
    is_twin: bool | None = None
    has_bystander: bool = False

    @property
    def twin(self) -> bool:
        return self.expected == ACCEPTED if self.is_twin is None else self.is_twin


def forms(key: str) -> dict[str, tuple[list[tuple[str, str]], str]]:
    """Every way in which HTTP and WebSocket take a key: headers and query."""
    basic = base64.b64encode(f":{key}".encode()).decode()
    return {
        "Authorization": ([("Authorization", key)], ""),
        "Thing": ([("Authorization", f"Thing {key}")], ""),
        "Bearer": ([("authorization", f"bearer {key}")], ""),
        "Basic": ([("Authorization", f"Basic {basic}")], ""),
        "?authorization=": ([], f"authorization={quote(key)}"),
        "?auth=": ([], f"auth={quote(key)}"),
    }


class World:
    """A server, two owners, and their things on the channels ``weather`` and ``vault``.

    :param authority: what issues the things' certificates; by default the server's own.
    :ivar own: the attacker's thing, on ``weather`` alone, and its certificate.
    :ivar victim: whose key is stolen.
    """

    _sources = itertools.count(1)

    def __init__(self, *options: str, auth: str, authority: Authority | None = None) -> None:
        self.auth = auth
        self._hands = threading.Semaphore(_SHAKING_HANDS)
        self.directory = authority.directory if authority else Path(tempfile.mkdtemp(prefix="mf-identity-"))
        self.server = RunningServer(*options, auth=auth, data_dir=self.directory / "data")
        self._authority = authority
        self.server.start()
        try:
            self._populate()
        except BaseException:
            self.close()
            raise

    def _populate(self) -> None:
        pki = self.directory / "data" / "pki"
        self.authority = self._authority or Authority.load(pki, self.directory)
        self.nobody = self.authority.nobody()
        self.owner = Deployment(self.server)
        self.stranger = Deployment(self.server, email="mallory@example.org", password="87654321")
        for channel in "weather", "vault":
            self.owner.channel(channel)
        self.channel, self.vault = self.owner.channels["weather"], self.owner.channels["vault"]
        self.own = self.thing("weather")
        self.victim = self.thing("weather", "vault")
        self.ear = Ear(self)

    def close(self) -> None:
        """End the server, and forget everything."""
        self.server.stop()
        shutil.rmtree(self.directory)

    def source(self) -> str:
        """An address that nobody came from before: failed keys of one do not slow the others down."""
        number = next(self._sources)
        return f"127.{1 + (number >> 16)}.{number >> 8 & 0xFF}.{number & 0xFF}"

    def thing(self, *channels: str) -> Thing:
        """A new thing of the owner's."""
        owner = self.owner
        made = self.server.json("POST", "/things/bulk", [{"name": "thing"}], owner.token)["things"][0]
        ids = {"channel_ids": [owner.channels[name] for name in channels], "thing_ids": [made["id"]]}
        self.server.json("POST", "/connect", ids, owner.token)
        owner.things[made["id"]] = made["id"], made["key"]
        return Thing(made["id"], made["key"], self.identity(made["key"]))

    def identity(self, key: str) -> Identity:
        """What a thing with this key shows."""
        return self.nobody if self.auth == "key" else self.authority.client(key)

    def topic(self, ticket: Ticket, channel: str | None = None) -> str:
        return f"channels/{channel or self.channel}/messages/t{ticket.number}"

    def stream(self, spoken: Spoken, saying: Saying) -> Stream:
        """Connect, and shake hands."""
        tls = None
        if spoken.listener in ("https", "mqtts"):
            tls = saying.identity.tls(saying.tls, spoken.alpn)
        source = saying.source or self.source()
        with self._hands:
            stream = Stream(self.server.port(spoken.listener), source, tls, saying.session)
        if saying.session is not None and not stream.tls.session_reused:
            raise AssertionError("the TLS session was not resumed")
        return stream

    def mqtt(self, spoken: Spoken, saying: Saying) -> MQTT:
        """Get as far as MQTT can be spoken."""
        stream = self.stream(spoken, saying)
        if spoken.listener in ("mqtt", "mqtts") or spoken.alpn:
            return MQTT(stream, spoken.version)
        return MQTT(WebSocket(stream, "/mqtt", saying.headers, "mqtt"), spoken.version)

    def disconnect(self, thing: Thing) -> None:
        """Take the channel ``weather`` away from a thing."""
        self.server.json("DELETE", f"/channels/{self.channel}/things/{thing.id}", token=self.owner.token)

    def delete(self, thing: Thing) -> None:
        """Let a thing be no more."""
        self.server.json("DELETE", f"/things/{thing.id}", token=self.owner.token)

    def change_key(self, thing: Thing) -> None:
        """Give a thing a key that it does not know."""
        key = {"key": f"changed-{thing.key[:40]}"}
        self.server.json("PATCH", f"/things/{thing.id}/key", key, self.owner.token)

    def publish(self, thing: Thing, ticket: Ticket, topic: str) -> None:
        """Let a thing say what may be said, and wait until it was heard."""
        stream = self.stream(HTTPS, Saying(thing.identity))
        headers = [("Authorization", thing.key)]
        response = stream.exchange("POST", f"/http/{topic}", headers, ticket.may.encode())
        stream.close()
        if response.status != 202 or self.ear.hears(ticket.may) != ACCEPTED:
            raise AssertionError(f"{response.status}: an honest thing was not heard")

    def hear_all(self) -> None:
        """Wait until everything that was published before has been heard."""
        last = Ticket(next(self._sources) + 1_000_000, True)
        for channel in self.channel, self.vault:
            self.publish(self.victim, last, self.topic(last, channel))

    def secrets(self) -> list[str]:
        """What must stand in no log."""
        keys = [key for _, key in self.owner.things.values()]
        people = (self.owner, self.stranger)
        return [*keys, *(person.token for person in people), *(person.password for person in people)]

    def settle(self, ticket: Ticket) -> str:
        """Let whatever was published before be heard. :return: whether it was silent."""
        time.sleep(0.3)  # the server has to see that the connection is gone
        self.publish(self.victim, ticket, self.topic(ticket))
        return "heard" if ticket.must_not in self.ear.forbidden else "silent"

    # --- one attempt ---

    def say(self, spoken: Spoken, saying: Saying, ticket: Ticket) -> str:
        """Try to publish. :return: what came of it."""
        try:
            outcome = getattr(self, f"_say_{spoken.kind}")(spoken, saying, ticket)
        except HandshakeFailed:
            return HANDSHAKE
        except Closed:
            return CLOSED
        if outcome != ACCEPTED:
            return str(outcome)
        return self.ear.hears(ticket.payload)

    def _say_http(self, spoken: Spoken, saying: Saying, ticket: Ticket) -> str:
        stream = self.stream(spoken, saying)
        try:
            response = stream.exchange(
                "POST",
                f"/http/{self.topic(ticket)}?{saying.query}",
                saying.headers,
                ticket.payload.encode(),
            )
        finally:
            stream.close()
        return ACCEPTED if response.status == 202 else self._web_refusal(response)

    def _web_refusal(self, response: Response) -> str:
        if any(secret.encode() in response.body for secret in (self.own.key, self.victim.key)):
            return "the answer holds a key"
        return web_refusal(response.status, response.headers)

    def _say_ws(self, spoken: Spoken, saying: Saying, ticket: Ticket) -> str:
        stream = self.stream(spoken, saying)
        try:
            socket = WebSocket(stream, f"/ws/{self.topic(ticket)}?{saying.query}", saying.headers)
            socket.send_frame(1, ticket.payload.encode())
            heard = socket.receive_frame()
            return ACCEPTED if heard == ticket.payload.encode() else f"heard {heard!r}"
        except Refused as refused:
            return self._web_refusal(refused.response)
        finally:
            stream.close()

    def _say_mqtt(self, spoken: Spoken, saying: Saying, ticket: Ticket) -> str:
        mqtt = self.mqtt(spoken, saying)
        try:
            topic = self.topic(ticket)
            # All at once: nothing behind a CONNECT may be acted on before that is.
            opening = connect(spoken, saying)
            rest = (
                Subscribe(1, [Subscription(topic, 0)]),
                Publish(topic, ticket.payload.encode(), qos=1, packet_id=2),
            )
            if saying.bytewise:
                mqtt.send(opening, bytewise=True)
            else:
                mqtt.send(opening, *rest)
            refusal = mqtt_refusal(mqtt)
            if refusal:
                return refusal
            if saying.bytewise:
                mqtt.send(*rest, bytewise=True)
            found = mqtt.receive_kinds([Suback, Puback])
            suback, puback = found[Suback], found[Puback]
            assert isinstance(suback, Suback)
            assert isinstance(puback, Puback)
            if suback.reason_codes[0] or puback.reason_code:
                return f"SUBACK {suback.reason_codes[0]}, PUBACK {puback.reason_code}"
            heard = found[Publish] if Publish in found else mqtt.receive()
            assert isinstance(heard, Publish)
            return ACCEPTED if heard.payload == ticket.payload.encode() else f"heard {heard.payload!r}"
        finally:
            mqtt.stream.close()


def connect(spoken: Spoken, saying: Saying) -> Connect:
    """The CONNECT that says it."""
    client_id = saying.client_id
    return Connect(
        spoken.version,
        f"device-{next(_devices)}" if client_id is None else client_id,
        saying.clean_start,
        user_name=saying.user,
        password=saying.password,
        will=saying.will,
    )


def web_refusal(status: int, headers: dict[str, str]) -> str:
    """What a status means. A 401 must not make a browser ask for a password (IDENTITY)."""
    if status == 401 and headers.get("www-authenticate") != "Bearer":
        return f"401 with the challenge {headers.get('www-authenticate')}"
    return _STATUS.get(status, str(status))


def mqtt_refusal(mqtt: MQTT) -> str:
    """Read the CONNACK. :return: empty if it says yes, else what it says; the connection must then end."""
    connack = mqtt.receive()
    if not isinstance(connack, Connack):
        return f"{connack!r} instead of CONNACK"
    code = connack.reason_code
    if code == 0:
        return ""
    try:
        return f"{mqtt.receive()!r} after CONNACK {code}"
    except Closed:
        codes = _REASON_CODES if mqtt.version == 5 else _RETURN_CODES
        return codes.get(code, f"CONNACK {code}")


class Ear:
    """Somebody on every channel who hears what is published there."""

    def __init__(self, world: World) -> None:
        self._heard: set[str] = set()
        self._more = threading.Condition()
        thing = world.thing("weather", "vault")
        self._spoken = MQTTS[2]
        saying = Saying(thing.identity, user=thing.id, password=thing.key.encode(), client_id="ear")
        self._mqtt = world.mqtt(self._spoken, saying)
        filters = [
            Subscription(f"channels/{channel}/messages/#", 0) for channel in (world.channel, world.vault)
        ]
        self._mqtt.send(connect(self._spoken, saying), Subscribe(1, filters))
        self._mqtt.receive_kinds([Connack, Suback])
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                packet = self._mqtt.receive()
            except TimeoutError:
                continue
            except Closed:
                self._mqtt.stream.close()  # the server waits for it when it ends
                return
            if isinstance(packet, Publish):
                with self._more:
                    self._heard.add(packet.payload.decode())
                    self._more.notify_all()

    def hears(self, payload: str, seconds: float = PATIENCE) -> str:
        """Wait until it was heard. :return: :data:`ACCEPTED`, or that it was not."""
        with self._more:
            if self._more.wait_for(lambda: payload in self._heard, seconds):
                return ACCEPTED
        return "accepted, but nobody heard it"

    @property
    def forbidden(self) -> list[str]:
        """What should never have been published."""
        with self._more:
            return sorted(payload for payload in self._heard if payload.startswith("!"))


def run_rows(rows: Iterable[Row], workers: int) -> "list[tuple[Row, str]]":
    """Make every attempt of a table, several at a time. :return: rows and what came of them."""
    table = list(rows)

    def attempt(number: int, row: Row) -> str:
        try:
            return row.attempt(Ticket(number, row.expected == ACCEPTED))
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(workers) as pool:
        outcomes = pool.map(attempt, itertools.count(), table)
        return list(zip(table, outcomes, strict=True))
