"""The straight way of a common message and the general way of all others give the same, byte by byte."""

import sys
from collections.abc import Callable
from functools import partial
from random import Random
from types import FrameType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mfserver.adapters.mqtt import MQTTProtocol
from mfserver.adapters.mqtt_answers import Answers
from mfserver.durable import NEVER
from mfserver.mqtt import properties
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import (
    Connect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Subscription,
    Unsubscribe,
)
from tests.adapters.fakes import House, Wire
from tests.adapters.mqtt_case import MQTTTestCase, packets
from tests.collecting import not_collecting

_ANSWERS = {(Publish, 1): Puback, (Publish, 2): Pubrec, (Pubrec, 0): Pubrel, (Pubrel, 0): Pubcomp}
_TOPICS = [f"channels/{channel}/messages{rest}" for channel in "cd" for rest in ("", "/a", "/a/b", "/x.y")]
_FILTERS = [f"channels/{channel}/messages/{rest}" for channel in "cd" for rest in ("#", "a", "+/b", "x.y")]


class Side:
    """One house with four clients.

    :param is_general: no client of it finds the straight way open.
    """

    def __init__(self, is_general: bool) -> None:
        self.is_general = is_general
        self.house = House()
        self.things = [self.house.thing(f"t{number}", "c", "d") for number in range(4)]
        self.wires: list[Wire] = [self.house.mqtt_wire() for _ in self.things]

    def receive(self, number: int, data: bytes) -> None:
        """Let a client's connection have bytes."""
        protocol = self.wires[number].protocol
        if not self.is_general:
            protocol.dataReceived(data)
        elif not protocol._over:
            self.close_the_straight_way()
            protocol._unread = protocol._unread.add(data)
            protocol._read_on()

    def close_the_straight_way(self) -> None:
        """Let every client look as if something waited."""
        for connection in self.house.mqtt.connections:
            assert isinstance(connection, MQTTProtocol)
            client = connection._client
            if client is not None:
                if client._answers is None:
                    client._answers = Answers(
                        client._link,
                        client._disk,
                        client._receive_maximum,
                        client._not_kept,
                        can_refuse=client._form > 0,
                    )
                client._answers.is_free = False
                client.topics.name, client.topics.latest = "", None
                client.session._direct = None

    def heard(self) -> list[Any]:
        """What came out since the last time, and what is held."""
        wires = [(wire.take(), wire.disconnecting, wire.aborted, wire.producerState) for wire in self.wires]
        return [*wires, self.house.budget.used, self.house.sessions.shared.dropped, self.house.reports]


class Script:
    """What four clients of all versions do, at random; what they answer rests on what they hear."""

    def __init__(self, case: SynchronousTestCase, seed: int) -> None:
        self.case = case
        self.random = Random(seed)
        self.sides = Side(False), Side(True)
        self.versions = [3, 4, 5, self.random.choice((4, 5))]
        self.due: list[list[Packet]] = [[] for _ in self.versions]
        self.packet_id = 0
        self.published = 0
        for number in range(len(self.versions)):
            self.connect(number)

    def connect(self, number: int) -> None:
        """A client connects anew; the session of the last one is kept."""
        version = self.versions[number]
        said: dict[int, object] = {}
        if version == 5 and number == 3:
            said[properties.SESSION_EXPIRY_INTERVAL] = NEVER
        if version == 5 and self.random.random() < 0.5:
            said |= {properties.MAXIMUM_PACKET_SIZE: 100, properties.RECEIVE_MAXIMUM: 3}
        for side in self.sides:
            if not side.wires[number].lost:
                side.wires[number].lose()
            side.wires[number] = side.house.mqtt_wire()
        self.due[number].clear()
        self.send(
            number,
            Connect(
                version,
                f"client-{number}",
                clean_start=number != 3,
                user_name=f"t{number}",
                password=f"key-of-t{number}".encode(),
                properties=said or None,
            ),
        )
        filters = [Subscription(one, self.random.randrange(3)) for one in self.random.sample(_FILTERS, 2)]
        self.send(number, Subscribe(1, filters))

    def send(self, number: int, *several: Packet) -> None:
        """A client sends packets in one piece."""
        data = b"".join(encode(packet, self.versions[number]) for packet in several)
        cut = self.random.randrange(len(data)) if self.random.random() < 0.1 else len(data)
        for side in self.sides:
            for piece in (data[:cut], data[cut:]):
                if piece:
                    side.receive(number, piece)
        self.compare()

    def compare(self) -> None:
        """Nothing told the two sides apart; remember what has to be answered."""
        straight, general = (side.heard() for side in self.sides)
        self.case.assertEqual(general, straight)
        for number, version in enumerate(self.versions):
            for packet in packets(straight[number][0], version):
                answer = _ANSWERS.get((type(packet), getattr(packet, "qos", 0)))
                self.published += isinstance(packet, Publish)
                if answer is not None:
                    self.due[number].append(answer(packet.packet_id))  # type: ignore[attr-defined]

    def step(self) -> None:
        """Somebody does something."""
        number = self.random.randrange(len(self.versions))
        wire = self.sides[0].wires[number]
        if wire.lost or wire.disconnecting:
            self.connect(number)
        self.random.choice(
            (self.publish, self.publish, self.publish, self.answer, self.answer, self.subscribe, self.wait)
            + ((self.read, self.read, self.allow, self.leave) if self.random.random() < 0.4 else ())
        )(number)

    def publish(self, number: int) -> None:
        several = []
        for _ in range(self.random.choice((1, 1, 2))):
            qos = self.random.choice((0, 1, 1, 2))
            self.packet_id += 1
            said: dict[int, object] | None = None
            if self.versions[number] == 5 and self.random.random() < 0.2:
                said = {properties.MESSAGE_EXPIRY_INTERVAL: self.random.randrange(3)}
            several.append(
                Publish(
                    self.random.choice(_TOPICS),
                    b"%d" % self.packet_id * self.random.choice((1, 5, 60)),
                    qos,
                    retain=self.random.random() < 0.1,
                    packet_id=self.packet_id if qos else 0,
                    properties=said,
                )
            )
        self.send(number, *several)

    def answer(self, number: int) -> None:
        count = self.random.randrange(1, 4)
        several, self.due[number] = self.due[number][:count], self.due[number][count:]
        if several:
            self.send(number, *several)

    def subscribe(self, number: int) -> None:
        self.packet_id += 1
        one = self.random.choice(_FILTERS)
        if self.random.random() < 0.3:
            self.send(number, Unsubscribe(self.packet_id, [one]))
            return
        said: dict[int, object] | None = None
        if self.versions[number] == 5 and self.random.random() < 0.3:
            said = {properties.SUBSCRIPTION_IDENTIFIER: self.packet_id}
        if self.random.random() < 0.2:
            one = f"$share/g/{one}"
        no_local = self.versions[number] == 5 and one[0] != "$" and self.random.random() < 0.3
        subscription = Subscription(one, self.random.randrange(3), no_local, self.random.random() < 0.3)
        if self.versions[number] < 5:
            subscription.retain_as_published = False
        self.send(number, Subscribe(self.packet_id, [subscription], said))

    def wait(self, _: int) -> None:
        """The turn ends, and some time passes, perhaps."""
        seconds = self.random.choice((0, 0.1, 1.1))
        for side in self.sides:
            side.house.clock.advance(seconds)
        self.compare()

    def read(self, number: int) -> None:
        """The transport takes more again, or no more."""
        goes_on = self.random.random() < 0.6
        for side in self.sides:
            wire: Wire = side.wires[number]
            if wire.producer is not None:
                (wire.producer.resumeProducing if goes_on else wire.producer.pauseProducing)()
        self.compare()

    def allow(self, number: int) -> None:
        """A thing gets its channels back, or loses one."""
        channel = self.random.choice("cd")
        loses = self.random.random() < 0.2
        for side in self.sides:
            if loses:
                side.things[number].channels.discard(channel)
                side.wires[number].protocol.channel_lost(channel)
            else:
                side.things[number].channels.update("cd")
        self.compare()

    def leave(self, number: int) -> None:
        """The connection is lost, now and then."""
        if self.random.random() < 0.2:
            for side in self.sides:
                if not side.wires[number].lost:
                    side.wires[number].lose()
            self.compare()


