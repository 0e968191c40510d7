"""A full disk: the server says no or waits, says why once, goes on when there is room, and loses nothing."""

import itertools
import re
import time
from collections import Counter, defaultdict
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt.constants import QUOTA_EXCEEDED
from mfserver.mqtt.packets import Publish, Subscription
from tests.interop.hostile_wire import Wire, request
from tests.interop.mqtt_figures import add_figures, memory, table
from tests.interop.mqtt_traffic import Listener, Series, Speaker, series_of
from tests.interop.mqtt_wire import Client, Crowd, Place
from tests.interop.running import Deployment, RunningServer
from tests.interop.small_disk import small_disk

#: Bytes of most messages: a few thousand of them fill what the server had taken of the disk before.
SIZE: Final = 4000
WINDOW: Final = 8
#: Messages of each publisher while there is room.
BEFORE: Final = 100
#: Seconds without an acknowledgement that count as "it does not read any more".
STALLED: Final = 3.0
#: Seconds for the disk to be noticed to be full, and to be used again.
PATIENCE: Final = 30.0
#: Things of which the last one finds no room: a row of a few hundred bytes fits where no message does.
ROWS: Final = 1000
#: MiB more than before, whatever is sent while nothing can be written.
MAX_GROWN: Final = 48


class Archive(Listener):
    """A subscriber that keeps every number."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.numbers: dict[Series, list[int]] = defaultdict(list)

    def message_received(self, publish: Publish) -> None:
        super().message_received(publish)
        series, number = series_of(publish)
        self.numbers[series].append(number)


class DiskFullTests(SynchronousTestCase):
    """A data directory on a file system of its own, and a file that fills it."""

    def setUp(self) -> None:
        self.disk = small_disk()
        self.addCleanup(self.disk.close)
        self.server = RunningServer(data_dir=self.disk.place / "data")
        self.addCleanup(self.server.kill)
        self.server.start()
        self.crowd = Crowd()
        self.addCleanup(self.crowd.close)
        deployment = Deployment(self.server)
        self.token = deployment.token
        self.key = deployment.thing("station", "weather")[1]
        self.topic = f"channels/{deployment.channels['weather']}/messages"
        user = deployment.things["station"]
        self.speakers = [
            Speaker(self.crowd, f"speaker-{version}", self.topic, version=version, user=user)
            for version in (4, 5)
        ]
        self.newcomer = Speaker(self.crowd, "newcomer", self.topic, version=5, user=user, expiry=0)
        self.listeners = [
            Archive(
                self.crowd, f"listener-{version}-{there}", version=version, user=user, may_miss=self.may_miss
            )
            for version, there in itertools.product((4, 5), ("there", "away"))
        ]
        self.by_http: dict[int, int] = {}
        self.base = 0.0

    @property
    def place(self) -> Place:
        return "127.0.0.1", self.server.port("mqtt")

    def may_miss(self, series: Series, number: int) -> bool:
        """Whether nobody promised that this message comes."""
        name, qos = series
        if name == "http":
            return self.by_http[number] != 202
        return any(name == s.client_id and number in s.refused[qos] for s in (*self.speakers, self.newcomer))

    def establish(self) -> None:
        """Two subscribers are there, two are away; everybody has published, and there was room."""
        clients: list[Client] = [*self.speakers, *self.listeners]
        for client in clients:
            client.open(self.place)
        self.crowd.until(lambda: all(client.is_open for client in clients), "everybody is connected")
        for listener in self.listeners:
            listener.subscribe(Subscription(self.topic, 2))
        self.crowd.until(lambda: all(listener.granted for listener in self.listeners), "every SUBACK")
        for listener in self.listeners:
            if "away" in listener.client_id:
                listener.leave()
        for _ in range(BEFORE // 2):
            for speaker, qos in itertools.product(self.speakers, (1, 2)):
                speaker.speak(qos, SIZE)
            self.crowd.until(lambda: all(s.is_content for s in self.speakers), "there is room")
        self.assertEqual(202, self.post())
        self.base = memory(self.server.process.pid)

    def post(self) -> int:
        """Publish a number over HTTP. :return: the status; 0 when no answer came in time."""
        number = len(self.by_http)
        with Wire(self.server, "http", timeout=PATIENCE) as wire:
            body = b"http 1 %d " % number
            wire.send(request("POST", f"/http/{self.topic}", body, Authorization=self.key))
            self.by_http[number] = 0
            try:
                self.by_http[number] = wire.response()[0]
            except TimeoutError:
                return 0
        return self.by_http[number]

    def make_thing(self) -> int:
        """Ask the API for something that has to be stored. :return: the status."""
        with Wire(self.server, "http", timeout=PATIENCE) as wire:
            wire.send(
                request("POST", "/things", b"{}", Authorization=self.token, Content_Type="application/json")
            )
            return wire.response()[0]

    def fill(self) -> None:
        """Fill the disk, and publish until the server takes no more: from 3.1.1 and from 5.0."""
        self.disk.fill(self.server.process.pid)
        last, deadline = time.monotonic(), time.monotonic() + PATIENCE
        answered = self.answers()
        while time.monotonic() - last < STALLED or self.disk.word not in self.server.log:
            self.assertLess(time.monotonic(), deadline, "the server does not mind a full disk")
            self.crowd.turn(0.05)
            if self.answers() > answered:
                answered, last = self.answers(), time.monotonic()
            for speaker in self.speakers:
                if speaker.can_publish and speaker.in_flight < WINDOW and not self.is_refused(speaker):
                    speaker.speak(1 if speaker.sent[1] <= speaker.sent[2] else 2, SIZE)

    def answers(self) -> int:
        """Messages that the server has answered with yes."""
        return sum(len(speaker.acknowledged[qos]) for speaker in self.speakers for qos in (1, 2))

    def is_refused(self, speaker: Speaker) -> bool:
        """Whether it was told often enough that there is no room."""
        return sum(map(len, speaker.refused.values())) >= 20

    def check_refusals(self) -> None:
        """0x97 and nothing else for 5.0, silence for 3.1.1, 503 over HTTP; a line says why, each time."""
        old, new = self.speakers
        self.assertEqual({1: {}, 2: {}}, old.refused)
        self.assertTrue(old.unacknowledged, "3.1.1 knows no refusal, so something must be waiting")
        codes = {*new.refused[1].values(), *new.refused[2].values()}
        self.assertLessEqual(codes, {QUOTA_EXCEEDED})
        self.assertTrue(codes or new.unacknowledged)
        self.check_newcomer()
        self.assertEqual(503, self.post())
        statuses = [self.make_thing()]
        while statuses[-1] == 201 and len(statuses) < ROWS:
            statuses.append(self.make_thing())
        self.assertEqual(503, statuses[-1])
        log = self.server.log
        said = re.findall(r"#(?:error|critical)\].*", log)
        # Where something small still fits, there is room for a moment, and the log says so.
        moments = log.count("The database can write again")
        self.assertEqual(1 + moments, sum(self.disk.word in line for line in said), said)
        self.assertEqual(1 + moments, len(said), said)
        self.assertLess(moments, 5)
        self.assertLess(memory(self.server.process.pid) - self.base, MAX_GROWN)

    def check_newcomer(self) -> None:
        """Who comes now and asks for nothing that lasts is let in, and told that there is no room."""
        newcomer = self.newcomer
        newcomer.open(self.place)
        self.crowd.until(lambda: newcomer.is_open, "a newcomer is let in")
        newcomer.speak(1)
        newcomer.speak(2)
        self.crowd.until(lambda: newcomer.is_content, "a newcomer is answered")
        self.assertEqual({1: {0: QUOTA_EXCEEDED}, 2: {0: QUOTA_EXCEEDED}}, newcomer.refused)
        newcomer.leave()

    def recover(self) -> None:
        """Everybody comes back if need be, and gets what is theirs."""
        clients: list[Client] = [*self.speakers, *self.listeners]
        self.crowd.until(
            lambda: all(client.is_open or client.is_closed for client in clients),
            "who waits for a CONNACK gets one",
            PATIENCE,
        )
        self.crowd.until(lambda: self.are_back(clients), "all are there", PATIENCE)
        self.crowd.until(lambda: all(s.is_content for s in self.speakers), "what waited is taken", PATIENCE)
        told = [dict(speaker.refused[qos]) for speaker in self.speakers for qos in (1, 2)]
        for speaker, qos in itertools.product(self.speakers, (1, 2)):
            speaker.speak(qos)
        self.crowd.until(lambda: all(s.is_content for s in self.speakers), "more is taken", PATIENCE)
        self.assertEqual(told, [dict(speaker.refused[qos]) for speaker in self.speakers for qos in (1, 2)])
        self.assertEqual(202, self.post())
        self.crowd.until(
            lambda: not any(map(self.lacks, self.listeners)), "everything acknowledged comes", PATIENCE
        )
        self.crowd.run(0.3)

    def are_back(self, clients: list[Client]) -> bool:
        """Whether all are connected; who was refused tries again."""
        for client in clients:
            if client.is_closed:
                client.open(self.place)
        return all(client.is_open for client in clients)

    def lacks(self, listener: Archive) -> list[tuple[Series, int]]:
        """What was acknowledged and has not come."""
        promised: dict[Series, list[int]] = {
            (s.client_id, qos): s.acknowledged[qos] for s in self.speakers for qos in (1, 2)
        }
        promised["http", 1] = [number for number, status in self.by_http.items() if status == 202]
        return [
            (series, number)
            for series, numbers in promised.items()
            for number in sorted(set(numbers) - set(listener.numbers[series]))
        ]

    def judge(self, title: str) -> None:
        """Nothing is missing, nothing came twice at QoS 2, and what was refused went to nobody."""
        refused = [
            (listener.client_id, (s.client_id, qos), number)
            for listener in self.listeners
            for s in (*self.speakers, self.newcomer)
            for qos in (1, 2)
            for number in listener.numbers[s.client_id, qos]
            if number in s.refused[qos]
        ]

        def each(kind: str) -> list[int]:
            return [sum(len(getattr(speaker, kind)[qos]) for speaker in self.speakers) for qos in (1, 2)]

        delivered: Counter[int] = sum((listener.delivered for listener in self.listeners), Counter())
        duplicates: Counter[int] = sum((listener.duplicates for listener in self.listeners), Counter())
        add_figures(
            title,
            *table(
                ("QoS 1", "QoS 2"),
                sent=[sum(speaker.sent[qos] for speaker in self.speakers) for qos in (1, 2)],
                acknowledged=each("acknowledged"),
                refused_with_0x97=each("refused"),
                delivered_to_four=[delivered[1], delivered[2]],
                duplicates=[duplicates[1], duplicates[2]],
            ),
            f"over HTTP: {dict(Counter(self.by_http.values()))}; SQLite said: {self.disk.word}",
        )
        for listener in self.listeners:
            self.assertEqual([], self.lacks(listener)[:10], listener.client_id)
        for client in (*self.speakers, *self.listeners):
            self.assertEqual(([], 0), (client.wrong[:10], client.lost), client.client_id)
        self.assertEqual([], refused[:10])
        self.assertEqual(-15, self.server.stop())
        self.assertNotIn("Traceback", self.server.log)

    def test_it_goes_on_when_there_is_room(self) -> None:
        """It refuses or waits while the disk is full, and goes on by itself."""
        self.establish()
        self.fill()
        self.check_refusals()
        for listener in self.listeners:
            if listener.is_closed:
                listener.open(self.place)  # it waits, or is refused
        self.crowd.run(0.5)
        self.disk.clear()
        self.recover()
        self.judge("the disk is full, and has room again")

    def test_a_power_cut_while_the_disk_is_full(self) -> None:
        """kill -9 while nothing can be written: what was acknowledged before was on the disk."""
        self.establish()
        self.fill()
        self.check_refusals()
        self.server.kill()
        clients: list[Client] = [*self.speakers, *self.listeners]
        self.crowd.until(lambda: all(client.is_closed for client in clients), "everybody notices")
        self.disk.clear()
        self.server.start()
        self.recover()
        self.judge("kill -9 while the disk is full, and has room afterwards")
