"""A session belongs to (thing id, client id), and lives as long as it is to; its will comes when due."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mfserver.durable import FOREVER, NEVER, KeptSubscription, KeptWill, SessionKey
from mfserver.errors import Invalid, Overloaded
from mfserver.message import Message
from mfserver.mqtt.properties import MESSAGE_EXPIRY_INTERVAL
from mfserver.records import Change, ChannelId, ThingId
from mfserver.routing.router import Options
from mfserver.routing.sessions import Bounds, _text
from mfserver.topic import TopicFilter, parse_filter
from tests.routing.cases import mqtt
from tests.routing.house import House, Phone

ALICE = ThingId("alice")


class SessionsCase(SynchronousTestCase):
    """A house, and somebody who hears everything on channel c."""

    def setUp(self) -> None:
        self.house = House()
        self.witness, _ = self.house.open(name="witness", thing="bob", expiry=0, subscribe="#")

    def will(self, delay: int = 0, payload: bytes = b"will", **rest: object) -> KeptWill:
        return KeptWill(mqtt("channels/c/messages/will", 0, payload=payload, **rest), delay)  # type: ignore[arg-type]

    def wills(self) -> list[bytes]:
        """What the witness heard."""
        return self.witness.payloads()

    def after_crash(self) -> None:
        """Another process, with the witness connected to it."""
        self.house.crash()
        self.witness, _ = self.house.open(name="witness", thing="bob", expiry=0, subscribe="#")


class OpenTests(SessionsCase):
    """Who gets which session."""

    def test_present(self) -> None:
        """One that is kept is there again; one that is not, or is to begin anew, is not [MQTT-3.1.2-4]."""
        phone, is_present = self.house.open()
        self.assertFalse(is_present)
        self.house.close(phone)
        phone, is_present = self.house.open()
        self.assertTrue(is_present)
        self.house.close(phone)
        phone, is_present = self.house.open(clean_start=True, expiry=0)
        self.assertFalse(is_present)
        self.house.close(phone)
        self.assertFalse(self.house.open()[1])

    def test_names(self) -> None:
        """Another thing's client of that name, and another client of that thing, are others."""
        names = (("alice", "a"), ("carol", "a"), ("alice", "b"), ("alicea", ""))
        phones = [self.house.open(thing=thing, name=name)[0] for thing, name in names]
        self.assertEqual([[]] * 4, [phone.ended for phone in phones])
        self.assertEqual(5, len(self.house.sessions))

    def test_takeover(self) -> None:
        """The newer connection has the session; the older is told, and its end takes nothing from anybody."""
        for expiry, is_present in ((NEVER, True), (0, False)):
            older, _ = self.house.open(name=str(expiry), expiry=expiry, subscribe="#")
            newer, found = self.house.open(name=str(expiry), expiry=expiry)
            self.assertEqual((is_present, ["taken over"], []), (found, older.ended, newer.ended))
            self.house.close(older)
            self.assertIs(newer, newer.session.holder)
            self.house.close(newer)
        self.house.settle()
        self.assertEqual(2, len(self.house.sessions))

    def test_takeover_while_it_opens(self) -> None:
        """One that still waits for its CONNACK is taken over, too; nobody was told of its session yet."""
        self.house.store.hold = True
        first, second = Phone(), Phone()
        sessions = self.house.sessions
        opened = [
            Deferred.fromCoroutine(sessions.open(self.house.rights.thing(ALICE), "a", False, NEVER, it, None))
            for it in (first, second)
        ]
        self.house.clock.advance(1)
        self.assertNoResult(opened[1])
        self.house.settle()
        untold = self.successResultOf(opened[0])[0]
        session, is_present = self.successResultOf(opened[1])
        self.assertEqual((False, True, False), (is_present, untold.is_over, session.is_over))
        self.assertEqual((["taken over"], second), (first.ended, session.holder))
        self.assertEqual({ALICE: 1}, self.house.rights.held)

    def test_committed_first(self) -> None:
        """Nobody hears of a session that is not on the disk."""
        self.house.stall()
        phone = Phone()
        opened = Deferred.fromCoroutine(
            self.house.sessions.open(self.house.rights.thing(ALICE), "a", False, 5, phone, self.will())
        )
        self.house.clock.pump([1] * 5)
        self.assertNoResult(opened)
        self.house.store.fail = None
        self.house.clock.pump([1] * 2)
        self.assertFalse(self.successResultOf(opened)[1])
        self.assertEqual(5, self.house.store.load().sessions[0].expiry)

    def test_cannot_be_kept(self) -> None:
        """One that cannot be stored is not kept, its will is not published, its rights are not held."""
        for _ in range(2):
            self.house.store.fail = ValueError("a mistake of ours")
            with self.assertRaises(Overloaded):
                self.house.open(will=self.will())
            self.house.store.fail = None
            self.house.settle()
            self.assertTrue(self.flushLoggedErrors(ValueError))
            self.assertEqual((1, {}, []), (len(self.house.sessions), self.house.rights.held, self.wills()))

    def test_cannot_be_resumed(self) -> None:
        """One that was there stays."""
        self.house.close(self.house.open()[0])
        self.house.settle()
        self.house.store.fail = ValueError("a mistake of ours")
        with self.assertRaises(Overloaded):
            self.house.open(will=self.will())
        self.house.store.fail = None
        self.flushLoggedErrors(ValueError)
        self.assertTrue(self.house.open()[1])
        self.assertEqual([], self.wills())

    def test_rights(self) -> None:
        """Where they cannot be read there is no session; they are held once for each that is kept."""
        self.house.rights.error = Overloaded("no rights")
        with self.assertRaises(Overloaded):
            self.house.open()
        self.house.rights.error = None
        phones = [self.house.open(name=name)[0] for name in ("a", "b", "a")]
        self.assertEqual({ALICE: 2}, self.house.rights.held)
        for phone in phones[1:]:
            self.house.close(phone, 0)
        self.assertEqual({}, self.house.rights.held)

    def test_max_kept(self) -> None:
        """A thing has so many sessions that outlive their connections; those it has it may have again."""
        for name in "abc":
            self.house.open(name=name)
        with self.assertRaises(Overloaded):
            self.house.open(name="d")
        self.house.open(name="e", expiry=0)  # it is there, but not kept
        with self.assertRaises(Overloaded):
            self.house.open(name="e")
        self.assertEqual({ALICE: 3}, self.house.rights.held)
        self.assertTrue(self.house.open(name="a")[1])
        self.house.open(name="a", clean_start=True)
        self.house.open(name="d", thing="carol")
        self.house.crash()
        with self.assertRaises(Overloaded):
            self.house.open(name="d")
        phone, _ = self.house.open(name="a", expiry=0)
        self.house.close(phone)
        self.house.open(name="d")

    def test_forever_or_not(self) -> None:
        """A session may be resumed to end with its next connection."""
        phone, _ = self.house.open()
        phone, is_present = self.house.open(expiry=0)
        self.assertTrue(is_present)
        self.house.close(phone)
        self.house.settle()
        self.assertTrue(self.house.store.is_empty())


