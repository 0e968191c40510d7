"""Very many idle sessions with full queues: no message stands in memory, and everybody gets theirs in order.

``MF_SESSIONS`` chooses how many, ``MF_SEED`` repeats the order of an earlier run.
"""

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt.packets import Subscription
from tests.interop.mqtt_figures import add_figures, chosen, memory, peak_from_now
from tests.interop.mqtt_traffic import Listener, Speaker
from tests.interop.mqtt_wire import Client, Crowd, Place
from tests.interop.running import Deployment, RunningServer

#: Messages in each queue, half of them at each QoS.
QUEUED: Final = 100
#: Sessions whose queues hold the same messages.
GROUP: Final = 20
#: Bytes of each message: those of 2,000 sessions are 40 MB, or 800 MB if each queue held its own.
SIZE: Final = 4000
#: Sessions that are connected at a time.
TOGETHER: Final = 40
THINGS: Final = 5
WINDOW: Final = 50
#: KiB that an idle session may take in memory. The messages of its queue alone would be 400.
MAX_EACH: Final = 10
#: MiB that may differ for no reason.
MAX_NOISE: Final = 8
#: MiB that reading the queues may leave with the allocator, whatever the number of sessions.
MAX_WORK: Final = 64
#: Seconds for those who are connected at a time: only a test that fails needs them.
PATIENCE: Final = 300.0


class ManySessionsTests(SynchronousTestCase):
    """Sessions of MQTT 3.1.1 and 5.0, whose clients are away while messages come."""

    def setUp(self) -> None:
        self.count = chosen("MF_SESSIONS", 200)
        self.seed = chosen("MF_SEED")
        self.chance = random.Random(self.seed)
        self.crowd = Crowd()
        self.addCleanup(self.crowd.close)
        self.server = RunningServer(f"--max-sessions-per-thing={self.count}")
        self.addCleanup(shutil.rmtree, self.server.data_dir.parent)
        self.addCleanup(self.server.kill)
        self.server.start()
        deployment = Deployment(self.server)
        users = [deployment.thing(f"thing {number}", "archive") for number in range(THINGS)]
        self.topic = f"channels/{deployment.channels['archive']}/messages"
        self.listeners = [
            Listener(self.crowd, f"listener-{n}", version=4 + n % 2, user=users[n % THINGS])
            for n in range(self.count)
        ]
        self.speakers = [
            Speaker(self.crowd, f"speaker-{n}", f"{self.topic}/{n}", version=5, user=users[0], expiry=0)
            for n in range((self.count + GROUP - 1) // GROUP)
        ]
        self.figures: list[str] = []

    @property
    def place(self) -> Place:
        return "127.0.0.1", self.server.port("mqtt")

    def note(self, what: str, started: float) -> float:
        """Write down how long something took and what it left in memory. :return: that, in MiB."""
        pid = self.server.process.pid
        took, held, most = time.monotonic() - started, memory(pid), memory(pid, "VmHWM")
        self.figures.append(f"{what:<52}{took:>7.1f} s{held:>9.1f} MiB RSS{most:>9.1f} MiB at most")
        peak_from_now(pid)
        return held

    def test_every_queue_is_whole(self) -> None:
        """Messages that came for idle sessions wait on the disk, also over a power cut."""
        started = time.monotonic()
        base = self.note("the server has started", started)
        self.subscribe()
        idle = self.note(f"{self.count:,} sessions have begun, and are idle", started)
        started = time.monotonic()
        self.publish()
        full = self.note(f"each has {QUEUED} messages in its queue", started)
        self.server.kill()
        started = time.monotonic()
        self.server.start()
        again = self.note("the server was killed, and has started again", started)
        started = time.monotonic()
        self.resume()
        worked = self.note("all have resumed in random order and have read", started)
        add_figures(f"{self.count:,} idle sessions (MF_SEED={self.seed})", *self.figures)
        self.judge()
        allowed = MAX_EACH * self.count / 1024
        self.assertLess(idle - base, allowed + MAX_NOISE)
        self.assertLess(full - base, allowed + MAX_NOISE)
        self.assertLess(again - base, allowed + MAX_NOISE)
        self.assertLess(worked - base, allowed + MAX_WORK)
        self.server.stop()
        self.assertNotIn("Traceback", self.server.log)

    def batches(self, listeners: Sequence[Listener]) -> list[Sequence[Listener]]:
        return [listeners[start : start + TOGETHER] for start in range(0, self.count, TOGETHER)]

    def connect(self, clients: Sequence[Client]) -> None:
        for client in clients:
            client.open(self.place)
        self.crowd.until(
            lambda: all(client.is_open for client in clients), "everybody is connected", PATIENCE
        )

    def subscribe(self) -> None:
        """Begin all sessions, and leave them."""
        for batch in self.batches(self.listeners):
            self.connect(batch)
            for listener in batch:
                group = self.listeners.index(listener) // GROUP
                listener.subscribe(Subscription(f"{self.topic}/{group}", 2))
            self.crowd.until(partial(_all, _is_granted, batch), "every SUBACK", PATIENCE)
            for listener in batch:
                listener.leave()

    def publish(self) -> None:
        """Fill every queue."""
        for speaker in self.speakers:
            self.connect([speaker])
            for number in range(QUEUED):
                self.crowd.until(partial(_has_room, speaker), "room for one more", PATIENCE)
                speaker.speak(1 + number % 2, SIZE)
            self.crowd.until(partial(getattr, speaker, "is_content"), "all is acknowledged", PATIENCE)
            speaker.leave()

    def resume(self) -> None:
        """Everybody comes back, in any order, and reads."""
        order = self.chance.sample(self.listeners, self.count)
        for batch in self.batches(order):
            self.connect(batch)
            self.crowd.until(partial(_all, _is_served, batch), "every queue is read", PATIENCE)
            for listener in batch:
                listener.leave()

    def judge(self) -> None:
        """Everything came once, in order, to everybody."""
        for number, listener in enumerate(self.listeners):
            name = f"speaker-{number // GROUP}"
            self.assertEqual(([], 0), (listener.wrong[:10], listener.lost), listener.client_id)
            self.assertEqual({(name, 1): QUEUED // 2, (name, 2): QUEUED // 2}, dict(listener.expected))
            self.assertEqual(Counter(), listener.duplicates)


def _all(what: Callable[[Listener], bool], listeners: Sequence[Listener]) -> bool:
    return all(map(what, listeners))


def _is_granted(listener: Listener) -> bool:
    return bool(listener.granted)


def _has_room(speaker: Speaker) -> bool:
    return speaker.in_flight < WINDOW


def _is_served(listener: Listener) -> bool:
    return sum(listener.delivered.values()) >= QUEUED and not listener.received
