"""The normative statements of MQTT 5.0 and 3.1.1 about PUBLISH and retained messages (3.3), on the wire."""

from itertools import product
from typing import ClassVar

from mfserver.mqtt import properties
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import Pingreq, Pingresp, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.adapters.statement_case import (
    TOPIC,
    VERSIONS,
    Client,
    StatementTestCase,
    only,
    properties_of,
)
from tests.mqtt.cases import framed

_NAME = len(TOPIC).to_bytes(2, "big") + TOPIC.encode()


class PublishTestCase(StatementTestCase):
    """Alice publishes, and bob listens in each version."""

    def setUp(self) -> None:
        super().setUp()
        self.publisher = self.connect("alice")
        self.listeners = {version: self.connect("bob", version, f"b{version}") for version in VERSIONS}

    def listen(self, *filters: str, qos: int = 2) -> None:
        """Both listeners subscribe."""
        for listener in self.listeners.values():
            listener.subscribe(*(filters or (TOPIC,)), qos=qos)


class FixedHeaderTests(PublishTestCase):
    """3.3.1.1 and 3.3.1.2: DUP and QoS."""

    def test_dup_of_a_repetition(self) -> None:
        """What is sent once more says so [MQTT-3.3.1-1]."""
        for version in VERSIONS:
            for qos in (1, 2):
                client = self.begin("bob", version, "k")
                client.subscribe(TOPIC)
                self.publisher.publish(qos=qos)
                self.publisher.send(Pubrel(9))
                (first,) = client.messages()
                client.lose()
                again = self.resume("bob", version, "k")
                (second,) = only(Publish, again.answer)
                self.assertEqual((False, True), (first.dup, second.dup))
                self.assertEqual((first.packet_id, first.payload), (second.packet_id, second.payload))
                again.lose()

    def test_no_dup_at_qos_0(self) -> None:
        """It is refused, and never sent [MQTT-3.3.1-2]."""
        self.listen()
        self.publisher.publish()
        for version in VERSIONS:
            self.assertEqual([False], [one.dup for one in self.listeners[version].messages()])
            client = self.connect("alice", version, "x")
            section = b"\0" if version == 5 else b""
            self.assert_refused(client, client.send(framed(0x38, _NAME + section)), 0x81)

    def test_dup_is_not_passed_on(self) -> None:
        """The publisher's repetition is no repetition to the subscriber [MQTT-3.3.1-3]."""
        self.listen()
        for qos in (1, 2):
            self.publisher.publish(qos=qos, packet_id=qos, dup=True)
        for listener in self.listeners.values():
            self.assertEqual([False, False], [one.dup for one in listener.messages()])

    def test_qos_3(self) -> None:
        """[MQTT-3.3.1-4]"""
        for version in VERSIONS:
            for first in (0x36, 0x37, 0x3E, 0x3F):
                client = self.connect("alice", version, "x")
                self.assert_refused(client, client.send(framed(first, _NAME + b"\0\1\0")), 0x81)


class TopicTests(PublishTestCase):
    """3.3.2.1: the topic name."""

    def test_topic_is_text(self) -> None:
        """It comes first, and is UTF-8 [MQTT-3.3.2-1]."""
        self.listen(f"{TOPIC}/#")
        for version in VERSIONS:
            section = b"\0" if version == 5 else b""
            client = self.connect("alice", version, "x")
            client.send(framed(0x30, _NAME + section + b"rest"))
            for listener in self.listeners.values():
                self.assertEqual([(TOPIC, b"rest")], [(m.topic, m.payload) for m in listener.messages()])
            name = (len(TOPIC) + 2).to_bytes(2, "big") + TOPIC.encode() + b"/\xff"
            self.assert_refused(client, client.send(framed(0x30, name + section)), 0x81)

    def test_no_wildcards(self) -> None:
        """Nobody publishes to more than one topic: of 5.0 [MQTT-3.3.2-2] [MQTT-4.7.0-1], of 3.1.1
        [MQTT-3.3.2-2] [MQTT-4.7.1-1]."""
        self.listen(f"{TOPIC}/#")
        for version in VERSIONS:
            for topic in ("#", f"{TOPIC}/#", f"{TOPIC}/+", f"{TOPIC}/a+", "channels/+/messages"):
                client = self.connect("alice", version, "x")
                self.assert_refused(client, client.publish(topic), 0x81)
        self.assertEqual([[], []], [listener.messages() for listener in self.listeners.values()])

    def test_what_arrives_was_asked_for(self) -> None:
        """Every topic that is delivered matches the filter [MQTT-3.3.2-3]."""
        topics = [TOPIC, *(f"{TOPIC}/{rest}" for rest in ("a", "b", "a/b", "a/b/c", "", "/a"))]
        for topic_filter, expected in (
            (TOPIC, [TOPIC]),
            (f"{TOPIC}/+", topics[1:3] + topics[5:6]),
            (f"{TOPIC}/a/#", [topics[1], *topics[3:5]]),
            (f"{TOPIC}/+/b", [topics[3]]),
        ):
            for version in VERSIONS:
                client = self.connect("bob", version, "x")
                client.subscribe(topic_filter)
                for topic in topics:
                    self.publisher.publish(topic)
                self.assertEqual(expected, [one.topic for one in client.messages()])


