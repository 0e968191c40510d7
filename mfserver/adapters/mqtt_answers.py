"""Answers to one MQTT client, in the order of what they answer (MQTT 5.0, 4.6), each after its commit."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mfserver.adapters.mqtt_link import Link

__all__ = ["Answers", "Disk"]


class Disk(Protocol):
    """How what is to be committed gets on."""

    @property
    def congested(self) -> bool:
        """More waits for it than it takes."""

    @property
    def stalled(self) -> bool:
        """It is full."""


class _Answer:
    """One answer, and whether its commit is done."""

    __slots__ = ("is_ready", "send")

    def __init__(self, send: Callable[[], None], is_ready: bool) -> None:
        self.send = send
        self.is_ready = is_ready


class Answers:
    """Holds each answer back until what it promises is committed, and those behind it as well.

    [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4], of 3.1.1 [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4]

    A client whose answers wait is read no more where the disk is too slow for what it sends, or is full and
    there is no other way to tell it.

    :param maximum: answers that wait before that.
    :param failed: called with what went wrong where something could not be committed; nothing is answered
        from then on.
    :param can_refuse: whether it can be told that the disk is full.
    :ivar is_free: nothing waits: an answer that waits for no commit may be sent without :meth:`add`.
    """

    __slots__ = (
        "_can_refuse",
        "_disk",
        "_failed",
        "_is_held_up",
        "_is_over",
        "_link",
        "_maximum",
        "_waiting",
        "is_free",
    )

    def __init__(
        self,
        link: Link,
        disk: Disk,
        maximum: int,
        failed: Callable[[Failure], None],
        *,
        can_refuse: bool,
    ) -> None:
        self._link = link
        self._disk = disk
        self._maximum = maximum
        self._failed = failed
        self._can_refuse = can_refuse
        self._waiting: deque[_Answer] | None = None  # while none does: an empty one takes 760 bytes
        self.is_free = True
        self._is_held_up = False
        self._is_over = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting or ())

    def add(self, committed: "Deferred[None] | None", send: Callable[[], None]) -> None:
        """Send an answer when this fires, or at once for None, but not before all earlier ones."""
        if self._is_over:
            if committed is not None:
                committed.addErrback(lambda _: None)
            return
        if committed is None and not self._waiting:
            send()
        else:
            answer = _Answer(send, committed is None)
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append(answer)
            self.is_free = False
            if committed is not None:
                committed.addCallbacks(self._committed, self._give_up, callbackArgs=(answer,))
        self._hold_up()

    def go_on(self) -> None:
        """Read on, if that had stopped and enough is done."""
        if self._is_held_up and len(self) <= self._maximum // 2:
            self._is_held_up = False
            self._link.read(True)

    def stop(self) -> None:
        """The connection is over: send nothing any more."""
        self._is_over = True
        self._waiting = None
        self.is_free = False
        self._failed = _nobody  # whoever was told has us: a circle, and all that the connection was in it

    def _hold_up(self) -> None:
        if self._is_held_up or not len(self):
            return
        is_silent = self._disk.stalled and not self._can_refuse
        if is_silent or self._disk.congested or len(self) >= self._maximum:
            self._is_held_up = True
            self._link.read(False)

    def _committed(self, _: None, answer: _Answer) -> None:
        answer.is_ready = True
        waiting = self._waiting
        if waiting is None or waiting[0] is not answer:
            return
        while waiting and waiting[0].is_ready and not self._is_over:
            waiting.popleft().send()
        if not waiting and self._waiting is waiting:
            self._waiting = None
            self.is_free = True
        self._link.write_soon()
        self.go_on()

    def _give_up(self, failure: Failure) -> None:
        if not self._is_over:
            failed = self._failed
            self.stop()
            failed(failure)


def _nobody(failure: Failure) -> None:
    """Nobody is there to be told."""
