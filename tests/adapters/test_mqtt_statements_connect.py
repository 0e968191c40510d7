"""The normative statements of MQTT 5.0 and 3.1.1 about CONNECT and CONNACK (3.1, 3.2), on the wire."""

from mfserver.mqtt import properties
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Unsubscribe,
    Will,
)
from tests.adapters.statement_case import (
    TOPIC,
    VERSIONS,
    Client,
    StatementTestCase,
    codes,
    only,
    properties_of,
)
from tests.mqtt.cases import GOOD, connect_bytes, framed

_USER = b"\0\5alice"
_KEY = b"\0\x0ckey-of-alice"
_WILL_TOPIC = b"\0\x13channels/c/messages"


def body(version: int, *fields: bytes) -> bytes:
    """What stands behind the keep alive of a CONNECT; only 5.0 has properties there."""
    return (b"\0" if version == 5 else b"") + b"".join(fields)


class FirstPacketTests(StatementTestCase):
    """3.1: a conversation begins with one CONNECT."""

    def test_first_packet(self) -> None:
        """Whatever else comes first is refused without a word [MQTT-3.1.0-1]."""
        for case in GOOD:
            if case.data[0] >> 4 != 1:
                client = self.raw(case.version, case.data)
                self.assertEqual((True, []), (client.closed, client.answer), case.name)
        self.assertEqual([], self.house.gate.claims)

    def test_second_connect(self) -> None:
        """A second CONNECT ends the connection, whoever it claims to be [MQTT-3.1.0-2]."""
        for version in VERSIONS:
            client = self.connect("alice", version)
            self.assert_refused(client, client.send(self.who("bob", version)), 0x82)
        self.assertEqual(2, len(self.house.gate.claims))

    def test_nothing_else_is_needed(self) -> None:
        """A client that says nothing but what its specification demands can do everything: of 3.1.1
        [MQTT-7.0.0-2]."""
        for version in VERSIONS:
            client = self.connect("alice", version)
            client.subscribe(TOPIC, qos=1)
            answer = client.publish(payload=b"plain", qos=1)
            self.assertEqual([b"plain"], [one.payload for one in only(Publish, answer)])
            (received,) = only(Publish, answer)
            client.send(Puback(received.packet_id), Unsubscribe(1, [TOPIC]), Disconnect())
            self.assertTrue(client.closed)

    def test_one_connack(self) -> None:
        """No conversation has two CONNACKs [MQTT-3.2.0-2]."""
        client = self.connect("alice")
        later = client.send(Pingreq(), self.who("alice"))
        self.assertEqual([], only(Connack, client.answer[1:] + later))


