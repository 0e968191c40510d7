"""Several clients of a whole server do anything at any time; those that are gone leave nothing behind.

Those that make no mistake get what was acknowledged, at QoS 2 once, and in order; over kills and full disks.

For how long, and how to repeat an execution: :mod:`tests.campaign`.
"""

from collections import Counter
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.adapters.fuzz_world import World
from tests.campaign import Campaign

_EXPECTED = (
    "5: wrote CONNACK", "5: wrote PUBLISH", "5: wrote PUBACK", "5: wrote PUBREC", "5: wrote PUBREL",
    "5: wrote PUBCOMP", "5: wrote SUBACK", "5: wrote UNSUBACK", "5: wrote DISCONNECT", "3: wrote PUBLISH",
    "4: wrote PUBLISH", "a session was present", "sent again", "happened: room", "happened: kill",
    "a session with nothing left to do", "acknowledged messages that came",
)  # fmt: skip


class MQTTAdapterFuzz(SynchronousTestCase):
    """Adapters, sessions, routing, journal and retained messages together."""

    def world(self, random: Random, reached: "Counter[str]") -> None:
        """One world from its beginning to its end."""
        world = World(random, reached, lies=random.choice((0, 0, 0, 0.02, 0.2)))
        for _ in range(random.choice((20, 100, 400))):
            world.step()
        world.end()
        errors = self.flushLoggedErrors()
        assert not errors, errors[0].getTraceback()

    def test_nothing_fails_and_nothing_is_left(self) -> None:
        """Whatever happens in whatever order: no failure is logged, and those who are gone leave nothing."""
        campaign = Campaign("adapter", least=100, share=0.3)
        campaign.run(self.world)
        self.assertEqual(campaign.missing(*_EXPECTED), [])
