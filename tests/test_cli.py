"""``mfserver``, for those who have no ``twistd``."""

import sys
from typing import Any

from click.testing import CliRunner
from twisted.scripts import twistd
from twisted.trial.unittest import SynchronousTestCase

from mfserver import __version__
from mfserver.cli.main import main


class CommandTests(SynchronousTestCase):
    """In this process; twistd itself is not started."""

    def setUp(self) -> None:
        self.started: list[list[str]] = []
        self.patch(twistd, "run", lambda: self.started.append(list(sys.argv)))
        self.patch(sys, "argv", ["mfserver"])

    def invoke(self, *arguments: str) -> Any:
        return CliRunner().invoke(main, list(arguments))

    def test_run(self) -> None:
        """The same as twistd --nodaemon mainflux, without a pid file; every option is passed on as it is."""
        for options in ((), ("--auth=x509", "--http=off"), ("--help",), ("--version",), ("--unknown", "x y")):
            result = self.invoke("run", *options)
            self.assertEqual(0, result.exit_code, result.output)
            expected = ["twistd", "--nodaemon", "--pidfile=", "mainflux", *options]
            self.assertEqual(expected, self.started.pop())

    def test_version(self) -> None:
        result = self.invoke("--version")
        self.assertEqual((0, f"mfserver {__version__}\n"), (result.exit_code, result.output))

    def test_help(self) -> None:
        """It says what there is; an unknown command is an error and starts nothing."""
        self.assertIn("run", self.invoke("--help").output)
        self.assertNotEqual(0, self.invoke("walk").exit_code)
        self.assertEqual([], self.started)
