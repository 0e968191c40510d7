"""What the server was told on its command line, checked."""

from dataclasses import dataclass, field
from typing import Final

from mfserver.errors import ConfigurationError

__all__ = ["Settings", "Address", "DEFAULT_PORTS", "PLAIN", "parse_address", "parse_number"]

#: The listeners, in the order in which they are opened and logged, and their ports.
DEFAULT_PORTS: Final = {"http": 8080, "https": 8443, "mqtt": 1883, "mqtts": 8883}
#: Those without TLS: off by default when things prove themselves with certificates.
PLAIN: Final = ("http", "mqtt")


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
    :ivar max_message: bytes of one payload.
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
    max_message: int = 1 << 20
    registration: str = "open"
    max_connections: int = 10_000
    max_connections_per_address: int = 1_000
    max_connections_per_thing: int = 100

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


def _is_number(text: str) -> bool:
    """Decimal digits, and not the thousands that int() refuses."""
    return text.isascii() and text.isdigit() and len(text) <= 20
