"""What was answered 2xx is there after a power cut."""

import http.client
import json
import random
import shutil
import sqlite3
import threading
from collections import Counter
from dataclasses import dataclass, field
from uuid import uuid4

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.running import Deployment, RunningServer, wait_until

#: Requests that are on their way at the same time.
CLIENTS = 500
KILLS = 5
#: Seconds for what they are to be answered between two kills.
ROUND = 300.0
SEED = 20_260


@dataclass
class Answered:
    """What clients were told is done."""

    sent: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    things: dict[str, str] = field(default_factory=dict)
    channels: dict[str, str] = field(default_factory=dict)
    connections: set[tuple[str, str]] = field(default_factory=set)
    keys: dict[str, set[str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Client(threading.Thread):
    """Provisions over one kept connection, until the server is gone.

    Each makes things, connects them and changes their keys.

    :param channel: where it connects them to; None for a channel that it makes itself.
    """

    def __init__(
        self,
        server: RunningServer,
        token: str,
        answered: Answered,
        go: threading.Event,
        channel: str | None,
    ) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port("http"), timeout=ROUND)
        self._token = token
        self._answered = answered
        self._go = go
        self._channel = channel

    def run(self) -> None:
        try:
            self._connection.connect()
            self._go.wait()
            if self._channel is None:
                name = f"channel {uuid4()}"
                self._channel = self._create("/channels", name)
                self._answered.channels[self._channel] = name
            while True:
                self._provision(self._channel)
        except (OSError, http.client.HTTPException):
            pass  # the server is gone, which is what we wait for
        finally:
            self._connection.close()

    def _provision(self, channel: str) -> None:
        name = f"thing {uuid4()}"
        thing = self._create("/things", name)
        self._answered.things[thing] = name
        self._request("connect", "PUT", f"/channels/{channel}/things/{thing}")
        self._answered.connections.add((channel, thing))
        key = str(uuid4())
        # What is not answered may be there or not; nothing in between.
        self._answered.keys[thing] = {"", key}
        self._request("key", "PATCH", f"/things/{thing}/key", {"key": key})
        self._answered.keys[thing] = {key}

    def _create(self, path: str, name: str) -> str:
        location = self._request(path, "POST", path, {"name": name})
        return location.rsplit("/", 1)[1]

    def _request(self, kind: str, method: str, path: str, body: object = None) -> str:
        """:return: the Location. :raises OSError: the server is gone."""
        answered = self._answered
        with answered.lock:
            answered.sent[kind] += 1
        headers = {"Authorization": self._token, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, data, headers)
        response = self._connection.getresponse()
        response.read()
        with answered.lock:
            if 200 <= response.status < 300:
                answered.answered[kind] += 1
                return response.getheader("Location", "")
            answered.refused.append(f"{method} {path}: {response.status}")
        raise OSError("refused")


class PowerCutTests(SynchronousTestCase):
    """kill -9 while many provision, again and again on one data directory."""

    def test_what_was_answered_is_there(self) -> None:
        """Five kills at random moments under 500 clients: nothing that was answered 2xx is lost."""
        chance = random.Random(SEED)
        server = RunningServer()
        self.addCleanup(shutil.rmtree, server.data_dir.parent)
        self.addCleanup(server.kill)
        server.start()
        deployment = Deployment(server)
        deployment.channel("shared")
        answered = Answered()
        for number in range(KILLS):
            before = sum(answered.answered.values())
            self.provision_and_kill(server, deployment, answered, chance.randint(250, 1500))
            self.assertGreater(sum(answered.answered.values()), before, f"kill {number} came too early")
            self.opens_without_repair(server)
            server.start()
        self.assertEqual([], answered.refused)
        self.assertEqual({"/channels", "/things", "connect", "key"}, set(answered.answered))
        found = self.look_for(server, deployment.token, answered)
        sent, told = sum(answered.sent.values()), sum(answered.answered.values())
        self.assertLess(told, sent, "no request was on its way at the kills")
        print(
            f"\n{KILLS} kills under {CLIENTS} clients: {sent} requests sent, {told} answered 2xx "
            f"{dict(answered.answered)}, {found} of them found"
        )
        self.assertEqual(told, found)
        server.stop()
        self.assertNotIn("Traceback", server.log)

    def provision_and_kill(
        self, server: RunningServer, deployment: Deployment, answered: Answered, after: int
    ) -> None:
        """:param after: answers of this round until the kill."""
        shared = deployment.channels["shared"]
        go = threading.Event()
        clients = [
            Client(server, deployment.token, answered, go, shared if number % 4 else None)
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        until = sum(answered.answered.values()) + after
        go.set()
        wait_until(lambda: sum(answered.answered.values()) >= until, f"{after} answers", ROUND)
        server.kill()
        for client in clients:
            client.join(ROUND)
            self.assertFalse(client.is_alive())

    def opens_without_repair(self, server: RunningServer) -> None:
        """SQLite finds nothing wrong, in a copy, so that it is the server that opens the original first."""
        copy = server.data_dir.parent / "copy"
        shutil.copytree(server.data_dir, copy)
        with sqlite3.connect(copy / "mfserver.db") as database:
            self.assertEqual([("ok",)], database.execute("PRAGMA integrity_check").fetchall())
            self.assertEqual([], database.execute("PRAGMA foreign_key_check").fetchall())
        database.close()
        shutil.rmtree(copy)

    def look_for(self, server: RunningServer, token: str, answered: Answered) -> int:
        """Read everything back through the API. :return: how many of the answered requests are there."""
        things = {thing["id"]: thing for thing in self.pages(server, token, "/things", "things")}
        channels = {channel["id"]: channel for channel in self.pages(server, token, "/channels", "channels")}
        found = sum(things.get(thing, {}).get("name") == name for thing, name in answered.things.items())
        found += sum(
            channels.get(channel, {}).get("name") == name for channel, name in answered.channels.items()
        )
        for thing, keys in answered.keys.items():
            if "" not in keys:
                found += things.get(thing, {}).get("key") in keys
        for channel in {channel for channel, _ in answered.connections}:
            path = f"/channels/{channel}/things"
            there = {thing["id"] for thing in self.pages(server, token, path, "things")}
            found += sum((channel, thing) in answered.connections for thing in there)
        return found

    def pages(self, server: RunningServer, token: str, path: str, kind: str) -> list[dict[str, str]]:
        """All pages of a list, over one connection."""
        entries: list[dict[str, str]] = []
        connection = http.client.HTTPConnection("127.0.0.1", server.port("http"), timeout=ROUND)
        total = 1
        while len(entries) < total:
            connection.request(
                "GET", f"{path}?offset={len(entries)}&limit=100", headers={"Authorization": token}
            )
            page = json.loads(connection.getresponse().read())
            total = page["total"]
            entries += page[kind]
        connection.close()
        return entries