class ForwardTests(PublishTestCase):
    """3.3.2.3: the properties that travel."""

    def assert_forwarded(self, identifier: int, *values: object) -> None:
        """Each value of a property comes out as it went in, at every QoS."""
        listener = self.listeners[5]
        listener.subscribe(TOPIC)
        for value in values:
            for qos in (0, 1):
                self.publisher.publish(qos=qos, properties={identifier: value})
                (found,) = listener.messages()
                self.assertEqual({identifier: value}, found.properties)
                if qos:
                    listener.send(Puback(found.packet_id))

    def test_payload_format(self) -> None:
        """[MQTT-3.3.2-4]"""
        self.assert_forwarded(properties.PAYLOAD_FORMAT_INDICATOR, 1, 0)

    def test_response_topic(self) -> None:
        """Also one that is no channel's [MQTT-3.3.2-15]."""
        self.assert_forwarded(properties.RESPONSE_TOPIC, "a/b", f"{TOPIC}/answers", "\ufeff")

    def test_correlation_data(self) -> None:
        """[MQTT-3.3.2-16]"""
        self.assert_forwarded(properties.CORRELATION_DATA, b"", b"\0\xff", bytes(300))

    def test_user_properties(self) -> None:
        """Every one of them: [MQTT-3.3.2-17]; in their order: [MQTT-3.3.2-18]."""
        self.assert_forwarded(
            properties.USER_PROPERTY, [("k", "v")], [("b", "1"), ("a", "2"), ("b", "1"), ("", "")]
        )

    def test_content_type(self) -> None:
        """[MQTT-3.3.2-20]"""
        self.assert_forwarded(properties.CONTENT_TYPE, "text/plain", "not a type at all")

    def test_properties_that_are_no_text(self) -> None:
        """Response Topic and Content Type are UTF-8: [MQTT-3.3.2-13] [MQTT-3.3.2-19]."""
        for identifier in (properties.RESPONSE_TOPIC, properties.CONTENT_TYPE):
            for text in (b"\xff", b"a\0", b"\xed\xa0\x80"):
                section = bytes((identifier, 0, len(text))) + text
                client = self.connect("alice", client_id="x")
                data = framed(0x30, _NAME + bytes((len(section),)) + section)
                self.assert_refused(client, client.send(data), 0x81)

    def test_response_topic_without_wildcards(self) -> None:
        """[MQTT-3.3.2-14]"""
        for topic in ("#", "a/+"):
            client = self.connect("alice", client_id="x")
            self.assert_refused(client, client.publish(properties={properties.RESPONSE_TOPIC: topic}), 0x81)

    def test_expired(self) -> None:
        """What expired while it waited, or was retained, is not delivered [MQTT-3.3.2-5]."""
        self.assertEqual([], self.after_waiting(expiry=60, seconds=61.0))
        self.assertEqual([], self.listeners[5].subscribe(TOPIC))

    def test_expired_behind_the_send_quota(self) -> None:
        """Nor what expired while its client, though connected, was not ready for it [MQTT-3.3.2-5]; what did
        not is reduced [MQTT-3.3.2-6]."""
        for kept in (0, 100):
            client = self.connect("bob", 5, "q", kept, properties={properties.RECEIVE_MAXIMUM: 1})
            client.subscribe(TOPIC)
            for payload, expiry in ((b"1", 0), (b"2", 10), (b"3", 60), (b"4", 10)):
                said: dict[int, object] = {properties.MESSAGE_EXPIRY_INTERVAL: expiry} if expiry else {}
                self.publisher.publish(payload=payload, qos=1, properties=said)
            (first,) = client.messages()
            self.house.clock.advance(45.0)
            (second,) = only(Publish, client.send(Puback(first.packet_id)))
            self.assertEqual((b"1", b"3"), (first.payload, second.payload))
            self.assertIn(properties_of(second)[properties.MESSAGE_EXPIRY_INTERVAL], (14, 15))
            self.assertEqual([], client.send(Puback(second.packet_id)))
            client.lose()

    def test_expiry_is_reduced(self) -> None:
        """By the time that it waited [MQTT-3.3.2-6]."""
        (found,) = self.after_waiting(expiry=60, seconds=45.0)
        (retained,) = self.listeners[5].subscribe(TOPIC)
        for one in (found, retained):
            self.assertIn(properties_of(one)[properties.MESSAGE_EXPIRY_INTERVAL], (14, 15))

    def after_waiting(self, expiry: int, seconds: float) -> list[Publish]:
        """What a client finds that was away for a while after a retained message came."""
        client = self.connect("bob", client_id="k", kept=1000)
        client.subscribe(TOPIC)
        client.lose()
        self.publisher.publish(qos=1, retain=True, properties={properties.MESSAGE_EXPIRY_INTERVAL: expiry})
        self.house.clock.advance(seconds)
        return only(Publish, self.connect("bob", client_id="k", kept=1000, clean_start=False).answer)


