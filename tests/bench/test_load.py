"""The load generator against a real server: what it counts is what was done."""

import shutil
import socket
import tempfile
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from bench.errors import BenchError, Missing
from bench.load import Load, compile_load, running
from bench.runner import Choice, Runner
from bench.servers import Mfserver, Server
from bench.workloads import Workload
from tests.interop.running import needs


class LoadTests(SynchronousTestCase):
    """One mfserver in certificate mode, and short runs of several workloads against it."""

    home: Path
    runner: Runner

    def setUp(self) -> None:
        needs("gcc", "make", "openssl")
        try:
            compile_load()
        except Missing as error:
            raise SkipTest(str(error)) from error
        home = Path(tempfile.mkdtemp(prefix="mf-bench-test-"))
        self.addCleanup(shutil.rmtree, home)
        self.runner = Runner(Choice(servers=("mfserver",), rounds=1, seconds=0.2, quick=True), home)
        self.runner.say = lambda text: None  # type: ignore[method-assign]

    def counted(self, server: Server, **options: object) -> dict[str, int]:
        """Run it until it has counted all, however slow the machine, and return what it counted."""
        with running(server, {"seconds": 60, **options}) as load:
            load.go()
            return load.wait_until_done()

    def test_every_message_is_counted_once(self) -> None:
        """Deliveries are publishers' messages times subscribers; acknowledgements are messages."""
        with self.runner.server("mfserver", "ec") as server:
            for options, each in (
                ({"publishers": 3, "topics": 3, "count": 40}, 1),
                ({"publishers": 2, "subscribers": 3, "count": 40, "window": 5}, 3),
                ({"publishers": 2, "subscribers": 2, "topics": 2, "qos": 0, "count": 40, "window": 9}, 1),
                ({"subscribers": 2, "others": 120, "count": 9}, 2),
                ({"away": 1, "publishers": 2, "count": 40}, 1),
                ({"publishers": 2, "rate": 1_000, "count": 40}, 1),
            ):
                done = self.counted(server, **options)
                self.assertEqual(options["count"], done["sent"], options)
                self.assertEqual(each * done["sent"], done["operations"], options)
                self.assertEqual((0, 0, 0), (done["lost"], done["errors"], done["retries"]), options)
                self.assertGreaterEqual(done["p99_us"], done["p50_us"])
                self.assertGreater(done["p50_us"], 0)
            for protocol in ("http", "websocket"):
                done = self.counted(
                    server, protocol=protocol, port=server.ports["https"], publishers=2, topics=2, count=20
                )
                self.assertEqual((20, 0, 0), (done["operations"], done["lost"], done["errors"]), protocol)
            done = self.counted(server, workload="handshake", publishers=4, topics=4, count=9)
            self.assertEqual((9, 0), (done["operations"], done["errors"]))

    def test_a_row_is_measured(self) -> None:
        """Cost, rate and latency of a server that really worked, with authentication and authorisation on."""
        # So many that the server's CPU is some ticks of 10 ms, however little of it a busy machine leaves.
        much = {"window": 30, "count": 20_000, "seconds": 60}
        [result] = Workload("1", "a few", "µs", {"publishers": 2, "topics": 2}, much).run(self.runner)
        [run] = result.runs["mfserver"]
        self.assertGreater(run.cost, 0)
        self.assertGreater(run.rate, 10)
        self.assertEqual((0, 0), (run.lost, run.errors))

    def test_it_works_again_on_the_same_connections(self) -> None:
        """Each round counts anew."""
        with self.runner.server("mfserver", "ec") as server:
            options = {"publishers": 2, "subscribers": 2, "count": 30, "seconds": 60}
            with running(server, options) as load:
                for _ in range(3):
                    load.go()
                    done = load.wait_until_done()
                    self.assertEqual((30, 60, 0), (done["sent"], done["operations"], done["lost"]))

    def test_those_who_are_cut_off_come_back(self) -> None:
        """A restart is over when all are there again."""
        with self.runner.server("mfserver", "ec") as server:
            options = {"workload": "reconnect", "publishers": 5, "seconds": 0.1}
            with running(server, options) as load:
                load.go()
                server.stop()
                with socket.socket() as kept:  # bound, its port is given to nobody else meanwhile
                    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    kept.bind(("127.0.0.1", server.ports["mqtts"]))
                    server.start()
                self.assertEqual(5, load.wait_until_done()["operations"])

    def test_a_refusal_is_an_error_that_says_so(self) -> None:
        """Nothing is measured that the server did not let in; the load ends with its runner."""
        with self.runner.server("mfserver", "ec") as server:
            server.login = server.login[0], "another-key-0123456789"
            load = Load(server, {"publishers": 1})
            self.addCleanup(load.kill)
            refused = self.assertRaises(BenchError, load.wait_until_ready)
            self.assertIn("refused", str(refused))

    def test_a_server_that_does_not_start_shows_its_log(self) -> None:
        """And no process is left."""
        server = Mfserver(
            Path(tempfile.mkdtemp(dir=self.runner.home)) / "server",
            self.runner.certificates("ec"),
            arguments=["--max-message=nonsense"],
        )
        refused = self.assertRaises(BenchError, server.start)
        self.assertIn("max-message", str(refused))
        self.assertRaises(AssertionError, lambda: server.pid)