class ExpiryTests(SessionsCase):
    """When sessions end."""

    def test_expires(self) -> None:
        """When its seconds have passed, all of them, and nothing is left then."""
        self.house.clock.advance(0.9)  # within a second
        phone, _ = self.house.open(expiry=2, subscribe="#")
        self.house.close(phone)
        self.house.publish(b"1")
        self.house.clock.advance(1.95)
        self.assertEqual(2, len(self.house.sessions))
        self.house.clock.pump([1, 1])
        self.house.settle()
        self.assertEqual(
            (1, True, {}), (len(self.house.sessions), self.house.store.is_empty(), self.house.rights.held)
        )
        self.assertEqual(1, len(self.house.router._levels))

    def test_resumed_in_time(self) -> None:
        """One that is resumed does not end then."""
        self.house.close(self.house.open(expiry=5)[0])
        self.house.clock.advance(4)
        phone, is_present = self.house.open(expiry=5)
        self.house.clock.advance(100)
        self.assertTrue(is_present)
        self.house.close(phone)
        self.assertTrue(self.house.open()[1])

    def test_never(self) -> None:
        """One that does not expire is there in a hundred years."""
        self.house.close(self.house.open(expiry=NEVER)[0])
        self.house.clock.advance(100 * 365 * 86_400)
        self.assertEqual(FOREVER, self.house.store.load().sessions[0].ends_at)
        self.assertTrue(self.house.open()[1])

    def test_disconnect_says_otherwise(self) -> None:
        """DISCONNECT may change it; but what ends with its connection cannot outlive it."""
        for expiry, said, is_present in ((NEVER, 3, False), (3, NEVER, True), (3, 0, False), (0, 3, False)):
            phone, _ = self.house.open(clean_start=True, expiry=expiry)
            self.house.close(phone, said)
            self.house.clock.advance(10)
            self.assertEqual(is_present, self.house.open(expiry=0)[1], (expiry, said))

    def test_after_a_crash(self) -> None:
        """Ends are known to the next process; who was connected then lost the connection with it."""
        self.house.open(name="here", expiry=10)
        self.house.close(self.house.open(name="away", expiry=10)[0])
        self.house.close(self.house.open(name="forever")[0])
        self.house.settle()
        self.house.clock.advance(5)
        self.after_crash()
        self.assertEqual(4, len(self.house.sessions))
        self.house.clock.advance(6)
        self.assertEqual(3, len(self.house.sessions))
        self.house.clock.advance(5)
        self.assertEqual(2, len(self.house.sessions))
        self.house.settle()
        self.assertEqual(["forever"], [it.client_id for it in self.house.store.load().sessions])

    def test_stop(self) -> None:
        """A server that ends waits for nothing but the disk."""
        self.house.close(self.house.open(expiry=10, will=self.will(5))[0])
        stopped = self.house.sessions.stop()
        assert stopped is not None
        self.house.clock.advance(1)
        self.successResultOf(stopped)
        self.assertEqual([], self.house.clock.getDelayedCalls())
        self.assertIsNone(self.house.sessions.stop())


