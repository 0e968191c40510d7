"""aiomqtt and gmqtt: MQTT 3.1, 3.1.1 and 5.0 from asyncio programs."""

import asyncio
import logging
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from typing import Any

import aiomqtt
import gmqtt
from gmqtt.storage import PersistentStorage
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.reasoncodes import ReasonCode

from tests.interop.clients import Door
from tests.interop.mqtt_case import LONG, PUBCOMP, PUBLISH, PUBREC, PUBREL, Line, MqttCase, Way
from tests.interop.paho_client import Paho, paho_properties

# It warns of each line that breaks here.
logging.getLogger("gmqtt").addHandler(logging.NullHandler())

#: Seconds until a test gives up, whatever it waits for.
PATIENCE = 300
SESSION_TAKEN_OVER = 0x8E
DISCONNECT_WITH_WILL = 0x04

Test = Callable[[Any], Awaitable[None]]


def in_asyncio(test: Test) -> Callable[[Any], None]:
    """A test that runs in an event loop of its own."""

    @wraps(test)
    def run(case: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await test(case)

        asyncio.run(bounded())

    return run


def trust(door: Door) -> ssl.SSLContext | None:
    """What a client of a TLS port trusts."""
    if not door.tls:
        return None
    context = ssl.create_default_context(cafile=door.server.ca)
    if door.alpn:
        context.set_alpn_protocols(["mqtt"])
    return context


# --- aiomqtt --------------------------------------------------------------------------------------------


def aio(
    name: str,
    way: Way,
    version: int = 5,
    *,
    clean: bool = True,
    expiry: int = 0,
    will: aiomqtt.Will | None = None,
    port: int = 0,
) -> aiomqtt.Client:
    """An aiomqtt client, which connects when it is entered."""
    door, websocket = way
    new = version == 5
    client = aiomqtt.Client(
        "localhost",
        port or door.port("ws" if websocket else "mqtt"),
        username=door.thing,
        password=door.key,
        identifier=name,
        protocol=aiomqtt.ProtocolVersion(version),
        clean_session=None if new else clean,
        clean_start=clean if new else MQTT_CLEAN_START_FIRST_ONLY,
        properties=paho_properties("Connect", SessionExpiryInterval=expiry) if new else None,
        transport="websockets" if websocket else "tcp",
        websocket_path="/mqtt" if websocket else None,
        tls_context=trust(door),
        will=will,
        timeout=PATIENCE,
    )
    client._client.connect_timeout = PATIENCE  # paho's own: TLS shakes hands in this time, too
    return client


async def heard(client: aiomqtt.Client, count: int) -> list[aiomqtt.Message]:
    """The next messages."""
    messages = client.messages
    return [await anext(messages) for _ in range(count)]


class AioMqttTests(MqttCase):
    """aiomqtt: over every transport."""

    def each_way(self) -> Iterator[tuple[str, Way, int]]:
        for version in 3, 4, 5:
            for where, way in self.ways().items():
                yield f"aiomqtt {version} {where}", way, version

    async def lose(self, client: aiomqtt.Client, line: Line) -> None:
        """Break a client's connection, without a word to the server."""
        line.cut_at(PUBLISH)
        await client.publish(self.topic, b"never", qos=0)
        with self.assertRaises(aiomqtt.MqttError):
            await heard(client, 1)

    @in_asyncio
    async def test_resumed(self) -> None:
        """What was published while a client was away arrives when it is back, once and in order."""
        texts = [f"{qos} {number}".encode() for qos in (1, 2) for number in range(5)]
        for named in self.each_way():
            async with aio(*named, clean=False, expiry=LONG) as client:
                await client.subscribe(f"{self.topic}/#", qos=2)
        async with aio("sender", (self.way, False)) as sender:
            for text in texts:
                await sender.publish(self.topic, text, qos=int(text[:1]))
        for named in self.each_way():
            async with aio(*named, clean=False, expiry=LONG) as client:
                waited = await heard(client, len(texts))
                self.assertEqual(texts, [message.payload for message in waited], named[0])
                self.assertEqual([1] * 5 + [2] * 5, [message.qos for message in waited], named[0])
                await client.publish(f"{self.topic}/own", b"own", qos=2)
                self.assertEqual(b"own", (await heard(client, 1))[0].payload)
                await client.unsubscribe(f"{self.topic}/#")

    @in_asyncio
    async def test_expired(self) -> None:
        """A session without an expiry interval ends with its connection, any other after that time."""
        listener = self.open(Paho("listener", self.way))
        listener.subscribe(f"{self.topic}/wills")
        # The will of a session that ends earlier than the will's delay tells that it has ended.
        later = paho_properties("WillMessage", WillDelayInterval=LONG)
        will = aiomqtt.Will(f"{self.topic}/wills", b"over", 1, properties=later)
        with Line(self.way.port("mqtt")) as line:
            async with aio("none", (self.way, False)) as client:
                await client.subscribe(self.topic, qos=1)
            lost = aio("short", (self.way, False), expiry=1, will=will, port=line.port)
            async with lost:
                await lost.subscribe(self.topic, qos=1)
                await self.lose(lost, line)
        await asyncio.to_thread(self.hears, listener.inbox, "over")
        async with aio("sender", (self.way, False)) as sender:
            await sender.publish(self.topic, b"while away", qos=1)
            for name in "none", "short":
                async with aio(name, (self.way, False), clean=False) as client:
                    await client.subscribe(f"{self.topic}/next", qos=1)
                    await sender.publish(f"{self.topic}/next", b"next", qos=1)
                    self.assertEqual(b"next", (await heard(client, 1))[0].payload)

    @in_asyncio
    async def test_taken_over(self) -> None:
        """The first of two connections is told that the second has taken its session."""
        async with aio("one", (self.way, False), expiry=LONG) as first:
            await first.subscribe(self.topic, qos=2)
            async with aio("one", (self.way, False), clean=False) as second:
                await second.publish(self.topic, b"hello", qos=2)
                self.assertEqual(b"hello", (await heard(second, 1))[0].payload)
                with self.assertRaises(aiomqtt.MqttError) as ended:
                    await heard(first, 1)
        reason = ended.exception.__cause__
        assert isinstance(reason, aiomqtt.MqttCodeError)
        assert isinstance(reason.rc, ReasonCode)
        self.assertEqual(SESSION_TAKEN_OVER, reason.rc.value)

    @in_asyncio
    async def test_wills_and_retained(self) -> None:
        """A will that stays is found by who comes later, with its properties."""
        said = paho_properties("WillMessage", ContentType="text/plain", UserProperty=[("a", "1")])
        for version in 3, 4, 5:
            topic, text = f"{self.topic}/{version}", f"will {version}".encode()
            will = aiomqtt.Will(topic, text, 2, True, said if version == 5 else None)
            with Line(self.way.port("mqtt")) as line:
                async with aio("lost", (self.way, False), version, will=will, port=line.port) as lost:
                    await self.lose(lost, line)
            async with aio("late", (self.way, False), version) as late:
                await late.subscribe(topic, qos=2)
                (message,) = await heard(late, 1)
                self.assertEqual((text, 2, True), (message.payload, message.qos, message.retain))
                if version == 5:
                    shown = vars(message.properties)
                    self.assertEqual("text/plain", shown["ContentType"])
                    self.assertEqual([("a", "1")], shown["UserProperty"])
                await late.publish(topic, b"", qos=1, retain=True)
                (message,) = await heard(late, 1)
                self.assertEqual((b"", False), (message.payload, message.retain))

    @in_asyncio
    async def test_shared(self) -> None:
        """Members of a group over all transports share what comes."""
        members = [aio(*named) for named in self.each_way()]
        async with asyncio.TaskGroup() as tasks:
            hearing = asyncio.Queue[bytes]()
            ready = asyncio.Semaphore(0)

            async def share(member: aiomqtt.Client) -> None:
                async with member:
                    await member.subscribe(f"$share/group/{self.topic}", qos=1)
                    ready.release()
                    while True:
                        (message,) = await heard(member, 1)
                        hearing.put_nowait(message.payload)

            running = [tasks.create_task(share(member)) for member in members]
            for _ in members:
                await ready.acquire()
            texts = [str(number).encode() for number in range(45)]
            async with aio("sender", (self.way, False)) as sender:
                for text in texts:
                    await sender.publish(self.topic, text, qos=1)
            came = Counter([await hearing.get() for _ in texts])
            self.assertEqual(Counter(texts), came)
            for task in running:
                task.cancel()


# --- gmqtt ----------------------------------------------------------------------------------------------


class Gmqtt:
    """One gmqtt client, and what happened to it.

    :param will: its topic, payload and further arguments.
    :param connect: further properties of CONNECT, by gmqtt's names.
    :ivar session: whether the server still had a session; set anew by every connection.
    """

    def __init__(
        self,
        name: str,
        door: Door,
        version: int = 5,
        *,
        clean: bool = True,
        will: gmqtt.Message | None = None,
        port: int = 0,
        **connect: Any,
    ) -> None:
        self.messages: asyncio.Queue[tuple[str, bytes, int, dict[str, Any]]] = asyncio.Queue()
        self.closed: asyncio.Queue[bytes] = asyncio.Queue()
        self.session = False
        self._granted: asyncio.Queue[tuple[int, ...]] = asyncio.Queue()
        self._sent = PersistentStorage()
        self._where = port or door.port("mqtt"), trust(door) or False, version
        self.client = client = gmqtt.Client(
            name, clean_session=clean, will_message=will, persistent_storage=self._sent, **connect
        )
        client.set_auth_credentials(door.thing, door.key)
        client.set_config({"reconnect_delay": 0})
        client.on_message = lambda client, *message: self.messages.put_nowait(message)
        client.on_subscribe = lambda client, mid, granted, properties: self._granted.put_nowait(granted)
        client.on_disconnect = lambda client, packet, exc=None: self.closed.put_nowait(packet)
        client.on_connect = self._connected

    def _connected(self, client: Any, flags: int, code: int, properties: Any) -> None:
        self.session = bool(flags & 1)

    async def __aenter__(self) -> "Gmqtt":
        port, context, version = self._where
        await self.client.connect("localhost", port, ssl=context, version=version)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.disconnect()

    def stay_away(self) -> None:
        """Do not come back when the connection is lost."""
        # One less than what stands for ever trying.
        self.client.set_config({"reconnect_retries": -2})

    async def subscribe(self, topic: str, qos: int = 2, **options: Any) -> tuple[int, ...]:
        """:return: what was granted."""
        self.client.subscribe(topic, qos, **options)
        return await self._granted.get()

    async def publish(self, topic: str, payload: bytes, qos: int = 2, **more: Any) -> None:
        """Publish, and wait until it is acknowledged."""
        self.client.publish(topic, payload, qos, **more)
        await self._sent.wait_empty()

    async def heard(self, count: int) -> list[bytes]:
        """The payloads of the next messages."""
        return [(await self.messages.get())[1] for _ in range(count)]


class GmqttTests(MqttCase):
    """gmqtt: MQTT 3.1.1 and 5.0 over TCP and TLS, also on the HTTPS port."""

    def each_way(self) -> Iterator[tuple[str, Door, int]]:
        for version in 4, 5:
            for where in "tcp", "tls", "alpn":
                yield f"gmqtt {version} {where}", self.ways()[where][0], version

    def resumable(self, name: str, door: Door, version: int = 5, **more: Any) -> Gmqtt:
        """A client whose session lasts."""
        if version == 5:
            more["session_expiry_interval"] = LONG
        return Gmqtt(name, door, version, clean=False, **more)

    @in_asyncio
    async def test_resumed(self) -> None:
        """What was published while a client was away arrives when it is back, once and in order."""
        texts = [f"{qos} {number}".encode() for qos in (1, 2) for number in range(5)]
        for named in self.each_way():
            async with self.resumable(*named) as client:
                self.assertFalse(client.session, named[0])
                self.assertEqual((2,), await client.subscribe(f"{self.topic}/#"))
        async with Gmqtt("sender", self.way) as sender:
            for text in texts:
                await sender.publish(self.topic, text, int(text[:1]))
        for named in self.each_way():
            async with self.resumable(*named) as client:
                self.assertTrue(client.session, named[0])
                self.assertEqual(texts, await client.heard(len(texts)), named[0])
                self.assertEqual((2,), await client.subscribe(f"{self.topic}/own"))

    @in_asyncio
    async def test_expired(self) -> None:
        """A session is gone after its expiry interval, and DISCONNECT may shorten that."""
        async with Gmqtt("listener", self.way) as listener:
            await listener.subscribe(f"{self.topic}/wills")
            # The will of a session that ends earlier than the will's delay tells that it has ended.
            will = gmqtt.Message(f"{self.topic}/wills", b"over", qos=1, will_delay_interval=LONG)
            for name, expiry in ("short", 1), ("long", LONG), ("shortened", LONG):
                client = Gmqtt(name, self.way, session_expiry_interval=expiry, will=will)
                async with client:
                    await client.subscribe(self.topic)
                    if name == "shortened":
                        await client.client.disconnect(session_expiry_interval=0)
                    else:
                        await client.client.disconnect(reason_code=DISCONNECT_WITH_WILL)
            self.assertEqual([b"over"], await listener.heard(1))
            await listener.publish(self.topic, b"while away")
        for name in "short", "long", "shortened":
            async with Gmqtt(name, self.way, clean=False) as client:
                self.assertEqual(name == "long", client.session, name)
                if name == "long":
                    self.assertEqual([b"while away"], await client.heard(1))

    @in_asyncio
    async def test_published_exactly_once(self) -> None:
        """Whichever packet of QoS 2 is lost, a message is published once."""
        for version in 4, 5:
            async with Gmqtt("listener", self.way) as listener:
                await listener.subscribe(f"{self.topic}/{version}")
                with Line(self.way.port("mqtt")) as line:
                    client = self.resumable(f"gmqtt {version}", self.way, version, port=line.port)
                    async with client:
                        for kind in PUBLISH, PUBREC, PUBREL, PUBCOMP:
                            line.cut_at(kind)
                            await client.publish(f"{self.topic}/{version}", b"%d" % kind)
                            await client.publish(f"{self.topic}/{version}", b"after %d" % kind)
                        self.assertEqual(4, line.cuts)
                self.assertEqual(
                    [text for kind in (b"3", b"5", b"6", b"7") for text in (kind, b"after " + kind)],
                    await listener.heard(8),
                )
                self.assertTrue(listener.messages.empty())

    @in_asyncio
    async def test_taken_over(self) -> None:
        """The first of two connections is told that the second has taken its session."""
        first = self.resumable("one", self.way)
        async with first:
            await first.subscribe(self.topic)
            first.stay_away()
            async with self.resumable("one", self.way) as second:
                self.assertTrue(second.session)
                self.assertEqual(SESSION_TAKEN_OVER, (await first.closed.get())[0])
                await second.publish(self.topic, b"hello")
                self.assertEqual([b"hello"], await second.heard(1))
                self.assertTrue(first.messages.empty())

    @in_asyncio
    async def test_properties(self) -> None:
        """What a message says besides its bytes comes as it was; 3.1.1 gets it without."""
        said = {
            "content_type": "application/cbor",
            "response_topic": "a/b",
            "correlation_data": b"\0\xff",
            "user_property": [("b", "☃"), ("a", "")],
            "payload_format_id": 1,
            "message_expiry_interval": 60,
        }
        new = Gmqtt("new", self.way, topic_alias_maximum=4)
        async with new, Gmqtt("old", self.way, 4) as old:
            await new.subscribe(self.topic, subscription_identifier=5)
            await old.subscribe(self.topic)
            since = time.monotonic()
            for qos in range(3):
                await new.publish(self.topic, b"{}", qos, **said)
            for qos in range(3):
                self.assertEqual((self.topic, b"{}", qos), (await old.messages.get())[:3])
                topic, payload, granted, properties = await new.messages.get()
                self.assertEqual((self.topic, b"{}", qos), (topic, payload, granted))
                self.check_expiry(properties.pop("message_expiry_interval")[0], 60, since)
                self.assertEqual([1], properties.pop("topic_alias"))
                self.assertEqual(
                    {
                        "content_type": ["application/cbor"],
                        "response_topic": ["a/b"],
                        "correlation_data": [b"\0\xff"],
                        "user_property": [("b", "☃"), ("a", "")],
                        "payload_format_id": [1],
                        "subscription_identifier": [5],
                        "dup": 0,
                        "retain": 0,
                    },
                    dict(properties),
                )

    @in_asyncio
    async def test_retained_and_shared(self) -> None:
        """Retain handling and retain as published; a group's subscription never brings what is retained."""
        async with Gmqtt("sender", self.way) as sender, Gmqtt("gmqtt", self.way) as client:
            await sender.publish(self.topic, b"kept", retain=True)
            for handling in 0, 1, 2:
                options = {"retain_handling_options": handling, "retain_as_published": True}
                self.assertEqual((2,), await client.subscribe(self.topic, **options))
            async with Gmqtt("member", self.way) as member:
                self.assertEqual((1,), await member.subscribe(f"$share/group/{self.topic}", 1))
                await sender.publish(self.topic, b"live", retain=True)
                self.assertEqual([b"live"], await member.heard(1))
            for text in b"kept", b"live":
                _, payload, _, properties = await client.messages.get()
                self.assertEqual((text, 1), (payload, properties["retain"]))
