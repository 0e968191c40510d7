"""The bodies of all requests together are bounded, and given back however a request ends."""

from typing import Any

from mfserver.api.server import BoundedChannel
from tests.api.test_server import POST, ServerTestCase


class BudgetTests(ServerTestCase):
    """A site that holds 250,000 bytes, and 100,000 of one body."""

    def setUp(self) -> None:
        super().setUp()
        self.budget = self.house.site.budget
        self.budget.maximum = 250_000

    def test_too_many(self) -> None:
        """The body that does not fit is refused with 503, and the others go on."""
        held = [self.house.connect() for _ in range(3)]
        for channel, _ in held:
            channel.dataReceived(POST + b"Content-Length: 100000\r\n\r\n" + bytes(80_000))
        self.assertEqual(240_000, self.budget.used)
        self.send(POST + b"Content-Length: 100000\r\n\r\n" + bytes(20_000))
        answer = self.answer()
        self.assertEqual((503, "close"), (answer.status, answer.headers["connection"]))
        self.assertEqual(240_000, self.budget.used)
        channel, wire = held[0]
        self.budget.maximum = 360_000
        channel.dataReceived(bytes(20_000))
        self.assertIn(b"200 OK", wire.value())
        self.assertEqual(160_000, self.budget.used)

    def test_answers(self) -> None:
        """A long answer counts while its peer does not read it; one for which there is no room is a 503."""
        self.budget.per_address = 210_000
        connected = [self.house.connect() for _ in range(2)]
        for channel, wire in connected:
            write = wire.write

            def fill(data: bytes, channel: BoundedChannel = channel, write: Any = write) -> None:
                write(data)
                if len(data) > 65_536:
                    channel.pauseProducing()

            wire.write = fill  # type: ignore[method-assign]
            channel.dataReceived(POST + b"Content-Length: 70000\r\n\r\n" + bytes(70_000))
            self.assertIn(b"200 OK", wire.value())
        self.assertEqual(140_000, self.budget.used)
        body = POST + b"Content-Length: 66000\r\n\r\n" + bytes(66_000)
        self.send(body)
        self.assertEqual(503, self.answer().status)
        connected[0][0].resumeProducing()
        self.assertEqual(70_000, self.budget.used)
        self.lose(connected[1][0])
        self.assertEqual(0, self.budget.used)
        self.send(body)
        self.assertEqual(200, self.answer().status)
        self.assertEqual(0, self.budget.used)

    def test_given_back_when_the_peer_goes(self) -> None:
        self.send(POST + b"Content-Length: 100000\r\n\r\n" + bytes(80_000))
        self.assertEqual(80_000, self.budget.used)
        self.lose()
        self.assertEqual(0, self.budget.used)

    def test_given_back_when_refused(self) -> None:
        self.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"11170\r\n" + bytes(70_000) + b"\r\n")
        self.assertEqual(70_000, self.budget.used)
        self.send(b"11170\r\n" + bytes(70_000) + b"\r\n")
        self.assertEqual(413, self.answer().status)
        self.assertEqual(0, self.budget.used)
