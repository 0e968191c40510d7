"""Thing keys: how they are looked up and compared without telling anybody anything."""

import hmac

__all__ = ["digest", "same"]


def digest(secret: bytes, key: str) -> bytes:
    """What a thing key is looked up by: its HMAC-SHA256 under the server's secret, 32 bytes."""
    return hmac.digest(secret, _bytes(key), "sha256")


def same(one: str, other: str) -> bool:
    """Whether two texts are equal, in full and in constant time."""
    return hmac.compare_digest(_bytes(one), _bytes(other))


def _bytes(text: str) -> bytes:
    """What a client sent may hold lone surrogates; they are compared, not refused here."""
    return text.encode("utf-8", "surrogatepass")