class VariableHeaderTests(StatementTestCase):
    """3.1.2, as far as it is about the bytes of a CONNECT."""

    def test_protocol_name(self) -> None:
        """Another protocol's name is closed and never processed as MQTT [MQTT-3.1.2-1]."""
        for version in VERSIONS:
            for name in (b"\0\4HTTP", b"\0\4mqtt", b"\0\0", b"\0\5MQTT\0"):
                rest = bytes((version, 2)) + b"\0\0" + body(version, b"\0\1x")
                client = self.raw(version, framed(0x10, name + rest))
                self.assertEqual((True, []), (client.closed, client.answer))
        self.assertEqual([], self.house.gate.claims)

    def test_protocol_level_of_the_3_family(self) -> None:
        """A level that we do not speak is told CONNACK 1 and closed: of 3.1.1 [MQTT-3.1.2-2]."""
        for level in (0, 1, 2, 3, 0x84):
            client = self.raw(4, connect_bytes(4, 2, b"\0\1x", level=level))
            self.assertEqual((True, [Connack(1)]), (client.closed, client.answer))

    def test_protocol_version_to_come(self) -> None:
        """A version that is none yet is told CONNACK 0x84 and closed [MQTT-3.1.2-2]."""
        for level in (6, 7, 0x7F):
            client = self.raw(5, connect_bytes(5, 2, b"\0\0\1x", level=level))
            self.assertTrue(client.closed)
            self.assertEqual((0x84, False), (client.connack.reason_code, client.connack.session_present))

    def test_reserved_flag(self) -> None:
        """A CONNECT with the reserved flag is refused [MQTT-3.1.2-3]."""
        self.assert_malformed(0x03, b"\0\1x")

    def test_no_will_qos_without_a_will(self) -> None:
        """Of 5.0 [MQTT-3.1.2-11], of 3.1.1 [MQTT-3.1.2-11] [MQTT-3.1.2-13]."""
        for flags in (0x0A, 0x12, 0x1A):
            self.assert_malformed(flags, b"\0\1x")

    def test_no_will_retain_without_a_will(self) -> None:
        """Of 5.0 [MQTT-3.1.2-13], of 3.1.1 [MQTT-3.1.2-11] [MQTT-3.1.2-15]."""
        self.assert_malformed(0x22, b"\0\1x")

    def test_no_will_fields_without_a_will(self) -> None:
        """Will topic and will message behind a Will Flag of 0: of 3.1.1 [MQTT-3.1.2-11]."""
        self.assert_malformed(0x02, b"\0\1x", _WILL_TOPIC, b"\0\1w")

    def test_will_qos_3(self) -> None:
        """Of 5.0 [MQTT-3.1.2-12], of 3.1.1 [MQTT-3.1.2-14]."""
        for version in VERSIONS:
            section = b"\0" if version == 5 else b""
            fields = b"\0\1x" + section + _WILL_TOPIC + b"\0\1w"
            self.assert_malformed(0x1E, fields, versions=(version,))

    def test_will_fields(self) -> None:
        """Where the Will Flag is 1, properties (5.0), topic and payload have to be there [MQTT-3.1.2-9]."""
        for version in VERSIONS:
            section = b"\0" if version == 5 else b""
            fields = (b"\0\1x", section, _WILL_TOPIC, b"\0\1w")
            for cut in range(1, 4):
                self.assert_malformed(0x06, b"".join(fields[:cut]), versions=(version,))
            data = connect_bytes(version, 0xC6, body(version, *fields, _USER, _KEY))
            self.assertEqual(0, self.raw(version, data).connack.reason_code)

    def test_no_user_name(self) -> None:
        """A user name behind a User Name Flag of 0: of 5.0 [MQTT-3.1.2-16], of 3.1.1 [MQTT-3.1.2-18]."""
        self.assert_malformed(0x02, b"\0\1x", _USER)

    def test_user_name(self) -> None:
        """None behind a flag of 1: of 5.0 [MQTT-3.1.2-17], of 3.1.1 [MQTT-3.1.2-19]."""
        self.assert_malformed(0x82, b"\0\1x")
        self.assert_claimed(0x82, b"\0\1x", _USER, expected=("alice", ()))

    def test_no_password(self) -> None:
        """A password behind a Password Flag of 0: of 5.0 [MQTT-3.1.2-18], of 3.1.1 [MQTT-3.1.2-20]."""
        self.assert_malformed(0x82, b"\0\1x", _USER, _KEY)

    def test_password(self) -> None:
        """None behind a flag of 1: of 5.0 [MQTT-3.1.2-19], of 3.1.1 [MQTT-3.1.2-21]."""
        self.assert_malformed(0xC2, b"\0\1x", _USER)
        self.assert_claimed(0xC2, b"\0\1x", _USER, _KEY, expected=("alice", ("key-of-alice",)))

    def test_no_password_alone(self) -> None:
        """3.1.1 knows no password without a user name: of 3.1.1 [MQTT-3.1.2-22]."""
        self.assert_malformed(0x42, b"\0\1x", _KEY, versions=(4,))
        self.assert_claimed(0x42, b"\0\1x", _KEY, expected=(None, ("key-of-alice",)), versions=(5,))

    def assert_malformed(self, flags: int, *fields: bytes, versions: tuple[int, ...] = VERSIONS) -> None:
        """Such a CONNECT is closed, and what it claims is nobody asked about."""
        for version in versions:
            self.house.gate.claims.clear()
            client = self.raw(version, connect_bytes(version, flags, body(version, *fields)))
            self.assertTrue(client.closed)
            self.assertEqual([0x81] if version == 5 else [], codes(client.answer))
            self.assertEqual([], self.house.gate.claims)

    def assert_claimed(
        self,
        flags: int,
        *fields: bytes,
        expected: tuple[str | None, tuple[str, ...]],
        versions: tuple[int, ...] = VERSIONS,
    ) -> None:
        """Such a CONNECT is understood as these claims: user name and keys."""
        for version in versions:
            self.raw(version, connect_bytes(version, flags, body(version, *fields)))
            claims = self.house.gate.claims[-1]
            self.assertEqual(expected, (claims.thing_id, claims.keys))


