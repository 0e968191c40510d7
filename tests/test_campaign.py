"""Fuzzing itself: what is found is told so that it can be repeated."""

import re
from collections import Counter
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.campaign import Campaign


class CampaignTests(SynchronousTestCase):
    """One run of many executions."""

    def setUp(self) -> None:
        self.drawn: list[int] = []

    def fails_at_times(self, random: Random, reached: "Counter[str]") -> None:
        """An execution that fails one time in eight."""
        self.drawn.append(random.getrandbits(64))
        reached["all"] += 1
        assert random.randrange(8), "found"

    def test_a_find_names_the_seed_that_repeats_it(self) -> None:
        """With that seed the same is drawn and the same fails, and nothing else is executed."""
        campaign = Campaign("example", least=1000, share=0, environ={})
        found = self.assertRaises(AssertionError, campaign.run, self.fails_at_times)
        seed = re.search(r"MF_FUZZ_SEED=(\d+)", str(found))
        assert seed is not None
        again = Campaign("example", least=1000, share=1, environ={"MF_FUZZ_SEED": seed[1]})
        drawn = self.drawn[-1]
        self.drawn.clear()
        self.assertRaises(AssertionError, again.run, self.fails_at_times)
        self.assertEqual(self.drawn, [drawn])
        self.assertEqual(again.missing("never"), [])

    def test_everybody_tests_the_same(self) -> None:
        """And whoever fuzzes for a time, what nobody has tried."""

        def draw(random: Random, _reached: "Counter[str]") -> None:
            self.drawn.append(random.getrandbits(64))

        for said in ("", "", "0.001", "0.001"):
            Campaign("example", least=3, share=0, environ={"MF_FUZZ_SECONDS": said}).run(draw)
        usual, again, new, newer = (set(self.drawn[start : start + 3]) for start in range(0, 12, 3))
        self.assertEqual(usual, again)
        self.assertEqual(9, len(usual | new | newer))

    def test_what_never_ends_is_found(self) -> None:
        """An endless loop is a find like others, also where every Exception is swallowed."""

        def endless(_random: Random, _reached: "Counter[str]") -> None:
            while True:
                try:
                    sum(range(1000))
                except Exception:
                    continue

        campaign = Campaign("example", least=1, share=0, environ={}, endless=0.05)
        found = self.assertRaises(AssertionError, campaign.run, endless)
        self.assertIn("Hang", str(found))

    def test_the_least_is_done_and_what_is_missing_is_told(self) -> None:
        """However short the time is."""
        campaign = Campaign("example", least=7, share=0, environ={"MF_FUZZ_SECONDS": ""})

        def execute(_random: Random, reached: "Counter[str]") -> None:
            reached["seen"] += 1

        campaign.run(execute)
        self.assertEqual(campaign.reached, {"seen": 7})
        self.assertEqual(campaign.missing("seen", "never"), ["never"])
