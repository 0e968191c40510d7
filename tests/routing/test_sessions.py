"""A session belongs to (thing id, client id)."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.records import ThingId
from mfserver.routing.sessions import Sessions

ALICE, BOB = ThingId("alice"), ThingId("bob")


class Recorded:
    """A session that counts how often it was taken over, and may end itself then."""

    def __init__(self, sessions: Sessions | None = None) -> None:
        self.taken = 0
        self._sessions = sessions

    def taken_over(self) -> None:
        self.taken += 1
        if self._sessions is not None:
            self._sessions.end(ALICE, "a", self)


class SessionsTests(SynchronousTestCase):
    """Who holds which."""

    def setUp(self) -> None:
        self.sessions = Sessions()

    def test_takeover(self) -> None:
        """The newer one stays and the older one is told, once."""
        older, newer = Recorded(), Recorded()
        self.sessions.begin(ALICE, "a", older)
        self.sessions.begin(ALICE, "a", newer)
        self.assertEqual((1, 0, 1), (older.taken, newer.taken, len(self.sessions)))

    def test_others(self) -> None:
        """Another thing's client of that name, and another client of that thing, are others."""
        sessions = [Recorded() for _ in range(4)]
        for session, (thing, client) in zip(
            sessions, ((ALICE, "a"), (BOB, "a"), (ALICE, "b"), (ThingId("alicea"), "")), strict=True
        ):
            self.sessions.begin(thing, client, session)
        self.assertEqual([0] * 4, [session.taken for session in sessions])
        self.assertEqual(4, len(self.sessions))

    def test_again(self) -> None:
        """The same session once more takes over nobody."""
        session = Recorded()
        self.sessions.begin(ALICE, "a", session)
        self.sessions.begin(ALICE, "a", session)
        self.assertEqual((0, 1), (session.taken, len(self.sessions)))

    def test_end(self) -> None:
        """One that was taken over takes its successor's place from nobody."""
        older, newer = Recorded(self.sessions), Recorded()
        self.sessions.begin(ALICE, "a", older)
        self.sessions.begin(ALICE, "a", newer)
        self.sessions.end(ALICE, "a", older)
        self.assertEqual(1, len(self.sessions))
        self.sessions.end(BOB, "a", newer)
        self.assertEqual(1, len(self.sessions))
        self.sessions.end(ALICE, "a", newer)
        self.sessions.end(ALICE, "a", newer)
        self.assertEqual(0, len(self.sessions))
