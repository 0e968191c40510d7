"""Liars on the sockets of a TLS listener: whatever they send, nobody else is harmed, and nothing stays.

For how long, and how to repeat an execution: :mod:`tests.campaign`.
"""

from collections import Counter
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.campaign import Campaign
from tests.tls.fuzz_world import World
from tests.tls.pki import Authority, server_context

#: What a campaign has to have seen.
REACHED = (
    "liars let in", "mutated", "forged", "much to write", "gone", "told of", "pauseProducing",
    "loseConnection", "abortConnection", "lost: ConnectionDone", "lost: ConnectionLost",
    "lost: ConnectionAborted", "lost: Error",
)  # fmt: skip


class FuzzTests(SynchronousTestCase):
    def test_liars(self) -> None:
        """Innocent clients among them get every byte of theirs, and every connection ends once."""
        authority = Authority()
        context = server_context(self.mktemp(), authority)

        def execute(random: Random, reached: "Counter[str]") -> None:
            World(random, reached, context, authority).run()

        campaign = Campaign("TLS on the socket, liars", least=80, share=0.25)
        campaign.run(execute)
        self.assertEqual(campaign.missing(*REACHED), [])
