"""One database and its repositories."""

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mfserver.interfaces import IStore
from mfserver.store.certificates import Certificates
from mfserver.store.channels import Channels
from mfserver.store.connections import Connections
from mfserver.store.database import Database
from mfserver.store.keys import Keys
from mfserver.store.sessions import Sessions
from mfserver.store.things import Things
from mfserver.store.users import Users

__all__ = ["Store"]


@implementer(IStore)
class Store:
    """What must survive."""

    def __init__(
        self,
        url: str,
        digest: Callable[[str], bytes],
        reactor: Any,
        readers: int = 4,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Name the database; :meth:`open` touches it first.

        :param url: ``sqlite:///`` and a path.
        :param digest: the HMAC of a thing key, 32 bytes; called in any thread.
        :param reactor: an IReactorFromThreads.
        :param readers: threads that read.
        :param now: seconds since 1970.
        :raises ConfigurationError: the URL is none that we know.
        """
        self.database = Database(url, reactor, readers)
        self.users = Users(self.database)
        self.keys = Keys(self.database)
        self.things = Things(self.database, digest, now)
        self.channels = Channels(self.database)
        self.connections = Connections(self.database)
        self.sessions = Sessions(self.database)
        self.certificates = Certificates(self.database)

    def open(self) -> None:
        self.database.open()

    def close(self) -> Deferred[None]:
        return self.database.close()
