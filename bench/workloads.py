"""The rows that are one run of the load generator: which, and what of them is compared."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.errors import BenchError
from bench.load import running
from bench.results import Run, run_of
from bench.servers import Server

__all__ = ["Workload", "WORKLOADS", "measure"]

#: Seconds between the last connection and the first message: what a server does after a handshake is done.
_SETTLE_SECONDS = 0.3


@dataclass(frozen=True)
class Workload:
    """A row of the table.

    :ivar options: of the load generator.
    :ivar quick: those that a quick run has instead.
    :ivar bar: the most that the ratio to Mosquitto may be.
    :ivar peers: whether other servers can do it.
    :ivar certificates: ``rsa`` or ``ec``.
    """

    number: str
    name: str
    unit: str
    options: Mapping[str, object]
    quick: Mapping[str, object] = field(default_factory=dict)
    bar: float | None = None
    least_rate: float | None = None
    peers: bool = True
    certificates: str = "rsa"
    listener: str = "mqtts"


def measure(server: Server, workload: Workload, seconds: float, quick: bool, **more: object) -> Run:
    """Run a workload once against a server that is up.

    :param seconds: how long it works, where the workload has no number of operations.
    """
    options = {**workload.options, **(workload.quick if quick else {}), **more}
    options.setdefault("seconds", seconds)
    options["port"] = server.ports[workload.listener]
    with running(server, options) as load:
        time.sleep(_SETTLE_SECONDS)
        before = server.cpu
        load.go()
        counted = load.wait_until_done()
        used = server.cpu - before
    try:
        return run_of(counted, used)
    except ValueError as error:
        raise BenchError(f"{server.name}, {workload.name}: {error}") from None


_FEW = {"publishers": 100, "topics": 100}

WORKLOADS = (
    Workload(
        "1", "500 connections, QoS 1, 1 in flight", "µs of CPU per PUBLISH",
        {"publishers": 500, "topics": 500}, _FEW, bar=1.0,
    ),
    Workload(
        "2", "1 publisher to 500, QoS 1, 1 in flight", "µs of CPU per delivery",
        {"subscribers": 500}, {"subscribers": 100}, bar=1.0,
    ),
    Workload(
        "3", "1 publisher to 1, QoS 1, 1 in flight", "µs of CPU per delivery",
        {"subscribers": 1}, bar=1.0,
    ),
    Workload(
        "4", "4 connections, QoS 1, 100 in flight", "µs of CPU per PUBLISH",
        {"publishers": 4, "topics": 4, "window": 100}, bar=0.2,
    ),
    Workload(
        "5", "4 publishers to 4, QoS 0, flooded", "µs of CPU per delivery",
        {"publishers": 4, "subscribers": 4, "qos": 0, "window": 1000}, bar=0.2,
    ),
    Workload(
        "6", "handshake and CONNECT, RSA 4096, one at a time", "µs of CPU per connection",
        {"workload": "handshake", "concurrency": 1, "seconds": 600, "count": 200}, {"count": 40}, bar=1.0,
    ),
    Workload(
        "6c", "handshake and CONNECT, RSA 4096, 16 at a time", "µs of CPU per connection",
        {"workload": "handshake", "publishers": 16, "topics": 16, "seconds": 600, "count": 300},
        {"count": 60}, bar=1.0,
    ),
)  # fmt: skip
