"""A disk that is full whenever a test wants it to be."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final
from unittest import SkipTest

__all__ = ["SmallDisk"]

_SIZE: Final = 24 << 20
#: Containers have a small file system here that is theirs to fill, where they may not mount any.
_SHARED_MEMORY: Final = Path("/dev/shm")
_SMALL: Final = 128 << 20


class SmallDisk:
    """A file system of a few MiB.

    :ivar place: an empty directory on it.
    :raises SkipTest: there is none, and none can be mounted.
    """

    def __init__(self) -> None:
        self._mounted = Path(tempfile.mkdtemp(prefix="mf-disk-"))
        why = _mount(self._mounted)
        self._is_mount = not why
        if why:
            self._mounted.rmdir()
            if not _is_small(_SHARED_MEMORY):
                raise SkipTest(f"no small file system can be mounted: {why}")
            self._mounted = _SHARED_MEMORY
        self.place = Path(tempfile.mkdtemp(prefix="mf-", dir=self._mounted))
        self._filler = self.place / "filler"

    @property
    def free(self) -> int:
        """Bytes that anybody may still write."""
        status = os.statvfs(self._mounted)
        return status.f_bavail * status.f_frsize

    def fill(self) -> None:
        """Write a file until nothing more fits."""
        with open(self._filler, "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))

    def clear(self) -> None:
        """Delete that file."""
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        """Take the file system away; nobody may use it any more."""
        shutil.rmtree(self.place)
        if self._is_mount:
            subprocess.run(("umount", str(self._mounted)), check=True)
            self._mounted.rmdir()


def _mount(place: Path) -> str:
    """Mount a small file system. :return: why that cannot be; empty when it is done."""
    command = ("mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(place))
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "there is no mount"
    return done.stderr.strip() or f"mount ended with {done.returncode}" if done.returncode else ""


def _is_small(place: Path) -> bool:
    if not place.is_mount():
        return False
    status = os.statvfs(place)
    return status.f_blocks * status.f_frsize <= _SMALL
