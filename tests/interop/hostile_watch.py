"""Who stands by while a server is attacked, and what the attack must not cost."""

import contextlib
import itertools
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.hostile_wire import Wire, connect, request, subscribe
from tests.interop.running import Deployment, RunningServer, wait_until

__all__ = ["Bystanders", "HostileTestCase", "descriptors", "memory"]

MEBIBYTE: Final = 1 << 20
#: Bytes that the server may have kept when an attack is over. What the garbage collector will find later
#: counts too; a thousand bytes kept of each hostile string would be more than this.
MAX_KEPT: Final = 40 * MEBIBYTE
#: Lines that the server may print, from its start to its end.
MAX_LINES: Final = 100
#: Seconds that a bystander's message may take while the server is attacked: it is served, not starved. No
#: figure of speed; a machine that runs other tests and measures coverage at the same time must keep it.
MAX_DELAY: Final = 30.0
#: Seconds for the server to let go of what an attack held.
RECOVERY: Final = 15.0


def memory(pid: int, kind: str = "VmRSS") -> int:
    """Bytes that a process holds; with ``VmHWM`` the most that it ever held."""
    found = re.search(rf"^{kind}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None
    return int(found.group(1)) * 1024


def descriptors(pid: int) -> int:
    """Files that a process has open, but for the database's: the pool of readers opens a few more of them."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            count += "mfserver.db" not in os.readlink(entry)
    return count


class Bystanders:
    """Two subscribers and a publisher on a channel of their own, who want nothing but their messages.

    :ivar worst: seconds that the slowest of their messages took.
    :ivar count: messages that went through.
    """

    def __init__(self, server: RunningServer, deployment: Deployment) -> None:
        self._server = server
        thing, key = deployment.thing("bystander", "quiet")
        self._key = key
        self._path = f"/http/channels/{deployment.channels['quiet']}/messages"
        self._numbers = itertools.count()
        self._stack = contextlib.ExitStack()
        self._subscribers: list[Wire] = []
        for listener in ("mqtt", "mqtts"):
            wire = self._stack.enter_context(Wire(server, listener, timeout=MAX_DELAY))
            wire.send(connect(thing, key, client_id=listener.encode(), keep_alive=0))
            wire.send(subscribe(f"channels/{deployment.channels['quiet']}/messages".encode()))
            assert wire.packet()[1][1] == 0
            assert wire.packet()[0] == 0x90
            self._subscribers.append(wire)
        self.worst = 0.0
        self.count = 0

    def talk(self) -> None:
        """Send a message over a new connection, and see it arrive at both. :raises Exception: it does not."""
        started = time.monotonic()
        payload = b"message %d" % next(self._numbers)
        listener = "https" if self.count % 2 else "http"
        with Wire(self._server, listener, timeout=MAX_DELAY) as wire:
            wire.send(request("POST", self._path, payload, Authorization=self._key))
            status, _, body = wire.response()
        if status != 202:
            raise AssertionError(f"a bystander's message was answered {status} {body!r}")
        for subscriber in self._subscribers:
            first, packet = subscriber.packet()
            if first != 0x30 or not packet.endswith(payload):
                raise AssertionError(f"a bystander got {packet!r} instead of {payload!r}")
        self.worst = max(self.worst, time.monotonic() - started)
        self.count += 1

    @contextlib.contextmanager
    def talking(self) -> Iterator[None]:
        """Go on talking while something else happens. :raises Exception: what went wrong meanwhile."""
        over, wrong = threading.Event(), list[Exception]()

        def keep_talking() -> None:
            try:
                self.talk()
                while not over.wait(0.1):
                    self.talk()
            except Exception as error:
                wrong.append(error)

        thread = threading.Thread(target=keep_talking)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if wrong:
            raise wrong[0]

    def close(self) -> None:
        """Leave."""
        self._stack.close()


class HostileTestCase(SynchronousTestCase):
    """A server that is attacked, and what must be true whatever the attack.

    :ivar thing: the attacker's id; it has a right to the channel ``attacked``.
    :ivar key: its key.
    :ivar grown: bytes that the server kept of an attack.
    :ivar peak: bytes that it needed more than before while the attack lasted.
    """

    options: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.server = RunningServer(*self.options)
        self.addCleanup(shutil.rmtree, self.server.data_dir.parent)
        self.addCleanup(self.server.stop)
        self.server.start()
        self.deployment = Deployment(self.server)
        self.thing, self.key = self.deployment.thing("attacker", "attacked")
        self.topic = f"channels/{self.deployment.channels['attacked']}/messages"
        self.bystanders = Bystanders(self.server, self.deployment)
        self.addCleanup(self.bystanders.close)

    @contextlib.contextmanager
    def unharmed(self) -> Iterator[None]:
        """Attack in here: the others go on talking, and memory, descriptors and log are as they were."""
        pid = self.server.process.pid
        self.bystanders.talk()
        self.bystanders.talk()
        time.sleep(0.5)  # the connections of before are noticed to be closed
        files, kept = descriptors(pid), memory(pid)
        # From here on VmHWM is the attack's (proc_pid_clear_refs(5)).
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        with self.bystanders.talking():
            yield
        self.bystanders.talk()
        wait_until(
            lambda: descriptors(pid) <= files, f"{files} descriptors, not {descriptors(pid)}", RECOVERY
        )
        wait_until(lambda: memory(pid) < kept + MAX_KEPT, "the memory returns", RECOVERY)
        self.grown = memory(pid) - kept
        self.peak = memory(pid, "VmHWM") - kept
        self.assertLess(self.bystanders.worst, MAX_DELAY)
        self.bystanders.close()
        self.assertEqual(-15, self.server.stop())
        log = self.server.log
        for word in ("Traceback", "Unhandled", "#critical", self.key, self.deployment.token):
            self.assertNotIn(word, log)
        self.assertLess(len(log.splitlines()), MAX_LINES, log[:5_000])
