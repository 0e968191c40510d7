"""Which certificates are revoked: by us, and by the lists of others. Everything is in memory.

A certificate of ours is known by its serial number, too: whoever holds an ECDSA signature can write it in a
second way without the key, which gives the certificate another fingerprint.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import time
from typing import Final, TypeVar

from cryptography import x509
from twisted.logger import Logger
from zope.interface import implementer

from mfserver.certificates import CertificateRecord
from mfserver.errors import NotAuthorized
from mfserver.interfaces import IRevocations
from mfserver.tls.crl import RevocationLists

__all__ = ["Revocations"]

T = TypeVar("T")

#: Seconds that a revoked certificate is remembered for after its end: somebody may set the clock back.
_MARGIN: Final = 86_400
#: Seconds between two times of forgetting those that have ended.
_PURGE: Final = 3_600


@implementer(IRevocations)
class Revocations:
    """What we revoked and has not ended yet, and the lists of others.

    :param lists: None where no file was named.
    :param now: the time in seconds since 1970.
    :ivar on_revoked: each is called with the fingerprints of what was revoked right now.
    :ivar on_change: each is called after that, and when the lists have changed: live certificates are to be
        verified again.
    """

    _log = Logger()

    def __init__(self, lists: RevocationLists | None = None, now: Callable[[], float] = time) -> None:
        self.on_revoked: list[Callable[[Sequence[bytes]], None]] = []
        self.on_change: list[Callable[[], None]] = []
        self._lists = lists
        self._now = now
        self._fingerprints: dict[bytes, int] = {}
        self._serials: dict[int, int] = {}
        self._purge_at = 0.0

    def __len__(self) -> int:
        """How many certificates of ours are remembered."""
        return len(self._fingerprints)

    def load(self, records: Iterable[CertificateRecord]) -> None:
        """Take up what was revoked before this start; nobody is told."""
        self._add(records)

    def check(
        self, fingerprint: bytes, serial: int, certificate: Callable[[], x509.Certificate], now: float
    ) -> None:
        """See :meth:`mfserver.interfaces.IRevocations.check`; with lists it takes tens of microseconds."""
        if fingerprint in self._fingerprints or serial in self._serials:
            raise NotAuthorized("the certificate is revoked")
        if self._lists:
            self._lists.check(certificate(), now)

    def revoked(self, records: Iterable[CertificateRecord]) -> None:
        """See :meth:`mfserver.interfaces.IRevocations.revoked`. Never raises."""
        fingerprints = self._add(records)
        if not fingerprints:
            return
        for hear in self.on_revoked:
            self._tell(partial(hear, fingerprints))
        self._changed()

    def reload(self) -> None:
        """Read the lists again: somebody asks for it, or the trust roots have changed. Never raises."""
        if self._lists is not None and self._lists.reload():
            self._changed()

    def poll(self) -> None:
        """To be called every few seconds: takes up lists that changed, and forgets what has ended."""
        if self._lists is not None and self._lists.poll():
            self._changed()
        now = self._now()
        if now >= self._purge_at:
            self._purge_at = now + _PURGE
            self._fingerprints = _without_ended(self._fingerprints, now)
            self._serials = _without_ended(self._serials, now)

    def _add(self, records: Iterable[CertificateRecord]) -> list[bytes]:
        added = []
        for record in records:
            if record.fingerprint not in self._fingerprints:
                added.append(record.fingerprint)
            self._fingerprints[record.fingerprint] = record.not_after
            self._serials[int(record.serial, 16)] = record.not_after
        return added

    def _changed(self) -> None:
        for changed in self.on_change:
            self._tell(changed)

    def _tell(self, call: Callable[[], None]) -> None:
        """One who fails to hear keeps the news from nobody else."""
        try:
            call()
        except Exception:
            self._log.failure("could not tell of a revocation")


def _without_ended(ends: dict[T, int], now: float) -> dict[T, int]:
    return {key: end for key, end in ends.items() if end + _MARGIN >= now}
