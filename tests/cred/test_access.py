"""The rights of things in memory, and how a change of them ends what they let in."""

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mfserver.cred.access import Access, Login, Presence
from mfserver.errors import NotAuthorized, Overloaded
from mfserver.interfaces import IChanges, IThing
from mfserver.records import Change, Channel, ChannelId, Thing, ThingId
from tests.cred.fakes import ALICE, CHANNEL, CarefulPeer, House, LiveConnection, alices_thing

OTHER = ChannelId("30000000-0000-4000-8000-000000000002")


def begin(access: Access, key: str) -> Deferred[ThingId | None]:
    return Deferred.fromCoroutine(access.find(key))


class AccessCase(SynchronousTestCase):
    def house(self, things: Iterable[int] = (1, 2), **limits: int) -> House:
        self.home = House(False, things, **limits)
        return self.home

    def find(self, thing: Thing) -> ThingId | None:
        return self.successResultOf(begin(self.home.access, thing.key))

    def login(self, thing: Thing, connection: LiveConnection | None = None) -> Login:
        found = self.find(thing)
        assert found is not None
        return self.home.access.login(found, Presence(connection, None))


class CacheTests(AccessCase):
    def test_interfaces(self) -> None:
        home = self.house()
        self.assertTrue(verifyObject(IChanges, home.access))
        self.assertTrue(verifyObject(IThing, self.login(home.things[0]).avatar))

    def test_a_thing_is_looked_up_once(self) -> None:
        """The hot path asks no database."""
        home = House(slow=True)
        self.home = home
        first = begin(home.access, home.things[0].key)
        home.slow.release_all()
        self.assertEqual(self.successResultOf(first), home.things[0].id)
        self.assertEqual(self.find(home.things[0]), home.things[0].id)
        self.assertEqual(home.slow.asked, 1)

    def test_an_unknown_key_is_never_remembered(self) -> None:
        """A key that somebody is given later works at once."""
        home = self.house()
        late = alices_thing(9)
        self.assertIsNone(self.find(late))
        home.store.things.add([late])
        self.assertEqual(self.find(late), late.id)

    def test_the_store_is_not_trusted_to_compare_in_full(self) -> None:
        """A database that compares without case would let in what is no key."""
        home = self.house()

        class CarelessThings:
            def by_key(self, key: str) -> Deferred[Thing | None]:
                return home.store.things.by_key(key.lower())

        careless: Any = CarelessThings()
        access = Access(careless, home.store.connections, b"s" * 32, home.watch)
        self.assertIsNone(self.successResultOf(begin(access, home.things[0].key.upper())))
        self.assertIsNotNone(self.successResultOf(begin(access, home.things[0].key)))

    def test_the_least_lately_used_is_forgotten(self) -> None:
        """Memory is bounded by ``size``."""
        home = House(slow=True, things=(1, 2, 3), size=2)
        self.home = home
        asked = []
        for index in (0, 1, 0, 2, 0, 1):
            found = begin(home.access, home.things[index].key)
            home.slow.release_all()
            self.successResultOf(found)
            asked.append(home.slow.asked)
        self.assertEqual(asked, [1, 2, 2, 3, 3, 4])

    def test_who_is_logged_in_is_not_forgotten(self) -> None:
        """Else a change would not find the connections that it ends."""
        home = self.house(things=(1, 2, 3, 4), size=1)
        told: list[tuple[str, str]] = []
        first = self.login(home.things[0], LiveConnection(told))
        for thing in home.things[1:]:
            self.login(thing, LiveConnection()).logout()
        home.access.changed(Change(things=(home.things[0].id,)))
        self.assertEqual(len(told), 1)
        self.assertEqual(first.avatar.channels, set())

    def test_after_the_logout_it_may_be_forgotten(self) -> None:
        home = House(slow=True, size=1)
        self.home = home
        for index in (0, 1):
            found = begin(home.access, home.things[index].key)
            home.slow.release_all()
            thing = self.successResultOf(found)
            assert thing is not None
            login = home.access.login(thing, Presence(None, None))
            if index == 0:
                kept = login
        login.logout()
        kept.logout()
        self.assertEqual(home.slow.asked, 2)
        begin(home.access, home.things[0].key)
        self.assertEqual(home.slow.asked, 2, "the one that left last is still known")
        begin(home.access, home.things[1].key)
        self.assertEqual(home.slow.asked, 3)

    def test_a_login_needs_a_thing_that_was_found(self) -> None:
        home = self.house()
        with self.assertRaises(NotAuthorized):
            home.access.login(home.things[0].id, Presence(None, None))


