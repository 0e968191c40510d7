"""What the server was told on its command line, checked."""

import select
from dataclasses import dataclass, field
from typing import Final

from mfserver.durable import NEVER
from mfserver.errors import ConfigurationError

__all__ = [
    "Settings",
    "Address",
    "DEFAULT_PORTS",
    "IDENTITIES",
    "MAX_SESSION_EXPIRY",
    "PLAIN",
    "TLS_TRANSPORTS",
    "parse_address",
    "parse_identity",
    "parse_number",
    "parse_text",
]

#: The listeners, in the order in which they are opened and logged, and their ports.
DEFAULT_PORTS: Final = {"http": 8080, "https": 8443, "mqtt": 1883, "mqtts": 8883}
#: Those without TLS: off by default when things prove themselves with certificates.
PLAIN: Final = ("http", "mqtt")
#: What may carry TLS here, the default first: OpenSSL on the socket itself where epoll(7) is, or Twisted's.
TLS_TRANSPORTS: Final = ("socket", "twisted") if hasattr(select, "epoll") else ("twisted",)
#: How a certificate may name its thing, the first one that is present first.
IDENTITIES: Final = ("fingerprint", "san", "cn")
#: Of ``--max-session-expiry``: sessions may last for ever.
MAX_SESSION_EXPIRY: Final = NEVER
#: Characters of an option that is free text.
_MAX_TEXT: Final = 1024


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener opens.

    :ivar host: an IP address or a name; ``""`` for all addresses, IPv6 and IPv4.
    :ivar port: 0 for a free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host or "*"
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One server's settings; each is the option of the same name (``twistd mainflux --help``).

    :ivar listeners: name of a listener to its address, None for one that is off.
    :ivar certificate: the ``--cert`` file, None for the one in the data directory; so ``key``, ``ca``
        and ``ca_key``.
    :ivar crl: files with the revocation lists of others; ``crl_stale`` is what one that is too old means.
    :ivar identity: how certificates may name their things.
    :ivar certificate_only: whether a certificate of ours is enough on MQTT, without the thing key.
    :ivar certificate_days: how long certificates of things live unless something else is asked for.
    :ivar max_message: bytes of one payload.
    :ivar max_queued_messages: messages that may wait for one session; so ``max_queued_bytes``, theirs.
    :ivar queue_qos0: whether messages at QoS 0 wait for a session whose client is away.
    :ivar max_session_expiry: seconds that a session may outlive its connection by, and that MQTT 3's with
        clean session 0 do; :data:`mfserver.durable.NEVER` for ever.
    :ivar max_keep_alive: seconds, the longest keep alive of MQTT 5.0 clients; 0 leaves them theirs.
    :ivar server_reference: another server, for MQTT 5.0 clients that this one cannot serve; None for none.
    """

    auth: str = "key"
    data_dir: str = "mainflux-data"
    database: str | None = None
    listeners: dict[str, Address | None] = field(default_factory=dict)
    certificate: str | None = None
    key: str | None = None
    ca: str | None = None
    ca_key: str | None = None
    server_names: tuple[str, ...] = ()
    tls_min: str = "1.2"
    tls_transport: str = TLS_TRANSPORTS[0]
    crl: tuple[str, ...] = ()
    crl_stale: str = "refuse"
    identity: tuple[str, ...] = IDENTITIES
    certificate_only: bool = False
    certificate_days: int = 90
    max_message: int = 1 << 20
    registration: str = "open"
    max_connections: int = 10_000
    max_connections_per_address: int = 1_000
    max_connections_per_thing: int = 100
    max_queued_messages: int = 100_000
    max_queued_bytes: int = 64 << 20
    queue_qos0: bool = False
    max_session_expiry: int = 30 * 86_400
    max_sessions_per_thing: int = 100
    max_retained_messages: int = 100_000
    max_retained_bytes: int = 256 << 20
    max_keep_alive: int = 0
    server_reference: str | None = None

    @property
    def certificates(self) -> bool:
        """Whether things prove themselves with client certificates."""
        return self.auth == "x509"


def parse_address(option: str, text: str) -> Address | None:
    """Read ``[HOST:]PORT`` or ``off``; a literal IPv6 host stands in brackets.

    :raises ConfigurationError: it is neither.
    """
    if text.strip().lower() == "off":
        return None
    host, colon, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or (colon and not host):
        raise ConfigurationError(f"{option}={text}: an IPv6 address stands in brackets: [::1]:8080", option)
    if not _is_number(port) or int(port) > 65_535:
        raise ConfigurationError(
            f"{option}={text}: use PORT, HOST:PORT or off, with a port up to 65535", option
        )
    return Address(host, int(port))


def parse_number(option: str, text: str, least: int, most: int) -> int:
    """Read a whole number within bounds.

    :raises ConfigurationError: it is none.
    """
    if not _is_number(text) or not least <= int(text) <= most:
        raise ConfigurationError(f"{option}={text}: use a whole number from {least} to {most}", option)
    return int(text)


def parse_identity(option: str, text: str) -> tuple[str, ...]:
    """Read some of :data:`IDENTITIES`, separated by commas, in any order.

    :raises ConfigurationError: there is another word, or none.
    """
    names = {name.strip().lower() for name in text.split(",")}
    if not names <= set(IDENTITIES):
        raise ConfigurationError(f"{option}={text}: use some of {','.join(IDENTITIES)}", option)
    return tuple(name for name in IDENTITIES if name in names)


def parse_text(option: str, text: str) -> str:
    """Read free text: 1 to 1,024 printable characters, without the blanks around them.

    :raises ConfigurationError: it is none, or has control characters, or comes from bytes that are no UTF-8.
    """
    stripped = text.strip(" ")
    if not stripped.isprintable() or not 1 <= len(stripped) <= _MAX_TEXT:
        raise ConfigurationError(
            f"{option}={ascii(text)[1:-1]}: use 1 to {_MAX_TEXT} printable characters", option
        )
    return stripped


def _is_number(text: str) -> bool:
    """Decimal digits, and not the thousands that int() refuses."""
    return text.isascii() and text.isdigit() and len(text) <= 20
