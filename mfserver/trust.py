"""The certificates of a server: its own, its authority's, and whose clients it trusts. Part of the wiring."""

import os
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mfserver.ca import authority
from mfserver.ca.ending import EndingSoon
from mfserver.ca.files import AuthorityFiles, read_certificates, read_issuer
from mfserver.ca.issuer import Issuer
from mfserver.ca.pool import Pool
from mfserver.ca.renewal import renew_server_certificate
from mfserver.ca.signing import Signing
from mfserver.data_directory import DataDirectory
from mfserver.errors import ConfigurationError, MFServerError
from mfserver.interfaces import ICertificateStore
from mfserver.settings import Settings
from mfserver.tls.context import ServerContext
from mfserver.tls.crl import RevocationLists
from mfserver.tls.revocation import Revocations

__all__ = ["Trust", "WATCH_FILES", "MADE_AT_ONCE", "MADE_WAITING"]

#: Seconds between two looks at the certificate files.
WATCH_FILES: Final = 2.0
#: Keys of RSA that are made at the same time; each takes a core, one of 4096 bits for seconds.
MADE_AT_ONCE: Final = 2
#: How many of them may be under way or wait.
MADE_WAITING: Final = 16

#: The same of certificates that are signed, at about a millisecond each.
_SIGNED_WAITING: Final = 1_000
#: Seconds between two looks at what ends soon.
_TEND: Final = 3_600.0