class LoginTests(AccessCase):
    def test_the_cap_counts_connections_of_one_thing(self) -> None:
        """A thing with too many connections is refused clearly; requests and other things are not."""
        home = self.house(max_connections=2)
        one, two = home.things
        first = self.login(one, LiveConnection())
        self.login(one, LiveConnection())
        with self.assertRaises(Overloaded):
            self.login(one, LiveConnection())
        self.login(one)
        self.login(two, LiveConnection())
        first.logout()
        first.logout()
        self.login(one, LiveConnection())
        with self.assertRaises(Overloaded):
            self.login(one, LiveConnection())

    def test_live_things(self) -> None:
        home = self.house()
        self.login(home.things[0])
        self.assertEqual(home.access.live_things(), 0)
        logins = [self.login(home.things[0], LiveConnection()) for _ in range(2)]
        logins.append(self.login(home.things[1], LiveConnection()))
        self.assertEqual(home.access.live_things(), 2)
        for login in logins:
            login.logout()
        self.assertEqual(home.access.live_things(), 0)

    def test_an_avatar_that_left_has_no_channels(self) -> None:
        home = self.house()
        stays, leaves = self.login(home.things[0]), self.login(home.things[0])
        leaves.logout()
        self.assertEqual(leaves.avatar.channels, set())
        self.assertEqual(stays.avatar.channels, {CHANNEL})

    def test_end_ends_one_login_once(self) -> None:
        home = self.house()
        told: list[tuple[str, str]] = []
        login = self.login(home.things[0], LiveConnection(told))
        login.end("over")
        login.end("over")
        self.assertEqual(told, [("end", "over")])
        self.assertEqual(login.avatar.channels, set())


class ChangedTests(AccessCase):
    def test_a_deleted_thing_is_ended_everywhere(self) -> None:
        """All its avatars are silent before the first is told, and the others hear nothing."""
        home = self.house()
        one, two = home.things
        told: list[tuple[str, str]] = []
        others: list[tuple[str, str]] = []
        connections = [LiveConnection(told), LiveConnection(told)]
        logins = [self.login(one, connection) for connection in connections]
        request = self.login(one)
        kept = request.avatar.channels
        other = self.login(two, LiveConnection(others))
        silent: list[bool] = []
        for connection in connections:
            connection.on_end = lambda: silent.append(
                not any(login.avatar.channels for login in [*logins, request])
            )
        home.store.things.remove(ALICE.id, one.id)
        home.access.changed(Change(things=(one.id,)))
        self.assertEqual([what for what, _ in told], ["end", "end"])
        self.assertEqual(silent, [True, True])
        self.assertEqual(kept, set(), "even somebody who kept the view sees it")
        self.assertEqual((others, other.avatar.channels), ([], {CHANNEL}))
        self.assertIsNone(self.find(one))

    def test_a_changed_key_lets_in_no_more(self) -> None:
        home = self.house()
        one = home.things[0]
        told: list[tuple[str, str]] = []
        self.login(one, LiveConnection(told))
        home.store.things.set_key(ALICE.id, one.id, "a-new-key-for-thing-1")
        home.access.changed(Change(things=(one.id,)))
        self.assertEqual(len(told), 1)
        self.assertIsNone(self.find(one))
        self.assertEqual(self.successResultOf(begin(home.access, "a-new-key-for-thing-1")), one.id)

    def test_a_failing_connection_does_not_keep_the_others_open(self) -> None:
        home = self.house()
        one = home.things[0]
        told: list[tuple[str, str]] = []
        for trouble in (ValueError("broken"), None, ValueError("broken")):
            self.login(one, LiveConnection(told, trouble))
        home.access.changed(Change(things=(one.id,), channels=(CHANNEL,)))
        home.access.changed(Change(things=(one.id,)))
        self.assertEqual([what for what, _ in told], ["lost"] * 3 + ["end"] * 3)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 4)

    def test_a_connection_that_logs_out_when_ended(self) -> None:
        """As real ones do; nothing is counted twice."""
        home = self.house(max_connections=1)
        one = home.things[0]
        connection = LiveConnection()
        connection.on_end = self.login(one, connection).logout
        home.access.changed(Change(things=(one.id,)))
        self.login(one, LiveConnection())
        with self.assertRaises(Overloaded):
            self.login(one, LiveConnection())

    def test_disconnected_things_fall_silent_on_that_channel(self) -> None:
        home = self.house()
        told: list[tuple[str, str]] = []
        others: list[tuple[str, str]] = []
        login = self.login(home.things[0], LiveConnection(told))
        request = self.login(home.things[0])
        other = self.login(home.things[1], LiveConnection(others))
        home.access.changed(
            Change(things=(home.things[0].id, alices_thing(77).id), channels=(CHANNEL, OTHER))
        )
        self.assertEqual(told, [("lost", CHANNEL)], "of the other channel it had no right to lose")
        self.assertEqual((login.avatar.channels, request.avatar.channels), (set(), set()))
        self.assertEqual((others, other.avatar.channels), ([], {CHANNEL}))

    def test_connected_things_may_use_the_channel_at_once(self) -> None:
        home = self.house()
        login = self.login(home.things[0], LiveConnection())
        home.access.changed(Change(things=(home.things[0].id,), channels=(OTHER,), connected=True))
        self.assertEqual(login.avatar.channels, {CHANNEL, OTHER})

    def test_a_deleted_channel_is_lost_by_everybody(self) -> None:
        home = self.house()
        told: list[tuple[str, str]] = []
        logins = [self.login(thing, LiveConnection(told)) for thing in home.things]
        home.access.changed(Change(channels=(CHANNEL,)))
        self.assertEqual(told, [("lost", CHANNEL)] * 2)
        self.assertEqual([login.avatar.channels for login in logins], [set(), set()])


