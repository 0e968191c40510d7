"""Figures of the whole server for Prometheus: plain integers of the rooms, read when somebody asks.

No label says anything of a user, a thing, a channel or a client.
"""

from collections.abc import Callable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mfserver.api.call import Call, Reply
from mfserver.budget import Budget
from mfserver.routing.sessions import Sessions

__all__ = ["Metrics", "Sources", "DROPPED", "FIGURES", "MEDIA_TYPE"]

MEDIA_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


class _Limit(Protocol):
    total: int
    unheard: int


class _TLS(Protocol):
    generation: int
    not_valid_after: float
    handshakes_failed: int
    peers_refused: int


class _MQTT(Protocol):
    dropped: int

    @property
    def connections(self) -> Sized: ...


class _WS(Protocol):
    dropped: int

    @property
    def open(self) -> Sized: ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Whose integers are shown.

    :ivar limit: the connections of all listeners.
    :ivar tls: the context of all TLS listeners.
    :ivar revoked: what is revoked and has not ended.
    :ivar ending: days to how many certificates of things end within them and were not renewed; empty as
        long as nobody has looked.
    :ivar budget: what is held of all clients that is not complete.
    """

    limit: _Limit
    tls: _TLS
    revoked: Sized
    ending: Callable[[], Mapping[int, int]]
    mqtt: _MQTT
    ws: _WS
    sessions: Sessions
    budget: Budget


class Figure(NamedTuple):
    """One name that Prometheus knows, after ``mfserver_``.

    :ivar read: the number; with a label one for each of its values, which are words of ours.
    """

    name: str
    text: str
    read: Callable[[Sources], float | Mapping[str, float]]
    label: str = ""


def _ending(of: Sources) -> Mapping[str, float]:
    return {f"{days}d": count for days, count in of.ending().items()}


#: Why messages are dropped, and who counts it.
DROPPED: Final[Mapping[str, Callable[[Sources], int]]] = {
    "no_room": lambda of: of.sessions.shared.dropped,
    "retained": lambda of: of.sessions.retained.dropped,
    "too_long": lambda of: of.mqtt.dropped,
    "websocket": lambda of: of.ws.dropped,
}


#: What only grows is named ``_total``, and begins with 0 at each start.
FIGURES: Final = (
    Figure(
        "certificates_ending",
        "Certificates of things that end within so many days and were not renewed, as of the last look.",
        _ending,
        "within",
    ),
    Figure(
        "certificates_revoked",
        "Certificates that were revoked here and have not ended.",
        lambda of: len(of.revoked),
    ),
    Figure("connections", "Network connections that are open, of all protocols.", lambda of: of.limit.total),
    Figure(
        "connections_unheard_total",
        "Connections that were closed at once, because there were too many.",
        lambda of: of.limit.unheard,
    ),
    Figure(
        "tls_certificate_end_seconds",
        "When the server's certificate ends, in seconds since 1970.",
        lambda of: of.tls.not_valid_after,
    ),
    Figure(
        "tls_contexts_total",
        "TLS contexts so far: the first, and one more whenever certificate files changed.",
        lambda of: of.tls.generation,
    ),
    Figure(
        "tls_handshakes_failed_total",
        "TLS connections that ended before their handshake was through.",
        lambda of: of.tls.handshakes_failed,
    ),
    Figure(
        "tls_peers_refused_total",
        "Those among them whose client certificate our own records refused.",
        lambda of: of.tls.peers_refused,
    ),
    Figure("mqtt_connections", "MQTT connections that are open.", lambda of: len(of.mqtt.connections)),
    Figure(
        "mqtt_sessions", "MQTT sessions, of clients that are connected or not.", lambda of: len(of.sessions)
    ),
    Figure("websockets", "WebSockets on channels that are open.", lambda of: len(of.ws.open)),
    Figure("retained_messages", "Retained messages.", lambda of: len(of.sessions.retained)),
    Figure("retained_bytes", "Memory that they take, about.", lambda of: of.sessions.retained.size),
    Figure(
        "messages_dropped_total",
        "Messages that were not delivered or not kept: no room for them in a queue or among the retained, "
        "longer than an MQTT client takes (counted when it leaves), or a WebSocket too slow for them.",
        lambda of: {why: read(of) for why, read in DROPPED.items()},
        "why",
    ),
    Figure(
        "held_bytes",
        "Bytes of requests and packets that are not complete, and of answers that nobody reads.",
        lambda of: of.budget.used,
    ),
    Figure(
        "journal_stalled",
        "1 while nothing can be written to the disk, so that nothing is acknowledged.",
        lambda of: of.sessions.journal.stalled,
    ),
)


class Metrics(Collector):
    """What ``GET /metrics`` answers: :data:`FIGURES`, then those of the process."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._process = ProcessCollector(registry=None)

    async def serve(self, call: Call[None]) -> Reply:
        """In the text format, which every Prometheus reads."""
        return Reply(generate_latest(self), media_type=MEDIA_TYPE)

    def collect(self) -> Iterator[Metric]:
        for name, text, read, label in FIGURES:
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = kind(f"mfserver_{name}", text, labels=[label] if label else [])
            value = read(self._sources)
            for word, number in value.items() if isinstance(value, Mapping) else [("", value)]:
                family.add_metric([word] if label else [], float(number))
            yield family
        yield from self._process.collect()
