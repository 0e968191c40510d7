"""A disk that is full whenever a test wants it to be."""

import contextlib
import fcntl
import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Protocol

__all__ = ["Disk", "small_disk"]

_SIZE: Final = 24 << 20
#: Containers have a small file system here that is theirs to fill, where they may not mount any.
_SHARED_MEMORY: Final = Path("/dev/shm")
_SMALL: Final = 128 << 20
#: Bytes that a file may have where there is no file system to fill. The server's log stays below.
_LIMIT: Final = 1 << 20


class Disk(Protocol):
    """A place for files that can run out of room.

    :ivar place: an empty directory on it.
    :ivar word: what SQLite calls it when there is no room.
    """

    place: Path
    word: str

    def fill(self, pid: int) -> None:
        """Leave no room for this process."""

    def clear(self) -> None:
        """Make room."""

    def close(self) -> None:
        """Take the disk away; nobody may use it any more."""


def small_disk() -> Disk:
    """A file system of a few MiB that can be filled; without one, a process whose files stop growing."""
    place = Path(tempfile.mkdtemp(prefix="mf-disk-"))
    if _mount(place):
        return _FileSystem(place, is_mount=True)
    if _is_small(_SHARED_MEMORY):
        place.rmdir()
        return _FileSystem(_SHARED_MEMORY, is_mount=False)
    return _Limit(place)


class _FileSystem:
    """A small file system, and a file that fills it. Tests that have to share one take turns."""

    word = "database or disk is full"

    def __init__(self, root: Path, *, is_mount: bool) -> None:
        self._root = root
        self._is_mount = is_mount
        self._turn = open(Path(tempfile.gettempdir()) / "mfserver-small-disk.lock", "w")  # noqa: SIM115
        if not is_mount:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
        self.place = Path(tempfile.mkdtemp(prefix="mf-", dir=root))
        self._filler = self.place / "filler"

    def fill(self, pid: int) -> None:
        with open(self._filler, "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))

    def clear(self) -> None:
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        shutil.rmtree(self.place)
        if self._is_mount:
            subprocess.run(("umount", str(self._root)), check=True)
            self._root.rmdir()
        self._turn.close()


class _Limit:
    """The kernel lets no file of a process grow past a limit: the writes of the database fail as well."""

    word = "disk I/O error"

    def __init__(self, place: Path) -> None:
        self.place = place
        self._pid = 0

    def fill(self, pid: int) -> None:
        self._pid = pid
        self._set(_LIMIT)

    def clear(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it was killed, and its limit with it
            self._set(resource.RLIM_INFINITY)

    def close(self) -> None:
        shutil.rmtree(self.place)

    def _set(self, limit: int) -> None:
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def _mount(place: Path) -> bool:
    command = ("mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(place))
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _is_small(place: Path) -> bool:
    if not place.is_mount() or not os.access(place, os.W_OK):
        return False
    status = os.statvfs(place)
    return status.f_blocks * status.f_frsize <= _SMALL
