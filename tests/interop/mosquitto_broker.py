"""A mosquitto of the test's own: the judge of what our own MQTT client does."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.interop.mqtt_wire import Place
from tests.interop.running import needs, wait_until

__all__ = ["Mosquitto"]


class Mosquitto:
    """A broker that lets everybody do everything and keeps nothing on the disk.

    :ivar place: where it listens.
    """

    def __init__(self) -> None:
        needs("mosquitto")
        with socket.socket() as probe:  # it cannot choose a port itself
            probe.bind(("127.0.0.1", 0))
            self.place: Place = probe.getsockname()
        self._home = Path(tempfile.mkdtemp(prefix="mf-mosquitto-"))
        settings = self._home / "mosquitto.conf"
        settings.write_text(
            f"listener {self.place[1]} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            "max_queued_messages 0\nmax_inflight_messages 20\nlog_type none\n"
        )
        self._process = subprocess.Popen(("mosquitto", "-c", str(settings)))
        wait_until(self._listens, "mosquitto listens")

    def _listens(self) -> bool:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(self.place, 1):
            return True
        return False

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self._home)
