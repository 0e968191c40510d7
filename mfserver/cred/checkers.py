"""The checkers: each turns one kind of credentials into an avatar id, or refuses.

A refusal never says which part was wrong where that would tell a guesser something.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from mfserver.cred.access import Access
from mfserver.cred.credentials import IClientCertificate, IThingKey, IUserToken
from mfserver.cred.identity import CN, Identities, Identity
from mfserver.cred.thing_keys import same
from mfserver.cred.tokens import TokenOwners
from mfserver.errors import NotAuthorized, Unauthenticated
from mfserver.interfaces import IPeer
from mfserver.records import Claims, ThingId, is_thing_key

__all__ = ["ClientCertificateChecker", "ThingKeyChecker", "UserTokenChecker"]

#: Things that are warned of; more would be a flood of its own.
_MAX_WARNED: Final = 10_000


@implementer(ICredentialsChecker)
class ThingKeyChecker:
    """Key mode: the thing is the one that has the key."""

    credentialInterfaces = (IThingKey,)

    def __init__(self, access: Access) -> None:
        self._access = access

    def requestAvatarId(self, credentials: IThingKey) -> "Deferred[bytes | tuple[()]]":
        """The id of the thing.

        :raises NotAuthorized: several keys that differ.
        :raises Unauthenticated: no thing has this key, or the one that has it has not the claimed id.
        """
        return Deferred.fromCoroutine(self._thing(credentials.claims))

    def recognise(self, claims: Claims, peer: IPeer | None) -> ThingId | None:
        """The thing from memory alone; None where a look-up has to decide.

        :raises MFServerError: as :meth:`requestAvatarId`.
        """
        if not claims.keys:
            return None
        key = _one_key(claims)
        thing = self._access.known(key) if is_thing_key(key) else None
        return None if thing is None else _agreed(claims, thing)

    async def _thing(self, claims: Claims) -> bytes | tuple[()]:
        key = _one_key(claims)
        return _agreed(claims, await self._access.find(key) if is_thing_key(key) else None).encode()


@implementer(ICredentialsChecker)
class ClientCertificateChecker:
    """Certificate mode: the thing is the one that the certificate names.

    :param now: the time in seconds since 1970.
    :param certificate_only: on MQTT a certificate in which no key stands is enough; what a client says
        besides must be right all the same.
    """

    credentialInterfaces = (IClientCertificate,)
    _log = Logger()

    def __init__(
        self,
        access: Access,
        identities: Identities,
        now: Callable[[], float],
        *,
        certificate_only: bool = False,
    ) -> None:
        self._access = access
        self._identities = identities
        self._now = now
        self._certificate_only = certificate_only
        self._warned: set[ThingId] = set()

    def requestAvatarId(self, credentials: IClientCertificate) -> "Deferred[bytes | tuple[()]]":
        """The id of the thing.

        :raises NotAuthorized: the certificate is not to be trusted any more or names no thing, or what
            was said besides is missing or contradicts it.
        """
        return Deferred.fromCoroutine(self._thing(credentials))

    async def _thing(self, credentials: IClientCertificate) -> bytes | tuple[()]:
        claims, peer = credentials.claims, credentials.peer
        identity = await self._identities.identity(peer)
        claims = self._sufficient(claims, identity)
        return self._confirmed(claims, peer, identity, await self._find(identity)).encode()

    def recognise(self, claims: Claims, peer: IPeer | None) -> ThingId | None:
        """The thing from memory alone; None where a look-up has to decide.

        :raises MFServerError: as :meth:`requestAvatarId`.
        """
        identity = None if peer is None else self._identities.known(peer)
        if peer is None or identity is None:
            return None
        claims = self._sufficient(claims, identity)
        if identity.key is not None:
            thing = self._access.known(identity.key)
        else:
            thing = identity.thing if identity.thing and self._access.is_known(identity.thing) else None
        return None if thing is None else self._confirmed(claims, peer, identity, thing)

    def _sufficient(self, claims: Claims, identity: Identity) -> Claims:
        """What has to be said besides this certificate, which is not missing.

        :raises NotAuthorized: it is.
        """
        if self._certificate_only and identity.method != CN:
            claims = _without_needs(claims)
        if claims.needs_key and not claims.keys:
            raise NotAuthorized("the thing key is needed besides the client certificate")
        return claims

    def _confirmed(self, claims: Claims, peer: IPeer, identity: Identity, thing: ThingId | None) -> ThingId:
        """The thing, if nothing that was said contradicts it."""
        if thing is None:
            raise NotAuthorized("the client certificate names no thing")
        if not all(self._access.has_key(thing, key) for key in claims.keys):
            raise NotAuthorized("the thing key is not the client certificate's")
        if not _agrees(claims, thing):
            raise NotAuthorized("the thing id is missing or not the client certificate's")
        # Last, and with nothing to wait for after it: the certificate may have been revoked during the
        # look-ups, or the trust roots changed.
        peer.verify(self._now())
        if identity.method == CN and peer.tls_version == "TLSv1.2":
            self._warn_of_clear_certificate(thing)
        return thing

    async def _find(self, identity: Identity) -> ThingId | None:
        if identity.key is not None:
            return await self._access.find(identity.key)
        return None if identity.thing is None else await self._access.find_by_id(identity.thing)

    def _warn_of_clear_certificate(self, thing: ThingId) -> None:
        """Once per thing: under TLS 1.2 its certificate, and so its key, crossed the network in clear."""
        if thing not in self._warned and len(self._warned) < _MAX_WARNED:
            self._warned.add(thing)
            self._log.warn(
                "thing {thing} showed its certificate under TLS 1.2, which sends it, and so the thing key in "
                "it, in clear; TLS 1.3 does not, and --tls-min=1.3 insists on it",
                thing=thing,
            )


@implementer(ICredentialsChecker)
class UserTokenChecker:
    """People, in both modes."""

    credentialInterfaces = (IUserToken,)

    def __init__(self, owners: TokenOwners) -> None:
        self._owners = owners

    def requestAvatarId(self, credentials: IUserToken) -> "Deferred[bytes | tuple[()]]":
        """How, and as whom, the token lets in; :meth:`mfserver.cred.realm.Realm.requestAvatar` reads it.

        :raises Unauthenticated: it is no token of ours, or has ended.
        """
        return Deferred.fromCoroutine(self._user(credentials.token))

    async def _user(self, token: str) -> bytes | tuple[()]:
        user, by_api_key = await self._owners.owner(token)
        return f"{'key' if by_api_key else 'login'} {user.id} {user.email}".encode()


def _one_key(claims: Claims) -> str:
    """The key that was sent, however often. :raises NotAuthorized: several that differ."""
    key, *others = claims.keys
    if not all(same(key, other) for other in others):
        raise NotAuthorized("the keys in this request differ")
    return key


def _agreed(claims: Claims, thing: ThingId | None) -> ThingId:
    """The thing that has the key. :raises Unauthenticated: none has, or it has not the claimed id."""
    if thing is None or not _agrees(claims, thing):
        raise Unauthenticated("unknown thing key")
    return thing


def _agrees(claims: Claims, thing: ThingId) -> bool:
    """Whether the claimed thing id is the thing's, and is there where it has to be."""
    if claims.thing_id is None:
        return not claims.needs_thing_id
    return same(claims.thing_id, thing)


def _without_needs(claims: Claims) -> Claims:
    """On MQTT nothing needs to be said besides a certificate, but by what may be a page in a browser."""
    if not claims.needs_thing_id or claims.by_browser:
        return claims
    return replace(claims, needs_key=False, needs_thing_id=False)
