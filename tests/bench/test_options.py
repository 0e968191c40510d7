"""What ``python -m bench`` is told."""

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.__main__ import ROWS
from bench.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it with options that it refuses, or that only ask."""
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


class OptionTests(SynchronousTestCase):
    """Rows and servers are asked for by name."""

    def test_what_does_not_exist_is_said_at_once(self) -> None:
        """Before anything is compiled or started."""
        refused = bench("--rows", "1,99,x")
        self.assertEqual(2, refused.returncode)
        self.assertIn("no such row: 99, x", refused.stderr)
        self.assertIn("no such server: apache", bench("--servers", "mfserver,apache").stderr)

    def test_help_names_every_row(self) -> None:
        """In their order."""
        said = "".join(bench("--help").stdout.split())
        self.assertIn("1,2,3,4,5,6,6c,7,8,8w,9,10,11,12,13,14,15,16", said)
        self.assertLessEqual({workload.number for workload in WORKLOADS}, set(ROWS))
