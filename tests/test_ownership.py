"""What root makes before it drops its privileges belongs to whom it will serve as."""

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mfserver.ownership import hand_over

NOBODY = 65534


class HandOverTests(SynchronousTestCase):
    """A file in a directory that may be somebody else's."""

    def made(self) -> "tuple[Path, int]":
        directory = Path(self.mktemp())
        directory.mkdir()
        descriptor = os.open(directory / "file", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self.addCleanup(os.close, descriptor)
        return directory, descriptor

    def test_own_directory(self) -> None:
        directory, descriptor = self.made()
        hand_over(descriptor, str(directory))
        self.assertEqual(os.geteuid(), os.fstat(descriptor).st_uid)

    def test_somebody_elses(self) -> None:
        """Root gives it away; nobody else could, or tries."""
        directory, descriptor = self.made()
        if os.geteuid() == 0:
            os.chown(directory, NOBODY, NOBODY)
            hand_over(descriptor, str(directory))
            self.assertEqual((NOBODY, NOBODY), (os.fstat(descriptor).st_uid, os.fstat(descriptor).st_gid))
            self.addCleanup(os.seteuid, 0)
            os.seteuid(NOBODY)
        hand_over(descriptor, "/")
        self.assertNotEqual(0, os.fstat(descriptor).st_uid)
