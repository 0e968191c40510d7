"""Answers to one MQTT client, in the order of what they answer (MQTT 5.0, 4.6), each after its commit."""

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["Answers"]


class _Answer:
    """One answer; :attr:`send` is None once it was given up."""

    __slots__ = ("is_ready", "send")

    def __init__(self, send: Callable[[], None], is_ready: bool) -> None:
        self.send = send
        self.is_ready = is_ready


class Answers:
    """Holds each answer back until what it promises is committed, and those behind it as well.

    [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4], of 3.1.1 [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4]

    :param sent: called after answers that had waited were sent.
    :param failed: called with what went wrong where something could not be committed; nothing is answered
        from then on.
    """

    def __init__(self, sent: Callable[[], None], failed: Callable[[Failure], None]) -> None:
        self._sent = sent
        self._failed = failed
        self._waiting: deque[_Answer] = deque()
        self._is_over = False

    def __len__(self) -> int:
        """How many are held back."""
        return len(self._waiting)

    def add(self, committed: Deferred[None] | None, send: Callable[[], None]) -> None:
        """Send an answer when this fires, or at once for None, but not before all earlier ones."""
        if self._is_over:
            if committed is not None:
                committed.addErrback(lambda _: None)
            return
        if committed is None and not self._waiting:
            send()
            return
        answer = _Answer(send, committed is None)
        self._waiting.append(answer)
        if committed is not None:
            committed.addCallbacks(self._committed, self._give_up, callbackArgs=(answer,))

    def stop(self) -> None:
        """The connection is over: send nothing any more."""
        self._is_over = True
        self._waiting.clear()

    def _committed(self, _: None, answer: _Answer) -> None:
        answer.is_ready = True
        if self._is_over or self._waiting[0] is not answer:
            return
        while self._waiting and self._waiting[0].is_ready and not self._is_over:
            self._waiting.popleft().send()
        self._sent()

    def _give_up(self, failure: Failure) -> None:
        if not self._is_over:
            self.stop()
            self._failed(failure)
