"""API keys over HTTP."""

from datetime import UTC, datetime

from mfserver.api.bodies import KeyIssued, KeyRequest, KeyShown
from mfserver.api.call import Call, Reply
from mfserver.provisioning.keys import API, Keys

__all__ = ["KeyCalls"]


class KeyCalls:
    """What calls do with :class:`~mfserver.provisioning.keys.Keys`."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def issue(self, call: Call[KeyRequest]) -> Reply:
        issued = await self._keys.issue(call.user, call.body.type, call.body.duration)
        return Reply(KeyIssued(issued.value, _time(issued.issued_at), issued.id, _end(issued.expires_at)))

    async def get(self, call: Call[None]) -> Reply:
        key = await self._keys.get(call.user.id, call.places["id"])
        shown = KeyShown(key.id, key.owner, call.user.email, API, _time(key.issued_at), _end(key.expires_at))
        return Reply(shown)

    async def revoke(self, call: Call[None]) -> Reply:
        await self._keys.revoke(call.user.id, call.places["id"])
        return Reply()


def _time(seconds: int) -> datetime:
    """A time as Mainflux writes it: RFC 3339, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def _end(seconds: int | None) -> datetime | None:
    return None if seconds is None else _time(seconds)
