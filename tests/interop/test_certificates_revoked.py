"""Revoking while very many connections are live: whose certificate it was ends at once, everybody else stays.

``MF_LIVE`` chooses how many connections; there are ten of each thing, five with each of its two certificates.
"""

import contextlib
import threading
import time
from collections import defaultdict
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.certificate_lines import EVERY, Certificate, Line, Owner, milliseconds, spread, watch_ends
from tests.interop.identity_clients import Closed, Stream
from tests.interop.identity_world import World
from tests.interop.mqtt_figures import add_figures, chosen

#: Of how many certificates one is revoked.
ONE_IN: Final = 8
#: Seconds, from the moment when the owner asks for it.
SOON: Final = 1.0
#: Seconds for which those who must stay are watched after the last revocation.
AFTERWARDS: Final = 1.5


class RevokedTests(SynchronousTestCase):
    """On every protocol, with both versions of TLS."""

    timeout = 300

    def setUp(self) -> None:
        count = chosen("MF_LIVE", 200)
        many = str(2 * count + 100)
        self.world = World(f"--max-connections={many}", f"--max-connections-per-address={many}", auth="x509")
        self.addCleanup(self.world.close)
        self.addCleanup(self.world.server.kill)
        self.owner = Owner(self.world)
        self.addCleanup(self.owner.close)
        started = time.monotonic()
        self.certificates = [
            self.owner.issue(thing, key, tls)
            for thing, key in self.owner.things(count // 10)
            for tls in ("1.3", "1.2")
        ]
        # One certificate of a thing's two at most: the thing goes on with the other.
        self.revoked = self.certificates[1::ONE_IN] + self.certificates[4::ONE_IN]
        self.lines: list[Line] = []
        self.addCleanup(self.close_lines)
        self.lines.extend(spread(self.world, self.certificates, count))
        self.took = time.monotonic() - started
        self.asked: dict[Certificate, float] = {}
        self.answered: dict[Certificate, float] = {}

    def close_lines(self) -> None:
        for line in self.lines:
            line.stream.close()

    def revoke_all(self) -> None:
        for number, certificate in enumerate(self.revoked):
            self.asked[certificate] = time.monotonic()
            self.owner.revoke(certificate, number)
            self.answered[certificate] = time.monotonic()

    def test_only_the_right_ones_end(self) -> None:
        """Each within a second, with the word its protocol has for it; no ticket lets it in again."""
        for line in self.lines:
            line.speak()
        gone = [line for line in self.lines if line.shown in self.revoked]
        stays = [line for line in self.lines if line.shown not in self.revoked]
        self.assertEqual({spoken.name for spoken in EVERY}, {line.spoken.name for line in gone})
        self.assertEqual({"1.2", "1.3"}, {line.shown.tls for line in gone})

        revoking = threading.Thread(target=self.revoke_all)
        revoking.start()
        wrong = watch_ends(self.lines, lambda ended: ended >= len(gone), 30)
        revoking.join(30)
        self.assertEqual(len(self.revoked), len(self.answered), "not every revocation was answered")
        wrong += watch_ends(stays, lambda _: False, AFTERWARDS)

        self.assertEqual([], wrong)
        self.assertEqual([], [line.spoken.name for line in gone if not line.ended], "still open")
        self.assertEqual([], [line.spoken.name for line in stays if line.ended], "ended with the others")
        for line in stays:
            line.speak()
        self.show(gone)
        self.assertEqual(
            [], [line.spoken.name for line in gone if line.ended - self.asked[line.shown] > SOON], "too late"
        )
        self.assert_resumed(gone, stays)
        log = self.world.server.log
        self.assertNotIn("Traceback", log)
        self.assertNotIn("Unhandled", log)

    def show(self, gone: list[Line]) -> None:
        took: dict[str, list[float]] = defaultdict(list)
        for line in gone:
            seconds = line.ended - self.asked[line.shown]
            took[line.spoken.name].append(seconds)
            took["all protocols"].append(seconds)
        answers = [self.answered[each] - self.asked[each] for each in self.revoked]
        took["the API's answer"] = answers
        add_figures(
            f"Revoking {len(self.revoked)} certificates one after another while {len(self.lines)} connections"
            f" of {len(self.certificates) // 2} things are live (made in {self.took:.0f} s)",
            *milliseconds("from the owner's request to the end of a live connection:", dict(took)),
        )

    def assert_resumed(self, gone: list[Line], stays: list[Line]) -> None:
        """Who stays may resume; who is gone may not, nor begin anew."""
        resumed = {"gone": 0, "stays": 0}
        wrong = []
        for line in gone:
            for session in line.opened_with, None:
                tls = line.shown.thing.identity.tls(line.shown.tls, line.spoken.alpn)
                port = self.world.server.port(line.spoken.listener)
                with contextlib.suppress(Closed):  # a whole handshake of TLS 1.2 ends for the server first
                    stream = Stream(port, self.world.source(), tls, session)
                    self.addCleanup(stream.close)
                    resumed["gone"] += bool(stream.tls.session_reused)
                    wrong.append(f"{line.spoken.name}: {stream.receive(1)!r}")
        self.assertEqual([], wrong, "something was said to a revoked certificate")
        for line in stays[: len(gone)]:
            again = Line(self.world, line.spoken, line.shown, line.opened_with)
            resumed["stays"] += again.was_resumed
            again.stream.close()
        # What was refused was refused by us: OpenSSL resumes the sessions of both.
        self.assertEqual({"gone": len(gone), "stays": len(stays[: len(gone)])}, resumed)
