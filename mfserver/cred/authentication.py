"""The one function that answers for all protocols who somebody is, in the mode of this server."""

from collections.abc import Callable

from twisted.cred.credentials import ICredentials
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mfserver.address import subject
from mfserver.cred.access import Access, Presence
from mfserver.cred.checkers import ClientCertificateChecker, ThingKeyChecker, UserTokenChecker
from mfserver.cred.credentials import ClientCertificate, ThingKey, UserToken
from mfserver.cred.identity import Identities
from mfserver.cred.realm import Realm
from mfserver.cred.tokens import TokenOwners
from mfserver.errors import MFServerError, NotAuthorized, Unauthenticated
from mfserver.interfaces import (
    IAttempts,
    IAuthenticator,
    ILiveConnection,
    IPeer,
    IThing,
    IUser,
    IUserAuthenticator,
)
from mfserver.records import Claims, ThingId

__all__ = ["Authenticator", "UserAuthenticator", "key_mode", "x509_mode"]


def key_mode(
    access: Access, owners: TokenOwners, attempts: IAttempts
) -> "tuple[Authenticator, UserAuthenticator]":
    """Things prove themselves with their keys; certificates are not looked at."""
    checker = ThingKeyChecker(access)
    portal = Portal(Realm(access), (checker, UserTokenChecker(owners)))
    return Authenticator(portal, _thing_key, attempts, access, checker.recognise), UserAuthenticator(portal)


def x509_mode(
    access: Access,
    identities: Identities,
    owners: TokenOwners,
    attempts: IAttempts,
    now: Callable[[], float],
    *,
    certificate_only: bool = False,
) -> "tuple[Authenticator, UserAuthenticator]":
    """Things prove themselves with client certificates; a key alone lets nobody in.

    :param now: the time in seconds since 1970.
    :param certificate_only: see :class:`mfserver.cred.checkers.ClientCertificateChecker`.
    """
    checker = ClientCertificateChecker(access, identities, now, certificate_only=certificate_only)
    portal = Portal(Realm(access), (checker, UserTokenChecker(owners)))
    things = Authenticator(portal, _client_certificate, attempts, access, checker.recognise)
    return things, UserAuthenticator(portal)


@implementer(IAuthenticator)
class Authenticator:
    """Logs things in. Made by :func:`key_mode` or :func:`x509_mode`.

    Every refusal of somebody who sent a key counts against the address; a certificate cannot be guessed. A
    success forgives none: else whoever has one key could guess others for free.
    """

    def __init__(
        self,
        portal: Portal,
        credentials: Callable[[Claims, IPeer | None], tuple[ICredentials, IPeer | None]],
        attempts: IAttempts,
        access: Access,
        recognise: Callable[[Claims, IPeer | None], ThingId | None],
    ) -> None:
        self._portal = portal
        self._credentials = credentials
        self._attempts = attempts
        self._access = access
        self._recognise = recognise

    def authenticate(
        self, claims: Claims, peer: IPeer | None, connection: ILiveConnection | None
    ) -> "Deferred[tuple[IThing, Callable[[], None]]]":
        """See :meth:`mfserver.interfaces.IAuthenticator.authenticate`.

        Cancel the Deferred when the connection is lost before it fires.

        :raises Overloaded: the thing has as many connections as it may.
        """
        return Deferred.fromCoroutine(self._authenticate(claims, peer, connection))

    def recognise(self, claims: Claims, peer: IPeer | None) -> IThing | None:
        """See :meth:`mfserver.interfaces.IAuthenticator.recognise`."""
        if not self._attempts.is_free(subject(claims.address)):
            return None
        try:
            thing = self._recognise(claims, peer)
        except MFServerError:  # authenticate says what it is, and counts it
            return None
        return None if thing is None else self._access.avatar(thing)

    async def _authenticate(
        self, claims: Claims, peer: IPeer | None, connection: ILiveConnection | None
    ) -> tuple[IThing, Callable[[], None]]:
        credentials, peer = self._credentials(claims, peer)
        guesser = subject(claims.address)
        # Before any look-up, and for good keys too: else the pause would tell which ones are good.
        await self._attempts.admit(guesser)
        try:
            _, avatar, logout = await self._portal.login(credentials, Presence(connection, peer), IThing)
        except (Unauthenticated, NotAuthorized):
            if claims.keys:
                self._attempts.failed(guesser)
            raise
        return IThing(avatar), logout


@implementer(IUserAuthenticator)
class UserAuthenticator:
    """Logs people in."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    def authenticate(self, token: str) -> "Deferred[IUser]":
        """See :meth:`mfserver.interfaces.IUserAuthenticator.authenticate`."""
        return Deferred.fromCoroutine(self._authenticate(token))

    async def _authenticate(self, token: str) -> IUser:
        _, avatar, _ = await self._portal.login(UserToken(token), None, IUser)
        return IUser(avatar)


def _thing_key(claims: Claims, peer: IPeer | None) -> tuple[ICredentials, IPeer | None]:
    """Key mode's credentials; a certificate that a client shows by itself has no say in it."""
    if not claims.keys:
        raise Unauthenticated("a thing key is needed")
    return ThingKey(claims), None


def _client_certificate(claims: Claims, peer: IPeer | None) -> tuple[ICredentials, IPeer | None]:
    """Certificate mode's credentials."""
    if peer is None:
        raise NotAuthorized("a client certificate is needed")
    return ClientCertificate(peer, claims), peer
