"""Keys: made, read, and measured against what certificates may be signed for. Nothing here touches a file."""

from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mfserver.ca.x509 import PrivateKey
from mfserver.errors import Invalid

__all__ = ["EC", "RSA", "KEY_BITS", "generate", "generate_like", "check_strength", "load_key", "spki"]

#: The types of keys that are made for things.
EC: Final = "ec"
RSA: Final = "rsa"

#: The sizes of each type, the default first.
KEY_BITS: Final = {EC: (256, 384, 521), RSA: (2048, 3072, 4096)}

_CURVES: Final[dict[int, type[ec.EllipticCurve]]] = {256: ec.SECP256R1, 384: ec.SECP384R1, 521: ec.SECP521R1}
_EXPONENT: Final = 65537
#: OpenSSL verifies with no larger exponent where the modulus is long.
_MAX_EXPONENT_BITS: Final = 64


def generate(key_type: str = EC, key_bits: int | None = None) -> PrivateKey:
    """A fresh private key. One of RSA takes up to seconds: call it in a thread.

    :param key_bits: one of :data:`KEY_BITS`; None for the default.
    :raises Invalid: no such type, or not with so many bits.
    """
    if key_type not in KEY_BITS:
        raise Invalid(f"the key type is one of {', '.join(KEY_BITS)}", "key_type")
    sizes = KEY_BITS[key_type]
    bits = sizes[0] if key_bits is None else key_bits
    if bits not in sizes:
        raise Invalid(f"a key of type {key_type} has {', '.join(map(str, sizes))} bits", "key_bits")
    if key_type == EC:
        return ec.generate_private_key(_CURVES[bits]())
    return rsa.generate_private_key(_EXPONENT, bits)


def generate_like(public_key: object) -> PrivateKey:
    """A fresh key of the same type and size, or else one of the default type."""
    if isinstance(public_key, rsa.RSAPublicKey) and public_key.key_size in KEY_BITS[RSA]:
        return generate(RSA, public_key.key_size)
    if isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(
        public_key.curve, tuple(_CURVES.values())
    ):
        return generate(EC, public_key.curve.key_size)
    return generate()


def check_strength(
    public_key: object, field: str, *, longest: int = max(KEY_BITS[RSA])
) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
    """The key, if a certificate may be signed for it.

    Those are EC on P-256, P-384 or P-521, Ed25519, and RSA of 2048 to 4096 bits.

    :param field: what the key came in.
    :param longest: bits of an RSA key: each handshake verifies with it.
    :raises Invalid: it is of another type, too short, too long, or oddly made.
    """
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return public_key
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        if not isinstance(public_key.curve, tuple(_CURVES.values())):
            raise Invalid("an EC key must be on P-256, P-384 or P-521", field)
        return public_key
    if not isinstance(public_key, rsa.RSAPublicKey):
        raise Invalid("the key must be EC, Ed25519 or RSA", field)
    shortest = min(KEY_BITS[RSA])
    if not shortest <= public_key.key_size <= longest:
        raise Invalid(f"an RSA key must have {shortest} to {longest} bits", field)
    numbers = public_key.public_numbers()
    # An even exponent is refused where the key is read.
    is_sane = _EXPONENT <= numbers.e < 2**_MAX_EXPONENT_BITS and numbers.n % 2
    if not is_sane:
        raise Invalid(
            f"the exponent of an RSA key must be at least {_EXPONENT}, and both of its numbers odd", field
        )
    return public_key


def load_key(data: bytes, password: bytes | None = None, *, field: str = "key") -> PrivateKey:
    """A private key in PEM.

    :param password: what it is encrypted with, if it is.
    :raises Invalid: it is none, signs nothing, or the password is wrong, missing or too much.
    """
    try:
        key = load_pem_private_key(data, password)
    except TypeError as error:
        encrypted = password is None
        text = "is encrypted: take its passphrase off" if encrypted else "is not encrypted: give no password"
        raise Invalid(text, field) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        wrong = "" if password is None else ", or the password is wrong"
        raise Invalid(f"is no private key in PEM{wrong}", field) from error
    if not isinstance(key, PrivateKey):
        raise Invalid("is no key that signs certificates", field)
    return key


def spki(key: object) -> bytes:
    """A public key in DER, which tells whether two are the same."""
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return encoded
