"""People: who may register, who may log in, and what they may change about themselves."""

from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Final

from mfserver.address import subject
from mfserver.errors import NotFound, Unauthenticated
from mfserver.interfaces import IAttempts, IPasswords, ITokens, IUserStore
from mfserver.provisioning.fields import (
    check_email,
    check_metadata,
    check_new_password,
    check_password,
    new_id,
)
from mfserver.provisioning.turnstile import Turnstile
from mfserver.records import Metadata, User, UserId

__all__ = ["Users"]

# Of the passwords that may be under way or wait in all; each takes a core for 50 to 200 ms.
_HASHES_PER_ADDRESS: Final = 8


@dataclass(frozen=True, slots=True)
class Users:
    """The rules for people's accounts.

    Every ``address`` is the client's, as :func:`mfserver.address.network` names it.

    :ivar attempts: counts failed passwords and registration tokens, per address and per account. A success
        clears the account alone: else a guesser would clear the address with an account of their own.
    :ivar registration_token: what somebody has to show to register; None where anyone may.
    :ivar turnstile: how many passwords of one address may be looked at together; more get ``SlowDown``.
    """

    store: IUserStore
    passwords: IPasswords
    tokens: ITokens
    attempts: IAttempts
    registration_token: str | None = None
    turnstile: Turnstile = field(default_factory=lambda: Turnstile(_HASHES_PER_ADDRESS))

    async def register(
        self, address: str, token: str | None, email: str, password: str, metadata: Metadata | None
    ) -> UserId:
        """Make an account.

        :param token: the registration token that was shown, None for none.
        :raises Unauthenticated: registration is closed, and this is not its token.
        :raises Invalid: a field is malformed.
        :raises Conflict: the e-mail address is taken.
        """
        if self.registration_token is not None:
            await self._check_registration(address, token, self.registration_token)
        check_email(email)
        check_new_password(password)
        check_metadata(metadata)
        with self.turnstile.passed(address):
            password_hash = await self.passwords.hash(password)
        user = User(UserId(new_id()), email, password_hash, metadata)
        await self.store.add(user)
        return user.id

    async def login(self, address: str, email: str, password: str) -> str:
        """A login token for an e-mail address and its password; both being wrong takes as long as one.

        :raises Unauthenticated: there is no such account, or this is not its password.
        :raises SlowDown: too many failures of this address or this account.
        """
        check_email(email)
        check_password(password)
        subjects = subject(address), _account(email)
        await self.attempts.admit(*subjects)
        user = await self.store.by_email(email)
        with self.turnstile.passed(address):
            known = await self.passwords.verify(password, None if user is None else user.password_hash)
        if user is None or not known:
            self.attempts.failed(*subjects)
            raise Unauthenticated("wrong e-mail address or password")
        self.attempts.succeeded(_account(email))
        return self.tokens.login(user)

    async def profile(self, user: UserId) -> User:
        """:raises NotFound: there is no such user."""
        found = await self.store.by_id(user)
        if found is None:
            raise NotFound("no such user")
        return found

    async def set_metadata(self, user: UserId, metadata: Metadata | None) -> None:
        """Replace the metadata. :raises Invalid: it is too deep or too long."""
        check_metadata(metadata)
        await self.store.set_metadata(user, metadata)

    async def change_password(self, address: str, user: UserId, old: str, new: str) -> None:
        """Change a password, which ends the login tokens made before.

        :raises Invalid: the new one is too short or too long.
        :raises Unauthenticated: the old one is wrong.
        :raises Conflict: it was changed by somebody else meanwhile.
        """
        check_password(old, "old_password")
        check_new_password(new)
        account = await self.profile(user)
        subjects = subject(address), _account(account.email)
        await self.attempts.admit(*subjects)
        with self.turnstile.passed(address):
            if not await self.passwords.verify(old, account.password_hash):
                self.attempts.failed(*subjects)
                raise Unauthenticated("wrong old password")
            self.attempts.succeeded(_account(account.email))
            password_hash = await self.passwords.hash(new)
        # The generation of the account whose password was verified: of two changes at once one fails.
        await self.store.set_password(user, password_hash, account.generation)

    async def _check_registration(self, address: str, token: str | None, wanted: str) -> None:
        """:raises Unauthenticated: this is not the token that registration needs."""
        if token is None:
            raise Unauthenticated("registration needs the registration token")
        await self.attempts.admit(subject(address))
        if not compare_digest(token.encode(), wanted.encode()):
            self.attempts.failed(subject(address))
            raise Unauthenticated("wrong registration token")


def _account(email: str) -> str:
    return f"account {email.lower()}"
