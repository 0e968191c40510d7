"""The server's own secrets, each in a file that only it may read."""

import contextlib
import os
import stat
from pathlib import Path
from secrets import token_bytes
from typing import Final

from mfserver.errors import ConfigurationError
from mfserver.ownership import hand_over

__all__ = ["SIZE", "load_or_make"]

#: Bytes of a secret: all that HMAC-SHA256 makes use of.
SIZE: Final = 32


def load_or_make(path: str | os.PathLike[str]) -> bytes:
    """Read a secret, or make one where there is no such file.

    The file is 0600 whatever the umask. A new one appears whole or not at all, and is on disk when this
    returns. Two servers never start on one data directory, so nobody else makes it at the same time.

    :return: :data:`SIZE` bytes.
    :raises ConfigurationError: the file cannot be read or written, or is damaged.
    """
    path = Path(path)
    try:
        return _load(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ConfigurationError(f"{path}: the secret cannot be read: {error.strerror}") from error
    try:
        return _make(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: the secret cannot be written: {error.strerror}") from error


def _load(path: Path) -> bytes:
    # O_NONBLOCK, because opening a FIFO would wait for its writer for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigurationError(f"{path}: the secret is not a regular file")
        secret = file.read(SIZE + 1)
        if len(secret) != SIZE:
            raise ConfigurationError(f"{path}: the secret is damaged: it must have {SIZE} bytes")
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)
    return secret


def _make(path: Path) -> bytes:
    secret = token_bytes(SIZE)
    new = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()  # left by a start that was interrupted
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        hand_over(descriptor, str(path.parent))
        file.write(secret)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return secret
