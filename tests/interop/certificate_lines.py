"""Many live connections of things that show certificates of the server's own authority, on every protocol."""

import http.client
import itertools
import json
import selectors
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from mfserver.mqtt.packets import Connack, Disconnect, Puback, Publish, Suback, Subscribe, Subscription
from tests.interop.identity_certificates import Identity
from tests.interop.identity_clients import MQTT, Closed, Stream, WebSocket
from tests.interop.identity_rows import credentials
from tests.interop.identity_world import HTTPS, MQTT_ALPN, MQTT_WSS, MQTTS, WSS, Spoken, Thing, World, connect
from tests.interop.mqtt_figures import table

__all__ = ["EVERY", "Certificate", "Line", "Owner", "spread", "watch_ends"]

#: One of each way to be connected: MQTT 5.0 has a word for the end.
EVERY: Final = (MQTTS[2], WSS, MQTT_WSS[2], HTTPS, MQTT_ALPN[2])
#: Seconds that anything may take.
_PATIENCE: Final = 15.0
_NOT_AUTHORIZED: Final = 0x87
_POLICY_VIOLATION: Final = 1008


@dataclass(frozen=True, eq=False)
class Certificate:
    """One that things show.

    :ivar serial: empty for one that the server did not issue.
    :ivar tls: the version that is spoken with it.
    :ivar file: where it stands, with its key.
    """

    serial: str
    thing: Thing
    tls: str
    file: Path = Path()


class Owner:
    """The owner of a world's things, on one kept-alive connection of the API."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = itertools.count()
        self._api = http.client.HTTPSConnection(
            "localhost",
            world.server.port("https"),
            timeout=30,
            context=ssl.create_default_context(cafile=world.server.ca),
        )

    def close(self) -> None:
        self._api.close()

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One call that must succeed. :return: what the answer's JSON says."""
        headers = {"Authorization": self._world.owner.token, "Content-Type": "application/json"}
        self._api.request(method, path, None if body is None else json.dumps(body), headers)
        response = self._api.getresponse()
        content = response.read()
        if not 200 <= response.status < 300:
            raise AssertionError(f"{method} {path}: {response.status} {content!r}")
        return json.loads(content) if content else None

    def things(self, count: int) -> list[tuple[str, str]]:
        """New things on the channel ``weather``. :return: their ids and keys."""
        made = self.call("POST", "/things/bulk", [{"name": f"thing {n}"} for n in range(count)])["things"]
        ids = [one["id"] for one in made]
        self.call("POST", "/connect", {"channel_ids": [self._world.channel], "thing_ids": ids})
        return [(one["id"], one["key"]) for one in made]

    def issue(self, thing: str, key: str, tls: str = "1.3", **order: object) -> Certificate:
        """A certificate of a thing; the thing key is not in it."""
        new = self.call("POST", "/certs", {"thing_id": thing, **order})
        file = self._world.directory / f"issued-{next(self._numbers)}.pem"
        file.write_text(new["cert"] + new["cert_key"])
        leaf = x509.load_pem_x509_certificate(new["cert"].encode())
        identity = Identity(self._world.server.ca, leaf, file)
        return Certificate(new["cert_serial"], Thing(thing, key, identity), tls, file)

    def revoke(self, certificate: Certificate, how: int = 0) -> None:
        """In one of the two ways that there are."""
        if how % 2:
            self.call("DELETE", f"/certs/{certificate.serial}")
        else:
            self.call("POST", f"/certs/{certificate.serial}/revoke", {"reason": "keyCompromise"})