class PayloadTests(StatementTestCase):
    """3.1.3: the fields of a CONNECT."""

    def test_order(self) -> None:
        """Client identifier, will, user name, password are read in this order [MQTT-3.1.3-1]."""
        listener = self.connect("bob")
        listener.subscribe(f"{TOPIC}/#")
        for version in VERSIONS:
            section = b"\x05\x18\0\0\0\0" if version == 5 else b""
            fields = (b"\0\3abc", section, _WILL_TOPIC, b"\0\4last", _USER, _KEY)
            client = self.raw(version, connect_bytes(version, 0xC6, body(version, *fields)))
            self.assertEqual(0, client.connack.reason_code)
            claims = self.house.gate.claims[-1]
            self.assertEqual(("alice", ("key-of-alice",)), (claims.thing_id, claims.keys))
            client.lose()
            self.assertEqual([(TOPIC, b"last")], [(one.topic, one.payload) for one in listener.messages()])

    def test_client_identifier_is_there(self) -> None:
        """A CONNECT without one is refused, also where it would be empty [MQTT-3.1.3-3]."""
        for version in VERSIONS:
            client = self.raw(version, connect_bytes(version, 2, body(version)))
            self.assertTrue(client.closed)
            self.assertEqual([], self.house.gate.claims)

    def test_client_identifier_is_text(self) -> None:
        """[MQTT-3.1.3-4]"""
        self.assert_no_text(0x02, b"%s")

    def test_will_topic_is_text(self) -> None:
        """Of 5.0 [MQTT-3.1.3-11], of 3.1.1 [MQTT-3.1.3-10]."""
        self.assert_no_text(0x06, b"\0\1x", b"%s", b"\0\0", properties_before=1)

    def test_user_name_is_text(self) -> None:
        """Of 5.0 [MQTT-3.1.3-12], of 3.1.1 [MQTT-3.1.3-11]."""
        self.assert_no_text(0x82, b"\0\1x", b"%s")

    def test_client_identifiers_that_every_server_takes(self) -> None:
        """1 to 23 bytes of digits and letters [MQTT-3.1.3-5]."""
        letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
        parts = [letters[start : start + 23] for start in range(0, len(letters), 23)]
        for version in VERSIONS:
            for client_id in ["a", "Z", "0", *parts]:
                client = self.connect("alice", version, client_id)
                self.assertNotIn(
                    properties.ASSIGNED_CLIENT_IDENTIFIER, properties_of(client.connack), client_id
                )

    def test_empty_client_identifier_of_3_1_1(self) -> None:
        """Each gets one of its own, and is a client like any other: of 3.1.1 [MQTT-3.1.3-6]."""
        first, second = (self.connect("alice", 4, "") for _ in range(2))
        for client in (first, second):
            self.assertFalse(client.closed)
            client.subscribe(TOPIC)
        self.connect("bob").publish()
        self.assertEqual([1, 1], [len(client.messages()) for client in (first, second)])

    def test_empty_client_identifier_of_5_0(self) -> None:
        """Each gets one of its own, which no session uses [MQTT-3.1.3-6] [MQTT-3.2.2-16]."""
        clients = [self.connect("alice", 5, "") for _ in range(3)]
        self.assertEqual(3, len({self.assigned(client) for client in clients}))
        self.assertFalse(any(client.closed for client in clients))

    def test_an_assigned_client_identifier_is_one(self) -> None:
        """It is told, and who comes back with it comes back to its session [MQTT-3.1.3-7]."""
        first = self.connect("alice", 5, "", kept=100)
        first.subscribe(TOPIC)
        first.lose()
        second = self.connect("alice", 5, self.assigned(first), kept=100)
        self.assertTrue(second.connack.session_present)
        third = self.connect("alice", 5, self.assigned(first))
        self.assertTrue(second.closed)
        self.assertFalse(third.closed)

    def test_empty_client_identifier_of_a_kept_session(self) -> None:
        """3.1.1 may not ask for that: of 3.1.1 [MQTT-3.1.3-7] [MQTT-3.1.3-8] [MQTT-3.1.3-9]."""
        client = self.ask(self.who("alice", 4, "", clean_start=False))
        self.assertEqual(([Connack(2)], True), (client.answer, client.closed))

    def assigned(self, client: Client) -> str:
        """The Assigned Client Identifier of a CONNACK."""
        return str(properties_of(client.connack)[properties.ASSIGNED_CLIENT_IDENTIFIER])

    def assert_no_text(self, flags: int, *fields: bytes, properties_before: int = -1) -> None:
        """What is no UTF-8 in the place of ``%s`` is refused, and text there is not."""
        for version in VERSIONS:
            for text, is_text in ((b"\xff", False), (b"\xed\xa0\x80", False), (b"a\0", False), (b"a", True)):
                self.house.gate.claims.clear()
                parts = [len(text).to_bytes(2, "big") + text if one == b"%s" else one for one in fields]
                if version == 5 and properties_before >= 0:
                    parts.insert(properties_before, b"\0")
                self.raw(version, connect_bytes(version, flags, body(version, *parts)))
                self.assertEqual(is_text, bool(self.house.gate.claims), (version, text))


