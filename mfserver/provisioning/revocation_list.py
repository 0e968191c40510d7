"""The revocation list that others fetch: built when somebody asks, once for all who do."""

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mfserver.interfaces import ICertificateStore, IChanges, IIssuer
from mfserver.records import Change

__all__ = ["RevocationList", "KEPT_FOR"]

#: Seconds that a list is kept for: another server on the same database may revoke, too.
KEPT_FOR: Final = 60
#: Seconds that a certificate stays on the list after its end (RFC 5280, 3.3): no list lives longer.
_AFTER_END: Final = 7 * 86_400


@implementer(IChanges)
class RevocationList:
    """Anybody may ask for it, and as often as they like: that costs one list in memory.

    :param now: seconds since 1970.
    """

    _log = Logger()

    def __init__(self, store: ICertificateStore, issuer: IIssuer, now: Callable[[], float]) -> None:
        self._store = store
        self._issuer = issuer
        self._now = now
        self._kept: bytes | None = None
        self._kept_until = 0.0
        self._number = 0
        self._changes = 0
        self._waiting: list[Deferred[bytes]] = []
        self._is_building = False

    def get(self) -> "Deferred[bytes]":
        """The list in DER; whoever was revoked before this was called stands in it.

        :raises Unavailable: there is no authority to sign it.
        :raises Overloaded: it cannot be built now.
        """
        if self._kept is not None and self._kept_until - KEPT_FOR <= self._now() < self._kept_until:
            return succeed(self._kept)
        waiting: Deferred[bytes] = Deferred()
        self._waiting.append(waiting)
        if not self._is_building:
            self._is_building = True
            Deferred.fromCoroutine(self._build()).addErrback(
                lambda failure: self._log.failure("the revocation list cannot be built", failure)
            )
        return waiting

    def forget(self) -> None:
        """Something was revoked, or another authority signs now."""
        self._changes += 1
        self._kept = None

    def changed(self, change: Change) -> None:
        """The certificates of a thing that was deleted are revoked."""
        if change.deleted:
            self.forget()

    async def _build(self) -> None:
        """Build until nobody waits: who came while something was revoked gets a list of after that."""
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, []
                changes = self._changes
                result: bytes | Failure
                try:
                    result = await self._make()
                except Exception:
                    result = Failure()
                else:
                    if changes == self._changes:
                        self._kept, self._kept_until = result, self._now() + KEPT_FOR
                        asked, self._waiting = asked + self._waiting, []
                for waiting in asked:
                    waiting.callback(result)
        finally:
            self._is_building = False

    async def _make(self) -> bytes:
        now = self._now()
        records = await self._store.revoked(int(now) - _AFTER_END)
        # In milliseconds since 1970, so that it grows over new starts, too.
        self._number = max(self._number + 1, int(now * 1000))
        return await self._issuer.revocation_list(records, self._number)
