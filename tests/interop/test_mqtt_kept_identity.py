"""Authority over everything that is kept, against a real server that may be started again in between."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from tests.interop.identity_case import IdentityCase
from tests.interop.identity_kept import Desk, KeptRow, Session, Story, rows_of
from tests.interop.identity_table import add_to_table
from tests.interop.identity_world import MQTTS, Row, Thing

#: Rows that are under way at a time.
_WORKERS = 12


def _first_half(story: Story) -> str:
    """:return: empty, or what went wrong."""
    try:
        next(story)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _second_half(story: Story, wrong: str) -> str:
    if wrong:
        return wrong
    try:
        next(story)
    except StopIteration as end:
        return str(end.value)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "it did not end"


class KeptIdentityTests(IdentityCase):
    """Queues, in-flight state, retained messages, wills and subscriptions obey the rights of the moment."""

    def check_kept(self, title: str, auth: str, restarts: bool) -> None:
        """Make every row's attempt, with a restart of the server in the middle or without."""
        world = self.world(auth)
        table = list(rows_of(world))
        with ThreadPoolExecutor(_WORKERS) as pool:
            stories = [
                row.story(Desk(world, spoken, number, row.expected))
                for number, (row, spoken) in enumerate(table)
            ]
            wrong = list(pool.map(_first_half, stories))
            if restarts:
                world.server.stop()
                world.server.start()
            outcomes = list(pool.map(_second_half, stories, wrong))
        self.tell(title, zip((row for row, _ in table), outcomes, strict=True))
        log = world.server.log
        for secret in world.secrets():
            self.assertNotIn(secret, log)
        self.assertNotIn("Traceback", log)

    def tell(self, title: str, outcomes: Iterable[tuple[KeptRow, str]]) -> None:
        rows = [
            (Row(row.trick, row.protocol, row.expected, lambda _: "", is_twin=row.is_twin), outcome)
            for row, outcome in outcomes
        ]
        add_to_table(title, rows)
        wrong = [
            f"{row.protocol}: {row.trick}: {outcome!r} and not {row.expected!r}"
            for row, outcome in rows
            if outcome != row.expected
        ]
        self.assertEqual([], wrong, f"{len(wrong)} of {len(rows)} rows\n" + "\n".join(wrong))

    def test_kept_in_key_mode(self) -> None:
        self.check_kept("key mode: kept", "key", False)

    def test_kept_over_a_restart_in_key_mode(self) -> None:
        self.check_kept("key mode: kept, restarted", "key", True)

    def test_kept_in_certificate_mode(self) -> None:
        self.check_kept("certificate mode: kept", "x509", False)

    def test_kept_over_a_restart_in_certificate_mode(self) -> None:
        self.check_kept("certificate mode: kept, restarted", "x509", True)

    def test_sessions_of_one_thing(self) -> None:
        """One thing may have so many sessions and no more; nobody else has less because of it."""
        world = self.world("key", "--max-sessions-per-thing=3")
        greedy, other = world.thing("weather"), world.thing("weather")
        for spoken, refused in zip(MQTTS[1:], ("CONNACK 3", "CONNACK 151"), strict=True):
            desk = Desk(world, spoken, 0)

            def opens(
                thing: Thing, client_id: str, expiry: int = 600, desk: Desk = desk
            ) -> tuple[str, Session]:
                session = Session(world, desk.spoken, thing, client_id, expiry)
                return session.open(), session

            for number in range(3):
                self.assertIn(opens(greedy, str(number))[0], ("new", "present"))
            self.assertEqual(refused, opens(greedy, "more")[0])
            self.assertEqual("present", opens(greedy, "2")[0])
            self.assertEqual("new", opens(greedy, "more", 0)[0])
            self.assertEqual("new", opens(other, f"{spoken.version}")[0])
            first = Session(world, spoken, greedy, "0", 0)
            self.assertIn(first.open(clean_start=True), ("new",))
            first.leave()
            self.assertEqual("new", opens(greedy, "in its place")[0])
            again = Session(world, spoken, greedy, "in its place", 0)
            self.assertEqual("new", again.open(clean_start=True))
