"""The data directory: one server's database, secrets and keys, closed to everybody else on the machine."""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Mapping
from secrets import token_urlsafe
from typing import Any

from mfserver.errors import ConfigurationError
from mfserver.ownership import hand_over

__all__ = ["DataDirectory"]


class DataDirectory:
    """A directory that one running server holds.

    :param path: relative paths count from the directory that the process was started in.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._lock: int | None = None

    def file(self, *names: str) -> str:
        """The path of a file in it."""
        return os.path.join(self.path, *names)

    def open(self) -> bool:
        """Make it if it is missing, close it to others, and hold it until :meth:`close`.

        :return: whether it was made now.
        :raises ConfigurationError: it cannot be made or written, or another server holds it.
        """
        made = not os.path.isdir(self.path)
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            if os.stat(self.path).st_uid == os.geteuid():
                os.chmod(self.path, 0o700)
            lock = self._open_lock()
        except OSError as error:
            raise ConfigurationError(
                f"the data directory {self.path} cannot be used: {error.strerror}; "
                "choose another with --data-dir",
                "--data-dir",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise ConfigurationError(
                f"another server runs on the data directory {self.path}; "
                "stop it, or choose another with --data-dir",
                "--data-dir",
            ) from error
        self._lock = lock
        self._forget_listening()  # of a server that was killed
        return made

    def write_listening(self, listening: Mapping[str, Any]) -> None:
        """Tell other programs where the server listens, in ``listening.json``: whole or not at all.

        :raises OSError: it cannot be written.
        """
        self._write("listening.json", json.dumps(listening))

    def registration_token(self) -> str:
        """What somebody has to show to register where registration is closed; made when it is missing.

        :raises ConfigurationError: ``registration.token`` cannot be read or made, or is empty.
        """
        path = self.file("registration.token")
        try:
            if not os.path.exists(path):
                self._write("registration.token", token_urlsafe(32))
            with open(path, encoding="ascii") as file:
                token = file.read().strip()
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path} cannot be used: {error}", "--registration") from error
        if not token:
            raise ConfigurationError(f"{path} is empty: delete it for a new one", "--registration")
        return token

    def _open_lock(self) -> int:
        path, flags = self.file("lock"), os.O_RDWR | os.O_CLOEXEC
        try:
            lock = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return os.open(path, flags)
        hand_over(lock, self.path)
        return lock

    def _write(self, name: str, text: str) -> None:
        """Write a file that only its owner may read, whole or not at all."""
        descriptor, new = tempfile.mkstemp(dir=self.path, prefix=f".{name}-")  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                hand_over(descriptor, self.path)
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.file(name))
        except OSError:
            os.unlink(new)
            raise

    def _forget_listening(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.file("listening.json"))

    def close(self) -> None:
        """Let the next server have it."""
        if self._lock is None:
            return
        self._forget_listening()
        os.close(self._lock)
        self._lock = None