class RestoreTests(SessionsCase):
    """What a start finds."""

    def test_everything(self) -> None:
        """Subscriptions with their options, queue, identifiers, numbers."""
        phone, _ = self.house.open()
        for text in ("channels/c/messages/+/#", "$share/g/channels/c/messages/s"):
            self.house.sessions.subscribe(phone.session, parse_filter(text), Options(2, True, True, (7,)))
        self.house.subscribe(phone, "gone")
        self.assertFalse(
            self.house.sessions.subscribe(phone.session, parse_filter("channels/c/messages/gone"), Options(0))
        )
        gone = parse_filter("channels/c/messages/gone")
        self.assertTrue(self.house.sessions.unsubscribe(phone.session, gone))
        self.assertFalse(self.house.sessions.unsubscribe(phone.session, gone))
        self.house.publish(b"1", 2, topic="a/b", retain=True)
        self.house.settle()
        self.house.crash()
        session = next(iter(self.house.sessions._sessions.values()))
        self.assertEqual((1, 257, SessionKey(1)), (session.count, session.size, session.key))
        self.assertNotEqual(session.key, self.house.journal.new_session())
        self.house.publish(b"2", topic="s", retain=True)
        self.house.publish(b"own", topic="a", origin=session)
        self.house.publish(b"none", topic="gone/x")
        phone, is_present = self.house.open()
        self.house.settle()
        self.assertTrue(is_present)
        # What both subscriptions match comes twice: the shared one stands for itself.
        self.assertEqual([b"1", b"2", b"2", b"none"], phone.payloads())
        self.assertEqual([True, True, True, False], [packet[5] for packet in phone.sent])
        self.assertEqual(
            {b"1", b"2"},
            {it.payload for it in self.house.retained.match(parse_filter("channels/c/messages/#"))},
        )

    def test_bad_subscription(self) -> None:
        """One that cannot be read any more costs no other."""
        phone, _ = self.house.open(subscribe="#")
        key = phone.session.key
        self.house.journal.subscription(key, "bad", KeptSubscription("bad", 1))
        self.house.settle()
        self.house.crash()
        self.assertEqual(1, len(self.flushLoggedErrors(Invalid)))
        self.house.publish(b"1")
        phone, _ = self.house.open()
        self.house.settle()
        self.assertEqual([b"1"], phone.payloads())

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.sampled_from(["+", "a", "", "ct", "ü", "$x"]), max_size=4),
        st.sampled_from(["", "g", "ct"]),
        st.booleans(),
    )
    def test_text(self, levels: list[str], share: str, rest: bool) -> None:
        """A filter means the same when it is read back."""
        topic_filter = TopicFilter("c", (*levels, *(["#"] if rest else [])), share)
        again = parse_filter(_text(topic_filter))
        self.assertEqual(
            ("c", topic_filter.levels, share), (again.channel, again.levels, again.share), _text(topic_filter)
        )


