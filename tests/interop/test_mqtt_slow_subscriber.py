"""A subscriber stops reading while very many messages come for it: the others do not notice.

``MF_MESSAGES`` chooses how many.
"""

import shutil
import statistics
import time
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt.packets import Publish, Subscription
from tests.interop.mqtt_figures import add_figures, chosen, memory, peak_from_now
from tests.interop.mqtt_traffic import Listener, Speaker
from tests.interop.mqtt_wire import Client, Crowd, Place
from tests.interop.running import Deployment, RunningServer

#: Bytes of each message.
SIZE: Final = 300
#: Messages of the publisher that are in flight at a time.
WINDOW: Final = 200
#: MiB that the server may need more, however many messages come.
MAX_GROWN: Final = 32
#: Seconds between two questions of a bystander, and how long a median one and the slowest may take. No
#: figure of speed: a machine that runs other tests and measures coverage at the same time must keep it.
PAUSE: Final = 0.05
MEDIAN: Final = 0.5
SLOWEST: Final = 5.0
#: Seconds per thousand messages until everything has to be there.
PATIENCE: Final = 10.0


class Bystander(Client):
    """Asks itself something over the server, again and again.

    :ivar delays: seconds that each question took.
    """

    def __init__(self, crowd: Crowd, name: str, topic: str, user: tuple[str, str], qos: int) -> None:
        super().__init__(crowd, name, user=user, expiry=0)
        self._topic = topic
        self._qos = qos
        self._asked = 0.0
        self._is_asking = False
        self.delays: list[float] = []

    def message_received(self, publish: Publish) -> None:
        self.delays.append(time.monotonic() - self._asked)
        self._is_asking = False

    def ask(self) -> None:
        """Ask, if the last question is answered and was not just now."""
        now = time.monotonic()
        if not self._is_asking and now - self._asked >= PAUSE:
            self._asked, self._is_asking = now, True
            self.publish(self._topic, b"?", self._qos)


class SlowSubscriberTests(SynchronousTestCase):
    """Subscribers with sessions that are kept: their queues are on the disk."""

    def setUp(self) -> None:
        self.count = chosen("MF_MESSAGES", 20_000)
        self.crowd = Crowd()
        self.addCleanup(self.crowd.close)
        self.server = RunningServer()
        self.addCleanup(shutil.rmtree, self.server.data_dir.parent)
        self.addCleanup(self.server.kill)
        self.server.start()
        deployment = Deployment(self.server)
        user = deployment.thing("crowded", "busy")
        quiet = deployment.thing("bystander", "quiet")
        self.topic = f"channels/{deployment.channels['busy']}/messages"
        self.quiet_topic = f"channels/{deployment.channels['quiet']}/messages"
        self.speaker = Speaker(self.crowd, "speaker", self.topic, version=5, user=user)
        self.reader = Listener(self.crowd, "reader", version=5, user=user)
        self.slow = [
            Listener(self.crowd, f"slow-{version}", version=version, user=user, qos=qos)
            for version, qos in ((4, 2), (5, 1))
        ]
        self.bystanders = [
            Bystander(self.crowd, f"bystander-{qos}", f"{self.quiet_topic}/{qos}", quiet, qos)
            for qos in (0, 1)
        ]

    @property
    def place(self) -> Place:
        return "127.0.0.1", self.server.port("mqtt")

    def begin(self) -> None:
        """Everybody is there and has subscribed."""
        everybody: list[Client] = [self.speaker, self.reader, *self.slow, *self.bystanders]
        for client in everybody:
            client.open(self.place)
        self.crowd.until(lambda: all(client.is_open for client in everybody), "everybody is connected")
        for listener in (self.reader, *self.slow):
            listener.subscribe(Subscription(self.topic, listener.qos))
        for bystander in self.bystanders:
            bystander.subscribe(Subscription(f"{self.quiet_topic}/{bystander.client_id[-1]}", 1))
        subscribers: list[Client] = everybody[1:]
        self.crowd.until(lambda: all(client.granted for client in subscribers), "every SUBACK")

    def turn(self) -> None:
        self.crowd.turn(0.005)
        for bystander in self.bystanders:
            bystander.ask()

    def publish(self) -> None:
        """Publish everything, one half at each QoS."""
        deadline = time.monotonic() + PATIENCE * (1 + self.count / 1000)
        while sum(self.speaker.sent.values()) < self.count or not self.speaker.is_content:
            self.assertLess(time.monotonic(), deadline, "everything is acknowledged")
            self.assertTrue(self.speaker.is_open)
            for _ in range(
                min(WINDOW - self.speaker.in_flight, self.count - sum(self.speaker.sent.values()))
            ):
                self.speaker.speak(1 + sum(self.speaker.sent.values()) % 2, SIZE)
            self.turn()

    def wait_for(self, *listeners: Listener) -> None:
        """Until they have everything."""
        deadline = time.monotonic() + PATIENCE * (1 + self.count / 1000)
        while any(sum(x.delivered.values()) < self.count or x.received for x in listeners):
            self.assertLess(time.monotonic(), deadline, [dict(x.delivered) for x in listeners])
            self.turn()

    def test_what_was_promised_waits(self) -> None:
        """Memory is bounded, others are served, and all of it comes when the subscriber reads again."""
        self.begin()
        pid = self.server.process.pid
        for _ in range(20):
            self.turn()
        base = memory(pid)
        peak_from_now(pid)
        for listener in self.slow:
            listener.read(False)
        started = time.monotonic()
        self.publish()
        published = time.monotonic() - started
        self.wait_for(self.reader)
        most, questions = memory(pid, "VmHWM"), [list(b.delays) for b in self.bystanders]
        for listener in self.slow:
            self.assertLess(sum(listener.delivered.values()), self.count)
            listener.read(True)
        started = time.monotonic()
        self.wait_for(*self.slow)
        took, most_again = time.monotonic() - started, memory(pid, "VmHWM")
        add_figures(
            f"{self.count:,} messages for two subscribers that do not read",
            f"published and acknowledged in {published:.1f} s; read by both, when they read again, "
            f"in {took:.1f} s",
            f"{base:.1f} MiB RSS before, {most:.1f} at most, {most_again:.1f} while they read again",
            *(
                f"a bystander's {len(delays)} questions at QoS {qos} meanwhile: median "
                f"{1000 * statistics.median(delays):.1f} ms, slowest {1000 * max(delays):.0f} ms"
                for qos, delays in enumerate(questions)
            ),
        )
        self.assertLess(most - base, MAX_GROWN)
        self.assertLess(most_again - base, MAX_GROWN)
        for delays in questions:
            self.assertLess(statistics.median(delays), MEDIAN)
            self.assertLess(max(delays), SLOWEST)
        self.judge()

    def judge(self) -> None:
        """Everything came once, in order, to those who stopped as to the one who did not."""
        expected = {("speaker", qos): self.speaker.sent[qos] for qos in (1, 2)}
        for listener in (self.reader, *self.slow):
            self.assertEqual([], listener.wrong[:10], listener.client_id)
            self.assertEqual(expected, dict(listener.expected))
            self.assertEqual({}, dict(listener.duplicates))
            self.assertTrue(listener.is_open)
        self.server.stop()
        self.assertNotIn("Traceback", self.server.log)
