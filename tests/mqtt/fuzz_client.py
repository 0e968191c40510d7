"""A client that makes no mistake: it says at random whatever it may say next (MQTT 3.1, 3.1.1 and 5.0)."""

from collections import Counter, deque
from random import Random
from typing import Final, cast

from mfserver.mqtt.constants import MQTT_3_1, MQTT_5_0, REASON_CODES
from mfserver.mqtt.constants import PUBACK as PUBACK_TYPE
from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from mfserver.mqtt.properties import (
    AUTHENTICATION_DATA,
    AUTHENTICATION_METHOD,
    MAXIMUM_PACKET_SIZE,
    RECEIVE_MAXIMUM,
    SESSION_EXPIRY_INTERVAL,
    SUBSCRIPTION_IDENTIFIER,
    TOPIC_ALIAS,
    TOPIC_ALIAS_MAXIMUM,
)
from tests.mqtt.random_packets import KINDS, TOPICS, connect

__all__ = ["Client", "good_connect"]

_REFUSED: Final = 0x80
_DISCONNECT: Final = 14


def good_connect(random: Random, version: int) -> Connect:
    """A CONNECT that every server has to accept."""
    packet = connect(random, version)
    if not packet.client_id and (version == MQTT_3_1 or not packet.clean_start):
        packet.client_id = "c"
    packet.keep_alive = random.choice((0, 10, 60, 65_535))
    said = packet.properties
    if said is not None:
        for identifier in (AUTHENTICATION_METHOD, AUTHENTICATION_DATA):
            said.pop(identifier, None)
        if MAXIMUM_PACKET_SIZE in said:  # its CONNACK, and the longest SUBACK, fit in
            said[MAXIMUM_PACKET_SIZE] = random.choice((200, 201, 255, 256, 1_000, 1 << 20, 0xFFFF_FFFF))
        if RECEIVE_MAXIMUM in said:
            said[RECEIVE_MAXIMUM] = random.choice((1, 2, 3, 65_535))
        if TOPIC_ALIAS_MAXIMUM in said:
            said[TOPIC_ALIAS_MAXIMUM] = random.choice((0, 1, 2, 31, 33, 65_535))
    return packet


