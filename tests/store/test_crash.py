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
from tests.store.writing_sessions import BATCH, SESSION

#: Acknowledged writes after which the process dies, and batches of what MQTT keeps.
ENOUGH = 120
ENOUGH_BATCHES = 12


class Writing(ProcessProtocol):
    """Kills the process in the middle of its work and keeps what it said before."""

    def __init__(self, enough: int) -> None:
        self._enough = enough
        self.out = b""
        self.err = b""
        self.ended: Deferred[object] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.out += data
        if self.out.count(b"\n") >= self._enough and self.transport is not None:
            with contextlib.suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")

    def errReceived(self, data: bytes) -> None:
        self.err += data

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(reason.value)


class CrashTests(TestCase):
    timeout = 600  # six processes start, and each commit may take its time

    async def test_killed_while_writing(self) -> None:
        """Every acknowledged thing survives SIGKILL; the database needs no repair; three times over."""
        path = a_path(self)
        known: set[ThingId] = set()
        for _ in range(3):
            known |= {ThingId(id) for id in await self._write_and_die(path, "writing", ENOUGH)}
            stranger = sqlite3.connect(path)
            self.assertEqual(stranger.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            found = {ThingId(id) for (id,) in stranger.execute("SELECT id FROM things")}
            stranger.close()
            self.assertEqual(known - found, set())
        store = a_store(self, path)
        for thing in known:
            await store.things.get(ANN, thing)
        self.assertGreaterEqual((await store.things.page(ANN, Query())).total, len(known))

    async def test_killed_in_the_middle_of_a_batch(self) -> None:
        """A batch of what MQTT keeps is there as a whole or not at all, and is there once acknowledged."""
        path, last = a_path(self), 0
        for _ in range(3):
            acknowledged = await self._write_and_die(path, "writing_sessions", ENOUGH_BATCHES)
            store = a_store(self, path)
            kept = store.sessions.load()
            found = await store.sessions.queued(SESSION, 0, 2 * BATCH, 2**40)
            await store.close()
            (subscription,) = kept.subscriptions[SESSION]
            batch = int(subscription.topic_filter)
            self.assertGreaterEqual(batch, int(acknowledged[-1]))
            self.assertGreaterEqual(int(acknowledged[-1]), last + ENOUGH_BATCHES)
            expected = range(batch * BATCH + 1, (batch + 1) * BATCH + 1)
            self.assertEqual([it.sequence for it in found], list(expected))
            self.assertEqual({it.message.payload for it in found}, {b"%d" % batch})
            self.assertEqual([it.payload for it in kept.retained], [b"%d" % batch])
            self.assertEqual(kept.received, {SESSION: {batch % 2 + 1}})
            self.assertEqual(kept.next_message, expected[-1] + 1)
            last = batch

    async def _write_and_die(self, path: str, program: str, enough: int) -> list[str]:
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        protocol = Writing(enough)
        arguments = [sys.executable, "-m", f"tests.store.{program}", path]
        environment = {**os.environ, "PYTHONPATH": root}
        REACTOR.spawnProcess(protocol, sys.executable, arguments, env=environment, path=root)
        reason = await protocol.ended
        self.assertEqual(getattr(reason, "signal", None), signal.SIGKILL, protocol.err.decode())
        acknowledged = protocol.out.decode().split("\n")[:-1]
        self.assertGreaterEqual(len(acknowledged), enough)
        return acknowledged
