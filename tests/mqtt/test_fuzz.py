"""Conversations with a connection: those without a mistake never fail, those with any kind of them end well.

For how long, and how to repeat an execution: :mod:`tests.campaign`.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt.connection import Connection
from mfserver.mqtt.encode import encode
from mfserver.mqtt.errors import ConnectionLost
from mfserver.mqtt.packets import Packet
from tests.campaign import Campaign
from tests.mqtt.conversation import VERSIONS, feed
from tests.mqtt.fuzz_client import Client, good_connect
from tests.mqtt.fuzz_owner import LIMITS, Owner
from tests.mqtt.mutations import mutate
from tests.mqtt.random_packets import any_packet

#: What a campaign has to have seen, in each version.
_EVENTS = (
    "ConnectReceived", "PublishReceived", "PublishReleased", "PublishAcknowledged", "PublishStored",
    "PublishCompleted", "SubscribeReceived", "UnsubscribeReceived", "DisconnectReceived",
)  # fmt: skip
_WRITTEN = (
    "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBACK", "UNSUBACK", "PINGRESP",
)  # fmt: skip
_DEEP = (
    "QoS 0: sent", "QoS 1: sent", "QoS 2: sent", "QoS 2: received", "QoS 2: released",
    "QoS 2: stored by the client", "QoS 2: completed by the client", "longer than the client takes",
    "topic alias of the client", "topic alias of the server",
)  # fmt: skip
_FAILURES = ("MalformedPacket", "ProtocolError", "KeepAliveTimeout", "ConnectionLost")
#: Some hundred executions may miss these, not 30,000.
_RARE_FAILURES = (
    "TopicAliasInvalid", "ReceiveMaximumExceeded", "QuotaExceeded", "PacketTooLarge", "ConnectTimeout",
    "UnsupportedProtocolVersion", "BadAuthenticationMethod", "ClientIdentifierNotValid",
)  # fmt: skip


def pieces(random: Random, data: bytes) -> Iterator[bytes]:
    """These bytes as a network may cut them: whole, in some pieces, or byte by byte."""
    chance = random.random()
    if chance < 0.1 and len(data) < 400:
        borders = list(range(len(data) + 1))
    elif chance < 0.5:
        cuts = [random.randint(0, len(data)) for _ in range(random.choice((1, 1, 2, 5)))]
        borders = sorted((0, *cuts, len(data)))
    else:
        borders = [0, len(data)]
    for start, stop in pairwise(borders):
        yield data[start:stop]


class Talk:
    """One conversation between a client and the owner of its connection.

    :param lies: how likely it is that a packet of the client is mutated.
    """

    def __init__(self, random: Random, reached: "Counter[str]", lies: float) -> None:
        self.random = random
        self.reached = reached
        self.lies = lies
        self.version = random.choice(VERSIONS)
        self.client = Client(random, self.version, reached, is_reckless=lies > 0 and random.random() < 0.3)
        self.owner = Owner(random, reached, may_refuse=lies > 0)
        self.unsent = b""

    def run(self, turns: int = 0) -> None:
        """Talk for a while, then come to an end."""
        random, client, owner = self.random, self.client, self.owner
        self._heard(owner.wait(20 if self.lies and random.random() < 0.02 else 1))
        self._say(client.connect)
        for _ in range(turns or random.choice((3, 20, 60))):
            if owner.connection.closed:
                break
            if not client.is_over:
                self._say(client.says())
            self._heard(owner.act())
            self._heard(
                owner.wait(random.choice((0, 5, 1e6)) if self.lies and random.random() < 0.02 else 0.1)
            )
        self._send()
        self._heard(owner.settle())
        if not client.is_over and random.random() < 0.7:
            self._say(client.says_goodbye())
            self._send()
        if self.owner.connection.closed:
            self._heard(owner.receive(random.randbytes(50)))
        else:
            owner.lose()

    def _say(self, packet: Packet) -> None:
        """Let the client send a packet, perhaps later, together with others."""
        random = self.random
        data = encode(packet, self.version)
        if random.random() < self.lies:
            other = encode(any_packet(random, self.version), self.version)
            is_out_of_place = random.random() < 0.2  # a right packet, but not now
            data = other if is_out_of_place else mutate(random, data, other, self.version)
        self.unsent += data
        if random.random() < 0.7:
            self._send()

    def _send(self) -> None:
        for piece in pieces(self.random, self.unsent):
            self._heard(self.owner.receive(piece))
        self.unsent = b""

    def _heard(self, packets: list[Packet]) -> None:
        for packet in packets:
            self.client.received(packet)


def honest(random: Random, reached: "Counter[str]", turns: int = 0) -> None:
    """A client that makes no mistake is never ended but by itself."""
    talk = Talk(random, reached, lies=0)
    talk.run(turns)
    failed = talk.owner.failed
    assert failed is None or isinstance(failed.error, ConnectionLost), failed.text
    assert talk.client.said_goodbye == (failed is None)
    assert talk.client.is_connected
    assert talk.owner.published == talk.client.published
    reached["honest conversations"] += 1


def liar(random: Random, reached: "Counter[str]") -> None:
    """A client that makes some mistakes, or many."""
    Talk(random, reached, lies=random.choice((0.02, 0.1, 0.5))).run()
    reached["conversations with lies"] += 1


def any_split(random: Random, reached: "Counter[str]") -> None:
    """However bytes are split, they mean the same."""
    version = random.choice(VERSIONS)
    data = encode(good_connect(random, version), version)
    for _ in range(random.choice((1, 3, 8))):
        packet, other = (encode(any_packet(random, version), version) for _ in range(2))
        data += mutate(random, packet, other, version) if random.random() < 0.3 else packet
    whole = feed(Connection(LIMITS, 0.0), [data])
    cut = feed(Connection(LIMITS, 0.0), list(pieces(random, data)))
    assert whole == cut, (whole, cut)
    reached["splits"] += 1


class ConnectionFuzz(SynchronousTestCase):
    """:class:`~mfserver.mqtt.connection.Connection`."""

    def test_an_honest_client_is_never_refused(self) -> None:
        """Whatever the specification lets a client say, in any order and any pieces, is taken."""
        campaign = Campaign("connection, honest clients", least=600, share=0.2)
        campaign.run(honest)
        versions = [f"{v}: {what}" for v in VERSIONS for what in _EVENTS]
        written = [f"{v}: wrote {what}" for v in VERSIONS for what in _WRITTEN]
        self.assertEqual(campaign.missing(*versions, *written, *_DEEP), [])

    def test_a_liar_is_answered_or_ended(self) -> None:
        """Whatever a client sends: no exception, hang or growth; legal packets, silence at the end."""
        campaign = Campaign("connection, liars", least=1200, share=0.3)
        campaign.run(liar)
        expected = _FAILURES + (_RARE_FAILURES if campaign.executions > 30_000 else ())
        self.assertEqual(campaign.missing(*(f"failed: {error}" for error in expected)), [])

    def test_the_pieces_do_not_matter(self) -> None:
        """A stream of packets, right and wrong, comes to the same in any pieces."""
        campaign = Campaign("connection, pieces", least=400, share=0.05)
        campaign.run(any_split)
        self.assertEqual(campaign.missing("splits"), [])

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def test_hypothesis_finds_the_shortest(self, random: Random) -> None:
        """The same with hypothesis as the source of chance, which leads it and makes a find small."""
        reached: Counter[str] = Counter()
        if random.random() < 0.5:
            honest(random, reached, turns=3)
        else:
            any_split(random, reached)
        self.assertTrue(reached)
