"""TLS 1.3 records that no library would write: a peer's own keys, used by hand (RFC 8446, 5 and 7)."""

import hmac
from hashlib import sha256, sha384
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from OpenSSL import SSL

__all__ = [
    "KeyLog",
    "OldWriter",
    "Writer",
    "ALERT",
    "APPLICATION",
    "HANDSHAKE",
    "KEY_UPDATE",
    "ANSWERED_KEY_UPDATE",
]

ALERT = 21
HANDSHAKE = 22
APPLICATION = 23
#: A KeyUpdate, and one that asks for the other side's.
KEY_UPDATE = b"\x18\x00\x00\x01\x00"
ANSWERED_KEY_UPDATE = b"\x18\x00\x00\x01\x01"


class KeyLog:
    """Hears the secrets of the connections of a client's context."""

    def __init__(self, context: SSL.Context) -> None:
        self.secret = b""
        context.set_keylog_callback(self._hear)

    def _hear(self, _connection: SSL.Connection, line: bytes) -> None:
        label, _, secret = line.split()
        if label == b"CLIENT_TRAFFIC_SECRET_0":
            self.secret = bytes.fromhex(secret.decode())


class Writer:
    """Writes a client's records after its handshake. Its OpenSSL must write no more then.

    :param secret: its first application traffic secret.
    :param cipher: what OpenSSL calls the cipher.
    """

    def __init__(self, secret: bytes, cipher: str) -> None:
        self._hash: Any = sha384 if cipher.endswith("384") else sha256
        self._aead: Any = ChaCha20Poly1305 if "CHACHA" in cipher else AESGCM
        self._length = 16 if "AES_128" in cipher else 32
        self._use(secret)

    def record(self, kind: int, data: bytes, padding: int = 0) -> bytes:
        """A record of this content type."""
        inner = data + bytes([kind]) + bytes(padding)
        head = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        nonce = (int.from_bytes(self._iv, "big") ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        sealed: bytes = self._sealer.encrypt(nonce, inner, head)
        return head + sealed

    def key_update(self, message: bytes = KEY_UPDATE) -> bytes:
        """A KeyUpdate; what follows is written with the next key."""
        record = self.record(HANDSHAKE, message)
        self._use(self._expand(self._secret, b"traffic upd", self._hash().digest_size))
        return record

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._iv = self._expand(secret, b"iv", 12)
        self._sealer = self._aead(self._expand(secret, b"key", self._length))
        self._sequence = 0

    def _expand(self, secret: bytes, label: bytes, length: int) -> bytes:
        """HKDF-Expand-Label with an empty context; one block is enough for all that we need."""
        label = b"tls13 " + label
        info = length.to_bytes(2, "big") + bytes([len(label)]) + label + b"\x00\x01"
        return hmac.digest(secret, info, self._hash)[:length]


class OldWriter:
    """The same for TLS 1.2 and AES-GCM (RFC 5246, 6.3, and RFC 5288), behind a handshake just over."""

    def __init__(self, client: SSL.Connection) -> None:
        cipher = client.get_cipher_name() or ""
        master, ours, theirs = client.master_key(), client.client_random(), client.server_random()
        assert "GCM" in cipher and master and ours and theirs
        self._hash: Any = sha384 if cipher.endswith("384") else sha256
        length = 16 if "AES128" in cipher else 32
        block = self._expand(master, b"key expansion" + theirs + ours, 2 * length + 8)
        self._sealer = AESGCM(block[:length])
        self._salt = block[2 * length : 2 * length + 4]
        self._sequence = 1  # Finished was the first

    def record(self, kind: int, data: bytes) -> bytes:
        """A record of this content type."""
        number = self._sequence.to_bytes(8, "big")
        self._sequence += 1
        bound = number + bytes([kind]) + b"\x03\x03" + len(data).to_bytes(2, "big")
        sealed: bytes = self._sealer.encrypt(self._salt + number, data, bound)
        return bytes([kind]) + b"\x03\x03" + (len(sealed) + 8).to_bytes(2, "big") + number + sealed

    def _expand(self, secret: bytes, seed: bytes, length: int) -> bytes:
        """TLS 1.2's pseudorandom function."""
        made, step = b"", seed
        while len(made) < length:
            step = hmac.digest(secret, step, self._hash)
            made += hmac.digest(secret, step + seed, self._hash)
        return made[:length]
