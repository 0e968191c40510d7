"""Accounts of people over HTTP."""

from mfserver.api.bodies import (
    Login,
    NewMetadata,
    PasswordChange,
    PasswordChanged,
    Profile,
    Registration,
    Token,
)
from mfserver.api.call import Call, Reply
from mfserver.errors import NotFound
from mfserver.provisioning.users import Users

__all__ = ["UserCalls"]


class UserCalls:
    """What calls do with :class:`~mfserver.provisioning.users.Users`."""

    def __init__(self, users: Users) -> None:
        self._users = users

    async def register(self, call: Call[Registration]) -> Reply:
        body = call.body
        user = await self._users.register(call.address, call.token, body.email, body.password, body.metadata)
        return Reply(location=f"/users/{user}")

    async def login(self, call: Call[Login]) -> Reply:
        return Reply(Token(await self._users.login(call.address, call.body.email, call.body.password)))

    async def profile(self, call: Call[None]) -> Reply:
        """One's own account, by its id too; everybody else's looks absent."""
        if call.places.get("id", call.user.id) != call.user.id:
            raise NotFound("no such user")
        user = await self._users.profile(call.user.id)
        return Reply(Profile(user.id, user.email, None if user.metadata is None else dict(user.metadata)))

    async def update(self, call: Call[NewMetadata]) -> Reply:
        await self._users.set_metadata(call.user.id, call.body.metadata)
        return Reply()

    async def change_password(self, call: Call[PasswordChange]) -> Reply:
        body = call.body
        await self._users.change_password(call.address, call.user.id, body.old_password, body.password)
        return Reply(PasswordChanged())
