"""What of a client outlives its connections: packet identifiers, what is in flight and what waits."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt.session import Delivery, Session


def begun(session: Session, qos: int = 1, message: object = "m") -> Delivery:
    """A delivery that was put in flight."""
    delivery = Delivery(message, qos)
    assert session.begin(delivery)
    return delivery


class PacketIdentifierTests(SynchronousTestCase):
    """Which packet identifiers deliveries get."""

    def test_they_begin_at_1_and_go_round_without_0(self) -> None:
        """An identifier is never 0, and all 65,535 come before one comes again [MQTT-2.2.1-4]."""
        session = Session(3)
        held = begun(session)
        self.assertEqual(held.packet_id, 1)
        seen = []
        for _ in range(65_534 + 2):
            delivery = begun(session)
            seen.append(delivery.packet_id)
            self.assertIs(session.puback(delivery.packet_id), delivery)
        self.assertEqual(seen, [*range(2, 65_536), 2, 3])

    def test_one_in_flight_is_never_given_again(self) -> None:
        """Not after going round either: [MQTT-4.3.2-1] [MQTT-4.3.3-1], of 3.1.1 [MQTT-2.3.1-4]."""
        session = Session(65_535)
        for packet_id in (65_534, 1, 2, 65_535):
            restored = Delivery("old", 2)
            restored.packet_id = packet_id
            session.adopt(restored)
        self.assertEqual(begun(session).packet_id, 3)
        session._last = 65_533
        self.assertEqual(begun(session).packet_id, 4)

    def test_with_all_but_one_in_flight_there_is_still_one(self) -> None:
        """The search for a free identifier ends, and past the quota there is none to give."""
        session = Session(65_535)
        for _ in range(65_535):
            begun(session)
        self.assertEqual(session.take_packet_id(), 0)
        session.puback(40_000)
        self.assertEqual(begun(session).packet_id, 40_000)

    def test_the_send_quota_bounds_what_is_in_flight(self) -> None:
        """No more than the client's Receive Maximum, of both QoS [MQTT-3.3.4-9] [MQTT-4.9.0-2]."""
        session = Session(2)
        first, second = begun(session, 1), begun(session, 2)
        third = Delivery("m", 1)
        self.assertFalse(session.begin(third))
        self.assertEqual((third.packet_id, list(session.in_flight.values())), (0, [first, second]))
        session.puback(first.packet_id)
        self.assertTrue(session.begin(third))
        self.assertEqual(third.packet_id, 3)

    def test_released_deliveries_count_until_pubcomp(self) -> None:
        """PUBREC frees nothing of the quota, PUBCOMP does (4.9)."""
        session = Session(1)
        delivery = begun(session, 2)
        session.pubrec(delivery.packet_id, 0)
        self.assertEqual(session.take_packet_id(), 0)
        session.pubcomp(1)
        self.assertEqual(session.take_packet_id(), 2)

    def test_the_quota_follows_the_connection(self) -> None:
        """While nobody is there nothing is put in flight; a client that takes less gets no more."""
        session = Session()
        self.assertFalse(session.begin(Delivery("m", 1)))
        session.send_quota = 2
        begun(session)
        begun(session)
        session.send_quota = 1
        session.puback(1)
        self.assertEqual(session.take_packet_id(), 0)
        session.puback(2)
        self.assertEqual(session.take_packet_id(), 3)

    def test_what_is_adopted_keeps_its_identifier(self) -> None:
        """A restored delivery goes on where it was [MQTT-4.4.0-1], and in the order of adoption."""
        session = Session(10)
        for packet_id, qos in ((7, 1), (3, 2)):
            delivery = Delivery(packet_id, qos, True, (1, 2), 99, 5)
            delivery.packet_id = packet_id
            session.adopt(delivery)
        self.assertEqual(list(session.in_flight), [7, 3])
        self.assertEqual(begun(session).packet_id, 4)
        (restored, _, _) = session.in_flight.values()
        said = (restored.retain, restored.identifiers, restored.size, restored.sequence)
        self.assertEqual(said, (True, (1, 2), 99, 5))