class AliasTests(PublishTestCase):
    """3.3.2.3.4: topic aliases."""

    def alias(self, alias: int, topic: str = "") -> Publish:
        """A PUBLISH with this alias."""
        return Publish(topic, b"x", properties={properties.TOPIC_ALIAS: alias})

    def highest(self, client: Client) -> int:
        """The Topic Alias Maximum of the CONNACK."""
        highest = properties_of(client.connack)[properties.TOPIC_ALIAS_MAXIMUM]
        assert isinstance(highest, int)
        return highest

    def test_ends_with_the_connection(self) -> None:
        """In both directions, also where the session goes on [MQTT-3.3.2-7]."""
        said = {properties.TOPIC_ALIAS_MAXIMUM: 5}
        client = self.connect("alice", client_id="k", kept=100, properties=dict(said))
        client.subscribe(TOPIC, qos=0)
        self.assertEqual([TOPIC, ""], [one.topic for one in self.published_twice(client)])
        client.lose()
        again = self.connect("alice", client_id="k", kept=100, clean_start=False, properties=dict(said))
        self.publisher.publish()
        self.assertEqual([TOPIC], [one.topic for one in again.messages()])
        self.assert_refused(again, again.send(self.alias(1)), 0x82)

    def published_twice(self, client: Client) -> list[Publish]:
        """What comes back for two messages, the second with the alias of the first."""
        return only(Publish, client.send(self.alias(1, TOPIC), self.alias(1)))

    def test_alias_0(self) -> None:
        """[MQTT-3.3.2-8]"""
        data = framed(0x30, _NAME + b"\3\x23\0\0")
        self.assert_refused(self.publisher, self.publisher.send(data), 0x94)

    def test_above_our_maximum(self) -> None:
        """Refused: [MQTT-3.3.2-9] [MQTT-3.2.2-17]."""
        above = self.highest(self.publisher) + 1
        self.assert_refused(self.publisher, self.publisher.send(self.alias(above, TOPIC)), 0x94)

    def test_up_to_our_maximum(self) -> None:
        """Each is taken [MQTT-3.3.2-12], and which that is the CONNACK says [MQTT-3.2.2-18]."""
        listener = self.listeners[5]
        listener.subscribe(f"{TOPIC}/#", qos=0)
        highest = self.highest(self.publisher)
        self.assertGreater(highest, 0)
        topics = [f"{TOPIC}/{alias}" for alias in range(1, highest + 1)]
        for alias, topic in enumerate(topics, 1):
            self.publisher.send(self.alias(alias, topic))
        listener.heard()
        for alias in range(1, highest + 1):
            self.publisher.send(self.alias(alias))
        self.assertEqual(topics, [one.topic for one in listener.messages()])

    def test_none_allowed(self) -> None:
        """A CONNACK without a Topic Alias Maximum lets a client have none [MQTT-3.2.2-18]."""
        self.house.mqtt.limits.topic_alias_maximum = 0
        client = self.connect("alice", client_id="x")
        self.assertNotIn(properties.TOPIC_ALIAS_MAXIMUM, properties_of(client.connack))
        self.assert_refused(client, client.send(self.alias(1, TOPIC)), 0x94)

    def test_within_the_client_s_maximum(self) -> None:
        """No alias above it is sent, and every topic is known: [MQTT-3.3.2-11] [MQTT-3.1.2-26]."""
        for maximum in (1, 2, 65_535):
            client = self.connect("bob", properties={properties.TOPIC_ALIAS_MAXIMUM: maximum})
            client.subscribe(f"{TOPIC}/#", qos=0)
            known: dict[object, str] = {}
            topics = [f"{TOPIC}/{index % 5}" for index in range(15)]
            for topic in topics:
                self.publisher.publish(topic)
            heard = []
            for one in client.messages():
                alias = properties_of(one).get(properties.TOPIC_ALIAS)
                self.assertIn(alias, [None, *range(1, maximum + 1)] if maximum < 9 else [None, *range(1, 99)])
                if alias and one.topic:
                    known[alias] = one.topic
                heard.append(one.topic or known[alias])
            self.assertEqual(topics, heard)
            self.assertTrue(known)

    def test_client_without_aliases(self) -> None:
        """It is sent none [MQTT-3.1.2-27]."""
        for said in ({}, {properties.TOPIC_ALIAS_MAXIMUM: 0}):
            client = self.connect("bob", properties=dict(said))
            client.subscribe(TOPIC, qos=0)
            for _ in range(3):
                self.publisher.publish()
            self.assertEqual([(TOPIC, None)] * 3, [(one.topic, one.properties) for one in client.messages()])