class RaceTests(AccessCase):
    """A look-up that began before a change is never believed after it."""

    def slow_house(self) -> House:
        self.home = House(slow=True)
        return self.home

    def test_a_thing_deleted_between_look_up_and_answer(self) -> None:
        """Both halves of the look-up are tried: the key's and the channels'."""
        for steps in (0, 1):
            with self.subTest(steps=steps):
                home = self.slow_house()
                one = home.things[0]
                found = begin(home.access, one.key)
                for _ in range(steps):
                    home.slow.release()
                home.store.things.remove(ALICE.id, one.id)
                home.access.changed(Change(things=(one.id,)))
                home.slow.release_all()
                self.assertIsNone(self.successResultOf(found))
                self.assertEqual(home.slow.asked, 2)

    def test_a_channel_lost_between_look_up_and_answer(self) -> None:
        for change in (Change(channels=(CHANNEL,)), Change((alices_thing(1).id,), (CHANNEL,))):
            with self.subTest(change=change):
                home = self.slow_house()
                found = begin(home.access, home.things[0].key)
                home.slow.release()
                home.store.channels.remove(ALICE.id, CHANNEL)
                home.access.changed(change)
                home.slow.release_all()
                thing = self.successResultOf(found)
                assert thing is not None
                self.assertEqual(home.access.login(thing, Presence(None, None)).avatar.channels, set())

    def test_a_channel_gained_between_look_up_and_answer(self) -> None:
        home = self.slow_house()
        found = begin(home.access, home.things[0].key)
        home.slow.release()
        home.store.channels.add([Channel(OTHER, ALICE.id)])
        home.store.connections.connect(ALICE.id, [OTHER], [home.things[0].id])
        home.access.changed(Change((home.things[0].id,), (OTHER,), connected=True))
        home.slow.release_all()
        thing = self.successResultOf(found)
        assert thing is not None
        self.assertEqual(home.access.login(thing, Presence(None, None)).avatar.channels, {CHANNEL, OTHER})

    def test_changes_of_others_do_not_repeat_a_look_up(self) -> None:
        """A busy API does not keep things out."""
        home = self.slow_house()
        found = begin(home.access, home.things[0].key)
        home.access.changed(Change(things=(home.things[1].id,)))
        home.access.changed(Change(channels=(OTHER,)))
        home.slow.release_all()
        self.assertEqual(self.successResultOf(found), home.things[0].id)
        self.assertEqual(home.slow.asked, 1)

    def test_a_change_before_the_look_up_does_not_repeat_it(self) -> None:
        """An older look-up, still under way, keeps the change in mind; the younger one saw it."""
        home = self.slow_house()
        older = begin(home.access, home.things[1].key)
        home.access.changed(Change(things=(home.things[0].id,)))
        younger = begin(home.access, home.things[0].key)
        home.slow.release_all()
        self.successResultOf(older)
        self.assertEqual(self.successResultOf(younger), home.things[0].id)
        self.assertEqual(home.slow.asked, 2)

    def test_the_oldest_look_up_decides_what_is_kept_in_mind(self) -> None:
        home = self.slow_house()
        older = begin(home.access, home.things[1].key)
        home.access.changed(Change(things=(home.things[0].id,)))
        younger = begin(home.access, home.things[0].key)
        home.access.changed(Change(things=(home.things[0].id,)))
        older.addErrback(lambda _: None).cancel()
        home.slow.release_all()
        self.assertEqual(self.successResultOf(younger), home.things[0].id)
        self.assertEqual(home.slow.asked, 3, "the younger one was stale although the older one left")

    def test_a_thing_that_never_holds_still(self) -> None:
        home = self.slow_house()
        found = begin(home.access, home.things[0].key)
        while home.slow.held:
            home.access.changed(Change(things=(home.things[0].id,)))
            home.slow.release()
        self.failureResultOf(found, Overloaded)

    def test_two_look_ups_of_one_thing_share_its_channels(self) -> None:
        """Else a change would reach only one of the two avatars."""
        home = self.slow_house()
        finds = [begin(home.access, home.things[0].key) for _ in range(2)]
        home.slow.release_all()
        avatars = []
        for find in finds:
            thing = self.successResultOf(find)
            assert thing is not None
            avatars.append(home.access.login(thing, Presence(None, None)).avatar)
        home.access.changed(Change((home.things[0].id,), (CHANNEL,)))
        self.assertEqual([avatar.channels for avatar in avatars], [set(), set()])

    def test_the_new_key_is_used_before_we_are_told(self) -> None:
        """Between commit and change: the old key's connections end now, and are not lost from sight."""
        home = self.house()
        one = home.things[0]
        told: list[tuple[str, str]] = []
        login = self.login(one, LiveConnection(told))
        home.store.things.set_key(ALICE.id, one.id, "a-new-key-for-thing-1")
        self.assertEqual(self.successResultOf(begin(home.access, "a-new-key-for-thing-1")), one.id)
        self.assertEqual([what for what, _ in told], ["end"])
        self.assertEqual(login.avatar.channels, set())
        self.assertIsNone(self.find(one))