class Client:
    """One client on one network connection.

    :param is_reckless: heed neither what it says itself in CONNECT nor what the server may take at once.
    :ivar connect: what it begins with.
    :ivar is_connected: its CONNACK came.
    :ivar is_over: it said DISCONNECT, or was told so.
    :ivar said_goodbye: the first of these.
    :ivar refuses: whether it refuses messages now and then.
    :ivar published: topic and payload of each PUBLISH.
    """

    def __init__(
        self, random: Random, version: int, reached: "Counter[str]", is_reckless: bool = False
    ) -> None:
        self.connect = good_connect(random, version)
        if is_reckless and random.random() < 0.3:
            self.connect = connect(random, version)
            if version == MQTT_5_0 and random.random() < 0.5:  # so small that not every answer fits in
                self.connect.properties = {MAXIMUM_PACKET_SIZE: random.choice((1, 4, 5, 20, 30, 50))}
        self.is_connected = False
        self.is_over = False
        self.said_goodbye = False
        self.refuses = True
        self.published: list[tuple[str, bytes]] = []
        self._random = random
        self._reached = reached
        self._version = version
        self._is_reckless = is_reckless
        self._receive_maximum = 0
        self._alias_maximum = 0
        self._aliases: dict[int, str] = {}
        self._answers: deque[Packet] = deque()
        # What is under way, by packet identifier: the packet that has to be acknowledged next.
        self._under_way: dict[int, Packet] = {}
        self._last = random.choice((0, 1, 65_533))

    def counts_from(self, packet_id: int) -> None:
        """Let the next packet identifier be the one after this: none that an earlier connection used."""
        self._last = packet_id % 65_535

    def says(self) -> Packet:
        """The next packet after CONNECT."""
        random = self._random
        if self._answers and random.random() < 0.6:
            return self.answers()
        chance = random.random()
        if chance < 0.55:
            return self._publish()
        if chance < 0.75:
            return self._subscribe(KINDS[Subscribe](random, self._version))
        if chance < 0.85:
            return self._subscribe(KINDS[Unsubscribe](random, self._version))
        return Pingreq()

    def answers(self) -> Packet:
        """The answer to what it got, in any order; a PINGREQ where it answered everything."""
        if not self._answers:
            return Pingreq()
        if self._random.random() < 0.2:
            self._answers.rotate()
        return self._answers.popleft()

    def says_goodbye(self) -> Packet:
        """The last packet."""
        self.is_over = self.said_goodbye = True
        packet = cast(Disconnect, KINDS[Disconnect](self._random, self._version))
        if self._version == MQTT_5_0:
            packet.reason_code = self._random.choice((0, 0, 4, *sorted(REASON_CODES[_DISCONNECT])))
            said = packet.properties
            if (
                said
                and not self._is_reckless
                and not (self.connect.properties or {}).get(SESSION_EXPIRY_INTERVAL)
            ):
                said.pop(SESSION_EXPIRY_INTERVAL, None)
        return packet

    def received(self, packet: Packet) -> None:
        """Take in what the server wrote, and mean to answer it."""
        if isinstance(packet, Connack):
            self._connack(packet)
        elif isinstance(packet, Publish):
            self._take(packet)
        elif isinstance(packet, Pubrel):
            self._answers.append(Pubcomp(packet.packet_id))
        elif isinstance(packet, Disconnect):
            self.is_over = True
        elif isinstance(packet, Puback | Pubcomp | Suback | Unsuback):
            self._under_way.pop(packet.packet_id, None)
        elif isinstance(packet, Pubrec):
            if packet.reason_code >= _REFUSED:
                self._under_way.pop(packet.packet_id, None)
            else:
                self._under_way[packet.packet_id] = Pubrel(packet.packet_id)
                self._answers.append(Pubrel(packet.packet_id))

    def _connack(self, packet: Connack) -> None:
        self.is_over = packet.reason_code != 0
        self.is_connected = not self.is_over
        said = packet.properties or {}
        is_5 = self._version == MQTT_5_0
        self._receive_maximum = cast(int, said.get(RECEIVE_MAXIMUM, 65_535 if is_5 else 20))
        self._alias_maximum = cast(int, said.get(TOPIC_ALIAS_MAXIMUM, 0))

    def _take(self, packet: Publish) -> None:
        """A message from the server: 5.0 can refuse it."""
        random, code = self._random, 0
        if not packet.qos:
            return
        if self._version == MQTT_5_0 and self.refuses:
            code = random.choice((0, 0, 0, *sorted(REASON_CODES[PUBACK_TYPE])))
        kind = Puback if packet.qos == 1 else Pubrec
        self._answers.append(kind(packet.packet_id, code))

    def _publish(self) -> Packet:
        """A PUBLISH at the highest QoS that may be now."""
        random = self._random
        publishes = [one for one in self._under_way.values() if isinstance(one, Publish | Pubrel)]
        packet = cast(Publish, KINDS[Publish](random, self._version))
        if len(publishes) >= self._receive_maximum and not self._is_reckless:  # so also before CONNACK
            packet.qos = 0
            packet.packet_id = 0
        if self._version == MQTT_3_1 and publishes and random.random() < 0.1:
            again = random.choice(publishes)
            if isinstance(again, Publish):
                again.dup = True
                self.published.append((again.topic, again.payload))
            return again
        packet.dup = False
        packet.topic = packet.topic or random.choice(TOPICS)
        topic = packet.topic
        if packet.properties is not None:
            topic = self._alias(packet, packet.properties)
        self.published.append((topic, packet.payload))
        if packet.qos:
            packet.packet_id = self._packet_id()
            self._under_way[packet.packet_id] = packet
        return packet

    def _alias(self, packet: Publish, said: Properties) -> str:
        """Set a topic alias, or leave out the topic name where one is set. :return: the topic name."""
        random = self._random
        said.pop(SUBSCRIPTION_IDENTIFIER, None)
        if said.pop(TOPIC_ALIAS, None) is None or not self._alias_maximum:
            return packet.topic
        alias = random.choice((1, 2, self._alias_maximum))
        alias = min(alias, self._alias_maximum)
        said[TOPIC_ALIAS] = alias
        if alias in self._aliases and random.random() < 0.6:
            packet.topic = ""
            self._reached["topic alias of the client"] += 1
        else:
            self._aliases[alias] = packet.topic
        return self._aliases[alias]

    def _subscribe(self, packet: Packet) -> Packet:
        """A SUBSCRIBE or UNSUBSCRIBE with a packet identifier that is free."""
        request = cast("Subscribe | Unsubscribe", packet)
        request.packet_id = self._packet_id()
        self._under_way[request.packet_id] = request
        return request

    def _packet_id(self) -> int:
        while True:
            self._last = self._last % 65_535 + 1
            if self._last not in self._under_way:
                return self._last
