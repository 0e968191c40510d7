"""The rights of things that something is kept for: held while it is, and true to every change."""

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mfserver.cred.absent import AbsentThings
from mfserver.cred.changes import ChangeFeed, RecentChanges
from mfserver.errors import Overloaded
from mfserver.interfaces import IChanges, IConnectionStore, IRights, IThing
from mfserver.records import Change, Channel, ChannelId
from tests.cred.fakes import ALICE, CHANNEL, House, alices_thing

OTHER = ChannelId("30000000-0000-4000-8000-000000000002")
ONE, TWO = alices_thing(1).id, alices_thing(2).id


class AbsentCase(SynchronousTestCase):
    """Alice's things 1 and 2 on her channel; look-ups answer at once, or when the test says so."""

    def setUp(self) -> None:
        self.home = House()
        self.absent = AbsentThings(self.home.store.connections)

    def slow(self) -> None:
        self.home = House(slow=True)
        asked: Any = self.home.slow
        connections: IConnectionStore = asked
        self.absent = AbsentThings(connections)

    def hold(self) -> IThing:
        thing: IThing = self.successResultOf(self.absent.hold(ONE))
        return thing

    def gain(self) -> None:
        """Thing 1 is connected to the other channel."""
        self.home.store.channels.add([Channel(OTHER, ALICE.id)])
        self.home.store.connections.connect(ALICE.id, [OTHER], [ONE])
        self.absent.changed(Change((ONE,), (OTHER,), connected=True))


class HoldTests(AbsentCase):
    def test_interfaces(self) -> None:
        self.assertTrue(verifyObject(IRights, self.absent))
        self.assertTrue(verifyObject(IChanges, self.absent))
        self.assertTrue(verifyObject(IThing, self.hold()))

    def test_a_thing_is_looked_up_once_however_often_it_is_held(self) -> None:
        self.slow()
        first = self.absent.hold(ONE)
        self.assertNoResult(first)
        self.home.slow.release_all()
        thing = self.successResultOf(first)
        self.assertEqual((thing.id, thing.channels), (ONE, {CHANNEL}))
        self.assertIs(self.hold(), thing)
        self.assertEqual(self.home.slow.held, [])

    def test_it_is_forgotten_with_the_last_release(self) -> None:
        """Who kept the thing longer than its hold has no rights left that could grow old."""
        thing = self.hold()
        self.hold()
        self.absent.release(ONE)
        self.assertEqual((len(self.absent), thing.channels), (1, {CHANNEL}))
        self.absent.release(ONE)
        self.assertEqual((len(self.absent), thing.channels), (0, set()))
        again = self.hold()
        self.assertIsNot(again, thing)
        self.assertEqual(again.channels, {CHANNEL})

    def test_a_release_too_many_is_an_error(self) -> None:
        """It would take the rights of somebody else's hold."""
        self.hold()
        self.absent.release(ONE)
        self.assertRaises(KeyError, self.absent.release, ONE)

    def test_two_look_ups_at_a_time_make_one_thing(self) -> None:
        self.slow()
        holds = [self.absent.hold(ONE) for _ in range(2)]
        self.home.slow.release_all()
        first, second = [self.successResultOf(hold) for hold in holds]
        self.assertIs(first, second)
        self.absent.release(ONE)
        self.assertEqual(first.channels, {CHANNEL})
        self.absent.release(ONE)
        self.assertEqual(len(self.absent), 0)

    def test_a_thing_that_is_not_there_has_no_channels(self) -> None:
        thing = self.successResultOf(self.absent.hold(alices_thing(9).id))
        self.assertEqual(thing.channels, set())

    def test_a_hold_that_fails_or_is_cancelled_holds_nothing(self) -> None:
        self.slow()
        cancelled = self.absent.hold(ONE).addErrback(lambda _: None)
        cancelled.cancel()
        self.home.slow.release_all()
        self.assertEqual(len(self.absent), 0)
        broken: Any = _BrokenStore()
        absent = AbsentThings(broken)
        self.failureResultOf(absent.hold(ONE), Overloaded)
        self.assertEqual(len(absent), 0)

    def test_a_start_asks_nothing(self) -> None:
        """What the store loaded is held at once; a hold after it asks nothing either."""
        self.slow()
        thing = self.absent.preload(ONE, frozenset([CHANNEL]))
        self.assertEqual((thing.id, thing.channels), (ONE, {CHANNEL}))
        self.assertIs(self.absent.preload(ONE, ()), thing)
        self.assertIs(self.hold(), thing)
        self.assertEqual((self.home.slow.held, thing.channels), ([], {CHANNEL}))
        for _ in range(3):
            self.absent.release(ONE)
        self.assertEqual(len(self.absent), 0)


