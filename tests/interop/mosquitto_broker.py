"""A mosquitto of the test's own: the judge of what our own MQTT client does."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.interop.mqtt_wire import Place
from tests.interop.running import START_SECONDS, needs, wait_until

__all__ = ["Mosquitto"]


class Mosquitto:
    """A broker that lets everybody do everything and keeps nothing on the disk.

    :ivar place: where it listens.
    """

    def __init__(self) -> None:
        needs("mosquitto")
        self._home = Path(tempfile.mkdtemp(prefix="mf-mosquitto-"))
        with socket.socket() as probe:
            # It cannot choose a port itself. While this one is bound nobody else is given it.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", 0))
            self.place: Place = probe.getsockname()
            settings = self._home / "mosquitto.conf"
            settings.write_text(
                f"listener {self.place[1]} 127.0.0.1\nallow_anonymous true\npersistence false\n"
                "max_queued_messages 0\nmax_inflight_messages 20\nlog_type none\n"
            )
            self._process = subprocess.Popen(("mosquitto", "-c", str(settings)))
            wait_until(self._listens, "mosquitto listens", START_SECONDS)

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"mosquitto ended with {self._process.returncode}")
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(self.place, 1):
            return True
        return False

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(START_SECONDS)
        shutil.rmtree(self._home)
