"""The options of ``twistd mainflux``, and the service they make."""

import os
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from mfserver import __version__
from mfserver.errors import ConfigurationError
from mfserver.service import MainfluxService
from mfserver.settings import (
    DEFAULT_PORTS,
    IDENTITIES,
    MAX_SESSION_EXPIRY,
    PLAIN,
    TLS_TRANSPORTS,
    Address,
    Settings,
    parse_address,
    parse_identity,
    parse_number,
    parse_text,
)

__all__ = ["Options", "makeService"]

_CHOICES = {
    "auth": ("key", "x509"),
    "tls-min": ("1.2", "1.3"),
    "tls-transport": TLS_TRANSPORTS,
    "registration": ("open", "closed"),
    "queue-qos0": ("on", "off"),
    "crl-stale": ("refuse", "warn"),
    "certificate-only": ("on", "off"),
}
_NUMBERS = {
    "max-message": (1, 256 << 20),
    "max-connections": (1, 10_000_000),
    "max-connections-per-address": (1, 10_000_000),
    "max-connections-per-thing": (1, 10_000_000),
    "max-queued-messages": (1, 10_000_000),
    "max-queued-bytes": (1, 1 << 40),
    "max-session-expiry": (0, MAX_SESSION_EXPIRY),
    "max-sessions-per-thing": (1, 10_000_000),
    "max-retained-messages": (1, 10_000_000),
    "max-retained-bytes": (1, 1 << 40),
    "max-keep-alive": (0, 65_535),
    "certificate-days": (1, 3650),
}


class Options(usage.Options):
    """Things publish and subscribe on channels over HTTP, WebSocket and MQTT."""

    synopsis = "[options of mainflux]    or: mfserver run [options of mainflux]"
    longdesc = (
        "Starts with nothing prepared: the first start makes the data directory with a database, "
        "secrets, a certificate authority and a server certificate. Every option can also be given in the "
        "environment: --max-message as MF_MAX_MESSAGE. With --auth=x509 things show a client certificate "
        "that was issued here or whose common name is their key; the listeners without TLS are then off "
        "unless asked for, and refuse messaging."
    )

    optParameters = [
        ["auth", None, None, "How things prove themselves: key or x509. [default: key, or $AUTH]"],
        ["data-dir", None, None, "Database, secrets and PKI. [default: ./mainflux-data]"],
        ["database", None, None, "URL of the database. [default: sqlite in the data directory]"],
        ["http", None, None, "[HOST:]PORT of the API, HTTP and WebSocket, or off. [default: 8080]"],
        ["https", None, None, "[HOST:]PORT of HTTP and WebSocket over TLS, or off. [default: 8443]"],
        ["mqtt", None, None, "[HOST:]PORT of MQTT, or off. [default: 1883]"],
        ["mqtts", None, None, "[HOST:]PORT of MQTT over TLS, or off. [default: 8883]"],
        ["cert", None, None, "The server's certificate. [default: DIR/pki/mainflux-server.crt, made]"],
        ["key", None, None, "The key of --cert. [default: DIR/pki/mainflux-server.key, made]"],
        ["ca", None, None, "What thing certificates must chain to. [default: DIR/pki/ca.crt, made]"],
        ["ca-key", None, None, "Signs the server certificate that is made. [default: DIR/pki/ca.key, made]"],
        ["tls-min", None, None, "The oldest TLS version: 1.2 or 1.3. [default: 1.2]"],
        ["tls-transport", None, None, "TLS on the socket itself, or Twisted's. [default: socket]"],
        ["crl-stale", None, None, "A list of --crl that is too old: refuse or warn. [default: refuse]"],
        ["identity", None, None, "How certificates name things. [default: fingerprint,san,cn]"],
        ["certificate-days", None, None, "Days that a thing's certificate lives. [default: 90]"],
        ["max-message", None, None, "Bytes of one message, on every protocol. [default: 1048576]"],
        ["registration", None, None, "May anyone POST /users: open or closed. [default: open]"],
        ["max-connections", None, None, "Connections in all. [default: 10000]"],
        ["max-connections-per-address", None, None, "Connections from one address. [default: 1000]"],
        ["max-connections-per-thing", None, None, "Connections of one thing. [default: 100]"],
        ["max-queued-messages", None, None, "Messages that wait for one MQTT session. [default: 100000]"],
        ["max-queued-bytes", None, None, "Bytes that wait for one MQTT session. [default: 67108864]"],
        ["queue-qos0", None, None, "Does QoS 0 wait for clients that are away: on or off. [default: off]"],
        ["max-session-expiry", None, None, "Seconds that an MQTT session is kept. [default: 2592000]"],
        ["max-sessions-per-thing", None, None, "MQTT sessions of one thing. [default: 100]"],
        ["max-retained-messages", None, None, "Retained messages in all. [default: 100000]"],
        ["max-retained-bytes", None, None, "Bytes of all retained messages. [default: 268435456]"],
        ["max-keep-alive", None, None, "Longest keep alive in MQTT 5.0; 0: the client's. [default: 0]"],
        ["server-reference", None, None, "Where MQTT 5.0 clients may go instead. [default: none]"],
    ]
    optFlags = [["certificate-only", None, "On MQTT a certificate that was issued here is enough."]]

    def __init__(self) -> None:
        super().__init__()
        self["server-name"] = []
        self["crl"] = []

    def opt_server_name(self, name: str) -> None:
        """One more name or IP address for the server certificate that is made; may be repeated."""
        self["server-name"].append(name)

    def opt_crl(self, path: str) -> None:
        """A file with somebody else's revocation list; may be repeated."""
        self["crl"].append(path)

    def opt_version(self) -> None:
        """Print the version of mfserver and exit."""
        print(f"mfserver {__version__}")
        raise SystemExit(0)

    def postOptions(self) -> None:
        try:
            self.settings = _settings(self, dict(os.environ))
        except ConfigurationError as error:
            raise SystemExit(f"mainflux: {error}") from error