class ActionTests(StatementTestCase):
    """3.1.4: what a server does about a CONNECT."""

    def test_malformed(self) -> None:
        """Closed; 5.0 is told why, and 3.1.1 has no CONNACK for it [MQTT-3.1.4-1]."""
        for version in VERSIONS:
            client = self.raw(version, connect_bytes(version, 3, body(version, b"\0\1x")))
            self.assertTrue(client.closed)
            self.assertEqual([0x81] if version == 5 else [], codes(client.answer))

    def test_unknown_client(self) -> None:
        """Who does not prove who it is, or wills where it may not, is closed [MQTT-3.1.4-2]."""
        stranger = self.ask(Connect(5, "a", user_name="alice", password=b"guessed"))
        willing = self.ask(self.who("alice", will=Will("channels/e/messages", b"")))
        for client, reason_code in ((stranger, 0x86), (willing, 0x87)):
            self.assertEqual((reason_code, True), (client.connack.reason_code, client.closed))

    def test_takeover(self) -> None:
        """Of 5.0 [MQTT-3.1.4-3]: 0x8E; of 3.1.1 [MQTT-3.1.4-2]; also between the versions."""
        for old in VERSIONS:
            for new in VERSIONS:
                older = self.connect("alice", old, "pump")
                newer = self.connect("alice", new, "pump")
                self.assert_refused(older, older.heard(), 0x8E)
                self.assertEqual((False, [Pingresp()]), (newer.closed, newer.send(Pingreq())))

    def test_accepted(self) -> None:
        """Code 0: of 5.0 [MQTT-3.1.4-5], of 3.1.1 [MQTT-3.1.4-4]."""
        for version in VERSIONS:
            self.assertEqual([0], codes(self.connect("alice", version).answer))

    def test_nothing_behind_a_refusal(self) -> None:
        """Of 5.0 [MQTT-3.1.4-6], of 3.1.1 [MQTT-3.1.4-5]: nothing of it happens."""
        listener = self.connect("bob")
        listener.subscribe(TOPIC)
        for version in VERSIONS:
            connect = Connect(version, "a", user_name="alice", password=b"guessed")
            client = self.raw(version, encode(connect, version) + encode(Publish(TOPIC, b"x"), version))
            later = client.send(Publish(TOPIC, b"y"), Pingreq())
            self.assertEqual((1, []), (len(client.answer), later))
        self.assertEqual([], listener.messages())

    def test_nothing_before_connack(self) -> None:
        """Of 5.0 [MQTT-3.2.0-1], of 3.1.1 [MQTT-3.2.0-1]: not a byte, whatever the client says."""
        for version in VERSIONS:
            self.house.gate.held = []
            client = self.raw(version, encode(self.who("alice", version), version) + b"\xc0\0")
            self.assertEqual([], client.answer)
            self.house.gate.held.pop()()
            self.assertEqual([Connack, Pingresp], [type(one) for one in client.heard()])
            self.house.gate.held = None