class RetainTests(PublishTestCase):
    """3.3.1.3: retained messages."""

    def found(self, version: int = 5) -> list[Publish]:
        """What a new subscriber finds."""
        client = self.connect("bob", version, "new")
        found = only(Publish, client.subscribe(f"{TOPIC}/#"))
        client.lose()
        return found

    def test_kept(self) -> None:
        """The last one of each topic, with its QoS: [MQTT-3.3.1-5], of 3.1.1 [MQTT-3.3.1-5]
        [MQTT-3.3.1-6]."""
        for version in VERSIONS:
            client = self.connect("alice", version, "p")
            client.publish(payload=b"first", retain=True)
            client.publish(payload=b"second", qos=1, retain=True)
            client.publish(f"{TOPIC}/a", payload=b"other", retain=True)
            for reader in VERSIONS:
                self.assertEqual(
                    {(TOPIC, b"second", 1), (f"{TOPIC}/a", b"other", 0)},
                    {(one.topic, one.payload, one.qos) for one in self.found(reader)},
                )

    def test_cleared(self) -> None:
        """By an empty payload, which subscribers hear like any other: of 5.0 [MQTT-3.3.1-6], of 3.1.1
        [MQTT-3.3.1-10]."""
        self.listen()
        self.publisher.publish(payload=b"kept", retain=True)
        self.publisher.publish(payload=b"", retain=True)
        for listener in self.listeners.values():
            self.assertEqual([b"kept", b""], [one.payload for one in listener.messages()])
        self.assertEqual([], self.found())

    def test_empty_is_not_kept(self) -> None:
        """Of 5.0 [MQTT-3.3.1-7], of 3.1.1 [MQTT-3.3.1-11]."""
        for qos in (0, 1, 2):
            self.publisher.publish(payload=b"", qos=qos, retain=True)
            self.assertEqual([], self.found())
            self.assertEqual([], self.found(4))

    def test_replaced_at_qos_0(self) -> None:
        """The older one is not found any more: of 3.1.1 [MQTT-3.3.1-7]."""
        client = self.connect("alice", 4, "p")
        client.publish(payload=b"old", qos=1, retain=True)
        client.publish(payload=b"new", qos=0, retain=True)
        self.assertEqual([(b"new", 0)], [(one.payload, one.qos) for one in self.found(4)])

    def test_without_retain(self) -> None:
        """Nothing is kept and nothing replaced: of 5.0 [MQTT-3.3.1-8], of 3.1.1 [MQTT-3.3.1-12]."""
        self.publisher.publish(payload=b"passing")
        self.assertEqual([], self.found())
        self.publisher.publish(payload=b"kept", retain=True)
        self.publisher.publish(payload=b"passing")
        self.publisher.publish(payload=b"")
        self.assertEqual([b"kept"], [one.payload for one in self.found()])

    def test_retain_of_what_is_found(self) -> None:
        """It is set: of 3.1.1 [MQTT-3.3.1-8]."""
        self.publisher.publish(payload=b"kept", retain=True)
        for version in VERSIONS:
            self.assertEqual([True], [one.retain for one in self.found(version)])

    def test_retain_of_what_is_live(self) -> None:
        """It is not set, as 5.0's Retain As Published is 0: of 5.0 [MQTT-3.3.1-12], of 3.1.1
        [MQTT-3.3.1-9]."""
        self.listen()
        self.publisher.publish(retain=True)
        for listener in self.listeners.values():
            self.assertEqual([False], [one.retain for one in listener.messages()])

    def test_retain_as_published(self) -> None:
        """It is set as it was published [MQTT-3.3.1-13]."""
        client = self.listeners[5]
        client.subscribe(TOPIC, retain_as_published=True)
        for retain in (True, False):
            self.publisher.publish(retain=retain)
            self.assertEqual([retain], [one.retain for one in client.messages()])

    handled: ClassVar = {0: (1, 1), 1: (1, 0), 2: (0, 0)}

    def assert_handled(self, handling: int) -> None:
        """How many are found by a new subscription, and by the same once more."""
        self.publisher.publish(payload=b"kept", retain=True)
        client = self.connect("bob", client_id="new")
        found = [len(client.subscribe(TOPIC, retain_handling=handling)) for _ in range(2)]
        self.assertEqual(self.handled[handling], tuple(found))

    def test_retain_handling_0(self) -> None:
        """Always [MQTT-3.3.1-9]."""
        self.assert_handled(0)

    def test_retain_handling_1(self) -> None:
        """Only where the subscription is new [MQTT-3.3.1-10]."""
        self.assert_handled(1)

    def test_retain_handling_2(self) -> None:
        """Never [MQTT-3.3.1-11]."""
        self.assert_handled(2)


