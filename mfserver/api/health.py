"""Which server this is, and that it serves."""

from mfserver import __version__
from mfserver.api.bodies import Health, Version
from mfserver.api.call import Call, Reply
from mfserver.build import BUILD

__all__ = ["health", "version"]


async def version(call: Call[None]) -> Reply:
    """The name that Mainflux's clients look for, and our version and build."""
    return Reply(Version("things", __version__, BUILD))


async def health(call: Call[None]) -> Reply:
    """Answered by the reactor's thread: whoever reads it knows that the server is not stuck."""
    return Reply(Health("pass", __version__))
