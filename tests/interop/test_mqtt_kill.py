"""kill -9 under MQTT traffic: every acknowledged message is delivered, QoS 2 exactly once, in order.

What was retained and acknowledged is there after each kill.

``MF_KILLS`` chooses how often, ``MF_SEED`` repeats the choices of an earlier run.
"""

import random
import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from itertools import cycle
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt.packets import Publish, Subscription
from tests.interop.mqtt_figures import add_figures, chosen, table
from tests.interop.mqtt_traffic import Keeper, Listener, Restless, Speaker
from tests.interop.mqtt_wire import Client, Crowd, Place
from tests.interop.running import PATIENCE, Deployment, RunningServer

SPEAKERS: Final = 20
KEEPERS: Final = 4
LISTENERS: Final = 12
CHANNELS: Final = ("north", "east", "south", "west")
#: Messages of one publisher that are in flight at a time.
WINDOW: Final = 6
#: Seconds between a start and the kill: as soon as it listens, or much later.
MOMENTS: Final = (0.0, 1.4)
#: Seconds for all of them to connect and to say something first. Where that takes longer, the moments do too.
USUAL: Final = 1.0
#: Seconds into its start that a server is killed in, before it listens.
EARLY: Final = (0.3, 0.9)
#: Seconds in the end in which nothing more comes to anybody: what is not there by then never comes.
SILENCE: Final = 15.0


