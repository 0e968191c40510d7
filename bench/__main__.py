"""``python -m bench``: one workload after the other, the servers by turns, and a table of what they cost."""

import argparse
import contextlib
import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.certificates import Certificates, make_certificates
from bench.errors import BenchError, Missing
from bench.load import compile_load
from bench.process import cores
from bench.results import RowResult, Run, table
from bench.servers import SERVERS, Mfserver, Server
from bench.workloads import WORKLOADS, Workload, measure

__all__ = ["main"]


class _Bench:
    """What all rows of one call have in common.

    :param home: a directory for certificates and servers, which is removed afterwards.
    """

    def __init__(self, options: argparse.Namespace, home: Path) -> None:
        self.options = options
        self._home = home
        self._certificates: dict[str, Certificates] = {}
        self._servers = 0

    def certificates(self, kind: str) -> Certificates:
        """Those of a kind, made once."""
        if kind not in self._certificates:
            self.say(f"making certificates ({kind})")
            self._certificates[kind] = make_certificates(self._home / kind, kind)
        return self._certificates[kind]

    def say(self, text: str) -> None:
        """Tell how far it is."""
        print(f"bench: {text}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def server(self, name: str, kind: str, auth: str = "x509") -> Iterator[Server]:
        """A server of its own, which is ended behind the block."""
        self._servers += 1
        home, files = self._home / f"{name}-{self._servers}", self.certificates(kind)
        if name == "mfserver":
            arguments = shlex.split(self.options.server_arguments)
            server: Server = Mfserver(home, files, self.options.python, arguments, auth)
        else:
            server = SERVERS[name](home, files)
        try:
            server.start()
            yield server
        finally:
            server.stop()

    def row(self, workload: Workload) -> RowResult:
        """All rounds of a workload, the servers by turns: A B, A B, ..."""
        result = RowResult(workload.number, workload.name, workload.unit, workload.bar, workload.least_rate)
        names = [name for name in self.options.servers if workload.peers or name == "mfserver"]
        with contextlib.ExitStack() as stack:
            servers: list[Server] = []
            for name in names:
                try:
                    servers.append(stack.enter_context(self.server(name, workload.certificates)))
                except Missing as error:
                    result.remarks.append(f"{name} is left out: {error}")
            for number in range(self.options.rounds):
                for server in servers:
                    run = measure(server, workload, self.options.seconds, self.options.quick)
                    result.runs.setdefault(server.name, []).append(run)
                    self._say_run(workload, number, server, run)
        return result

    def _say_run(self, workload: Workload, number: int, server: Server, run: Run) -> None:
        trouble = f", LOST {run.lost}, ERRORS {run.errors}" if run.lost or run.errors else ""
        self.say(
            f"{workload.number} round {number + 1} {server.name}: {run.cost:.2f} {workload.unit}, "
            f"{run.rate:,.0f}/s{trouble}"
        )


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    known = ",".join(row.number for row in WORKLOADS)
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rows", default=known, help=f"which, of {known}")
    parser.add_argument("--rounds", type=int, help="how often each server runs each workload (5)")
    parser.add_argument("--seconds", type=float, help="of each run (4)")
    parser.add_argument("--quick", action="store_true", help="smaller, shorter, 2 rounds: a first look")
    parser.add_argument("--servers", default="mfserver,mosquitto", help=f"which, of {','.join(SERVERS)}")
    parser.add_argument("--server-arguments", default="", help="further options of mfserver, as one word")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs mfserver")
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    options = parser.parse_args(arguments)
    options.rows = options.rows.split(",")
    options.servers = options.servers.split(",")
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (1.5 if options.quick else 4.0)
    if unknown := set(options.servers) - set(SERVERS):
        parser.error(f"no such server: {', '.join(sorted(unknown))}")
    if unknown := set(options.rows) - set(known.split(",")):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    return options


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table. :return: the exit status: 1 where something is missing or failed."""
    options = _options(arguments)
    results: list[RowResult] = []
    status = 0
    try:
        compile_load()
        with tempfile.TemporaryDirectory(prefix="mf-bench-") as home:
            bench = _Bench(options, Path(home))
            for workload in WORKLOADS:
                if workload.number in options.rows:
                    results.append(bench.row(workload))
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
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
