"""The network connection, as those see it who answer an MQTT client."""

from typing import Protocol

__all__ = ["Link"]


class Link(Protocol):
    """The network connection below a client."""

    def close(self, reason_code: int, reason: str) -> None:
        """End it, and say why."""

    def fail(self, reason_code: int, reason: str) -> None:
        """End it before the reactor's turn ends, over what the client does: say why to it and to the log.

        Nothing else happens before this returns: it may be called in the middle of a delivery.
        """

    def flush(self) -> None:
        """Write what the core has collected."""

    def write_soon(self) -> None:
        """Write what the core has collected before the turn ends, or that it closed itself over it."""

    def read(self, go_on: bool) -> None:
        """Read on, or stop reading."""
