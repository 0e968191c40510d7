"""Passwords are hashed in threads, and never more than a bound."""

import threading
import time
from typing import Any

from argon2 import PasswordHasher, extract_parameters
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mfserver.cred.passwords import Passwords
from mfserver.errors import Overloaded
from mfserver.interfaces import IPasswords

#: Seconds after which whoever waits for another thread gives up.
PATIENCE = 60


class HeldHasher(PasswordHasher):
    """Cheap, and waits for the test before each hash."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.go = threading.Event()
        self.begun = threading.Event()
        self.tried: list[str] = []

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.begun.set()
        assert self.go.wait(PATIENCE)
        return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> Any:
        assert self.go.wait(PATIENCE)
        self.tried.append(str(hash))
        return super().verify(hash, password)


class PasswordsTests(TestCase):
    def setUp(self) -> None:
        self.hasher = HeldHasher()
        self.hasher.go.set()
        any_reactor: Any = reactor
        self.passwords = Passwords(any_reactor, threads=1, queue=3, hasher=self.hasher)
        self.passwords.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        self.hasher.go.set()
        if self.passwords.running:
            self.passwords.stopService()

    def go_on_when_stopped(self) -> None:
        """In a thread: stopService() itself waits for the hash that is being made."""
        while self.passwords.running:
            time.sleep(0.001)
        self.hasher.go.set()

    async def check(self) -> None:
        encoded = await self.passwords.hash("correct horse")
        self.assertTrue(encoded.startswith("$argon2id$"))
        self.assertNotEqual(encoded, await self.passwords.hash("correct horse"))
        self.assertIs(await self.passwords.verify("correct horse", encoded), True)
        for wrong in ("", "correct hors", "correct horse ", "\0", "\ud800"):
            self.assertIs(await self.passwords.verify(wrong, encoded), False)

    def test_hash_and_verify(self) -> Deferred[None]:
        self.assertTrue(verifyObject(IPasswords, self.passwords))
        return Deferred.fromCoroutine(self.check())

    async def unknown(self) -> None:
        self.assertIs(await self.passwords.verify("correct horse", None), False)
        (tried,) = self.hasher.tried
        known = await self.passwords.hash("correct horse")
        self.assertEqual(extract_parameters(tried), extract_parameters(known))

    def test_an_unknown_user_costs_a_whole_hash(self) -> Deferred[None]:
        """With the costs of everybody's, so that the time tells nothing."""
        return Deferred.fromCoroutine(self.unknown())

    async def damaged(self) -> None:
        for damaged in ("nonsense", "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$eA"):
            self.assertIs(await self.passwords.verify("correct horse", damaged), False)
        self.assertEqual(len(self.flushLoggedErrors()), 2)

    def test_a_damaged_hash_lets_nobody_in(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.damaged())

    async def crowd(self) -> None:
        self.hasher.go.clear()
        waiting = [self.passwords.hash("a") for _ in range(3)]
        with self.assertRaises(Overloaded):
            await self.passwords.hash("a")
        waiting[2].addErrback(lambda failure: failure.trap(CancelledError)).cancel()
        with self.assertRaises(Overloaded):
            await self.passwords.verify("a", None)
        self.hasher.go.set()
        await gatherResults(waiting)
        await self.passwords.hash("a")
        await self.passwords.hash("a")

    def test_past_the_bound_it_is_overloaded(self) -> Deferred[None]:
        """And who goes away does not free a place that a thread still works for."""
        return Deferred.fromCoroutine(self.crowd())

    async def stopping(self) -> None:
        self.hasher.go.clear()
        waiting = [self.passwords.hash("a") for _ in range(3)]
        self.assertTrue(await deferToThread(self.hasher.begun.wait, PATIENCE))
        threading.Thread(target=self.go_on_when_stopped).start()
        self.passwords.stopService()
        await waiting[0]
        for late in (*waiting[1:], self.passwords.hash("a")):
            with self.assertRaises(Overloaded):
                await late

    def test_stopping_does_not_work_the_queue_off(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.stopping())
