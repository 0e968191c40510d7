"""Where tests leave what a person reads after them: ``trial -j`` hides what its workers print."""

from pathlib import Path

__all__ = ["trial_directory"]


def trial_directory() -> Path:
    """Trial's temporary directory; each worker of ``trial -j`` has one of its own in it."""
    here = Path.cwd()
    return here.parent if (here.parent / "_trial_marker").exists() else here