def makeService(options: Options) -> IService:
    """What twistd runs."""
    from twisted.internet import reactor

    return MainfluxService(options.settings, reactor)


def _settings(options: Any, environment: dict[str, str]) -> Settings:
    def given(name: str) -> str | None:
        value: str | None = options[name]
        return value or environment.get("MF_" + name.upper().replace("-", "_")) or None

    def choice(name: str, default: str) -> str:
        value = given(name) or default
        if value not in _CHOICES[name]:
            raise ConfigurationError(f"--{name}={value}: use {' or '.join(_CHOICES[name])}", f"--{name}")
        return value

    def number(name: str, default: int) -> int:
        return parse_number(f"--{name}", given(name) or str(default), *_NUMBERS[name])

    def several(name: str) -> tuple[str, ...]:
        variable = environment.get("MF_" + name.upper().replace("-", "_")) or ""
        return tuple(each.strip() for each in options[name] or variable.split(",") if each.strip())

    auth = choice("auth", environment.get("AUTH") or "key")
    listeners: dict[str, Address | None] = {}
    for name, port in DEFAULT_PORTS.items():
        default = "off" if auth == "x509" and name in PLAIN else str(port)
        listeners[name] = parse_address(f"--{name}", given(name) or default)
    reference = given("server-reference")
    only = "on" if options["certificate-only"] else environment.get("MF_CERTIFICATE_ONLY") or "off"
    # A flag takes no value, so that its variable has a rule of its own.
    if only not in _CHOICES["certificate-only"]:
        raise ConfigurationError(f"MF_CERTIFICATE_ONLY={only}: use on or off", "--certificate-only")
    return Settings(
        auth=auth,
        data_dir=given("data-dir") or "mainflux-data",
        database=given("database"),
        listeners=listeners,
        certificate=given("cert"),
        key=given("key"),
        ca=given("ca"),
        ca_key=given("ca-key"),
        server_names=several("server-name"),
        tls_min=choice("tls-min", "1.2"),
        tls_transport=choice("tls-transport", TLS_TRANSPORTS[0]),
        crl=several("crl"),
        crl_stale=choice("crl-stale", "refuse"),
        identity=parse_identity("--identity", given("identity") or ",".join(IDENTITIES)),
        certificate_only=only == "on",
        certificate_days=number("certificate-days", 90),
        max_message=number("max-message", 1 << 20),
        registration=choice("registration", "open"),
        max_connections=number("max-connections", 10_000),
        max_connections_per_address=number("max-connections-per-address", 1_000),
        max_connections_per_thing=number("max-connections-per-thing", 100),
        max_queued_messages=number("max-queued-messages", 100_000),
        max_queued_bytes=number("max-queued-bytes", 64 << 20),
        queue_qos0=choice("queue-qos0", "off") == "on",
        max_session_expiry=number("max-session-expiry", 30 * 86_400),
        max_sessions_per_thing=number("max-sessions-per-thing", 100),
        max_retained_messages=number("max-retained-messages", 100_000),
        max_retained_bytes=number("max-retained-bytes", 256 << 20),
        max_keep_alive=number("max-keep-alive", 0),
        server_reference=parse_text("--server-reference", reference) if reference else None,
    )
