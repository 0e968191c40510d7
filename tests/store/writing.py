"""A process that writes until it is killed: ``python -m tests.store.writing PATH``.

It prints the id of each thing after the store has acknowledged it.
"""

import os
import sys

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from mfserver.records import ThingId
from mfserver.store.store import Store
from tests.store.contract import a_thing
from tests.store.files import digest


async def write(reactor: object, path: str) -> None:
    store = Store(f"sqlite:///{path}", digest, reactor)
    store.open()

    def acknowledged(_: None, thing: ThingId) -> None:
        os.write(1, f"{thing}\n".encode())

    while True:
        things = [a_thing(metadata={"padding": "x" * 500}) for _ in range(50)]
        await gatherResults([store.things.add([one]).addCallback(acknowledged, one.id) for one in things])


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(write(reactor, sys.argv[1])))
