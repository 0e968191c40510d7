"""The rows that are more than one run of the load generator: memory, a storm, a restart, and wrk."""

import json
import shutil
import signal
import subprocess
import time
from functools import partial

from bench.certificates import THING_KEY
from bench.errors import BenchError, Missing
from bench.load import running
from bench.process import cores, pin
from bench.results import RowResult, Run, run_of
from bench.runner import Runner
from bench.servers import Server

__all__ = ["measure_memory", "measure_restart", "measure_storm", "measure_wrk"]

#: Seconds until a server that was just connected to has freed what it needed for that alone.
_REST_SECONDS = 1.0
#: Connections that a server holds before its memory counts: what it makes once is made then, and what it had
#: free is taken.
_FIRST = 200
#: Of live traffic alone: CPU is counted in ticks of 10 ms, and there is little of it.
_LIVE_SECONDS = 5.0


def measure_memory(runner: Runner) -> list[RowResult]:
    """Memory of a connection that does nothing: what many add to a fresh server, through their number."""
    count = 300 if runner.choice.quick else 1_000
    result = RowResult("7", f"{count:,} idle connections, EC certificates", "KiB/connection", bar=1.2)
    names = runner.each(result)
    for _ in range(min(runner.choice.rounds, 3)):
        for name in names:
            with runner.server(name, "ec") as server:
                runner.add(result, server, _idle(server, count))
    return [result]


def _idle(server: Server, count: int) -> Run:
    first = {"workload": "idle", "publishers": _FIRST, "prefix": "first"}
    with running(server, first) as held:
        time.sleep(_REST_SECONDS)
        before = server.memory
        with running(server, {**first, "publishers": count, "prefix": "more", "concurrency": 64}) as load:
            time.sleep(_REST_SECONDS)
            cost = (server.memory - before) / count
            for each in (held, load):
                each.go()
                each.wait_until_done()
            return Run(cost, rate=count / load.ready["elapsed"])


def measure_restart(runner: Runner) -> list[RowResult]:
    """Many idle connections in one process; it is killed and started again; how long until all are back."""
    count = 500 if runner.choice.quick else 10_000
    held = RowResult("12", f"{count:,} idle connections held, EC certificates", "KiB/connection")
    back = RowResult("12r", "killed, started again, until all are back", "µs/connection")
    for name in runner.each(held):
        with runner.server(name, "ec") as server:
            before = server.memory
            options = {"workload": "reconnect", "publishers": count, "concurrency": 256, "seconds": 600}
            with running(server, options) as load:
                time.sleep(_REST_SECONDS)
                cost = (server.memory - before) / count
                runner.add(held, server, Run(cost, rate=count / load.ready["elapsed"]))
                load.go()
                server.stop(signal.SIGKILL)
                server.start()
                counted = load.wait_until_done()
                runner.add(back, server, run_of(counted, server.cpu))
        seconds = counted["elapsed"]
        back.remarks.append(f"{name}: {counted['operations']:,} of {count:,} were back after {seconds:.1f} s")
    return [held, back]


def measure_storm(runner: Runner) -> list[RowResult]:
    """Live traffic at a steady rate, alone and while many shake hands; the latency is the live traffic's."""
    count = 100 if runner.choice.quick else 500
    alone = RowResult("13", "live: 10 connections, 200 PUBLISH/s, QoS 1", "µs/PUBLISH")
    storm = RowResult("13s", f"the same while {count} shake hands, RSA 4096", "µs/handshake", most_p99=20_000)
    names = runner.each(alone)
    for _ in range(min(runner.choice.rounds, 3)):
        for name in names:
            with runner.server(name) as server:
                live: dict[str, object] = {"publishers": 10, "topics": 10, "rate": 200}
                with runner.connected(server, {**live, "seconds": _LIVE_SECONDS}) as work:
                    runner.add(alone, server, work())
                runner.add(storm, server, _storm(server, live, count))
    return [alone, storm]


def _storm(server: Server, live: dict[str, object], count: int) -> Run:
    many = {
        "workload": "handshake", "hold": 1, "publishers": count, "count": count, "concurrency": count,
        "seconds": 600, "prefix": "storm",
    }  # fmt: skip
    with (
        running(server, {**live, "seconds": 600, "prefix": "live"}, nice=-10) as steady,
        running(server, many, nice=10) as load,
    ):
        before = server.cpu
        steady.go()
        load.go()
        shaken = load.wait_until_done()
        steady.stop()
        felt = steady.wait_until_done()
        run = run_of(shaken, server.cpu - before)
    return Run(
        run.cost,
        run.rate,
        felt["p50_us"],
        felt["p99_us"],
        felt["lost"],
        felt["errors"] + run.errors,
        run.load,
    )


_WRK = """
wrk.method = "POST"
wrk.headers["Authorization"] = "{key}"
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.body = string.rep("x", 64)
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{{"operations": %d, "elapsed": %f, "p50_us": %f, "p99_us": %f, "errors": %d}}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def measure_wrk(runner: Runner) -> list[RowResult]:
    """HTTP publish by wrk over TLS with the thing's key, as it can show no certificate."""
    result = RowResult("8w", "HTTP publish by wrk, 16 connections, key", "µs/request", least_rate=7_500)
    try:
        if shutil.which("wrk") is None:
            raise Missing("wrk is not installed (Debian: apt-get install wrk)")
    except Missing as error:
        result.remarks.append(f"left out: {error}")
        return [result]
    for name in runner.each(result, peers=False):
        with runner.server(name, "ec", auth="key") as server:
            for _ in range(runner.choice.rounds):
                runner.add(result, server, _wrk(server, runner.choice.seconds))
    return [result]


def _wrk(server: Server, seconds: float) -> Run:
    script = server.home / "publish.lua"
    script.write_text(_WRK.format(key=THING_KEY))
    url = f"https://127.0.0.1:{server.ports['https']}/http/{server.topic}"
    command = ["wrk", "-t1", "-c16", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
    before = server.cpu
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, preexec_fn=partial(pin, cores()[1]), timeout=seconds + 60
    )
    used = server.cpu - before
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise BenchError(f"wrk: {done.stdout}{done.stderr}")
    return run_of({"lost": 0, "cpu": 0.0, **json.loads(lines[0])}, used)
