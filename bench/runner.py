"""What every row needs: certificates, servers of its own, runs of the load, and word of how far it is."""

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.certificates import Certificates, make_certificates
from bench.errors import Missing
from bench.load import running
from bench.results import RowResult, Run, run_of
from bench.servers import SERVERS, Mfserver, Server

__all__ = ["Choice", "Runner"]

#: Seconds between the last connection and the first message: what a server does after a handshake is done.
_SETTLE_SECONDS = 0.3


@dataclass(frozen=True)
class Choice:
    """What was asked for.

    :ivar seconds: of a run that has no number of operations.
    :ivar quick: smaller sizes.
    :ivar python: the interpreter that runs mfserver.
    :ivar server_arguments: further options of mfserver, as a shell would read them.
    """

    servers: Sequence[str] = ("mfserver", "mosquitto")
    rounds: int = 7
    seconds: float = 2.0
    quick: bool = False
    python: str = sys.executable
    server_arguments: str = ""


class Runner:
    """Starts servers and measures what they need.

    :param home: a directory for certificates and servers, whose owner removes it.
    """

    def __init__(self, choice: Choice, home: Path) -> None:
        self.choice = choice
        self.home = home
        self._certificates: dict[str, Certificates] = {}
        self._count = 0

    def say(self, text: str) -> None:
        """Tell how far it is."""
        print(f"bench: {text}", file=sys.stderr, flush=True)

    def certificates(self, kind: str) -> Certificates:
        """Those of a kind, made once."""
        if kind not in self._certificates:
            self.say(f"making certificates ({kind})")
            self._certificates[kind] = make_certificates(self.home / kind, kind)
        return self._certificates[kind]

    @contextlib.contextmanager
    def server(self, name: str, kind: str = "rsa", auth: str = "x509") -> Iterator[Server]:
        """A server of one's own, which is ended behind the block.

        :param kind: of the certificates.
        """
        self._count += 1
        home, files = self.home / f"{name}-{self._count}", self.certificates(kind)
        if name == "mfserver":
            arguments = shlex.split(self.choice.server_arguments)
            server: Server = Mfserver(home, files, self.choice.python, arguments, auth)
        else:
            server = SERVERS[name](home, files)
        try:
            server.start()
            yield server
        finally:
            server.stop()

    def each(self, result: RowResult, peers: bool = True) -> Sequence[str]:
        """The servers of a row; those that are not installed are left out, and the result says so."""
        names = [name for name in self.choice.servers if peers or name == "mfserver"]
        here = []
        for name in names:
            try:
                SERVERS[name].look()
                here.append(name)
            except Missing as error:
                result.remarks.append(f"{name} is left out: {error}")
        return here

    @contextlib.contextmanager
    def connected(
        self, server: Server, options: Mapping[str, object], listener: str = "mqtts"
    ) -> Iterator[Callable[[], Run]]:
        """Connect a load with topics and client identifiers of its own. :return: what lets it work once."""
        self._count += 1
        given = {
            "seconds": self.choice.seconds,
            "port": server.ports[listener],
            "topic": f"{server.topic}/r{self._count}",
            "prefix": f"r{self._count}-",
            **options,
        }
        with running(server, given) as load:
            time.sleep(_SETTLE_SECONDS)

            def work() -> Run:
                before = server.cpu
                load.go()
                counted = load.wait_until_done()
                return run_of(counted, server.cpu - before)

            yield work

    def rounds(
        self,
        result: RowResult,
        servers: Sequence[Server],
        options: Mapping[str, object],
        listener: str = "mqtts",
    ) -> None:
        """Connect a load to each server, then let them work by turns: A B, A B, ..."""
        with contextlib.ExitStack() as stack:
            loads = [stack.enter_context(self.connected(server, options, listener)) for server in servers]
            for _ in range(self.choice.rounds):
                for server, work in zip(servers, loads, strict=True):
                    self.add(result, server, work())

    def add(self, result: RowResult, server: Server, run: Run) -> None:
        """Add a round to a result, and say so."""
        result.add(server.name, run)
        trouble = f", LOST {run.lost}, ERRORS {run.errors}" if run.lost or run.errors else ""
        self.say(
            f"{result.number} round {len(result.runs[server.name])} {server.name}: "
            f"{run.cost:,.2f} {result.unit}, {run.rate:,.0f}/s, load {run.load:.0%}{trouble}"
        )