class AcknowledgementTests(SynchronousTestCase):
    """What each acknowledgement does in each state of a delivery."""

    #: State; then for PUBACK, PUBREC, a PUBREC that refuses, and PUBCOMP: is it found, is it over then.
    TABLE = (
        ("nothing", (False, False), (False, False), (False, False), (False, False)),
        ("qos 1", (True, True), (False, False), (False, False), (False, False)),
        ("qos 2", (False, False), (True, False), (True, True), (False, False)),
        ("released", (False, False), (True, False), (True, False), (True, True)),
    )

    def test_every_acknowledgement_in_every_state(self) -> None:
        """Only what fits is found; a refusal ends it [MQTT-4.4.0-2]; what is released waits for PUBCOMP
        alone, whatever else comes [MQTT-4.3.3-5] [MQTT-4.3.3-6].
        """
        for state, *expected in self.TABLE:
            for number, outcome in enumerate(expected):
                session = Session(5)
                delivery = Delivery("m", 1 if state == "qos 1" else 2)
                if state != "nothing":
                    session.begin(delivery)
                    self.assertFalse(delivery.released)
                if state == "released":
                    self.assertIs(session.pubrec(1, 0x10), delivery)
                    self.assertTrue(delivery.released)
                found = (
                    session.puback(1) if number == 0
                    else session.pubrec(1, 0) if number == 1
                    else session.pubrec(1, 0x80) if number == 2
                    else session.pubcomp(1)
                )  # fmt: skip
                is_over = state != "nothing" and 1 not in session.in_flight
                self.assertEqual((found is delivery, is_over), outcome, (state, number))
                self.assertEqual(found is None, not outcome[0], (state, number))
                self.assertEqual(delivery.packet_id, 0 if is_over or state == "nothing" else 1)

    def test_an_identifier_is_free_after_its_end(self) -> None:
        """The same acknowledgement finds nothing the second time."""
        session = Session(5)
        begun(session)
        self.assertIsNotNone(session.puback(1))
        self.assertIsNone(session.puback(1))
        begun(session, 2)
        session.pubrec(2, 0)
        self.assertIsNotNone(session.pubcomp(2))
        self.assertIsNone(session.pubcomp(2))


class WaitingTests(SynchronousTestCase):
    """The queue of a session."""

    def filled(self, *qos: int) -> Session:
        """A session in which messages 0, 1, 2... wait at these QoS, each of ten bytes and its number."""
        session = Session(1)
        for number, each in enumerate(qos):
            session.enqueue(Delivery(number, each, size=10 + number))
        return session

    def check(self, session: Session, *messages: int) -> None:
        """These wait, in this order, and they are counted right."""
        self.assertEqual([delivery.message for delivery in session.waiting], list(messages))
        self.assertEqual(session.waiting_bytes, sum(10 + message for message in messages))

    def test_what_waits_goes_out_in_order(self) -> None:
        """Messages keep the order in which they came, whatever their QoS [MQTT-4.6.0-5]."""
        session = self.filled(0, 1, 2, 0)
        self.check(session, 0, 1, 2, 3)
        out = []
        while (delivery := session.pop_waiting()) is not None:
            out.append(delivery.message)
        self.assertEqual(out, [0, 1, 2, 3])
        self.check(session)
        self.assertIsNone(session.drop_oldest_qos0())

    def test_the_oldest_of_qos_0_is_dropped_first(self) -> None:
        """However many of QoS 1 and 2 stand before it; those never are."""
        session = self.filled(1, 0, 2, 0)
        dropped = session.drop_oldest_qos0()
        assert dropped is not None
        self.assertEqual(dropped.message, 1)
        self.check(session, 0, 2, 3)
        session.pop_waiting()
        session.drop_oldest_qos0()
        self.check(session, 2)
        self.assertIsNone(session.drop_oldest_qos0())
        self.check(session, 2)

    def test_one_that_was_sent_is_not_dropped(self) -> None:
        """What went out of the queue by its head is no more there to be dropped."""
        session = self.filled(0, 0)
        session.pop_waiting()
        dropped = session.drop_oldest_qos0()
        assert dropped is not None
        self.assertEqual(dropped.message, 1)
        self.check(session)

    def test_what_may_not_be_had_any_more_is_taken_out(self) -> None:
        """All of which the question is true, and it is told which; what is in flight stays."""
        session = self.filled(0, 1, 0, 2)
        begun(session, 1, 0)
        over = session.discard(lambda delivery: delivery.message in (0, 1))
        self.assertEqual([delivery.message for delivery in over], [0, 1])
        self.check(session, 2, 3)
        self.assertEqual(list(session.in_flight), [1])
        self.assertEqual(session.discard(lambda _: False), [])
        dropped = session.drop_oldest_qos0()
        assert dropped is not None
        self.assertEqual(dropped.message, 2)

    def test_a_session_that_ended_is_empty(self) -> None:
        """Nothing of it is kept [MQTT-4.1.0-2]."""
        session = self.filled(0, 1)
        begun(session)
        session.received.add(7)
        session.clear()
        self.check(session)
        self.assertEqual((session.in_flight, session.received), ({}, set()))
        self.assertIsNone(session.drop_oldest_qos0())
        self.assertIsNone(session.pop_waiting())

    def test_received_is_kept(self) -> None:
        """What was added is there, for as long as the session."""
        session, other = Session(), Session()
        session.received.add(7)
        self.assertEqual((session.received, other.received), ({7}, set()))