class Trust(MultiService):
    """What is read from certificate files, and read again when they change.

    :ivar tls: the context of all TLS listeners.
    :ivar revocations: what is revoked; to be loaded from the database before anybody is let in.
    :ivar signing: the authority, where its key is here.
    """

    _log = Logger()

    def __init__(self, settings: Settings, directory: DataDirectory, reactor: Any) -> None:
        super().__init__()
        self._settings = settings
        self._directory = directory
        self._reactor = reactor
        self._certificate = settings.certificate or directory.file("pki", "mainflux-server.crt")
        lists = None
        if settings.certificates and settings.crl:
            lists = RevocationLists(settings.crl, lambda: self.tls.roots, stale=settings.crl_stale)
        self._lists = lists
        self.revocations = Revocations(lists)
        self.tls = ServerContext(
            self._certificate,
            settings.key or directory.file("pki", "mainflux-server.key"),
            settings.ca or directory.file("pki", "ca.crt"),
            request_client_certificates=settings.certificates,
            minimum=settings.tls_min,
            revocations=self.revocations,
        )
        self._slow = Pool(reactor, "keys", MADE_AT_ONCE, MADE_WAITING)
        quick = Pool(reactor, "certificates", 1, _SIGNED_WAITING)
        for pool in (self._slow, quick):
            pool.setServiceParent(self)
        self.signing = Signing(time.time, self._slow, quick)
        self._loops: list[LoopingCall] = []
        self._ending: EndingSoon | None = None
        self._renewal_failed = ""

    def load(self) -> None:
        """Read every file, after what is missing of the default ones was made.

        :raises ConfigurationError: one cannot be used.
        """
        settings, path = self._settings, self._directory.path
        if (settings.certificate is None) != (settings.key is None):
            raise ConfigurationError("--cert and --key belong together: give both, or neither", "--cert")
        if settings.certificate is None or (settings.certificates and settings.ca is None):
            for line in authority.ensure(path, settings.server_names, ca=settings.ca, ca_key=settings.ca_key):
                self._log.info("{line}", line=line)
        self._told_of_renewal(self._renew)
        self.tls.load()
        if self._lists is not None:
            self._lists.load()
        self._load_issuer()
        self.tls.on_swap += [self._load_issuer, self.revocations.reload]

    def watch(self, store: ICertificateStore) -> None:
        """Tell the log from the start on what of these ends soon."""
        self._ending = EndingSoon(store, time.time)

    def ending(self) -> Mapping[int, int]:
        """Days to how many certificates of things end within them, as of the last look; empty before it."""
        return {} if self._ending is None else self._ending.counts

    def startService(self) -> None:
        """Look at the files every now and then."""
        super().startService()
        for work, seconds, now in ((self._poll, WATCH_FILES, False), (self._tend, _TEND, True)):
            loop: LoopingCall = LoopingCall(work)
            loop.clock = self._reactor
            loop.start(seconds, now=now).addErrback(
                partial(self._log.failure, "certificates are not watched")
            )
            self._loops.append(loop)

    def stopService(self) -> Any:
        """Look at nothing any more."""
        for loop in self._loops:
            if loop.running:
                loop.stop()
        return super().stopService()

    def reload(self) -> None:
        """Read every file again, because somebody asks for it."""
        if not self.tls.reload():
            self.revocations.reload()

    def _poll(self) -> None:
        if self.tls.changed():
            self.tls.reload()
        self.revocations.poll()

    def _tend(self) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._renew_and_tell())

    async def _renew_and_tell(self) -> None:
        """What is renewed is taken up by the look at the files."""
        try:
            await self._look_at_ends()
        except Exception:
            self._log.failure("what ends soon could not be looked at")  # and is again in an hour

    async def _look_at_ends(self) -> None:
        try:
            renewed = await self._slow.defer(self._renew)
            self._told_of_renewal(lambda: renewed)
        except ConfigurationError as error:
            self._told_of_renewal(partial(_raise, error))
        except MFServerError:
            pass  # too much to do: next time
        try:
            if self._ending is not None:
                await self._ending.tell(self._own_ends())
        except MFServerError as error:
            if self.running:
                self._log.warn("which certificates end soon cannot be read: {reason}", reason=str(error))

    def _renew(self) -> str | None:
        """Renew the server certificate, where it is one that we made and due. Blocks."""
        settings = self._settings
        if settings.certificate is not None:
            return None
        return renew_server_certificate(self._directory.path, ca=settings.ca, ca_key=settings.ca_key)

    def _told_of_renewal(self, renewed: Any) -> None:
        """Log what became of a renewal; of a failure only when it is another one than before."""
        try:
            line, failed = renewed(), ""
        except ConfigurationError as error:
            line, failed = None, str(error)
        if line:
            self._log.info("{line}", line=line)
        if failed and failed != self._renewal_failed:
            self._log.warn("the server certificate is not renewed: {reason}", reason=failed)
        self._renewal_failed = failed

    def _own_ends(self) -> list[tuple[str, float]]:
        ends = []
        try:
            leaf = read_certificates(self._certificate, "--cert")[0]
        except ConfigurationError:
            pass  # the look at the files says so
        else:
            ends.append((f"the server certificate {self._certificate}", leaf.not_valid_after_utc.timestamp()))
        if self.signing.issuer is not None:
            ends.append(("the authority", self.signing.issuer.not_valid_after.timestamp()))
        return ends

    def _load_issuer(self) -> None:
        """Take up the authority whose key is here; without one, or with a bad file, say so once and go on."""
        settings = self._settings
        files = AuthorityFiles.of(self._directory.path, settings.ca, settings.ca_key)
        try:
            self.signing.issuer = self._issuer(files)
        except ConfigurationError as error:
            if self.signing.issuer is None:
                self._log.warn("certificates of things cannot be issued: {reason}", reason=str(error))
            else:
                self._log.warn("the authority stays as it was: {reason}", reason=str(error))

    def _issuer(self, files: AuthorityFiles) -> Issuer:
        if not os.path.lexists(files.key):
            raise ConfigurationError(
                f"{files.key} is not here; give it with --ca-key, or an authority to mfserver ca import"
            )
        issuer = read_issuer(files)
        if self._settings.certificates and not any(root in issuer.path for root in self.tls.roots):
            raise ConfigurationError(
                f"{files.certificate} is not among the authorities of --ca={self._settings.ca}: who has"
                " one from it would not be let in; give the key of one that is with --ca-key"
            )
        return issuer


def _raise(error: Exception) -> None:
    raise error
