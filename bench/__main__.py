"""``python -m bench``: one workload after the other, the servers by turns, and a table of what they cost."""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.errors import BenchError
from bench.load import compile_load
from bench.plot import plot, require_matplotlib
from bench.process import cores
from bench.results import RowResult, table
from bench.runner import Choice, Runner
from bench.scale import SCALES
from bench.scenes import measure_memory, measure_restart, measure_storm, measure_wrk
from bench.servers import SERVERS
from bench.workloads import WORKLOADS

__all__ = ["ROWS", "main"]

#: What measures a row, by the number that asks for it.
ROWS: dict[str, Callable[[Runner], list[RowResult]]] = {
    **{workload.number: workload.run for workload in WORKLOADS},
    "7": measure_memory,
    "8w": measure_wrk,
    "12": measure_restart,
    "13": measure_storm,
    **{scale.number: scale.run for scale in SCALES},
}


def _order(number: str) -> tuple[int, str]:
    digits = "".join(filter(str.isdigit, number))
    return int(digits), number[len(digits) :]


def _read(arguments: Sequence[str]) -> argparse.Namespace:
    known = sorted(ROWS, key=_order)
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rows", default=",".join(known), help="which, of %(default)s")
    parser.add_argument("--rounds", type=int, help="how often each server runs each workload (7)")
    parser.add_argument("--seconds", type=float, help="of each run (2)")
    parser.add_argument("--quick", action="store_true", help="smaller, shorter, 3 rounds: a first look")
    parser.add_argument("--servers", default="mfserver,mosquitto", help=f"which, of {','.join(SERVERS)}")
    parser.add_argument("--server-arguments", default="", help="further options of mfserver, as one word")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs mfserver")
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    parser.add_argument("--plot", type=Path, help="draw the ratios into this file, in SVG")
    options = parser.parse_args(arguments)
    options.rows = sorted(set(options.rows.split(",")), key=lambda row: (row not in ROWS, row))
    options.servers = options.servers.split(",")
    options.rounds = options.rounds or (3 if options.quick else 7)
    options.seconds = options.seconds or (1.0 if options.quick else 2.0)
    if unknown := set(options.servers) - set(SERVERS):
        parser.error(f"no such server: {', '.join(sorted(unknown))}")
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    options.rows.sort(key=_order)
    return options


def _measure(options: argparse.Namespace, results: list[RowResult]) -> None:
    choice = Choice(
        options.servers,
        options.rounds,
        options.seconds,
        options.quick,
        options.python,
        options.server_arguments,
    )
    compile_load()
    if options.plot:
        require_matplotlib()
    with tempfile.TemporaryDirectory(prefix="mf-bench-") as home:
        runner = Runner(choice, Path(home))
        for number in options.rows:
            results += ROWS[number](runner)


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table, also of what was measured before something failed.

    :return: the exit status: 1 where something is missing or failed.
    """
    options = _read(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else servers would be left behind
    results: list[RowResult] = []
    status = 0
    try:
        _measure(options, results)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 1
    server, load = (",".join(map(str, where)) for where in cores())
    print(
        f"{platform.platform()}; server on core {server}, load on core {load}; "
        f"load average {os.getloadavg()[0]:.1f}"
    )
    print(table(results))
    if options.json:
        written = {"arguments": list(arguments), "rows": [result.as_json() for result in results]}
        options.json.write_text(json.dumps(written, indent=1))
    if options.plot and results:
        plot(results, options.plot)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
