"""Small real implementations of what provisioning is handed, besides the store."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute, fail, succeed
from zope.interface import implementer

from mfserver.certificates import CertificateRecord
from mfserver.errors import NotAuthorized, Overloaded, SlowDown, Unauthenticated
from mfserver.interfaces import (
    IAttempts,
    IChanges,
    IPasswords,
    IRevocations,
    ITokens,
    IUser,
    IUserAuthenticator,
    IUserStore,
)
from mfserver.records import ApiKey, Change, User, UserId

__all__ = ["Attempts", "Changes", "Inline", "Passwords", "Person", "Revocations", "Tokens"]

T = TypeVar("T")


class Inline:
    """Does at once what threads do in their time; or keeps it until :meth:`go`.

    :ivar full: whether the queue is.
    :ivar held: what waits; None for nothing has to.
    """

    def __init__(self) -> None:
        self.full = False
        self.done = 0
        self.held: list[Callable[[], object]] | None = None

    def defer(self, work: Callable[[], T]) -> Deferred[T]:
        if self.full:
            return fail(Overloaded("too many certificates are being made"))
        self.done += 1
        if self.held is None:
            return execute(work)
        waiting: Deferred[T] = Deferred()
        self.held.append(lambda: execute(work).chainDeferred(waiting))
        return waiting

    def go(self) -> None:
        """Do what waits."""
        held, self.held = self.held or [], None
        for work in held:
            work()


@implementer(IRevocations)
class Revocations:
    """Remembers what it was told.

    :ivar heard: serial numbers.
    """

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.fingerprints: set[bytes] = set()

    def check(self, fingerprint: bytes, serial: int, certificate: Callable[[], Any], now: float) -> None:
        if fingerprint in self.fingerprints:
            raise NotAuthorized("revoked")

    def revoked(self, records: Iterable[CertificateRecord]) -> None:
        for record in records:
            self.heard.append(record.serial)
            self.fingerprints.add(record.fingerprint)


@implementer(IPasswords)
class Passwords:
    """Hashes that cost nothing, and a count of the ones that were compared.

    :ivar full: whether the queue is.
    """

    def __init__(self) -> None:
        self.full = False
        self.verified: list[str | None] = []

    def hash(self, password: str) -> Deferred[str]:
        return fail(Overloaded("too many passwords wait")) if self.full else succeed(f"hash of {password}")

    def verify(self, password: str, password_hash: str | None) -> Deferred[bool]:
        if self.full:
            return fail(Overloaded("too many passwords wait"))
        self.verified.append(password_hash)
        return succeed(password_hash == f"hash of {password}")


@implementer(IAttempts)
class Attempts:
    """Refuses a subject after ``limit`` failures."""

    def __init__(self, limit: int = 1_000_000) -> None:
        self.limit = limit
        self.failures: dict[str, int] = {}
        self.admitted: list[tuple[str, ...]] = []

    def admit(self, *subjects: str) -> Deferred[None]:
        self.admitted.append(subjects)
        if any(self.failures.get(subject, 0) >= self.limit for subject in subjects):
            return fail(SlowDown("too many attempts", 2.5))
        return succeed(None)

    def is_free(self, *subjects: str) -> bool:
        return all(self.failures.get(subject, 0) < self.limit for subject in subjects)

    def failed(self, *subjects: str) -> None:
        for subject in subjects:
            self.failures[subject] = self.failures.get(subject, 0) + 1

    def succeeded(self, *subjects: str) -> None:
        for subject in subjects:
            self.failures.pop(subject, None)


@implementer(IUser)
@dataclass(frozen=True)
class Person:
    """An avatar."""

    id: UserId
    email: str
    by_api_key: bool = False


@implementer(ITokens, IUserAuthenticator)
class Tokens:
    """Tokens that say in clear what they are, and the authenticator that believes them."""

    def __init__(self, users: IUserStore) -> None:
        self._users = users

    def login(self, user: User) -> str:
        return f"login.{user.id}.{user.generation}"

    def api_key(self, key: ApiKey) -> str:
        return f"key.{key.owner}.{key.id}"

    def authenticate(self, token: str) -> Deferred[IUser]:
        return Deferred.fromCoroutine(self._authenticate(token))

    async def _authenticate(self, token: str) -> IUser:
        kind, _, rest = token.partition(".")
        owner, _, what = rest.partition(".")
        user = await self._users.by_id(UserId(owner))
        if user is None or kind not in ("login", "key") or (kind == "login" and what != str(user.generation)):
            raise Unauthenticated("not a token of ours")
        return Person(user.id, user.email, kind == "key")


@implementer(IChanges)
@dataclass
class Changes:
    """Remembers what it heard."""

    heard: list[Change] = field(default_factory=list)

    def changed(self, change: Change) -> None:
        self.heard.append(change)
