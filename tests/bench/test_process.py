"""What the kernel says about processes."""

import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from bench.process import cores, cpu_seconds, family, memory_kib
from tests.collecting import not_collecting

BURN = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n"


class ProcessTests(SynchronousTestCase):
    """CPU and memory of a process with its children."""

    def test_children_count_while_they_live_and_afterwards(self) -> None:
        """A server may leave its work to others."""
        before = cpu_seconds(os.getpid())
        child = subprocess.Popen(
            [sys.executable, "-c", f"{BURN}\nprint(flush=True)\ninput()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        child.stdout.readline()
        self.assertIn(child.pid, family(os.getpid()))
        living = cpu_seconds(os.getpid())
        child.communicate(b"\n")
        self.assertNotIn(child.pid, family(os.getpid()))
        self.assertGreaterEqual(living - before, 0.19)
        self.assertGreaterEqual(cpu_seconds(os.getpid()), living - 0.02)

    def test_memory_grows_with_what_is_held(self) -> None:
        """In KiB, and only what is really there."""
        with not_collecting():  # what other tests left is freed before or after
            before = memory_kib(os.getpid())
            held = bytearray(os.urandom(1 << 16)) * 512
            self.assertGreaterEqual(memory_kib(os.getpid()) - before, 30 * 1024)
            del held

    def test_server_and_load_have_a_core_each_where_there_are_two(self) -> None:
        """Neither takes the other's time."""
        server, load = cores()
        shared = server & load
        self.assertEqual(len(os.sched_getaffinity(0)) < 2, bool(shared))
        self.assertEqual((1, 1), (len(server), len(load)))
