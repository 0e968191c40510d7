"""paho-mqtt behind the face of the other clients."""

import os
import socket
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.interop.clients import Door, Heard, Inbox, mark, snake
from tests.interop.running import PATIENCE

__all__ = ["Paho", "heard_by_paho", "paho_properties"]


class Paho:
    """One paho-mqtt client, in a thread of this process.

    :param clean: whether it begins with a new session.
    :param expiry: seconds that its session outlives its connection by; below 5.0 what is not clean lasts.
    :param port: what to connect to instead of the server's own port.
    :param properties: further properties of CONNECT, by paho's names.
    :param prepare: called with paho's client before it connects.
    :ivar opened: the code of CONNACK.
    :ivar session: whether the server still had a session.
    :ivar announced: the properties of CONNACK, by their name in lower case with underscores.
    """

    def __init__(
        self,
        name: str,
        door: Door,
        version: int = 5,
        *,
        websocket: bool = False,
        clean: bool = True,
        expiry: int = 0,
        port: int = 0,
        properties: dict[str, Any] | None = None,
        prepare: Callable[[paho.Client], object] = lambda client: None,
    ) -> None:
        self.inbox = Inbox(name)
        new = version >= 5
        self.client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=name,
            protocol=MQTTProtocolVersion(version),
            clean_session=None if new else clean,
            transport="websockets" if websocket else "tcp",
        )
        client.username_pw_set(door.thing, door.key)
        if door.tls:
            files = door.files
            client.tls_set(
                files["ca"],
                files.get("cert"),
                files.get("key"),
                cert_reqs=ssl.CERT_REQUIRED,
                alpn_protocols=["mqtt"] if door.alpn else None,
            )
        client.on_message = self._message
        client.on_connect = lambda *a: self._event(
            "open", code=a[3].value, session=a[2].session_present, properties=_shown_by_paho(a[4])
        )
        client.on_disconnect = lambda *a: self._event("close", code=a[3].value)
        client.on_subscribe = lambda *a: self._event("subscribed", granted=[code.value for code in a[3]])
        client.on_unsubscribe = lambda *a: self._event("unsubscribed", codes=[code.value for code in a[3]])
        client.on_publish = lambda *a: self._event("published", code=a[3].value)
        # It takes any number of seconds.
        client.reconnect_delay_set(0.02, 0.02)  # type: ignore[arg-type]
        client.connect_timeout = PATIENCE  # TLS shakes hands in this time, too
        prepare(client)
        said = {"SessionExpiryInterval": expiry, **(properties or {})}
        client.connect(
            "localhost",
            port or door.port("ws" if websocket else "mqtt"),
            clean_start=MQTT_CLEAN_START_FIRST_ONLY if clean or version < 5 else False,
            properties=paho_properties("Connect", **said) if version >= 5 else None,
        )
        client.loop_start()
        opened = self.inbox.event("open")
        self.opened: int = opened["code"]
        self.session: bool = opened["session"]
        self.announced: dict[str, Any] = opened["properties"]

    def _event(self, kind: str, **facts: Any) -> None:
        self.inbox.events.append({"event": kind, **facts})

    def _message(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        self.inbox.heard.append(heard_by_paho(message))

    def subscribe(self, topic: str, qos: int = 1, identifier: int = 0, **options: Any) -> list[int]:
        """Subscribe. :param options: MQTT 5.0's, by paho's names. :return: what was granted."""
        if options or identifier:
            said = paho_properties("Subscribe", SubscriptionIdentifier=identifier) if identifier else None
            self.client.subscribe(topic, options=SubscribeOptions(qos, **options), properties=said)
        else:
            self.client.subscribe(topic, qos)
        granted: list[int] = self.inbox.event("subscribed")["granted"]
        return granted

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 1,
        properties: Properties | None = None,
        retain: bool = False,
    ) -> None:
        """Begin to publish; a ``published`` event tells when it is done."""
        self.client.publish(topic, payload, qos, retain, properties)

    def stay_away(self) -> None:
        """Do not come back when the connection is lost."""

        def closed(*what: Any) -> None:
            # Here, in its own thread, where it would reconnect next.
            self.client.loop_stop()
            self._event("close", code=what[3].value)

        self.client.on_disconnect = closed

    def drop(self) -> None:
        """Break the connection without a word to the server, and stay away."""
        connection = self.client.socket()
        assert connection is not None
        self.stay_away()
        with socket.socket(fileno=os.dup(connection.fileno())) as descriptor:
            descriptor.shutdown(socket.SHUT_RDWR)
        self.inbox.event("close")

    def __enter__(self) -> "Paho":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def heard_by_paho(message: paho.MQTTMessage) -> Heard:
    """What a message tells that came through paho-mqtt."""
    properties = _shown_by_paho(message.properties)
    return Heard(
        mark(bytes(message.payload)),
        message.topic,
        message.qos,
        retain=message.retain,
        content_type=properties.pop("content_type", ""),
        user_properties=" ".join(":".join(pair) for pair in properties.pop("user_property", [])),
        dup=message.dup,
        properties=properties,
    )


def paho_properties(packet: str, **named: Any) -> Properties:
    """MQTT 5.0's properties of a kind of packet, as paho has them."""
    properties = Properties(getattr(PacketTypes, packet.upper()))
    for name, value in named.items():
        setattr(properties, name, value)
    return properties


def _shown_by_paho(properties: Properties | None) -> dict[str, Any]:
    named = vars(properties).items() if properties else ()
    return {snake(name): value for name, value in named if name[0].isupper()}