class ChangedTests(AbsentCase):
    def test_a_deleted_thing_has_no_channels_for_good(self) -> None:
        thing, other = self.hold(), self.successResultOf(self.absent.hold(TWO))
        self.absent.changed(Change((ONE,), deleted=True))
        self.assertEqual((thing.channels, other.channels), (set(), {CHANNEL}))
        self.absent.changed(Change((ONE,), (CHANNEL,), connected=True))
        self.assertEqual((thing.channels, self.hold().channels), (set(), set()))

    def test_another_key_changes_nothing(self) -> None:
        """The session is the thing's: it waits for who has the new key."""
        thing = self.hold()
        self.absent.changed(Change((ONE,)))
        self.assertEqual(thing.channels, {CHANNEL})
        self.gain()
        self.assertEqual(thing.channels, {CHANNEL, OTHER})

    def test_connected_and_disconnected(self) -> None:
        thing, other = self.hold(), self.successResultOf(self.absent.hold(TWO))
        stranger = alices_thing(77).id
        self.absent.changed(Change((ONE, stranger), (OTHER,), connected=True))
        self.assertEqual((thing.channels, other.channels), ({CHANNEL, OTHER}, {CHANNEL}))
        self.absent.changed(Change((stranger, ONE), (CHANNEL,)))
        self.assertEqual((thing.channels, other.channels), ({OTHER}, {CHANNEL}))
        self.assertEqual(len(self.absent), 2)

    def test_a_channel_that_is_gone_is_gone_for_all(self) -> None:
        things = [self.successResultOf(self.absent.hold(thing)) for thing in (ONE, TWO)]
        self.gain()
        self.absent.changed(Change(channels=(CHANNEL,)))
        self.assertEqual([thing.channels for thing in things], [{OTHER}, set()])


class RaceTests(AbsentCase):
    """A look-up that began before a change is never believed after it."""

    def test_changes_between_look_up_and_answer(self) -> None:
        for change in (Change((ONE,), deleted=True), Change((ONE,), (CHANNEL,)), Change(channels=(CHANNEL,))):
            with self.subTest(change=change):
                self.slow()
                held = self.absent.hold(ONE)
                if change.deleted:
                    self.home.store.things.remove(ALICE.id, ONE)
                elif change.things:
                    self.home.store.connections.disconnect(ALICE.id, [CHANNEL], [ONE])
                else:
                    self.home.store.channels.remove(ALICE.id, CHANNEL)
                self.absent.changed(change)
                self.home.slow.release_all()
                self.assertEqual(self.successResultOf(held).channels, set())

    def test_a_channel_gained_between_look_up_and_answer(self) -> None:
        self.slow()
        held = self.absent.hold(ONE)
        self.gain()
        self.home.slow.release_all()
        self.assertEqual(self.successResultOf(held).channels, {CHANNEL, OTHER})

    def test_the_slower_of_two_look_ups_undoes_no_change(self) -> None:
        """The thing is held and changed while an older answer is on its way."""
        self.slow()
        older = self.absent.hold(ONE)
        thing = self.absent.preload(ONE, [CHANNEL])
        self.absent.changed(Change((ONE,), (CHANNEL,)))
        self.home.store.connections.disconnect(ALICE.id, [CHANNEL], [ONE])
        self.home.slow.release_all()
        self.assertIs(self.successResultOf(older), thing)
        self.assertEqual(thing.channels, set())

    def test_rights_that_change_all_the_time_are_overload(self) -> None:
        self.slow()
        held = self.absent.hold(ONE)
        for _ in range(10):
            self.absent.changed(Change((ONE,), (OTHER,)))
            self.home.slow.release()
        self.failureResultOf(held, Overloaded)
        self.assertEqual((len(self.absent), self.home.slow.held), (0, []))


class RecentChangesTests(SynchronousTestCase):
    def test_nothing_is_kept_longer_than_a_look_up_needs_it(self) -> None:
        """Memory is bounded by the changes during one look-up; without one nothing is kept at all."""
        changes = RecentChanges()
        changes.note(Change((ONE,)))
        self.assertEqual(len(changes), 0)
        with changes.look_up() as older:
            changes.note(Change((ONE,), (CHANNEL,)))
            with changes.look_up() as younger:
                changes.note(Change(channels=(OTHER,)))
                self.assertTrue(older.is_stale(ONE))
                self.assertFalse(younger.is_stale(ONE))
                self.assertFalse(older.is_stale(CHANNEL), "it stands beside its thing")
                self.assertTrue(younger.is_stale(CHANNEL, OTHER))
            self.assertEqual(len(changes), 2)
        self.assertEqual(len(changes), 0)

    def test_a_younger_look_up_keeps_only_what_it_may_have_missed(self) -> None:
        changes = RecentChanges()
        older = changes.look_up().__enter__()
        changes.note(Change((ONE,)))
        younger = changes.look_up().__enter__()
        changes.note(Change((TWO,)))
        older.__exit__()
        self.assertEqual(len(changes), 1)
        self.assertEqual((younger.is_stale(ONE), younger.is_stale(TWO)), (False, True))
        younger.__exit__()
        self.assertEqual(len(changes), 0)


class ChangeFeedTests(SynchronousTestCase):
    def test_all_hear_in_order_whoever_fails(self) -> None:
        """A room that fails to take up a change does not keep the others from ending what it ends."""
        told: list[tuple[str, Change]] = []
        hearers = [_Hearer("a", told), _Hearer("b", told, ValueError("broken")), _Hearer("c", told)]
        feed = ChangeFeed(hearers)
        self.assertTrue(verifyObject(IChanges, feed))
        change = Change((ONE,), deleted=True)
        feed.changed(change)
        self.assertEqual(told, [("a", change), ("b", change), ("c", change)])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class _BrokenStore:
    def channels_of(self, thing: str) -> Deferred[Any]:
        return fail(Overloaded("too many wait"))


@implementer(IChanges)
class _Hearer:
    """Writes down what it hears, and may fail at it."""

    def __init__(self, name: str, told: list[tuple[str, Change]], trouble: Exception | None = None) -> None:
        self._name = name
        self._told = told
        self._trouble = trouble

    def changed(self, change: Change) -> None:
        self._told.append((self._name, change))
        if self._trouble is not None:
            raise self._trouble
