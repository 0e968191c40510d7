"""Packet identifiers, what is in flight and what waits."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt.encode import encode_publish_parts
from mfserver.mqtt.session import Session


class SessionTests(SynchronousTestCase):
    """The sending half of a session."""

    def test_identifiers_begin_at_1_and_go_round_without_0(self) -> None:
        """A packet identifier is never 0 and never one that is in flight [MQTT-2.2.1-4]."""
        session = Session(3)
        self.assertEqual(session.take_packet_id(), 1)
        seen = set()
        for _ in range(65_534 * 2):
            packet_id = session.take_packet_id()
            seen.add(packet_id)
            self.assertTrue(session.acknowledge(packet_id))
        self.assertEqual(seen, set(range(2, 65_536)))

    def test_the_send_quota_bounds_what_is_in_flight(self) -> None:
        """No more than the receive maximum is sent without an acknowledgement [MQTT-3.3.4-9]."""
        session = Session(2)
        self.assertEqual([session.take_packet_id() for _ in range(3)], [1, 2, 0])
        self.assertTrue(session.acknowledge(1))
        self.assertFalse(session.acknowledge(1))
        self.assertEqual(session.take_packet_id(), 3)

    def test_what_waits_goes_out_in_order(self) -> None:
        """Messages keep the order in which they came [MQTT-4.6.0-5]."""
        session = Session(1)
        first, second = (encode_publish_parts(4, topic, b"", 1) for topic in "ab")
        self.assertIsNone(session.next_queued())
        session.enqueue(first)
        session.enqueue(second)
        self.assertEqual(session.queued_bytes, first.size + second.size)
        self.assertEqual(session.next_queued(), (1, first))
        self.assertIsNone(session.next_queued())
        session.acknowledge(1)
        self.assertEqual(session.next_queued(), (2, second))
        self.assertEqual(session.queued_bytes, 0)

    def test_a_session_that_ended_is_empty(self) -> None:
        """Nothing of it is kept."""
        session = Session(1)
        session.take_packet_id()
        session.enqueue(encode_publish_parts(4, "a", b"", 1))
        session.clear()
        self.assertEqual((session.queued_bytes, session.acknowledge(1)), (0, False))
        self.assertIsNone(session.next_queued())
