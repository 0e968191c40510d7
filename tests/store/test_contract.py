"""Both stores keep every contract."""

from twisted.trial.unittest import TestCase

from tests.store.contract import NOW, AccountContract
from tests.store.contract_certificates import CertificateContract
from tests.store.contract_connections import ConnectionContract
from tests.store.contract_lists import ListContract
from tests.store.contract_queues import QueueContract
from tests.store.contract_sessions import SessionContract
from tests.store.contract_things import ThingContract
from tests.store.files import a_store
from tests.store.memory import MemoryStore


class DatabaseCase(TestCase):
    """A store in a file, with real threads."""

    def setUp(self) -> None:
        self.store = a_store(self, now=lambda: NOW + 0.9)


class MemoryCase(TestCase):
    """The twin in memory."""

    def setUp(self) -> None:
        self.store = MemoryStore(lambda: NOW + 0.9)


class DatabaseAccountTests(AccountContract, DatabaseCase):
    """People and their keys, in the database."""


class DatabaseThingTests(ThingContract, DatabaseCase):
    """Things and channels, in the database."""


class DatabaseListTests(ListContract, DatabaseCase):
    """Pages, in the database."""


class DatabaseConnectionTests(ConnectionContract, DatabaseCase):
    """Connections, in the database."""


class MemoryAccountTests(AccountContract, MemoryCase):
    """People and their keys, in memory."""


class MemoryThingTests(ThingContract, MemoryCase):
    """Things and channels, in memory."""


class MemoryListTests(ListContract, MemoryCase):
    """Pages, in memory."""


class MemoryConnectionTests(ConnectionContract, MemoryCase):
    """Connections, in memory."""


class DatabaseSessionTests(SessionContract, DatabaseCase):
    """What MQTT keeps, in the database."""


class MemorySessionTests(SessionContract, MemoryCase):
    """What MQTT keeps, in memory."""


class DatabaseQueueTests(QueueContract, DatabaseCase):
    """Queues, in the database."""


class MemoryQueueTests(QueueContract, MemoryCase):
    """Queues, in memory."""


class DatabaseCertificateTests(CertificateContract, DatabaseCase):
    """Certificates, in the database."""


class MemoryCertificateTests(CertificateContract, MemoryCase):
    """Certificates, in memory."""
