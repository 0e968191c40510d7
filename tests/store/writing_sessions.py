"""A process that writes what MQTT keeps until it is killed: ``python -m tests.store.writing_sessions PATH``.

Each batch takes away all that the one before it wrote, so that exactly one is there at any time. It prints
the number of each after the store has acknowledged it.
"""

import os
import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from mfserver.durable import Changes, KeptDelivery, KeptSession, KeptSubscription, SessionKey
from mfserver.message import MQTT, Message
from mfserver.store.store import Store
from tests.store.contract import a_channel, a_thing
from tests.store.files import digest

SESSION = SessionKey(1)
#: Deliveries of a batch.
BATCH = 500


def a_batch(number: int, channel: str) -> Changes:
    changes = Changes()
    for place in range(BATCH):
        key = number * BATCH + place + 1
        message = Message(channel, ("a",), "a", "p", MQTT, b"%d" % number, "", 0)
        message.key = key
        changes.queue(KeptDelivery(SESSION, key, message, 1))
        changes.finish(SESSION, key - BATCH, key - BATCH)
    changes.subscriptions[SESSION, str(number)] = KeptSubscription(str(number), 1)
    changes.subscriptions[SESSION, str(number - 1)] = None
    changes.received = {(SESSION, number % 2 + 1): True, (SESSION, (number - 1) % 2 + 1): False}
    changes.retained[channel, ("a",)] = message
    return changes


async def write(reactor: object, path: str) -> None:
    store = Store(f"sqlite:///{path}", digest, reactor)
    store.open()
    kept = store.sessions.load()
    if kept.sessions:
        channel, number = kept.retained[0].channel, int(kept.retained[0].payload)
    else:
        thing, new = a_thing(), a_channel()
        channel, number = new.id, 0
        await store.things.add([thing])
        await store.channels.add([new])
        changes = Changes()
        changes.sessions[SESSION] = KeptSession(SESSION, thing.id, "", 60)
        await store.sessions.apply(changes)
    while True:
        number += 1
        await store.sessions.apply(a_batch(number, channel))
        os.write(1, b"%d\n" % number)


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(write(reactor, sys.argv[1])))