class Line:
    """A connection that stays open. On MQTT and WebSocket it listens on a topic that it alone uses.

    :param session: a TLS session to resume.
    :ivar opened_with: the one that can be resumed later on.
    :ivar ended: seconds on the monotonic clock; 0 while it is open.
    """

    _numbers = itertools.count()

    def __init__(
        self, world: World, spoken: Spoken, shown: Certificate, session: ssl.SSLSession | None = None
    ) -> None:
        self.spoken = spoken
        self.shown = shown
        self.ended = 0.0
        self._words = itertools.count()
        self._saying = credentials(shown.thing, spoken, tls=shown.tls)
        self._topic = f"channels/{world.channel}/messages/line-{next(self._numbers)}"
        self._socket: WebSocket | None = None
        self._mqtt: MQTT | None = None
        tls = shown.thing.identity.tls(shown.tls, spoken.alpn)
        self.stream = Stream(world.server.port(spoken.listener), world.source(), tls, session, _PATIENCE)
        self.was_resumed = bool(self.stream.tls.session_reused)
        try:
            self._log_in()
            self.speak()
        except BaseException:
            self.stream.close()
            raise
        self.opened_with = self.stream.tls.session

    def _log_in(self) -> None:
        spoken, saying = self.spoken, self._saying
        if spoken.kind == "ws":
            self._socket = WebSocket(self.stream, f"/ws/{self._topic}?{saying.query}", saying.headers)
        if spoken.kind != "mqtt":
            return
        if spoken.listener == "mqtts" or spoken.alpn:
            self._mqtt = MQTT(self.stream, spoken.version)
        else:
            socket = WebSocket(self.stream, "/mqtt", saying.headers, "mqtt")
            self._mqtt = MQTT(socket, spoken.version)
        self._mqtt.send(connect(spoken, saying), Subscribe(1, [Subscription(self._topic, 1)]))
        found = self._mqtt.receive_kinds([Connack])
        connack = found[Connack]
        if not isinstance(connack, Connack) or connack.reason_code:
            raise AssertionError(f"{spoken.name}: {connack!r}")
        suback = self._mqtt.receive()
        if not isinstance(suback, Suback) or suback.reason_codes != [1]:
            raise AssertionError(f"{spoken.name}: {suback!r}")

    @property
    def is_closed(self) -> bool:
        """Whether its end was heard."""
        return self.stream.tls.fileno() < 0

    def speak(self) -> None:
        """Publish, and on all but HTTP hear it.

        :raises AssertionError: something else came of it.
        :raises Closed: the connection is over.
        """
        words = b"%d" % next(self._words)
        if self._mqtt is not None:
            self._speak_mqtt(self._mqtt, words)
        elif self._socket is not None:
            self._socket.send_frame(1, words)
            heard = self._socket.receive_frame()
            assert heard == words, f"{self.spoken.name}: {heard!r}"
        else:
            response = self.stream.exchange("POST", f"/http/{self._topic}", self._saying.headers, words)
            assert response.status == 202, f"{self.spoken.name}: {response!r}"

    def _speak_mqtt(self, mqtt: MQTT, words: bytes) -> None:
        mqtt.send(Publish(self._topic, words, 1, packet_id=7))
        found = mqtt.receive_kinds([Puback, Publish])
        puback, heard = found[Puback], found[Publish]
        assert isinstance(puback, Puback)
        assert isinstance(heard, Publish)
        mqtt.send(Puback(heard.packet_id))
        assert (puback.packet_id, puback.reason_code) == (7, 0), f"{self.spoken.name}: {puback!r}"
        assert (heard.payload, heard.dup) == (words, False), f"{self.spoken.name}: {heard!r}"

    def hear_the_end(self) -> str:
        """Read what came. :return: empty if it is the end and was said as its protocol says it."""
        self.stream.set_timeout(1.0)
        name = self.spoken.name
        try:
            if self._mqtt is not None:
                packet = self._mqtt.receive()
                self.ended = time.monotonic()
                if not isinstance(packet, Disconnect) or packet.reason_code != _NOT_AUTHORIZED:
                    return f"{name}: {packet!r} instead of DISCONNECT"
                packet = self._mqtt.receive()
                return f"{name}: {packet!r} after DISCONNECT"
            heard = self._socket.receive_frame() if self._socket is not None else self.stream.receive(1)
            return f"{name}: {heard!r} instead of the end"
        except TimeoutError:
            return f"{name}: still open"
        except Closed as closed:
            if self._mqtt is not None and not self.ended:
                return f"{name}: closed without DISCONNECT"
            if self._socket is not None and closed.code != _POLICY_VIOLATION:
                return f"{name}: close code {closed.code}"
            # A DISCONNECT is not the end before the connection is closed.
            self.ended = time.monotonic()
            return ""
        finally:
            self.stream.close()


def spread(world: World, certificates: Sequence[Certificate], count: int) -> Iterator[Line]:
    """So many connections, each certificate's on every protocol in turn."""
    for number in range(count):
        rounds, index = divmod(number, len(certificates))
        yield Line(world, EVERY[(rounds + index) % len(EVERY)], certificates[index])


def watch_ends(lines: Iterable[Line], is_over: Callable[[int], bool], seconds: float) -> list[str]:
    """Read from whatever line something comes on, which must be its end; for so long.

    :param is_over: asked with how many have ended whether to watch any longer.
    :return: what was wrong.
    """
    wrong: list[str] = []
    ended = 0
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for line in lines:
            if not line.is_closed:
                selector.register(line.stream.tls, selectors.EVENT_READ, line)
        while not is_over(ended) and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(min(left, 0.05)):
                selector.unregister(key.fileobj)
                said = key.data.hear_the_end()
                ended += 1
                if said:
                    wrong.append(said)
    return wrong


def milliseconds(title: str, by_name: dict[str, list[float]]) -> list[str]:
    """A table of how long something took: how often, median, 99th percentile, most.

    :param by_name: seconds.
    """
    rows = {
        name.replace(" ", "_"): (
            len(took),
            round(1000 * sorted(took)[len(took) // 2]),
            round(1000 * sorted(took)[len(took) * 99 // 100]),
            round(1000 * max(took)),
        )
        for name, took in by_name.items()
    }
    return [title, *table(("count", "p50 ms", "p99 ms", "max ms"), **rows)]
