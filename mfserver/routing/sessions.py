"""The MQTT sessions of all clients: who holds which (thing id, client id)."""

from typing import Protocol

from mfserver.records import ThingId

__all__ = ["Session", "Sessions"]


class Session(Protocol):
    """A client's session, as the others see it."""

    def taken_over(self) -> None:
        """Another network connection of the same client took its place; end (MQTT 5.0, 3.1.4)."""


class Sessions:
    """Which session each client has. No thing can name another's: its id is part of the name."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[ThingId, str], Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, thing: ThingId, client_id: str, session: Session) -> None:
        """Put a session in its client's place and end the one that was there."""
        older = self._sessions.get((thing, client_id))
        self._sessions[thing, client_id] = session
        if older is not None and older is not session:
            older.taken_over()  # [MQTT-3.1.4-3]

    def end(self, thing: ThingId, client_id: str, session: Session) -> None:
        """Forget a session, unless another has taken its place."""
        if self._sessions.get((thing, client_id)) is session:
            del self._sessions[thing, client_id]
