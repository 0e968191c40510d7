"""What was acknowledged is there after the process was killed."""

import contextlib  # trial would take a name "suppress" in a module of tests for its own
import os
import signal
import sqlite3
import sys

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mfserver.records import Query, ThingId
from tests.store.contract import ANN
from tests.store.files import REACTOR, a_path, a_store

#: Acknowledged writes after which the process dies.
ENOUGH = 120


class Writing(ProcessProtocol):
    """Kills the process in the middle of its work and keeps what it said before."""

    def __init__(self) -> None:
        self.out = b""
        self.err = b""
        self.ended: Deferred[object] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.out += data
        if self.out.count(b"\n") >= ENOUGH and self.transport is not None:
            with contextlib.suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")

    def errReceived(self, data: bytes) -> None:
        self.err += data

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(reason.value)


class CrashTests(TestCase):
    timeout = 60

    async def test_killed_while_writing(self) -> None:
        """Every acknowledged thing survives SIGKILL; the database needs no repair; three times over."""
        path = a_path(self)
        known: set[ThingId] = set()
        for _ in range(3):
            known |= await self._write_and_die(path)
            stranger = sqlite3.connect(path)
            self.assertEqual(stranger.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            found = {ThingId(id) for (id,) in stranger.execute("SELECT id FROM things")}
            stranger.close()
            self.assertEqual(known - found, set())
        store = a_store(self, path)
        for thing in known:
            await store.things.get(ANN, thing)
        self.assertGreaterEqual((await store.things.page(ANN, Query())).total, len(known))

    async def _write_and_die(self, path: str) -> set[ThingId]:
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        protocol = Writing()
        arguments = [sys.executable, "-m", "tests.store.writing", path]
        environment = {**os.environ, "PYTHONPATH": root}
        REACTOR.spawnProcess(protocol, sys.executable, arguments, env=environment, path=root)
        reason = await protocol.ended
        self.assertEqual(getattr(reason, "signal", None), signal.SIGKILL, protocol.err.decode())
        acknowledged = protocol.out.decode().split("\n")[:-1]
        self.assertGreaterEqual(len(acknowledged), ENOUGH)
        return {ThingId(id) for id in acknowledged}
