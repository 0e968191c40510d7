"""The realm: the avatars of things and of people."""

from collections.abc import Callable
from typing import Any

from twisted.cred.portal import IRealm
from zope.interface import Interface, implementer

from mfserver.cred.access import Access, Presence
from mfserver.errors import NotAuthorized
from mfserver.interfaces import IThing, IUser
from mfserver.records import ThingId, UserId

__all__ = ["Realm", "UserAvatar"]


@implementer(IUser)
class UserAvatar:
    """A person, as long as one request takes."""

    def __init__(self, user: UserId, email: str, by_api_key: bool) -> None:
        self.id = user
        self.email = email
        self.by_api_key = by_api_key


@implementer(IRealm)
class Realm:
    """Gives an avatar that is an ``IThing`` or an ``IUser``, whichever is asked for."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def requestAvatar(
        self, avatarId: bytes | tuple[()], mind: Any, *interfaces: type[Interface]
    ) -> tuple[type[Interface], object, Callable[[], None]]:
        """The avatar, and how it leaves.

        :param avatarId: as a checker of ours made it: the id of a thing, or ``login`` or ``key``, the id
            of a person and the e-mail address, separated by blanks.
        :param mind: a :class:`mfserver.cred.access.Presence` where a thing is asked for.
        :raises NotAuthorized: the avatar is not of this kind, or went away meanwhile.
        :raises Overloaded: the thing has as many connections as it may.
        """
        name = bytes(avatarId).decode()
        if IThing in interfaces and isinstance(mind, Presence):
            login = self._access.login(ThingId(name), mind)
            return IThing, login.avatar, login.logout
        how, *who = name.split(" ", 2)
        if IUser in interfaces and len(who) == 2:
            return IUser, UserAvatar(UserId(who[0]), who[1], how == "key"), _leave
        raise NotAuthorized("these credentials are for somebody else")


def _leave() -> None:
    """A person's request leaves nothing behind."""
