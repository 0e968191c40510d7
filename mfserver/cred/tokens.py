"""Tokens of people: JWTs that we sign, and that we ask our own records about at every use."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
from zope.interface import implementer

from mfserver.errors import NotFound, Unauthenticated
from mfserver.interfaces import IKeyStore, ITokens, IUserStore
from mfserver.records import ApiKey, KeyId, User, UserId

__all__ = ["LOGIN_SECONDS", "MAX_TOKEN", "TokenOwners", "Tokens"]

#: How long a login token lasts, in seconds.
LOGIN_SECONDS: Final = 10 * 60 * 60
#: Characters of a token; ours have less than half of it.
MAX_TOKEN: Final = 1024

_ALGORITHM: Final = "HS256"
_ISSUER: Final = "mainflux.auth"
# Mainflux's numbers; 1 is a recovery key, which we do not make.
_LOGIN: Final = 0
_API_KEY: Final = 2


@implementer(ITokens)
class Tokens:
    """Signs tokens.

    :param secret: at least 32 bytes.
    :param now: the time in seconds since 1970.
    """

    def __init__(self, secret: bytes, now: Callable[[], float]) -> None:
        self._secret = secret
        self._now = now

    def login(self, user: User) -> str:
        """A login token, for :data:`LOGIN_SECONDS` and this generation of the user's password."""
        issued = int(self._now())
        return self._sign(
            sub=user.id,
            type=_LOGIN,
            generation=user.generation,
            jti=str(uuid.uuid4()),
            iat=issued,
            exp=issued + LOGIN_SECONDS,
        )

    def api_key(self, key: ApiKey) -> str:
        """The value of an API key. It has no ``exp`` where the key never expires."""
        claims = {"sub": key.owner, "type": _API_KEY, "jti": key.id, "iat": key.issued_at}
        if key.expires_at is not None:
            claims["exp"] = key.expires_at
        return self._sign(**claims)

    def _sign(self, **claims: object) -> str:
        return jwt.encode({"iss": _ISSUER, **claims}, self._secret, _ALGORITHM)


class TokenOwners:
    """Finds whose a token is.

    :param secret: the one that the tokens were signed with.
    :param now: the time in seconds since 1970.
    """

    def __init__(self, secret: bytes, users: IUserStore, keys: IKeyStore, now: Callable[[], float]) -> None:
        self._secret = secret
        self._users = users
        self._keys = keys
        self._now = now

    async def owner(self, token: str) -> tuple[User, bool]:
        """The owner of a token, and whether the token is an API key's value.

        The store is asked each time, so that a revoked key and a changed password end at once.

        :raises Unauthenticated: it is no token of ours, or has ended.
        """
        claims = self._verified(token)
        by_api_key = claims.get("type") == _API_KEY
        owner = UserId(claims["sub"])
        if by_api_key:
            await self._check_api_key(owner, KeyId(claims["jti"]))
        user = await self._users.by_id(owner)
        if user is None or not (by_api_key or claims.get("generation") == user.generation):
            raise _refused()
        return user, by_api_key

    def _verified(self, token: str) -> Mapping[str, Any]:
        """The claims of a token with our signature that is not over yet."""
        if not token.isascii() or len(token) > MAX_TOKEN:
            raise _refused()
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                issuer=_ISSUER,
                # The times are compared below, with the clock that we were given.
                options={
                    "require": ["iss", "sub", "iat", "jti"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise _refused() from error
        expires = claims.get("exp")
        if claims.get("type") not in (_LOGIN, _API_KEY) or (expires is None and claims["type"] == _LOGIN):
            raise _refused()
        if expires is not None and not (isinstance(expires, int) and self._now() < expires):
            raise _refused()
        return claims

    async def _check_api_key(self, owner: UserId, key_id: KeyId) -> None:
        try:
            key = await self._keys.get(owner, key_id)
        except NotFound as error:
            raise _refused() from error
        if key.expires_at is not None and key.expires_at <= self._now():
            raise _refused()


def _refused() -> Unauthenticated:
    """One text for all: what is wrong with a token is nobody's business."""
    return Unauthenticated("the token is invalid or has expired")
