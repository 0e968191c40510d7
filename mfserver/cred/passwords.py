"""argon2 for people's passwords, in a small pool of threads of its own."""

import os
from base64 import b64encode
from collections.abc import Callable
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from mfserver.errors import Overloaded
from mfserver.interfaces import IPasswords

__all__ = ["Passwords"]

T = TypeVar("T")


@implementer(IPasswords)
class Passwords(Service):
    """Hashes and verifies while the service runs.

    :param threads: hashes made at the same time; each takes 64 MiB and a core for 50 to 200 ms.
    :param queue: how many may be under way or wait.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorFromThreads,
        threads: int = 2,
        queue: int = 32,
        hasher: PasswordHasher | None = None,
    ) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, threads, "passwords")
        self._queue = queue
        self._pending = 0
        self._hasher = hasher or PasswordHasher()
        self._nobodys = _nobodys_hash(self._hasher)

    def startService(self) -> None:
        """Start the pool."""
        super().startService()
        self._pool.start()

    def stopService(self) -> None:
        """Stop the pool, after the hashes that are being made; those that wait fail with Overloaded."""
        super().stopService()
        self._pool.stop()

    def hash(self, password: str) -> "Deferred[str]":
        """The encoded argon2id hash, with its parameters and a salt of its own."""
        return self._defer(lambda: self._hasher.hash(_bytes(password)))

    def verify(self, password: str, password_hash: str | None) -> "Deferred[bool]":
        """Whether the password is the one; without a hash one that nobody's password has is tried."""
        return self._defer(lambda: self._verify(password, password_hash or self._nobodys))

    def _verify(self, password: str, password_hash: str) -> bool:
        try:
            return self._hasher.verify(password_hash, _bytes(password))
        except VerifyMismatchError:
            return False
        except (InvalidHashError, VerificationError):
            self._log.failure("a password's hash is damaged")
            return False

    def _defer(self, work: Callable[[], T]) -> "Deferred[T]":
        if self._pending >= self._queue or not self.running:
            return fail(Overloaded("too many passwords are being checked"))
        self._pending += 1
        # Cancelling what the caller holds must not free a place that is still taken.
        result: Deferred[T] = Deferred()
        running: Deferred[Any] = deferToThreadPool(self._reactor, self._pool, self._run, work)
        running.addBoth(self._done).chainDeferred(result)
        return result

    def _run(self, work: Callable[[], T]) -> T:
        if not self.running:
            raise Overloaded("the server is stopping")
        return work()

    def _done(self, result: Any) -> Any:
        self._pending -= 1
        return result


def _bytes(password: str) -> bytes:
    """JSON can hold lone surrogates; they are as good in a password as anything."""
    return password.encode("utf-8", "surrogatepass")


def _nobodys_hash(hasher: PasswordHasher) -> str:
    """A hash that costs what all cost to verify, and that no password gives: its bytes are random."""
    salt, tag = (
        b64encode(os.urandom(size)).decode().rstrip("=") for size in (hasher.salt_len, hasher.hash_len)
    )
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${costs}${salt}${tag}"
