"""What a busy machine costs everybody: somebody asks a server for the least that there is, all the time.

Where the server promises something within a second, the second is the server's. On a machine that has much
else to do whoever watches is late, and so is the server: as late as answers that only the machine can delay.
"""

import http.client
import ssl
import threading
import time
from typing import Final

from tests.interop.running import PATIENCE, RunningServer

__all__ = ["Pulse", "on_monotonic_clock"]

#: Seconds from one answer to the next question.
_PAUSE: Final = 0.05


class Pulse:
    """Asks over one connection, from a thread of its own, until it is closed or the server is gone."""

    def __init__(self, server: RunningServer) -> None:
        trust = ssl.create_default_context(cafile=server.ca)
        self._connection = http.client.HTTPSConnection(
            "localhost", server.port("https"), timeout=PATIENCE, context=trust
        )
        self._asked = 0.0  # 0 while nothing is asked
        self._answers: list[tuple[float, float]] = []  # when it came, and after how many seconds
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join(PATIENCE)

    def lag(self, since: float) -> float:
        """Seconds that the slowest answer took of those that came after a moment or are still to come.

        :param since: seconds on the monotonic clock.
        """
        with self._lock:
            now = time.monotonic()
            waiting = now - self._asked if self._asked else 0.0
            return max([waiting, *(took for came, took in self._answers if came >= since)])

    def _ask(self) -> None:
        while not self._over.wait(_PAUSE):
            with self._lock:
                self._asked = started = time.monotonic()
            try:
                self._connection.request("GET", "/health")
                self._connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                self._over.set()
            with self._lock:
                self._asked, now = 0.0, time.monotonic()
                self._answers.append((now, now - started))
        self._connection.close()


def on_monotonic_clock(moment: float) -> float:
    """When a moment of the wall clock comes on the monotonic one, however slowly we read both."""
    return moment + max(time.monotonic() - time.time() for _ in range(10))
