"""What all MQTT connections of the server share."""

from collections.abc import Callable
from typing import Any

from mfserver.adapters.mqtt_link import Link
from mfserver.budget import Budget
from mfserver.interfaces import IAuthenticator
from mfserver.mqtt import constants as mqtt
from mfserver.mqtt.limits import Limits
from mfserver.routing.sessions import Sessions
from mfserver.turn import Turn

__all__ = ["MQTTAdapter"]


class MQTTAdapter:
    """Everything that the server's MQTT connections share.

    :param limits: the core's bounds.
    :param longest_expiry: seconds that a session may outlive its connection by at most.
    :param server_reference: another server, which clients of MQTT 5.0 are told when this one ends or has too
        many connections; ``""`` for none.
    :param budget: bytes of packets that are not complete, of all connections.
    :param is_over_limit: whether an address has more connections than it may.
    :param report: tells the log of a kind of mistake and its details, without repeating itself.
    :param clock: an ``IReactorTime``: deadlines, and the turn that writes wait for.
    :param now: the wall clock, in nanoseconds since 1970.
    :ivar dropped: messages that were longer than clients which are gone would take.
    :ivar is_ending: the server ends, and lets nobody in any more.
    """

    def __init__(
        self,
        authenticator: IAuthenticator,
        sessions: Sessions,
        *,
        limits: Limits,
        longest_expiry: int,
        server_reference: str = "",
        turn: Turn,
        budget: Budget,
        is_over_limit: Callable[[str], bool],
        report: Callable[[str, str], None],
        clock: Any,
        now: Callable[[], int],
    ) -> None:
        self.authenticator = authenticator
        self.sessions = sessions
        self.limits = limits
        self.longest_expiry = longest_expiry
        self.server_reference = server_reference
        self.turn = turn
        self.budget = budget
        self.is_over_limit = is_over_limit
        self.report = report
        self.clock = clock
        self.seconds: Callable[[], float] = clock.seconds
        self.now = now
        self.dropped = 0
        self.is_ending = False
        self.connections: set[Link] = set()

    def going_away(self) -> None:
        """Tell every client that the server ends: DISCONNECT 0x8B in MQTT 5.0, or 0x9C where it knows another
        one; closed in all."""
        self.is_ending = True
        code = mqtt.USE_ANOTHER_SERVER if self.server_reference else mqtt.SERVER_SHUTTING_DOWN
        for connection in list(self.connections):
            connection.close(code, "the server is shutting down")