class WatchTests(AccessCase):
    """Certificates end what they let in."""

    def costly_peer(self, name: str) -> CarefulPeer:
        """One whose check takes an eighth of a millisecond."""
        peer = CarefulPeer(name)

        def pass_time() -> None:
            self.home.clock.rightNow += 0.000128

        peer.on_verify = pass_time
        return peer

    def enter(self, peer: CarefulPeer, thing: int = 0) -> LiveConnection:
        connection = LiveConnection()
        found = self.find(self.home.things[thing])
        assert found is not None
        self.last = self.home.access.login(found, Presence(connection, peer))
        return connection

    def test_a_certificate_rests_while_its_connection_lives(self) -> None:
        """Not for a single request, behind which the next one asks it again."""
        self.house()
        peer, single = CarefulPeer("a"), CarefulPeer("b")
        self.enter(peer)
        found = self.find(self.home.things[0])
        assert found is not None
        self.home.access.login(found, Presence(None, single))
        self.home.access.login(found, Presence(LiveConnection(), None))
        self.assertEqual((peer.rests, single.rests), (1, 0))

    def test_an_expired_certificate_ends_its_connection_within_a_second(self) -> None:
        home = self.house()
        now = home.clock.seconds()
        late = self.enter(CarefulPeer("b", now + 500))
        early = self.enter(CarefulPeer("a", now + 30))
        avatar = self.last.avatar
        home.clock.pump([1.0] * 29)
        self.assertEqual((early.told, late.told, avatar.channels), ([], [], {CHANNEL}))
        home.clock.advance(1)
        self.assertEqual([what for what, _ in early.told], ["end"])
        self.assertEqual((late.told, avatar.channels), ([], set()))
        home.clock.pump([1.0] * 470)
        self.assertEqual([what for what, _ in late.told], ["end"])
        self.assertEqual((len(early.told), home.clock.getDelayedCalls()), (1, []))

    def test_who_left_leaves_no_timer(self) -> None:
        home = self.house()
        connection = self.enter(CarefulPeer("a", home.clock.seconds() + 100))
        self.last.logout()
        self.assertEqual(home.clock.getDelayedCalls(), [])
        home.clock.advance(200)
        self.assertEqual(connection.told, [])

    def test_a_login_while_others_expire_takes_no_timer_from_them(self) -> None:
        home = self.house()
        now = home.clock.seconds()
        first, second = self.enter(CarefulPeer("a", now + 1)), self.enter(CarefulPeer("b", now + 2))
        first.on_end = lambda: self.enter(CarefulPeer("c"))
        home.clock.pump([1.0] * 3)
        self.assertEqual(len(second.told), 1)

    def test_the_wall_clock_is_set(self) -> None:
        """The timer asks for the time at least once a minute."""
        home = self.house()
        wall = [0.0]
        home.watch._now = lambda: wall[0]
        connection = self.enter(CarefulPeer("a", 10_000))
        wall[0] = 10_000.0
        home.clock.pump([1.0] * 61)
        self.assertEqual(len(connection.told), 1)

    def test_after_a_reload_only_those_that_fail_are_closed(self) -> None:
        """More than one slice of them, an unexpected error among them, one leaving meanwhile."""
        home = self.house(max_connections=1000)
        peers = [self.costly_peer(str(number)) for number in range(120)]
        connections, logins = [], []
        for peer in peers:
            connections.append(self.enter(peer))
            logins.append(self.last)
        peers[3].trouble = NotAuthorized("its authority is not trusted any more")
        peers[110].trouble = ZeroDivisionError()
        home.watch.reverify()
        logins[119].logout()
        self.assertEqual(sum(len(peer.verified) for peer in peers), 40, "a turn takes a bounded time")
        home.clock.pump([0.0] * 4)
        ended = [index for index, connection in enumerate(connections) if connection.told]
        self.assertEqual(ended, [3, 110])
        self.assertEqual(connections[3].told, [("end", "its authority is not trusted any more")])
        self.assertEqual([len(peer.verified) for peer in peers], [1] * 119 + [0])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_who_calls_often_keeps_the_check_from_nobody(self) -> None:
        """Another call makes it go through all once more, but not before it has come to the end."""
        home = self.house(max_connections=1000)
        peers = [self.costly_peer(str(number)) for number in range(60)]
        for peer in peers:
            self.enter(peer)
        for _ in range(2):
            home.watch.reverify()
            home.watch.reverify()
            self.assertEqual([len(peer.verified) for peer in peers], [1] * 40 + [0] * 20)
            home.clock.pump([0.0] * 4)
            self.assertEqual([len(peer.verified) for peer in peers], [2] * 60)
            for peer in peers:
                peer.verified.clear()
        home.watch.reverify()
        home.watch.stop()
        self.assertEqual(home.clock.getDelayedCalls(), [])

    def test_one_that_ends_asks_for_all_again(self) -> None:
        """The last one that leaves, as well as another one while the check is under way."""
        home = self.house(max_connections=1000)
        peers = [CarefulPeer(str(number)) for number in range(3)]
        connections = [self.enter(peer) for peer in peers]
        for connection in connections:
            connection.on_end = home.watch.reverify
        peers[1].trouble = NotAuthorized("gone")
        home.watch.reverify()
        self.assertEqual([len(peer.verified) for peer in peers], [2, 1, 2])
        peers[0].trouble = peers[2].trouble = NotAuthorized("gone")
        home.watch.reverify()
        self.assertEqual([len(connection.told) for connection in connections], [1, 1, 1])
        self.assertEqual(home.clock.getDelayedCalls(), [])

    def test_everybody_fails_the_reload(self) -> None:
        home = self.house()
        peer = CarefulPeer("a")
        connection = self.enter(peer)
        peer.trouble = NotAuthorized("gone")
        home.watch.reverify()
        self.assertEqual(len(connection.told), 1)
        self.assertEqual(home.clock.getDelayedCalls(), [])