class WillTests(SessionsCase):
    """Wills (MQTT 5.0, 3.1.2.5)."""

    def test_published(self) -> None:
        """When the connection ends without a normal DISCONNECT, and not after one."""
        for expiry in (0, NEVER):
            phone, _ = self.house.open(expiry=expiry, will=self.will())
            self.house.close(phone, will=False)
            self.assertEqual([], self.wills())
            phone, _ = self.house.open(expiry=expiry, will=self.will())
            self.house.close(phone)
            self.assertEqual([b"will"], self.wills())
            self.witness.sent.clear()
        self.house.settle()
        self.assertEqual({}, self.house.store.load().wills)

    def test_time(self) -> None:
        """It is as old as its publishing, and lives its interval from then on."""
        will = self.will(5, properties={MESSAGE_EXPIRY_INTERVAL: 7})
        self.house.close(self.house.open(will=will)[0])
        self.house.clock.advance(5)
        self.assertEqual(self.house.now(), will.message.created)
        self.assertEqual(self.house.now() + 7 * 10**9, will.message.expires)

    def test_delay(self) -> None:
        """Not before its delay has passed, all of it [MQTT-3.1.3-9]; not at all if the client is back."""
        self.house.clock.advance(0.9)
        self.house.close(self.house.open(will=self.will(2))[0])
        self.house.clock.advance(1.95)
        self.assertEqual([], self.wills())
        self.house.clock.pump([1, 1])
        self.assertEqual([b"will"], self.wills())
        for will in (None, self.will(2, b"other")):
            self.house.close(self.house.open(will=self.will(2))[0])
            self.house.clock.advance(1)
            phone, _ = self.house.open(will=will)
            self.house.clock.advance(10)
            self.house.close(phone, will=False)
            self.house.clock.advance(10)
        self.assertEqual([b"will"], self.wills())

    def test_session_ends_first(self) -> None:
        """When the session ends before its delay, by time, by its connection's end or by a clean start."""
        self.house.close(self.house.open(expiry=1, will=self.will(100))[0])
        self.house.clock.pump([1, 1])
        self.assertEqual(1, len(self.wills()))
        self.house.close(self.house.open(expiry=0, will=self.will(100))[0])
        self.assertEqual(2, len(self.wills()))
        self.house.close(self.house.open(will=self.will(100))[0])
        self.house.open(clean_start=True)
        self.assertEqual(3, len(self.wills()))
        self.house.clock.advance(1000)
        self.assertEqual(3, len(self.wills()))

    def test_takeover(self) -> None:
        """Of the older connection: at once without a delay; with one never, for the session goes on."""
        for delay, expiry, count in ((0, NEVER, 1), (9, NEVER, 1), (0, 0, 2), (9, 0, 3)):
            self.house.open(expiry=expiry, clean_start=True, will=self.will(delay))
            phone, _ = self.house.open(expiry=expiry)
            self.house.close(phone, 0)
            self.assertEqual(count, len(self.wills()), (delay, expiry))

    def test_right_lost(self) -> None:
        """It is asked again whether the thing may."""
        phone, _ = self.house.open(will=self.will())
        self.house.rights.thing(ALICE).channels.clear()
        self.house.close(phone)
        self.assertEqual([], self.wills())

    def test_crash(self) -> None:
        """A crash is the end of every connection: wills come to all who had subscribed, later ones, too."""
        self.house.open(name="first", will=self.will(payload=b"now"))
        self.house.open(name="delayed", will=self.will(5, b"later"))
        self.house.close(self.house.open(name="away", will=self.will(60, b"due"))[0])
        last, _ = self.house.open(name="last", thing="carol", subscribe="will")
        self.house.close(last)
        self.house.settle()
        self.house.clock.advance(50)
        self.after_crash()
        self.house.clock.advance(6)
        self.assertEqual([b"later"], self.wills())
        self.house.clock.advance(6)
        self.assertEqual([b"later", b"due"], self.wills())
        self.house.settle()
        self.house.crash()
        self.house.clock.advance(100)
        self.assertEqual({}, self.house.store.load().wills)

    def test_forgotten_on_the_disk(self) -> None:
        """One that a newer connection took the place of, without a will, is not found after a crash."""
        self.house.close(self.house.open(will=self.will(100))[0])
        self.house.settle()
        self.house.open()
        self.house.settle()
        self.after_crash()
        self.house.clock.advance(200)
        self.assertEqual([], self.wills())

    def test_crash_reaches_all(self) -> None:
        """At QoS 1 they are in the queues of sessions that are restored after them."""
        will = KeptWill(mqtt("channels/c/messages/will", 1, payload=b"now"))
        self.house.open(name="first", will=will)
        last, _ = self.house.open(name="last", thing="carol", subscribe="will")
        self.house.close(last)
        self.house.settle()
        self.house.crash()
        last, _ = self.house.open(name="last", thing="carol")
        self.house.settle()
        self.assertEqual([b"now"], last.payloads())

    def test_refused(self) -> None:
        """One that cannot be published is reported, and stops nothing."""

        class Full:
            def publish(self, message: Message) -> None:
                raise Overloaded("too much")

        phone, _ = self.house.open(expiry=0, will=self.will())
        self.house.router.bus = Full()  # type: ignore[assignment]
        self.house.close(phone)
        self.assertEqual([("a will could not be published", "too much")], self.house.reports)
        self.assertEqual(1, len(self.house.sessions))

    def test_not_stored(self) -> None:
        """One that cannot be stored for another reason than lack of room is logged."""
        kept, _ = self.house.open(name="kept", thing="carol", subscribe="will")
        self.house.close(kept)
        will = KeptWill(mqtt("channels/c/messages/will", 1, payload=b"now"))
        phone, _ = self.house.open(expiry=0, will=will)
        self.house.store.fail = ValueError("a mistake of ours")
        self.house.close(phone)
        self.house.clock.advance(1)
        self.assertEqual(2, len(self.flushLoggedErrors(ValueError, Overloaded)))

    def test_chain(self) -> None:
        """A will may end the connections of others, whose wills end those of others, and so on."""
        house = self.house = House(Bounds(memory=1000))
        phones = []
        for number in range(150):
            will = KeptWill(mqtt("channels/c/messages/will", 1, payload=bytes(800)))
            phone, _ = house.open(name=str(number), expiry=0, will=will, subscribe="#")
            phone.is_writable = False
            phones.append(phone)
        house.publish(bytes(800))
        self.assertEqual(150, len(house.sessions))
        house.publish(bytes(800))
        self.assertEqual((0, [["too slow"]] * 150), (len(house.sessions), [phone.ended for phone in phones]))


