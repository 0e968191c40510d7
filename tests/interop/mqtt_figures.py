"""The figures of the MQTT load tests, for a person to read.

They end up in ``_mqtt_figures.txt`` in trial's temporary directory, because ``trial -j`` hides what its
workers print; without ``-j`` they are printed too.
"""

import os
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.trial_directory import trial_directory

__all__ = ["MEBIBYTE", "add_figures", "chosen", "memory", "peak_from_now", "table"]

MEBIBYTE: Final = 1 << 20


def add_figures(title: str, *lines: str) -> None:
    """Write what a test has measured behind what others have."""
    text = "\n".join((title, *(f"    {line}" for line in lines))) + "\n"
    with open(trial_directory() / "_mqtt_figures.txt", "a") as figures:
        figures.write(text)  # at once: trial's other worker writes there too
    print(f"\n{text}", file=sys.stderr)


def table(columns: Sequence[str], **rows: Sequence[int]) -> list[str]:
    """Lines of numbers under their titles; a row's name has ``_`` for each blank."""
    lines = [" " * 28 + "".join(f"{column:>12}" for column in columns)]
    for name, numbers in rows.items():
        lines.append(f"{name.replace('_', ' '):<28}" + "".join(f"{number:>12,}" for number in numbers))
    return lines


def chosen(variable: str, default: int | None = None) -> int:
    """A number that the environment may choose. Without a default it is another one every time."""
    given = os.environ.get(variable)
    if given is not None:
        return int(given)
    return secrets.randbelow(1 << 32) if default is None else default


def memory(pid: int, kind: str = "VmRSS") -> float:
    """MiB that a process holds; with ``VmHWM`` the most that it held since :func:`peak_from_now`."""
    found = re.search(rf"^{kind}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None
    return int(found.group(1)) / 1024


def peak_from_now(pid: int) -> None:
    """Forget the most that a process held (proc_pid_clear_refs(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
