"""IDENTITY's table of tricks over real connections: each is refused, and its honest twin let in."""

from collections.abc import Iterable

from tests.interop.identity_api_rows import api_rows
from tests.interop.identity_case import IdentityCase
from tests.interop.identity_certificate_rows import handshake_rows, subject_rows
from tests.interop.identity_lives import life_rows, resumption_rows
from tests.interop.identity_mqtt_rows import mqtt_rows
from tests.interop.identity_reload import reloading_world
from tests.interop.identity_rows import certificate_rows, key_rows
from tests.interop.identity_table import add_to_table
from tests.interop.identity_world import Row, World, run_rows


class IdentityTests(IdentityCase):
    """One server for each table; all that went wrong is told at once."""

    def check(self, title: str, world: World, rows: Iterable[Row], workers: int = 10) -> None:
        """Make every attempt, show the table, and fail on every row that came out otherwise.

        Besides: nothing that was refused was heard, and no secret stands in the server's log.
        """
        outcomes = run_rows(rows, workers)
        add_to_table(title, outcomes)
        wrong = [
            f"{row.protocol}: {row.trick}: {outcome!r} and not {row.expected!r}"
            for row, outcome in outcomes
            if outcome != row.expected
        ]
        self.assertEqual([], wrong, f"{len(wrong)} of {len(outcomes)} rows\n" + "\n".join(wrong))
        world.hear_all()
        self.assertEqual([], world.ear.forbidden)
        log = world.server.log
        for secret in world.secrets():
            self.assertNotIn(secret, log)
        self.assertNotIn("Traceback", log)
        self.assertNotIn("Unhandled", log)

    def test_what_is_said_in_certificate_mode(self) -> None:
        """A certificate and what is said besides: the table's every cell, and every trick with a key."""
        world = self.world("x509", "--http=127.0.0.1:0", "--mqtt=127.0.0.1:0")
        self.check("certificate mode: what is said", world, certificate_rows(world))

    def test_certificates(self) -> None:
        """Subjects that only look like the victim's, and certificates that must not even get past TLS."""
        world = self.world("x509")
        self.check("certificate mode: subjects", world, subject_rows(world))
        self.check("certificate mode: handshakes", world, handshake_rows(world))

    def test_lives_in_certificate_mode(self) -> None:
        """What was let in ends within a second when what let it in does; a resumed session is asked anew."""
        world = self.world("x509")
        rows = [*resumption_rows(world), *life_rows(world)]
        rows.sort(key=lambda row: "valid" not in row.trick)  # those that wait for a certificate's end first
        self.check("certificate mode: live and resumed", world, rows, 40)

    def test_lives_in_key_mode(self) -> None:
        """The same with keys alone, also without TLS."""
        world = self.world("key")
        self.check("key mode: live connections", world, life_rows(world), 16)

    def test_packets_in_certificate_mode(self) -> None:
        """MQTT's packets of every size, order and piece."""
        world = self.world("x509")
        self.check("certificate mode: packets", world, mqtt_rows(world))

    def test_packets_in_key_mode(self) -> None:
        """The same with keys alone, also without TLS."""
        world = self.world("key")
        self.check("key mode: packets", world, mqtt_rows(world))

    def test_api_in_certificate_mode(self) -> None:
        """People need no certificate, a certificate is no token, and keys are never free for others."""
        world = self.world("x509", "--http=127.0.0.1:0")
        self.check("certificate mode: API", world, api_rows(world), 1)

    def test_api_in_key_mode(self) -> None:
        """The same with keys alone."""
        world = self.world("key")
        self.check("key mode: API", world, api_rows(world), 1)

    def test_reload(self) -> None:
        """New trust roots count for who is here already; files that are no good change nothing."""
        with reloading_world() as (world, rows):
            self.check("certificate mode: new trust roots", world, rows, 1)

    def test_what_is_said_in_key_mode(self) -> None:
        """A key in every place where one can stand, with TLS and without."""
        world = self.world("key")
        self.check("key mode: what is said", world, key_rows(world))