class ChangeTests(SessionsCase):
    """Things and channels come and go."""

    def test_thing_deleted(self) -> None:
        """Its sessions end, connected or not, without their wills; others stay."""
        self.house.open(name="here", will=self.will())
        self.house.open(name="passing", expiry=0, will=self.will())
        self.house.close(self.house.open(name="away", will=self.will(5))[0])
        self.house.open(name="other", thing="carol")
        self.house.sessions.changed(Change(things=(ALICE,), channels=(ChannelId("c"),)))
        self.house.sessions.changed(Change(things=(ALICE,)))
        self.assertEqual(5, len(self.house.sessions))
        self.house.sessions.changed(Change(things=(ALICE,), deleted=True))
        self.house.clock.advance(10)
        self.house.settle()
        self.assertEqual((2, []), (len(self.house.sessions), self.wills()))
        self.assertEqual({ThingId("carol"): 1}, self.house.rights.held)
        self.assertEqual(["other"], [it.client_id for it in self.house.store.load().sessions])

    def test_channel_deleted(self) -> None:
        """Its retained messages go, also those that are not on the disk yet."""
        self.house.publish(b"1", retain=True)
        self.house.settle()
        self.house.publish(b"2", topic="u", retain=True)
        self.house.sessions.changed(Change(channels=(ChannelId("c"),)))
        self.house.settle()
        self.assertEqual((0, []), (len(self.house.retained), list(self.house.store.load().retained)))

    def test_ended_twice(self) -> None:
        """A session ends once."""
        phone, _ = self.house.open()
        self.house.sessions._end(phone.session)
        self.house.sessions._end(phone.session)
        self.assertEqual({}, self.house.rights.held)

    def test_too_many_subscriptions(self) -> None:
        """One more than there may be is not kept either."""
        phone, _ = self.house.open()
        for number in range(100):
            self.house.subscribe(phone, str(number))
        with self.assertRaises(Overloaded):
            self.house.subscribe(phone, "more")
        self.house.settle()
        self.assertEqual(100, len(self.house.store.load().subscriptions[phone.session.key]))
