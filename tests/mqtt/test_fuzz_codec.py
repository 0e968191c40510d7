"""Any bytes, most of them nearly right, through the codec.

For how long, and how to repeat an execution: :mod:`tests.campaign`.
"""

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt.constants import MQTT_3_1, PACKET_NAMES
from mfserver.mqtt.decode import decode
from mfserver.mqtt.encode import encode
from mfserver.mqtt.errors import MQTTError
from mfserver.mqtt.packets import Packet, Publish
from tests.campaign import Campaign
from tests.mqtt.conversation import VERSIONS
from tests.mqtt.mutations import mutate
from tests.mqtt.random_packets import any_packet

_MUTANTS = 12


def round_trip(random: Random, version: int, reached: "Counter[str]") -> bytes:
    """Encode a valid packet, and find it in its bytes."""
    packet = any_packet(random, version)
    data = encode(packet, version)
    assert decode(data, version) == packet, (packet, data)
    reached[f"{type(packet).__name__.upper()} there and back"] += 1
    return data


def check(data: bytes, version: int, reached: "Counter[str]") -> None:
    """Decode whatever this is: an MQTTError, or a packet that says the same when it is encoded again."""
    try:
        packet = decode(data, version)
    except MQTTError as error:
        name = PACKET_NAMES[data[0] >> 4] if data else "nothing"
        reached[f"{name} refused"] += 1
        reached[f"{type(error).__name__}"] += 1
        return
    reached[f"{type(packet).__name__.upper()} accepted"] += 1
    if not _says_less(packet, version):
        assert decode(encode(packet, version), version) == packet, (packet, data)


def _says_less(packet: Packet, version: int) -> bool:
    """3.1 lets a client set DUP at QoS 0, where it means nothing; we never do."""
    return version == MQTT_3_1 and isinstance(packet, Publish) and packet.dup and not packet.qos


def mutants(random: Random, reached: "Counter[str]") -> None:
    """One execution: a valid packet, there and back, and what mutations make of it."""
    version = random.choice(VERSIONS)
    data, other = (round_trip(random, version, reached) for _ in range(2))
    for _ in range(_MUTANTS):
        check(mutate(random, data, other, version), random.choice((version, version, 3, 4, 5)), reached)


class CodecFuzz(SynchronousTestCase):
    """``decode`` and ``encode``."""

    def test_mutated_packets_raise_only_mqtt_errors(self) -> None:
        """Whatever a packet is made into: an MQTTError, or a packet that can be encoded again."""
        campaign = Campaign("codec", least=1500, share=0.15)
        campaign.run(mutants)
        names = PACKET_NAMES[1:]
        expected = [f"{name} {what}" for name in names for what in ("there and back", "refused")]
        errors = ("MalformedPacket", "ProtocolError", "QuotaExceeded", "UnsupportedProtocolVersion")
        self.assertEqual(campaign.missing(*expected, *errors, "TopicAliasInvalid"), [])

    @settings(max_examples=40, deadline=None)
    @given(st.randoms(use_true_random=False))
    def test_hypothesis_finds_the_shortest(self, random: Random) -> None:
        """The same with hypothesis as the source of chance, which leads it and makes a find small."""
        reached: Counter[str] = Counter()
        mutants(random, reached)
        self.assertEqual(
            _MUTANTS, sum(reached[one] for one in reached if one.endswith(("accepted", "refused")))
        )