class Reader(Client):
    """Reads retained numbers.

    :ivar retained: by topic.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.retained: dict[str, int] = {}

    def message_received(self, publish: Publish) -> None:
        self.retained[publish.topic] = int(publish.payload)


class KillTests(SynchronousTestCase):
    """Publishers and subscribers with sessions of MQTT 3.1, 3.1.1 and 5.0, and a server that is killed."""

    def setUp(self) -> None:
        self.seed = chosen("MF_SEED")
        self.chance = random.Random(self.seed)
        self.crowd = Crowd()
        self.addCleanup(self.crowd.close)
        self.server = RunningServer()
        self.addCleanup(shutil.rmtree, self.server.data_dir.parent)
        self.addCleanup(self.server.kill)
        self.server.start()
        deployment = Deployment(self.server)
        users = [deployment.thing(name, *CHANNELS, "kept") for name in ("speakers", "listeners")]
        self.topics = [f"channels/{deployment.channels[name]}/messages" for name in CHANNELS]
        kept = f"channels/{deployment.channels['kept']}/messages"
        self.keepers = [
            Keeper(self.crowd, f"keeper-{n}", f"{kept}/{n}", 1 + n // 2 % 2, version=4 + n % 2, user=users[0])
            for n in range(KEEPERS)
        ]
        self.reader = Reader(self.crowd, "reader", version=5, user=users[1], expiry=0)
        self.kept = f"{kept}/#"
        self.make_clients(*users)
        self.unacknowledged: Counter[int] = Counter()

    def make_clients(self, speaker: tuple[str, str], listener: tuple[str, str]) -> None:
        """Each publisher has one channel, each subscriber two of the four and a habit of its own."""
        versions = cycle((4, 5, 3, 5))
        self.speakers = [
            Speaker(self.crowd, f"speaker-{n}", f"{self.topics[n % 4]}/{n}", version=version, user=speaker)
            for n, version in zip(range(SPEAKERS), versions, strict=False)
        ]
        self.listeners = [
            Listener(
                self.crowd,
                f"listener-{n}",
                version=version,
                user=listener,
                qos=1 if n % 4 == 3 else 2,
                receive_maximum=(0, 10, 0, 60)[n % 4],
                topic_alias_maximum=(0, 0, 0, 3)[n % 4],
            )
            for n, version in zip(range(LISTENERS), versions, strict=False)
        ]
        self.heard_by = {
            listener.client_id: [
                speaker
                for speaker in self.speakers
                if any(speaker.topic.startswith(topic) for topic in self.topics_of(n))
            ]
            for n, listener in enumerate(self.listeners)
        }

    def topics_of(self, number: int) -> Sequence[str]:
        return self.topics[number % 4], self.topics[(number + 1) % 4]

    @property
    def clients(self) -> list[Client]:
        return [*self.speakers, *self.listeners, *self.keepers]

    @property
    def place(self) -> Place:
        return "127.0.0.1", self.server.port("mqtt")

    def test_what_was_acknowledged_is_delivered(self) -> None:
        """What its PUBACK or PUBREC promised comes to every subscriber, however often the power fails."""
        kills = chosen("MF_KILLS", 8)
        started = time.monotonic()
        self.establish()
        pace = min(max(1.0, (time.monotonic() - started) / USUAL), 10.0)
        early = 0
        for number in range(kills):
            self.talk(pace * self.chance.uniform(*MOMENTS))
            self.kill()
            if number % 4 == 3:
                early += self.kill_early(self.chance.uniform(*EARLY))
            self.server.start()
            self.read_retained()
        self.drain()
        self.show(f"{kills} kills -9, {early} more before the server listened", time.monotonic() - started)
        self.judge()
        self.leaves_nothing()

    def establish(self) -> None:
        """Everybody has a session that the server has promised to keep."""
        for client in self.clients:
            client.open(self.place)
        self.crowd.until(lambda: all(client.is_open for client in self.clients), "everybody is connected")
        for number, listener in enumerate(self.listeners):
            filters = [f"{topic}/#" for topic in self.topics_of(number)]
            listener.subscribe(*(Subscription(topic_filter, listener.qos) for topic_filter in filters))
        self.crowd.until(lambda: all(listener.granted for listener in self.listeners), "every SUBACK")
        for listener in self.listeners:
            self.assertEqual({65_535: [listener.qos] * 2}, listener.granted)
        for speaker in self.speakers:
            speaker.speak(1)
            speaker.speak(2)
        for keeper in self.keepers:
            keeper.keep()
        self.crowd.until(lambda: all(s.is_content for s in self.speakers), "a first message of each")
        self.crowd.until(lambda: not any(k.in_flight for k in self.keepers), "a first retained message")
        for client in self.clients:
            client.cut()

    def talk(self, seconds: float) -> None:
        """Everybody comes, talks, listens and goes.

        It goes on until a message is on its way, unless one was at an earlier kill.
        """
        restless = (
            Restless(self.listeners, self.chance, present=(0.05, 1.0), absent=(0.0, 0.5)),
            Restless([*self.speakers, *self.keepers], self.chance, present=(0.2, 2.0), absent=(0.0, 0.2)),
        )
        for group in restless:
            group.begin()
        until = time.monotonic() + seconds
        latest = until + PATIENCE
        while time.monotonic() < until or not (self.unacknowledged or self.is_something_on_its_way()):
            self.assertLess(time.monotonic(), latest, "nobody gets as far as to say anything")
            self.crowd.turn(0.002)
            for speaker in self.speakers:
                if speaker.can_publish and speaker.in_flight < WINDOW:
                    speaker.speak(self.chance.choice((1, 2)), self.chance.choice((0, 0, 50, 3000)))
            for keeper in self.keepers:
                if keeper.can_publish and keeper.in_flight < WINDOW:
                    keeper.keep()
            for group in restless:
                group.move(self.place)

    def is_something_on_its_way(self) -> bool:
        """Whether a message waits for its acknowledgement."""
        return any(speaker.unacknowledged for speaker in self.speakers)

    def kill(self) -> None:
        """Pull the plug; the clients read what had left the server."""
        self.server.kill()
        self.assertNotIn("Traceback", self.server.log)
        self.crowd.until(lambda: all(client.is_closed for client in self.clients), "everybody notices")
        for speaker in self.speakers:
            self.unacknowledged.update(publish.qos for publish in speaker.unacknowledged.values())

    def kill_early(self, after: float) -> bool:
        """Kill it again while it starts. :return: whether that came before it listened."""
        timer = threading.Timer(after, lambda: self.server.process.kill())
        timer.start()
        try:
            self.server.start()
        except AssertionError:
            return True
        finally:
            timer.join()
            self.server.kill()
        return False

    def read_retained(self) -> None:
        """Nobody else is there yet: what is retained was acknowledged last, or was on its way."""
        reader = self.reader
        reader.open(self.place)
        self.crowd.until(lambda: reader.is_open, "a reader of retained messages is there")
        reader.retained.clear()
        reader.subscribe(Subscription(self.kept, 0))
        self.crowd.until(lambda: len(reader.retained) >= KEEPERS, f"{KEEPERS} retained messages")
        reader.leave()
        for keeper in self.keepers:
            number = reader.retained[keeper.topic]
            self.assertTrue(
                keeper.acknowledged <= number <= keeper.sent,
                f"{number} is retained, {keeper.acknowledged} was acknowledged, {keeper.sent} sent",
            )

    def drain(self) -> None:
        """Everybody stays until nothing is left to say."""
        for client in self.clients:
            client.open(self.place)
        before, since = 0, time.monotonic()
        while time.monotonic() - since < SILENCE and not self.is_over():
            self.crowd.run(0.1)
            after = sum(listener.delivered.total() for listener in self.listeners)
            if after > before:
                before, since = after, time.monotonic()
        self.crowd.run(0.3)

    def is_over(self) -> bool:
        """Whether everybody is there, and everything was acknowledged, has come and is released."""
        return (
            all(client.is_open for client in self.clients)
            and not any(client.in_flight for client in (*self.speakers, *self.keepers))
            and not any(listener.received or self.lacks(listener) for listener in self.listeners)
        )

    def lacks(self, listener: Listener) -> list[str]:
        """What has not come to a subscriber."""
        return [
            f"{listener.client_id} has {listener.expected[speaker.client_id, qos]} of {speaker.sent[qos]} "
            f"messages of {speaker.client_id} at QoS {qos}"
            for speaker in self.heard_by[listener.client_id]
            for qos in (1, 2)
            if listener.expected[speaker.client_id, qos] != speaker.sent[qos]
        ]

    def show(self, what: str, seconds: float) -> None:
        """Write the figures down."""

        def each(counted: Counter[int]) -> tuple[int, int]:
            return counted[1], counted[2]

        speakers, listeners = self.speakers, self.listeners
        add_figures(
            f"{what}, under {SPEAKERS} publishers and {LISTENERS} subscribers, in {seconds:.0f} s "
            f"(MF_SEED={self.seed})",
            *table(
                ("QoS 1", "QoS 2"),
                sent=[sum(speaker.sent[qos] for speaker in speakers) for qos in (1, 2)],
                unacknowledged_at_a_kill=each(self.unacknowledged),
                acknowledged=[sum(len(s.acknowledged[qos]) for s in speakers) for qos in (1, 2)],
                delivered=each(sum((listener.delivered for listener in listeners), Counter())),
                duplicates=each(sum((listener.duplicates for listener in listeners), Counter())),
            ),
            f"{sum(keeper.sent + 1 for keeper in self.keepers):,} retained messages on {KEEPERS} topics: the "
            "last one acknowledged, or a later one, was there after each kill",
            f"sent again after a reconnection: {sum(s.resent for s in speakers):,} by publishers; "
            f"repeated by the server at QoS 2 and recognized: {sum(x.repeats for x in listeners):,}",
        )

    def judge(self) -> None:
        """Nothing is missing, nothing came twice at QoS 2, nothing came out of turn, no session was lost."""
        self.assertEqual([], [client.state for client in self.clients if not client.is_open])
        self.read_retained()
        for client in self.clients:
            self.assertEqual([], client.wrong[:10], client.client_id)
            self.assertEqual(0, client.lost, f"{client.client_id} lost its session")
        for speaker in self.speakers:
            for qos in (1, 2):
                self.assertEqual(list(range(speaker.sent[qos])), sorted(speaker.acknowledged[qos]))
        for listener in self.listeners:
            self.assertEqual([], self.lacks(listener), listener.state)
            self.assertEqual(0, listener.duplicates[2])
        self.assertGreater(sum(self.unacknowledged.values()), 0, "no message was on its way at any kill")

    def leaves_nothing(self) -> None:
        """Nothing is left in any queue, and on the disk: who comes back hears nothing."""
        before = [(listener.delivered.copy(), listener.duplicates.copy()) for listener in self.listeners]
        for client in self.clients:
            client.leave()
            client.open(self.place)
        self.crowd.until(lambda: all(client.is_open for client in self.clients), "all are back")
        self.crowd.run(0.5)
        after = [(listener.delivered, listener.duplicates) for listener in self.listeners]
        self.assertEqual(before, after)
        self.server.stop()
        self.assertNotIn("Traceback", self.server.log)
        with closing(sqlite3.connect(self.server.data_dir / "mfserver.db")) as database:
            self.assertEqual([("ok",)], database.execute("PRAGMA integrity_check").fetchall())
            left = {
                name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
                for name in ("session_queue", "session_received", "messages", "sessions")
            }
        expected = {"session_queue": 0, "session_received": 0, "messages": 0, "sessions": len(self.clients)}
        self.assertEqual(expected, left)