class ConnackTests(StatementTestCase):
    """3.2: what a CONNACK says."""

    def test_flags(self) -> None:
        """Bits 7 to 1 of the acknowledge flags are 0 [MQTT-3.2.2-1]."""
        for kept in (0, 100, 100):
            wire = self.house.mqtt_wire()
            data = wire.receive(encode(self.who("alice", kept=kept), 5))
            self.house.end_turn()
            data += wire.take()
            self.assertEqual((0x20, 0), (data[0], data[2] & 0xFE))
            wire.lose()

    def test_refusals_have_no_session(self) -> None:
        """Of 5.0 [MQTT-3.2.2-6], of 3.1.1 [MQTT-3.2.2-4]: though there is one of that name."""
        for version in VERSIONS:
            self.connect("alice", version, "a", kept=100).lose()
            connect = Connect(version, "a", False, user_name="alice", password=b"guessed")
            client = self.ask(connect)
            self.assertNotEqual(0, client.connack.reason_code)
            self.assertFalse(client.connack.session_present)

    def test_refusals_close(self) -> None:
        """Of 5.0 [MQTT-3.2.2-7], of 3.1.1 [MQTT-3.2.2-5]."""
        for version in VERSIONS:
            client = self.ask(Connect(version, "a", user_name="alice", password=b"guessed"))
            self.assertEqual((0x86 if version == 5 else 4, True), (client.connack.reason_code, client.closed))

    def test_no_return_code(self) -> None:
        """What 3.1.1 has no return code for is closed without CONNACK: of 3.1.1 [MQTT-3.2.2-6]."""
        client = self.ask(self.who("alice", 4, will=Will("no/channel", b"")))
        self.assertEqual(([], True), (client.answer, client.closed))

    def test_no_maximum_qos(self) -> None:
        """QoS 2 is there, so that none is announced and none refused: [MQTT-3.2.2-9] [MQTT-3.2.2-10]
        [MQTT-3.2.2-11] [MQTT-3.2.2-12]."""
        client = self.connect("alice", will=Will(TOPIC, b"", 2))
        self.assertNotIn(properties.MAXIMUM_QOS, properties_of(client.connack))
        for qos in (0, 1, 2):
            client.subscribe(f"{TOPIC}/{qos}", qos=qos)  # asks for this grant
            answers = codes(client.publish(qos=qos))
            self.assertEqual([0] if qos else [], answers)

    def test_retain_is_available(self) -> None:
        """So that it is neither denied nor refused: [MQTT-3.2.2-13] [MQTT-3.2.2-14]."""
        client = self.connect("alice", will=Will(TOPIC, b"", 0, True))
        self.assertNotIn(properties.RETAIN_AVAILABLE, properties_of(client.connack))
        self.assertEqual([0], codes(client.publish(qos=1, retain=True)))
        self.assertFalse(client.closed)

    def test_packets_past_our_maximum(self) -> None:
        """A packet longer than we announced is refused, at its header [MQTT-3.2.2-15]."""
        client = self.connect("alice")
        maximum = properties_of(client.connack)[properties.MAXIMUM_PACKET_SIZE]
        assert isinstance(maximum, int)
        data = framed(0x30, bytes(maximum))
        answer = client.send(data[:5])
        self.assert_refused(client, answer, 0x95)

    def test_no_server_keep_alive(self) -> None:
        """None is sent, so the client's counts [MQTT-3.2.2-22]."""
        client = self.connect("alice", keep_alive=20)
        self.assertNotIn(properties.SERVER_KEEP_ALIVE, properties_of(client.connack))
        self.house.clock.pump([5.0] * 5 + [4.8])
        self.assertFalse(client.closed)
        self.house.clock.advance(0.4)
        self.assert_refused(client, client.heard(), 0x8D)

    def test_server_keep_alive(self) -> None:
        """Where one is sent it counts, whether the client adopts it or not: [MQTT-3.1.2-21]
        [MQTT-3.2.2-21]."""
        self.house.mqtt.limits.max_keep_alive = 10
        for asked in (0, 11, 65_535):
            client = self.connect("alice", keep_alive=asked)
            self.assertEqual(10, properties_of(client.connack)[properties.SERVER_KEEP_ALIVE])
            self.house.clock.pump([5.0, 5.0, 4.8])
            self.assertFalse(client.closed)
            self.house.clock.advance(0.4)
            self.assert_refused(client, client.heard(), 0x8D)

    def test_keep_alive(self) -> None:
        """One and a half times a keep alive of silence is a lost network, will and all, for a client owes a
        packet in each: [MQTT-3.1.2-20] [MQTT-3.1.2-22], of 3.1.1 [MQTT-3.1.2-23] [MQTT-3.1.2-24]."""
        listener = self.connect("bob")
        listener.subscribe(TOPIC)
        for version in VERSIONS:
            client = self.connect("alice", version, keep_alive=10, will=Will(TOPIC, b"silent"))
            self.house.clock.pump([5.0, 5.0, 4.8])
            self.assertFalse(client.closed)
            self.house.clock.advance(0.4)
            self.assert_refused(client, client.heard(), 0x8D)
            client.lose()
            self.assertEqual([b"silent"], [one.payload for one in listener.messages()])

    def test_response_information(self) -> None:
        """Who does not ask for it gets none [MQTT-3.1.2-28]."""
        for said in ({}, {properties.REQUEST_RESPONSE_INFORMATION: 0}):
            client = self.connect("alice", properties=dict(said))
            self.assertNotIn(properties.RESPONSE_INFORMATION, properties_of(client.connack))

    def test_disconnect_before_connack(self) -> None:
        """A server that ends it then says so in CONNACK or not at all [MQTT-3.14.0-1]."""
        self.house.gate.held = []
        client = self.ask(self.who("alice"))
        self.house.mqtt.going_away()
        self.assertEqual([], only(Disconnect, client.heard()))
        self.assertTrue(client.closed)
