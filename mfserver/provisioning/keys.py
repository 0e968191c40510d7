"""API keys: what people give to their programs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mfserver.errors import Invalid, NotAuthorized, NotFound, Unauthenticated
from mfserver.interfaces import IKeyStore, ITokens, IUser, IUserStore
from mfserver.provisioning.fields import is_id, new_id
from mfserver.records import ApiKey, KeyId, UserId

__all__ = ["Issued", "Keys", "API", "LOGIN", "MAX_DURATION"]

#: The kinds of key that Mainflux numbers; 1, recovery, is not one that people ask for.
LOGIN: Final = 0
API: Final = 2
#: Seconds that an API key with an end may live: a hundred years.
MAX_DURATION: Final = 100 * 365 * 86_400


@dataclass(frozen=True, slots=True)
class Issued:
    """A key and its value, which is shown this once.

    :ivar id: None for a login token, which nobody keeps.
    :ivar issued_at: seconds since 1970; ``expires_at`` likewise, None for never or where the token says it.
    """

    id: KeyId | None
    value: str
    issued_at: int
    expires_at: int | None

    def __repr__(self) -> str:
        return f"<Issued {self.id}>"  # a value has no place in a log or a traceback


@dataclass(frozen=True, slots=True)
class Keys:
    """The rules for API keys.

    :ivar now: seconds since 1970.
    """

    store: IKeyStore
    users: IUserStore
    tokens: ITokens
    now: Callable[[], float]

    async def issue(self, user: IUser, kind: int, duration: int | None) -> Issued:
        """Make an API key, or one more login token.

        :param kind: :data:`LOGIN`, of fixed life whatever the duration, or :data:`API`.
        :param duration: seconds that an API key lives, up to :data:`MAX_DURATION`; None for ever.
        :raises NotAuthorized: an API key asks. A login token from one would be a way to the next API key.
        :raises Invalid: there is no such kind, or the duration is out of bounds.
        """
        if user.by_api_key:
            raise NotAuthorized("an API key cannot make keys")
        issued_at = int(self.now())
        if kind == LOGIN:
            account = await self.users.by_id(user.id)
            if account is None:
                raise Unauthenticated("no such user")
            return Issued(None, self.tokens.login(account), issued_at, None)
        if kind != API:
            raise Invalid(f"neither {LOGIN}, a login token, nor {API}, an API key", "type")
        if duration is not None and not 0 < duration <= MAX_DURATION:
            raise Invalid(f"not between 1 and {MAX_DURATION} seconds", "duration")
        expires_at = None if duration is None else issued_at + duration
        key = ApiKey(KeyId(new_id()), user.id, issued_at, expires_at)
        await self.store.add(key)
        return Issued(key.id, self.tokens.api_key(key), issued_at, expires_at)

    async def get(self, owner: UserId, key: str) -> ApiKey:
        """:raises NotFound: none of this owner's."""
        if not is_id(key):
            raise NotFound("no such key")
        return await self.store.get(owner, KeyId(key))

    async def revoke(self, owner: UserId, key: str) -> None:
        """End an API key; it may be absent."""
        if is_id(key):
            await self.store.remove(owner, KeyId(key))