class ActionTests(PublishTestCase):
    """3.3.4 and 3.3.5: what a PUBLISH is answered, and who gets it."""

    def test_answers(self) -> None:
        """Nothing, PUBACK or PUBREC [MQTT-3.3.4-1]."""
        for version in VERSIONS:
            client = self.connect("alice", version, "x")
            for qos, expected in ((0, []), (1, [Puback(9)]), (2, [Pubrec(9)])):
                self.assertEqual(expected, [_bare(one) for one in client.publish(qos=qos)])

    def test_overlapping(self) -> None:
        """At the highest QoS among them: of 5.0 [MQTT-3.3.4-2], of 3.1.1 [MQTT-3.3.5-1]."""
        filters = (f"{TOPIC}/#", f"{TOPIC}/a", f"{TOPIC}/+")
        for version in VERSIONS:
            for each in product((None, 0, 1, 2), repeat=3):
                client = self.connect("bob", version, "x")
                granted = [qos for qos in each if qos is not None]
                for topic_filter, qos in zip(filters, each, strict=True):
                    if qos is not None:
                        client.subscribe(topic_filter, qos=qos)
                self.publisher.send(Publish(f"{TOPIC}/a", b"", 2, packet_id=9), Pubrel(9))
                self.assertEqual([max(granted)] if granted else [], [one.qos for one in client.messages()])

    def test_identifiers_of_overlapping(self) -> None:
        """Each that matches, once, on the one copy: [MQTT-3.3.4-3] [MQTT-3.3.4-4]."""
        client = self.listeners[5]
        client.subscribe(f"{TOPIC}/#", identifier=1)
        client.subscribe(f"{TOPIC}/a", identifier=268_435_455)
        client.subscribe(f"{TOPIC}/+")
        client.subscribe(f"{TOPIC}/b", identifier=3)
        self.publisher.publish(f"{TOPIC}/a")
        (found,) = client.messages()
        identifiers = properties_of(found)[properties.SUBSCRIPTION_IDENTIFIER]
        assert isinstance(identifiers, list)
        self.assertEqual([1, 268_435_455], sorted(identifiers))

    def test_one_copy(self) -> None:
        """Overlapping subscriptions bring no copies of their own whose identifiers could be wrong; with
        a single one its identifier is there, and without an identifier none [MQTT-3.3.4-5]."""
        client = self.listeners[5]
        client.subscribe(f"{TOPIC}/+", identifier=7)
        client.subscribe(TOPIC)
        for topic, expected in ((f"{TOPIC}/a", {properties.SUBSCRIPTION_IDENTIFIER: [7]}), (TOPIC, None)):
            self.publisher.publish(topic)
            self.assertEqual([expected], [one.properties for one in client.messages()])

    def test_identifier_from_a_client(self) -> None:
        """Refused [MQTT-3.3.4-6]."""
        said: dict[int, object] = {properties.SUBSCRIPTION_IDENTIFIER: [1]}
        self.assert_refused(self.publisher, self.publisher.publish(properties=said), 0x82)

    def test_our_receive_maximum(self) -> None:
        """More at once is refused [MQTT-3.3.4-7]."""
        maximum = properties_of(self.publisher.connack)[properties.RECEIVE_MAXIMUM]
        assert isinstance(maximum, int)
        for packet_id in range(1, maximum + 1):
            self.assertEqual([Pubrec(packet_id)], self.publisher.publish(qos=2, packet_id=packet_id))
        self.publisher.send(Pubrel(1))
        self.assertEqual([Pubrec(1)], self.publisher.publish(qos=2, packet_id=1))
        self.assertEqual([Pubrec(2)], self.publisher.publish(qos=2, packet_id=2, dup=True))
        self.assert_refused(self.publisher, self.publisher.publish(qos=2, packet_id=maximum + 1), 0x93)

    def test_the_client_s_receive_maximum(self) -> None:
        """No more than that is under way at once [MQTT-3.3.4-9]."""
        for maximum in (1, 2):
            client = self.connect("bob", client_id="r", properties={properties.RECEIVE_MAXIMUM: maximum})
            client.subscribe(TOPIC)
            for index in range(4):
                self.publisher.publish(payload=bytes([index]), qos=1 + index % 2, packet_id=1 + index)
                self.publisher.send(Pubrel(1 + index)) if index % 2 else None
            heard: list[bytes] = []
            found = client.messages()
            while found:
                self.assertLessEqual(len(found), maximum)
                heard += [one.payload for one in found]
                found = [more for one in found for more in _acknowledge(client, one)]
            self.assertEqual([bytes([index]) for index in range(4)], sorted(heard))

    def test_other_packets_at_the_receive_maximum(self) -> None:
        """They are sent, and QoS 0 too [MQTT-3.3.4-10]."""
        client = self.connect("bob", client_id="r", properties={properties.RECEIVE_MAXIMUM: 1})
        client.subscribe(TOPIC)
        for index in range(3):
            self.publisher.publish(qos=1, packet_id=index + 1)
        self.assertEqual(1, len(client.messages()))
        self.assertEqual([Pingresp()], client.send(Pingreq()))
        self.assertEqual([Puback(9)], [_bare(one) for one in client.publish(f"{TOPIC}/x", qos=1)])

    def test_not_authorized(self) -> None:
        """3.1.1 is closed, of 3.1.1 [MQTT-3.3.5-2], and nobody hears it."""
        self.listen(f"{TOPIC}/#")
        for qos in (0, 1, 2):
            client = self.connect("alice", 4, "x")
            data = encode(Publish("channels/e/messages", b"", qos, packet_id=qos), 4)
            self.assert_refused(client, client.send(data), 0)
        self.assertEqual([], self.listeners[4].messages())


def _bare(packet: object) -> object:
    """An acknowledgement without its reason."""
    if isinstance(packet, Puback | Pubrec):
        packet.reason_code = 0
        packet.properties = None
    return packet


def _acknowledge(client: Client, message: Publish) -> list[Publish]:
    """Take a message. :return: what comes after it."""
    if message.qos == 1:
        return only(Publish, client.send(Puback(message.packet_id)))
    first = client.send(Pubrec(message.packet_id))
    return only(Publish, first + client.send(Pubcomp(message.packet_id)))
