"""What the kernel says about a process: processor time and memory, with its children and threads."""

import os
import resource
from pathlib import Path

__all__ = ["cpu_seconds", "cores", "family", "memory_kib", "pin"]

_TICKS = os.sysconf("SC_CLK_TCK")


def _fields(pid: int) -> list[str]:
    # The name of the program stands in brackets, and may hold blanks and brackets.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def family(pid: int) -> set[int]:
    """A process and all that it started, directly or not."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(_fields(int(entry.name))[1])
            except OSError:
                continue
    members = {pid}
    while grown := {child for child, parent in parents.items() if parent in members} - members:
        members |= grown
    return members


def cpu_seconds(pid: int) -> float:
    """Seconds of user and system time so far: all threads, children, and children that have ended."""
    ticks = 0
    for member in family(pid):
        try:
            ticks += sum(int(field) for field in _fields(member)[11:15])
        except OSError:
            continue
    return ticks / _TICKS


def memory_kib(pid: int) -> int:
    """KiB of memory, what is shared with others divided among them (PSS)."""
    total = 0
    for member in family(pid):
        try:
            text = Path(f"/proc/{member}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def cores() -> tuple[set[int], set[int]]:
    """The cores of the server, and of the load: one each where there are two."""
    available = sorted(os.sched_getaffinity(0))
    return ({available[0]}, {available[1]}) if len(available) > 1 else (set(available), set(available))


def pin(where: set[int]) -> None:
    """Keep this process, and what it starts, on these cores, and let it open all files that it may."""
    os.sched_setaffinity(0, where)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
