"""The normative statements of MQTT 5.0 and 3.1.1 about SUBSCRIBE and UNSUBSCRIBE (3.8-3.11), on the wire."""

from mfserver.mqtt.packets import (
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from tests.adapters.statement_case import TOPIC, VERSIONS, Client, StatementTestCase, codes, only
from tests.mqtt.cases import framed

#: A topic filter on the wire.
_FILTER = len(TOPIC).to_bytes(2, "big") + TOPIC.encode()


class SubscribeTests(StatementTestCase):
    """SUBSCRIBE and SUBACK."""

    def setUp(self) -> None:
        super().setUp()
        self.publisher = self.connect("bob")

    def refuse(self, version: int, body: bytes, reason_code: int, first: int = 0x82) -> None:
        """A SUBSCRIBE with this body, behind identifier and properties, ends the connection."""
        client = self.connect("alice", version)
        section = b"\0" if version == 5 else b""
        self.assert_refused(client, client.send(framed(first, b"\0\1" + section + body)), reason_code)

    def test_flags(self) -> None:
        """Its flags are 0010 [MQTT-3.8.1-1]."""
        for version in VERSIONS:
            for flags in set(range(16)) - {2}:
                self.refuse(version, _FILTER + b"\0", 0x81, 0x80 | flags)

    def test_filter_is_text(self) -> None:
        """[MQTT-3.8.3-1]"""
        for version in VERSIONS:
            for text in (b"\xff", b"a\0", b"\xc0\xaf"):
                self.refuse(version, len(text).to_bytes(2, "big") + text + b"\0", 0x81)

    def test_wildcards_are_there(self) -> None:
        """So that no filter is rejected for having one: of 3.1.1 [MQTT-3.8.3-2]."""
        client = self.connect("alice", 4)
        for topic_filter, topic in ((f"{TOPIC}/+/b", f"{TOPIC}/a/b"), (f"{TOPIC}/c/#", f"{TOPIC}/c/d/e")):
            client.subscribe(topic_filter)
            self.publisher.publish(topic)
            self.assertEqual([topic], [one.topic for one in client.messages()])

    def test_no_filter(self) -> None:
        """Of 5.0 [MQTT-3.8.3-2], of 3.1.1 [MQTT-3.8.3-3]."""
        for version in VERSIONS:
            self.refuse(version, b"", 0x82)

    def test_no_local(self) -> None:
        """What a client published itself does not come back, from its next connection neither
        [MQTT-3.8.3-3]."""
        client = self.connect("alice", kept=100)
        client.subscribe(TOPIC, no_local=True)
        self.assertEqual([0], codes(client.publish(qos=1)))
        client.lose()
        client = self.resume("alice", 5, "alice")
        self.assertEqual([], client.answer[1:])
        self.assertEqual([0], codes(client.publish(qos=1)))
        self.publisher.publish(payload=b"another's")
        self.assertEqual([b"another's"], [one.payload for one in client.messages()])
        other = self.connect("alice", client_id="other")
        other.publish(payload=b"the same thing's")
        self.assertEqual([b"the same thing's"], [one.payload for one in client.messages()])

    def test_no_local_shared(self) -> None:
        """[MQTT-3.8.3-4]"""
        shared = f"$share/group/{TOPIC}".encode()
        self.refuse(5, len(shared).to_bytes(2, "big") + shared + b"\4", 0x82)

    def test_reserved_options(self) -> None:
        """Of 5.0 [MQTT-3.8.3-5], of 3.1.1 [MQTT-3.8.3-4]; QoS 3 as well."""
        for bit in (0x40, 0x80):
            self.refuse(5, _FILTER + bytes((bit,)), 0x81)
        for bit in (0x04, 0x08, 0x10, 0x20, 0x40, 0x80):
            self.refuse(4, _FILTER + bytes((bit,)), 0x81)
        for version in VERSIONS:
            self.refuse(version, _FILTER + b"\3", 0x82)

    def test_answered(self) -> None:
        """Every one, with its identifier: [MQTT-3.8.4-1] [MQTT-3.8.4-2]."""
        for version in VERSIONS:
            client = self.connect("alice", version)
            for packet_id in (1, 65_535, 1):
                answer = client.send(Subscribe(packet_id, [Subscription(TOPIC)]))
                self.assertEqual([Suback(packet_id, [0])], answer)

    def test_replaced(self) -> None:
        """The same filter again has its new options alone: of 5.0 [MQTT-3.8.4-3], of 3.1.1
        [MQTT-3.8.4-3]; retained messages are found again and none is lost."""
        self.publisher.publish(payload=b"kept", retain=True)
        for version in VERSIONS:
            client = self.connect("alice", version)
            for qos in (2, 0, 1):
                found = only(Publish, client.subscribe(TOPIC, qos=qos))
                self.assertEqual([(b"kept", True)], [(one.payload, one.retain) for one in found])
                self.publisher.publish(qos=2, packet_id=1)
                self.publisher.send(Pubrel(1))
                self.assertEqual([qos], [one.qos for one in client.messages()])

    def test_replacing_loses_nothing(self) -> None:
        """Whatever stands around a SUBSCRIBE that replaces: every message comes, and with Retain Handling 0
        the retained one once more [MQTT-3.8.4-4]."""
        client = self.connect("alice")
        client.subscribe(TOPIC)
        again = Subscribe(8, [Subscription(TOPIC, 2)])
        before, after = Publish(TOPIC, b"before", retain=True), Publish(TOPIC, b"after")
        found = only(Publish, client.send(before, again, after))
        self.assertEqual(
            [(b"after", False), (b"before", False), (b"before", True)],
            sorted((one.payload, one.retain) for one in found),
        )

    def test_several_filters(self) -> None:
        """They count as one SUBSCRIBE after another: of 5.0 [MQTT-3.8.4-5], of 3.1.1 [MQTT-3.8.4-4]."""
        self.publisher.publish(payload=b"kept", retain=True)
        for version in VERSIONS:
            client = self.connect("alice", version)
            filters = [Subscription(TOPIC, 0), Subscription(f"{TOPIC}/a", 1), Subscription(TOPIC, 1)]
            suback, *found = client.send(Subscribe(1, filters))
            self.assertEqual(Suback(1, [0, 1, 1]), suback)
            self.assertEqual([b"kept"] * 2, [one.payload for one in only(Publish, found)])
            self.publisher.publish(qos=1)
            self.assertEqual([1], [one.qos for one in client.messages()])

    def test_codes(self) -> None:
        """One for each filter, in their order, granted or not: of 5.0 [MQTT-3.8.4-6] [MQTT-3.8.4-7]
        [MQTT-3.9.3-1] [MQTT-3.9.3-2], of 3.1.1 [MQTT-3.8.4-5] [MQTT-3.9.3-1] [MQTT-3.9.3-2]."""
        filters = [
            Subscription(TOPIC, 2),
            Subscription("channels/e/messages", 1),
            Subscription(f"{TOPIC}/a", 0),
            Subscription("elsewhere", 1),
            Subscription(f"{TOPIC}/b", 1),
        ]
        for version, expected in ((5, [2, 0x87, 0, 0x8F, 1]), (4, [2, 0x80, 0, 0x80, 1])):
            self.assertEqual(
                [Suback(3, expected)], self.connect("alice", version).send(Subscribe(3, filters))
            )

    def test_lower_qos(self) -> None:
        """The lower of the published and the granted one: of 5.0 [MQTT-3.8.4-8], of 3.1.1
        [MQTT-3.8.4-6]."""
        for version in VERSIONS:
            for granted in (0, 1, 2):
                client = self.connect("alice", version)
                client.subscribe(TOPIC, qos=granted)
                for published in (0, 1, 2):
                    self.publisher.publish(qos=published, packet_id=published)
                    self.publisher.send(Pubrel(2)) if published == 2 else None
                found = client.messages()
                self.assertEqual([min(granted, published) for published in (0, 1, 2)], [m.qos for m in found])


class UnsubscribeTests(StatementTestCase):
    """UNSUBSCRIBE and UNSUBACK."""

    def setUp(self) -> None:
        super().setUp()
        self.publisher = self.connect("bob")

    def listener(self, version: int, *filters: str, **options: int) -> Client:
        """Alice's client, with these subscriptions."""
        client = self.connect("alice", version)
        client.subscribe(*filters, **options)
        return client

    def test_flags(self) -> None:
        """Its flags are 0010 [MQTT-3.10.1-1]."""
        for version in VERSIONS:
            section = b"\0" if version == 5 else b""
            for flags in set(range(16)) - {2}:
                client = self.connect("alice", version)
                data = framed(0xA0 | flags, b"\0\1" + section + _FILTER)
                self.assert_refused(client, client.send(data), 0x81)

    def test_filter_is_text(self) -> None:
        """One after another: [MQTT-3.10.3-1]."""
        for version in VERSIONS:
            section = b"\0" if version == 5 else b""
            for text in (b"\xff", b"a\0"):
                client = self.connect("alice", version)
                data = framed(0xA2, b"\0\1" + section + _FILTER + len(text).to_bytes(2, "big") + text)
                self.assert_refused(client, client.send(data), 0x81)

    def test_no_filter(self) -> None:
        """[MQTT-3.10.3-2]"""
        for version in VERSIONS:
            client = self.connect("alice", version)
            data = framed(0xA2, b"\0\1" + (b"\0" if version == 5 else b""))
            self.assert_refused(client, client.send(data), 0x82)

    def test_the_same_characters(self) -> None:
        """A filter ends the subscription that is its like, and none that it matches [MQTT-3.10.4-1]."""
        others = [f"{TOPIC}/#", f"{TOPIC}/+", f"{TOPIC}/A", f"{TOPIC}/a/", TOPIC]
        for version in VERSIONS:
            client = self.listener(version, f"{TOPIC}/a")
            client.send(Unsubscribe(1, others))
            self.publisher.publish(f"{TOPIC}/a")
            self.assertEqual(1, len(client.messages()))
            client.send(Unsubscribe(2, [f"{TOPIC}/a"]))
            self.publisher.publish(f"{TOPIC}/a")
            self.assertEqual([], client.messages())

    def test_nothing_new(self) -> None:
        """Nothing is queued any more, for a client that is away neither [MQTT-3.10.4-2]."""
        for version in VERSIONS:
            client = self.begin("alice", version, "k")
            client.subscribe(TOPIC)
            client.send(Unsubscribe(1, [TOPIC]))
            self.publisher.publish(qos=1)
            self.assertEqual([], client.messages())
            client.lose()
            self.publisher.publish(qos=1)
            again = self.resume("alice", version, "k")
            self.assertEqual([], again.answer[1:])
            again.lose()

    def test_what_began_is_finished(self) -> None:
        """QoS 1 and 2 messages under way are, also over the next connection [MQTT-3.10.4-3]."""
        for version in VERSIONS:
            client = self.begin("alice", version, "k")
            client.subscribe(TOPIC)
            for packet_id, qos in ((1, 1), (2, 2)):
                self.publisher.publish(qos=qos, packet_id=packet_id)
            self.publisher.send(Pubrel(2))
            one, two = client.messages()
            client.send(Unsubscribe(1, [TOPIC]))
            client.lose()
            again = self.resume("alice", version, "k")
            self.assertEqual(
                [(one.packet_id, 1, True), (two.packet_id, 2, True)],
                [(m.packet_id, m.qos, m.dup) for m in only(Publish, again.answer)],
            )
            again.send(Puback(one.packet_id))
            self.assertEqual([Pubrel(two.packet_id)], again.send(Pubrec(two.packet_id)))
            again.send(Pubcomp(two.packet_id))
            again.lose()

    def test_answered(self) -> None:
        """Every one, with its identifier, whether there was anything: of 5.0 [MQTT-3.10.4-4]
        [MQTT-3.10.4-5], of 3.1.1 [MQTT-3.10.4-4] [MQTT-3.10.4-5]."""
        for version in VERSIONS:
            client = self.listener(version, TOPIC)
            for packet_id, code in ((1, 0), (65_535, 0x11)):
                answer = client.send(Unsubscribe(packet_id, [TOPIC]))
                self.assertEqual([Unsuback(packet_id, [code] if version == 5 else [])], answer)

    def test_several_filters(self) -> None:
        """They count as one UNSUBSCRIBE after another [MQTT-3.10.4-6]."""
        for version in VERSIONS:
            client = self.listener(version, TOPIC, f"{TOPIC}/a", f"{TOPIC}/b")
            answer = client.send(Unsubscribe(5, [TOPIC, f"{TOPIC}/b", TOPIC]))
            self.assertEqual([Unsuback(5, [0, 0, 0x11] if version == 5 else [])], answer)
            for topic in (TOPIC, f"{TOPIC}/a", f"{TOPIC}/b"):
                self.publisher.publish(topic)
            self.assertEqual([f"{TOPIC}/a"], [one.topic for one in client.messages()])

    def test_codes(self) -> None:
        """In the order of the filters, each from its table: [MQTT-3.11.3-1] [MQTT-3.11.3-2]."""
        client = self.listener(5, TOPIC, f"{TOPIC}/a")
        filters = [f"{TOPIC}/a", "elsewhere", f"{TOPIC}/x", TOPIC, "channels/e/messages"]
        (answer,) = client.send(Unsubscribe(5, filters))
        assert isinstance(answer, Unsuback)
        self.assertEqual([0, 0x11, 0x11, 0, 0x11], answer.reason_codes)


class MatchTests(StatementTestCase):
    """4.7: topics are matched as they were sent."""

    def test_nothing_is_changed(self) -> None:
        """No letter's case, no composed character, no empty level: [MQTT-4.7.3-4]."""
        publisher = self.connect("bob")
        names = ["a", "A", "\u00e9", "e\u0301", "\ufb01", "fi", "\u212b", "\u00c5", "", "/", "\ufeffa", " a"]
        for version in VERSIONS:
            for name in names:
                client = self.connect("alice", version)
                client.subscribe(f"{TOPIC}/{name}")
                for other in names:
                    publisher.publish(f"{TOPIC}/{other}")
                self.assertEqual([f"{TOPIC}/{name}"], [one.topic for one in client.messages()])
                client.lose()

    def test_topics_of_the_server(self) -> None:
        """A wildcard at the beginning of a filter brings nothing of ``$SYS``: [MQTT-4.7.2-1]. Here it brings
        nothing at all, because a filter names its channel; and nobody publishes there."""
        publisher = self.connect("bob")
        for version in VERSIONS:
            client = self.connect("alice", version)
            filters = ["#", "+/messages", "+/c/messages", "$SYS/#"]
            (answer,) = client.send(Subscribe(1, [Subscription(one) for one in filters]))
            assert isinstance(answer, Suback)
            self.assertEqual([True] * 4, [code >= 0x80 for code in answer.reason_codes])
        self.assertEqual([0x87], codes(publisher.publish("$SYS/c/messages", qos=1)))

    def test_a_dollar_below_the_channel(self) -> None:
        """It begins a level and no topic, so that wildcards do match it."""
        publisher, client = self.connect("bob"), self.connect("alice")
        client.subscribe(f"{TOPIC}/#")
        publisher.publish(f"{TOPIC}/$x")
        self.assertEqual([f"{TOPIC}/$x"], [one.topic for one in client.messages()])


class SharedTests(StatementTestCase):
    """4.8.2: shared subscriptions."""

    share = f"$share/group/{TOPIC}"

    def setUp(self) -> None:
        super().setUp()
        self.publisher = self.connect("bob", client_id="publisher")

    def test_names(self) -> None:
        """A share name has a character or more, and none of ``/ + #``; a filter stands behind it:
        [MQTT-4.8.2-1] [MQTT-4.8.2-2]."""
        for wrong in ("$share/", "$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/a#/a", "$share"):
            client = self.connect("alice")
            answer = client.send(Subscribe(1, [Subscription(f"{wrong}")]))
            if wrong == "$share":
                self.assertEqual([Suback(1, [0x8F])], answer)
            else:
                self.assert_refused(client, answer, 0x81)
        for name in ("g", "\u00e9", "a b", "$"):
            self.connect("alice").subscribe(f"$share/{name}/{TOPIC}")

    def test_qos(self) -> None:
        """Each member has what it was granted [MQTT-4.8.2-3]."""
        for granted in (0, 1, 2):
            client = self.connect("alice")
            client.subscribe(self.share, qos=granted)
            for published in (0, 1, 2):
                self.publisher.publish(qos=published, packet_id=published)
                self.publisher.send(Pubrel(2)) if published == 2 else None
            self.assertEqual([min(granted, published) for published in (0, 1, 2)],
                             [m.qos for m in client.messages()])  # fmt: skip

    def chosen(self) -> tuple[str, Client, Client, Publish]:
        """The name of the member that got a QoS 2 message, that and the other one, and the message."""
        members = {name: self.connect(name, client_id="member", kept=100) for name in ("alice", "bob")}
        for member in members.values():
            member.subscribe(self.share)
        self.publisher.publish(payload=b"once", qos=2)
        self.publisher.send(Pubrel(9))
        heard = [(name, one) for name, member in members.items() for one in member.messages()]
        ((name, message),) = heard
        return name, members.pop(name), members.popitem()[1], message

    def test_interrupted(self) -> None:
        """A QoS 2 message that one member has begun is finished with it [MQTT-4.8.2-4]."""
        name, chosen, other, message = self.chosen()
        chosen.lose()
        self.assertEqual([], other.messages())
        again = self.connect(name, client_id="member", kept=100, clean_start=False)
        self.assertEqual(
            [(message.packet_id, b"once", True)],
            [(one.packet_id, one.payload, one.dup) for one in only(Publish, again.answer)],
        )
        self.assertEqual([Pubrel(message.packet_id)], again.send(Pubrec(message.packet_id)))
        self.assertEqual([], again.send(Pubcomp(message.packet_id)))
        self.assertEqual([], other.messages())

    def test_session_ends(self) -> None:
        """Then nobody else gets it [MQTT-4.8.2-5]."""
        name, chosen, other, _ = self.chosen()
        chosen.lose()
        self.house.clock.advance(102.0)
        self.assertEqual([], other.messages())
        again = self.connect(name, client_id="member", kept=100, clean_start=False)
        self.assertEqual((False, 1), (again.connack.session_present, len(again.answer)))

    def test_refused(self) -> None:
        """What a member refuses is offered to no other [MQTT-4.8.2-6]."""
        _, chosen, other, message = self.chosen()
        self.assertEqual([], chosen.send(Pubrec(message.packet_id, 0x83)))
        self.publisher.publish(payload=b"next", qos=1)
        heard = [m.payload for m in (*chosen.messages(), *other.messages())]
        self.assertEqual([b"next"], heard)
