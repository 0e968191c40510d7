"""The rows that are one run of the load generator: which, and what of them is compared."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.results import RowResult
from bench.runner import Runner

__all__ = ["Workload", "WORKLOADS"]


@dataclass(frozen=True)
class Workload:
    """A row of the table.

    :ivar options: of the load generator.
    :ivar quick: those that a quick run has instead.
    :ivar bar: the most that the ratio to Mosquitto may be.
    :ivar least_rate: the least operations per second that ours must do.
    :ivar peers: whether other servers can do it.
    """

    number: str
    name: str
    unit: str
    options: Mapping[str, object]
    quick: Mapping[str, object] = field(default_factory=dict)
    bar: float | None = None
    least_rate: float | None = None
    peers: bool = True
    listener: str = "mqtts"

    def run(self, runner: Runner) -> list[RowResult]:
        """All rounds, the servers by turns: A B, A B, ..."""
        result = RowResult(self.number, self.name, self.unit, self.bar, self.least_rate)
        options = {**self.options, **(self.quick if runner.choice.quick else {})}
        with contextlib.ExitStack() as stack:
            names = runner.each(result, self.peers)
            servers = [stack.enter_context(runner.server(name)) for name in names]
            runner.rounds(result, servers, options, self.listener)
        return [result]


_PUBLISH, _DELIVERY = "µs/PUBLISH", "µs/delivery"
_CONNECTION = "µs/connection"
_SIXTEEN = {"publishers": 16, "topics": 16}

WORKLOADS = (
    Workload(
        "1", "500 connections, QoS 1, 1 in flight", _PUBLISH,
        {"publishers": 500, "topics": 500}, {"publishers": 100, "topics": 100}, bar=1.0,
    ),
    Workload(
        "2", "1 publisher to 500, QoS 1, 1 in flight", _DELIVERY,
        {"subscribers": 500}, {"subscribers": 100}, bar=1.0,
    ),
    Workload("3", "1 publisher to 1, QoS 1, 1 in flight", _DELIVERY, {"subscribers": 1}, bar=1.0),
    Workload(
        "4", "4 connections, QoS 1, 100 in flight", _PUBLISH,
        {"publishers": 4, "topics": 4, "window": 100}, bar=0.2,
    ),
    Workload(
        "5", "4 publishers to 4, QoS 0, flooded", _DELIVERY,
        {"publishers": 4, "subscribers": 4, "qos": 0, "window": 1000}, bar=0.2,
    ),
    Workload(
        "6", "handshake and CONNECT, RSA 4096, one at a time", _CONNECTION,
        {"workload": "handshake", "concurrency": 1, "seconds": 600, "count": 200}, {"count": 40}, bar=1.0,
    ),
    Workload(
        "6c", "handshake and CONNECT, RSA 4096, 16 at a time", _CONNECTION,
        {"workload": "handshake", **_SIXTEEN, "seconds": 600, "count": 300}, {"count": 60}, bar=1.0,
    ),
    Workload(
        "8", "HTTP publish, 16 connections, mutual TLS", "µs/request",
        {"protocol": "http", **_SIXTEEN}, least_rate=7_500, peers=False, listener="https",
    ),
    Workload(
        "9", "WebSocket echo, 16 connections, mutual TLS", "µs/echo",
        {"protocol": "websocket", **_SIXTEEN}, peers=False, listener="https",
    ),
    Workload(
        "10", "QoS 1 to a session that is away, 1 publisher", _PUBLISH,
        {"away": 1}, least_rate=500, peers=False,
    ),
    Workload(
        "11", "QoS 1 to a session that is away, 64 publishers", _PUBLISH,
        {"away": 1, "publishers": 64}, least_rate=10_000, peers=False,
    ),
)  # fmt: skip
