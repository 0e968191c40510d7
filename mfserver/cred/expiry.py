"""Live connections end when the certificates that let them in do."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mfserver.errors import NotAuthorized
from mfserver.interfaces import IPeer

__all__ = ["CertificateWatch", "Watched"]

# Certificates verified in one turn of the reactor, at 0.1 to 0.2 ms each.
_SLICE: Final = 50
# Seconds after which the wall time is looked at again: somebody may have set it.
_LONGEST_SLEEP: Final = 60.0


class Watched(Protocol):
    """A login that a certificate let in."""

    @property
    def peer(self) -> IPeer | None:
        """The certificate."""

    def end(self, reason: str) -> None:
        """Silence it and close its connection; does not raise."""


class CertificateWatch:
    """Asks each live certificate again, and ends those that have expired with one timer for all.

    :param clock: calls us back.
    :param now: the wall time, in seconds since 1970.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, now: Callable[[], float]) -> None:
        self._clock = clock
        self._now = now
        self._logins: dict[Watched, IPeer] = {}
        self._timer: IDelayedCall | None = None
        self._wake_at = 0.0
        self._verifying: IDelayedCall | None = None

    def add(self, login: Watched, peer: IPeer) -> None:
        """Watch a login until it is discarded or ended."""
        self._logins[login] = peer
        if self._timer is None or peer.not_valid_after < self._wake_at:
            self._sleep_until(peer.not_valid_after)

    def discard(self, login: Watched) -> None:
        """Watch it no more; it may be unknown."""
        self._logins.pop(login, None)
        if not self._logins:
            self.stop()

    def reverify(self) -> None:
        """Verify every live certificate again, a few per reactor turn, and end those that fail.

        To be called whenever trust roots or lists were exchanged; a second call begins anew.
        """
        if self._verifying is not None:
            self._verifying.cancel()
            self._verifying = None
        self._verify_slice(iter(list(self._logins)))

    def stop(self) -> None:
        """Leave no timer behind."""
        for call in (self._timer, self._verifying):
            if call is not None:
                call.cancel()
        self._timer = self._verifying = None

    def _verify_slice(self, logins: Iterator[Watched]) -> None:
        self._verifying = None
        now = self._now()
        more = False
        for login in islice(logins, _SLICE):
            more = True
            peer = self._logins.get(login)
            if peer is None:
                continue
            try:
                peer.verify(now)
            except NotAuthorized as error:
                self._end(login, str(error))
            except Exception:
                self._log.failure("a certificate could not be verified again")
                self._end(login, "the client certificate could not be verified again")
        if more and self._logins:
            self._verifying = self._clock.callLater(0, self._verify_slice, logins)

    def _end(self, login: Watched, reason: str) -> None:
        self._logins.pop(login, None)
        login.end(reason)

    def _sleep_until(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wake_at = when
        delay = min(max(0.0, when - self._now()), _LONGEST_SLEEP)
        self._timer = self._clock.callLater(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = self._now()
        if now >= self._wake_at:
            for login in [login for login, peer in self._logins.items() if peer.not_valid_after <= now]:
                self._end(login, "the client certificate has expired")
        if self._logins:
            self._sleep_until(min(peer.not_valid_after for peer in self._logins.values()))