class StraightTests(SynchronousTestCase):
    """Each byte, each hold-up and each end comes at the same point on both ways."""

    def test_no_difference(self) -> None:
        """Whatever clients do that publish, subscribe, acknowledge late, do not read or lose their rights."""
        published = 0
        for seed in range(60):
            script = Script(self, seed)
            for _ in range(80):
                script.step()
            published += script.published
        self.assertGreater(published, 1_000)


def calls(action: Callable[[], object]) -> int:
    """How many functions of Python an action enters."""
    entered = 0

    def profile(_frame: FrameType, event: str, _: object) -> None:
        nonlocal entered
        entered += event == "call"

    before = sys.getprofile()
    with not_collecting():
        sys.setprofile(profile)
        try:
            action()
        finally:
            sys.setprofile(before)
    return entered


class CostTests(MQTTTestCase):
    """What a common message costs, in calls, and that it does not grow with what else is connected."""

    def test_publish(self) -> None:
        """One PUBLISH at QoS 1 in one read, which nobody listens to, and its PUBACK."""
        alice = self.connect("alice", 4)
        data = encode(Publish("channels/c/messages/a", b"x", 1, packet_id=1), 4)
        alice.receive(data)
        self.assertLessEqual(calls(lambda: alice.protocol.dataReceived(data)), 34)
        self.assertEqual(b"@\x02\x00\x01", alice.take())
        more = data * 10
        self.assertLessEqual(calls(lambda: alice.protocol.dataReceived(more)), 34 + 9 * 14)

    def test_delivery(self) -> None:
        """One message at QoS 1 to each of many, the write at the end of the turn, and the PUBACK of each."""
        alice = self.connect("alice", 4)
        bobs = [self.connect("bob", 4, f"bob-{number}") for number in range(30)]
        for bob in bobs:
            self.subscribe(bob, "channels/c/messages/#", version=4)
        data = encode(Publish("channels/c/messages/a", b"x", 1, packet_id=1), 4)

        def publish() -> None:
            alice.protocol.dataReceived(data)
            self.house.end_turn()

        publish()
        for bob in bobs:
            bob.receive(b"@\x02\x00\x01")
        self.assertLessEqual(calls(publish), 130 + 28 * len(bobs))
        for bob in bobs:
            puback = b"@\x02" + bob.take()[25:27]
            self.assertLessEqual(calls(partial(bob.protocol.dataReceived, puback)), 24)
            self.assertEqual({}, bob.protocol._client.session.state.in_flight)

    def test_delivery_at_qos_0(self) -> None:
        """The same at QoS 0, from the first one on: who acknowledges nothing goes the straight way, too."""
        alice = self.connect("alice", 4)
        bobs = [self.connect("bob", 4, f"bob-{number}") for number in range(30)]
        for bob in bobs:
            self.subscribe(bob, "channels/c/messages/#", version=4, qos=0)
        self.house.end_turn()
        data = encode(Publish("channels/c/messages/a", b"x"), 4)

        def publish() -> None:
            alice.protocol.dataReceived(data)
            self.house.end_turn()

        self.assertLessEqual(calls(publish), 130 + 26 * len(bobs))
        self.assertEqual([data] * len(bobs), [bob.take() for bob in bobs])
