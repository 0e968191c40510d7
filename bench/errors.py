"""What can go wrong in a benchmark."""

__all__ = ["BenchError", "Missing"]


class BenchError(Exception):
    """A server or the load generator did not do what it should; the message says which and what."""


class Missing(BenchError):
    """A program or library is not installed; the message says how to get it."""
