"""What the tests of identity share: a world, and addresses of its own for everybody in it."""

import os
import socket
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.identity_world import World

__all__ = ["IdentityCase"]


class IdentityCase(SynchronousTestCase):
    """A server for each test."""

    def setUp(self) -> None:
        """Failed keys are counted for each address, so every attempt comes from one of its own."""
        try:
            with socket.socket() as probe:
                probe.bind(("127.1.0.1", 0))
        except OSError as error:
            if os.environ.get("MF_NO_SKIPS"):
                raise
            raise SkipTest("this system has only one address of its own (127.0.0.1)") from error

    def world(self, auth: str, *options: str) -> World:
        world = World(*options, auth=auth)
        self.addCleanup(world.close)
        return world
