"""Both stores keep the contract."""

from twisted.trial.unittest import TestCase

from tests.store.contract import ConnectionContract, StoreContract
from tests.store.files import a_store
from tests.store.memory import MemoryStore


class DatabaseTests(StoreContract, TestCase):
    """A store in a file, with real threads."""

    def setUp(self) -> None:
        self.store = a_store(self)


class DatabaseConnectionTests(ConnectionContract, TestCase):
    """A store in a file, with real threads."""

    def setUp(self) -> None:
        self.store = a_store(self)


class MemoryTests(StoreContract, TestCase):
    """The twin in memory."""

    def setUp(self) -> None:
        self.store = MemoryStore()


class MemoryConnectionTests(ConnectionContract, TestCase):
    """The twin in memory."""

    def setUp(self) -> None:
        self.store = MemoryStore()
