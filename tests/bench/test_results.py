"""What is made of the figures: medians, ratios within a round, verdicts."""

from twisted.trial.unittest import SynchronousTestCase

from bench.errors import BenchError
from bench.results import Ratio, RowResult, Run, judge_flatness, run_of, table

COUNTED = {
    "operations": 2_000,
    "elapsed": 0.5,
    "p50_us": 10.0,
    "p99_us": 90.0,
    "lost": 3,
    "errors": 1,
    "cpu": 0.25,
}


def row(ours: list[float], theirs: list[float], bar: float | None = None) -> RowResult:
    """A row with these costs, round by round."""
    result = RowResult("1", "a workload", "µs/PUBLISH", bar)
    for name, costs in (("mfserver", ours), ("mosquitto", theirs)):
        for cost in costs:
            result.add(name, Run(cost, rate=100 * cost, p99=1_000 * cost))
    return result


class RunTests(SynchronousTestCase):
    """One run, from what the load counted and the server used."""

    def test_cost_is_microseconds_of_cpu_per_operation(self) -> None:
        """The server's CPU counts, not the time that it took."""
        run = run_of(COUNTED, cpu=0.04)
        self.assertEqual(Run(20.0, 4_000.0, 10.0, 90.0, 3, 1, 0.5), run)

    def test_nothing_done_is_no_run(self) -> None:
        """A cost of no operation at all does not exist."""
        self.assertRaises(BenchError, run_of, {**COUNTED, "operations": 0}, 1.0)


class RatioTests(SynchronousTestCase):
    """Ours through theirs."""

    def test_pairs_are_of_one_round(self) -> None:
        """A round in which the machine was busy disturbs both, and their ratio is as it was."""
        ratio = row([10, 30, 12], [10, 30, 10]).ratio()
        self.assertEqual(Ratio(1.0, 1.0, 1.2), ratio)
        self.assertEqual("1.00 (1.00-1.20)", str(ratio))

    def test_rounds_without_a_peer_count_nowhere(self) -> None:
        """What was interrupted has one round more of ours; a cost below the clock's tick divides nothing."""
        self.assertEqual(Ratio(2.0, 2.0, 2.0), row([20, 30], [10]).ratio())
        self.assertIsNone(row([20], [0]).ratio())
        self.assertIsNone(row([20], []).ratio())


class VerdictTests(SynchronousTestCase):
    """Whether a bar is met."""

    def test_most_ratio(self) -> None:
        """The median of the ratios is compared, and may be the bar."""
        self.assertEqual("met: 0.2 at most", row([2, 2, 9], [10, 10, 10], bar=0.2).verdict)
        self.assertEqual("MISSED: 0.2 at most", row([2, 3, 3], [10, 10, 10], bar=0.2).verdict)

    def test_nothing_to_compare_is_no_verdict(self) -> None:
        """Neither with no peer nor with no run of ours."""
        self.assertEqual("", row([2], [], bar=1.0).verdict)
        self.assertEqual("", row([], [2], bar=1.0).verdict)
        self.assertEqual("", row([2], [2]).verdict)

    def test_least_rate_and_most_p99(self) -> None:
        """The medians of ours, whatever the others do."""
        result = row([2, 3, 4], [9])
        result.least_rate = 300
        self.assertEqual("met: 300/s at least", result.verdict)
        result.least_rate = 301
        self.assertEqual("MISSED: 301/s at least", result.verdict)
        result.least_rate, result.most_p99 = None, 3_000
        self.assertEqual("met: p99 3 ms at most", result.verdict)
        result.most_p99 = 2_999
        self.assertIn("MISSED", result.verdict)

    def test_flat_is_within_one_and_a_half_of_the_smallest(self) -> None:
        """Every size is compared with the first."""
        results = [row([10], []), row([15], []), row([15.1], []), row([], [1])]
        judge_flatness(results)
        self.assertEqual(
            ["", "met: 1.50 of the smallest, 1.5 at most", "MISSED: 1.51 of the smallest, 1.5 at most", ""],
            [result.verdict for result in results],
        )


class TableTests(SynchronousTestCase):
    """What is printed."""

    def test_medians_ratio_and_verdict(self) -> None:
        """One line for each server; ours has the verdict, theirs the ratio, remarks stand below."""
        result = row([10, 30, 12], [10, 30, 10], bar=1.0)
        result.remarks.append("nats is left out: it is not installed")
        lines = table([result]).splitlines()
        self.assertEqual(5, len(lines))
        self.assertEqual(
            "1 a workload mfserver 12.00 µs/PUBLISH 1,200 12,000 met: 1 at most", " ".join(lines[2].split())
        )
        self.assertEqual(
            "mosquitto 10.00 µs/PUBLISH 1,000 10,000 1.00 (1.00-1.20)", " ".join(lines[3].split())
        )
        self.assertEqual("1: nats is left out: it is not installed", lines[4])

    def test_what_was_lost_is_marked(self) -> None:
        """A server that loses messages is not faster."""
        result = RowResult("1", "a workload", "µs")
        result.add("mfserver", Run(1.0, lost=1))
        result.add("mosquitto", Run(1.0, errors=1))
        result.add("nats", Run(1.0))
        lines = table([result]).splitlines()[2:]
        self.assertIn("mfserver !", lines[0])
        self.assertIn("mosquitto !", lines[1])
        self.assertNotIn("!", lines[2])

    def test_everything_is_in_the_json(self) -> None:
        """Every round, and what follows from them."""
        written = row([10, 30], [10, 30], bar=1.0).as_json()
        self.assertEqual([10, 30], [run["cost"] for run in written["runs"]["mfserver"]])
        self.assertEqual({"median": 1.0, "least": 1.0, "most": 1.0}, written["ratio"])
        self.assertEqual("met: 1 at most", written["verdict"])
