"""Live connections end when the certificates that let them in do."""

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mfserver.errors import NotAuthorized
from mfserver.interfaces import IPeer

__all__ = ["CertificateWatch", "Watched"]

# Seconds of a turn of the reactor that verifying may take. A certificate costs some microseconds, tens of
# them where there are lists of others, or after the trust roots were exchanged 0.1 to 0.2 ms.
_SLICE: Final = 0.005
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
        self._left: Iterator[Watched] | None = None
        self._again = False

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
        """Verify every live certificate again, some per reactor turn, and end those that fail.

        To be called whenever something was revoked, or trust roots or lists were exchanged. A call while this
        is under way makes it go through all once more afterwards: were it to begin anew, whoever calls often
        would keep it from the last ones.
        """
        if self._left is not None:
            self._again = True
            return
        self._left = iter(list(self._logins))
        self._verify_some()

    def stop(self) -> None:
        """Leave no timer behind."""
        for call in (self._timer, self._verifying):
            if call is not None:
                call.cancel()
        self._timer = self._verifying = self._left = None
        self._again = False

    def _verify_some(self) -> None:
        self._verifying = None
        now = self._now()
        until = self._clock.seconds() + _SLICE
        while self._left is not None:
            login = next(self._left, None)
            if login is not None:
                self._verify(login, now)
            else:
                self._left = iter(list(self._logins)) if self._again else None
                self._again = False
            if self._clock.seconds() >= until:
                break
        if self._left is not None and self._verifying is None:
            self._verifying = self._clock.callLater(0, self._verify_some)

    def _verify(self, login: Watched, now: float) -> None:
        peer = self._logins.get(login)
        if peer is None:
            return
        try:
            peer.verify(now)
        except NotAuthorized as error:
            self._end(login, str(error))
        except Exception:
            self._log.failure("a certificate could not be verified again")
            self._end(login, "the client certificate could not be verified again")

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
